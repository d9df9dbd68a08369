"""Fields, each with dimensions of its own, and the one axis ``variable`` on which daml computes.

A flat Dataset keeps what fields had besides their values: the coordinates of the grid as they are;
for each field a coordinate without dimension, of its name, its type and its attributes; and along
``variable`` the field, and its place along each dimension of the grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import check_dtype

LEADING = ("trajectory", "start", "lead", "time", "member")
"""Dimensions that are none of space."""
ERROR = "_error_variance"
"""Ending of the name of the data variable that holds the error variance of a field."""
STATE, RECORD = "state", "observation"
"""The data variable of flat states, and of flat observations."""
FLAT = (STATE, RECORD, "analysis", "forecast")
"""No field has such a name."""
AT = "at_"
"""Beginning of the name of the coordinate that says where a variable lies along a dimension."""
FORMS = "fields"
"""The attribute of the coordinate ``field`` that holds the dimensions of each field."""


@dataclass(frozen=True)
class Form:
    """The dimensions of a field.

    Attributes
    ----------
    dims : tuple of str
        All of them, in their order.
    sizes : mapping of str to int
        Of the dimensions of space, in their order.
    error : tuple of str or None
        The dimensions of its error variance; None where there is none.
    """

    dims: tuple[str, ...]
    sizes: Mapping[str, int]
    error: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of space."""
        return tuple(self.sizes.values())

    @property
    def size(self) -> int:
        """Places in space."""
        return int(np.prod(self.shape, dtype=int))

    def leading(self) -> tuple[str, ...]:
        """Dimensions that are none of space."""
        return tuple(dim for dim in self.dims if dim not in self.sizes)

    def places(self) -> np.ndarray:
        """Give where each point lies along each dimension of space (dimension, point)."""
        return np.indices(self.shape).reshape(len(self.shape), self.size)

    def names(self, field: str) -> list[str]:
        """Give the names of the points: u[3,5], or the field's alone where it has no space."""
        return list(_names(field, self.shape))


@lru_cache(maxsize=8)
def _names(field: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Give the names of points; those of a large field take as long as a step of its model."""
    if not shape:
        return (field,)
    return tuple(f"{field}[{','.join(map(str, at))}]" for at in np.ndindex(shape))


@checked
def flatten(dataset: xr.Dataset) -> xr.Dataset:
    """Put fields, each with its own dimensions, on one axis ``variable``.

    Parameters
    ----------
    dataset : xarray.Dataset
        Each data variable is a field, with dimensions of space, and with those of "time", "member",
        "start", "lead" and "trajectory" that all other fields have, too. A record of observations
        also has ``<field>_error_variance`` for each field, with any of the field's dimensions.

    Returns
    -------
    xarray.Dataset
        ``state`` (..., variable), or ``observation`` (time, variable) and ``error_variance``
        (variable) or (time, variable). Names along ``variable`` are the field and the indices along
        its dimensions, "u[3,5]". The coordinate ``field`` (variable) is the name of the
        field, and ``at_<dimension>`` (variable) the index along a dimension, -1 if the field
        does not have it. All coordinates are kept; a coordinate with the name of each field has its
        attributes. A Dataset that is already flat is returned unchanged.

    Raises
    ------
    InputError
        If the fields do not share the dimensions other than those of space, a field does not hold
        real numbers, or a record lacks an error variance.

    See Also
    --------
    unflatten : Its inverse.

    Examples
    --------
    >>> import numpy as np
    >>> u, h = ("time", "y", "x"), ("time", "x")
    >>> fields = xr.Dataset({"u": (u, np.zeros((4, 2, 3))), "h": (h, np.ones((4, 3)))})
    >>> flat = flatten(fields)
    >>> flat.state.shape, flat["variable"].values[[0, 5, 6]].tolist()
    ((4, 9), ['u[0,0]', 'u[1,2]', 'h[0]'])
    >>> unflatten(flat).identical(fields)
    True
    """
    if is_flat(dataset):
        return dataset
    forms = _forms(dataset)
    is_record = any(form.error is not None for form in forms.values())
    name = RECORD if is_record else STATE
    leading = next(iter(forms.values())).leading()
    parts = [_line(dataset[field], leading, form) for field, form in forms.items()]
    flat: dict[str, xr.DataArray] = {name: _joined(parts)}
    if is_record:
        flat["error_variance"] = _errors(dataset, forms, leading)
    kept = dataset.drop_vars([*dataset.data_vars])
    return kept.assign(flat).assign_coords(_coordinates(dataset, forms))


@checked
def unflatten(dataset: xr.Dataset) -> xr.Dataset | xr.DataTree:
    """Convert a flat Dataset to fields.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of :func:`flatten`, or a result of daml for a model with a ``template``, such as an
        analysis. Points that are missing along ``variable`` become NaN.

    Returns
    -------
    xarray.Dataset or xarray.DataTree
        For ``state``, or ``observation`` with ``error_variance``, a Dataset with one data variable
        per field. Otherwise a DataTree with one node per data variable (..., variable), such as
        ``analysis``, ``background`` and ``spread``, which holds the fields; other data variables
        are in the root.

    Raises
    ------
    InputError
        If the Dataset does not say to which fields its variables belong.

    Examples
    --------
    >>> fields = xr.Dataset({"h": (("time", "x"), [[1.0, 2.0]])}, {"x": [0.5, 1.5]})
    >>> analysis = flatten(fields).rename(state="analysis")
    >>> unflatten(analysis)["analysis"].h.sel(x=1.5).values
    array([2.])
    """
    forms = forms_of(dataset)
    along = [str(name) for name, array in dataset.data_vars.items() if "variable" in array.dims]
    marks = [f"{field}{ending}" for field in forms for ending in ("", ERROR)]
    kept = dataset.drop_dims("variable").drop_vars(marks, errors="ignore")
    points = {field: _points(dataset, field, form) for field, form in forms.items()}
    if set(along) in ({STATE}, {RECORD}, {RECORD, "error_variance"}):
        found = _fields(dataset, STATE if STATE in along else RECORD, forms, points)
        if len(along) > 1:
            found |= _error_fields(dataset, forms, points)
        return kept.assign(found)
    grid = kept.drop_vars(list(kept.data_vars)).drop_attrs(deep=False)
    nodes = {name: grid.assign(_fields(dataset, name, forms, points)) for name in along}
    return xr.DataTree.from_dict({"/": kept, **nodes})


def is_flat(dataset: xr.Dataset) -> bool:
    """Whether the states or observations of a Dataset lie along ``variable``, or are meant to."""
    return not dataset.data_vars or "variable" in dataset.dims or any(n in dataset for n in FLAT)


def has_fields(dataset: xr.Dataset) -> bool:
    """Whether a flat Dataset says of which fields its variables are."""
    return "field" in dataset.coords and FORMS in dataset["field"].attrs


def forms_of(dataset: xr.Dataset) -> dict[str, Form]:
    """Give the dimensions of each field of a flat Dataset."""
    if not has_fields(dataset):
        raise InputError(
            "unflatten: the Dataset has no coordinates that assign 'variable' to fields; give "
            "a result of daml.flatten, or an analysis of a model with a 'template'"
        )
    return {
        str(field): Form(tuple(form["dims"]), form["sizes"], _dims(form["error"]))
        for field, form in json.loads(dataset["field"].attrs[FORMS]).items()
    }


def described(forms: Mapping[str, Form]) -> dict[str, str]:
    """Give the attributes of the coordinate ``field``, which hold the dimensions of each field."""
    content = {
        field: {"dims": form.dims, "sizes": form.sizes, "error": form.error}
        for field, form in forms.items()
    }
    return {"long_name": "field", FORMS: json.dumps(content)}


def _dims(given: Any) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _forms(dataset: xr.Dataset) -> dict[str, Form]:
    """Give the dimensions of each field; refuse what cannot lie on one axis."""
    every = [str(name) for name in dataset.data_vars]
    of_errors = {f"{name}{ERROR}" for name in every} & set(every)
    fields = [name for name in every if name not in of_errors]
    if not fields:
        raise InputError("flatten: the Dataset has no field; give data variables (..., y, x)")
    errors = [name for name in fields if f"{name}{ERROR}" in every]
    forms = {}
    for field in fields:
        check_dtype(dataset[field], field)
        dims = tuple(map(str, dataset[field].dims))
        sizes = {dim: dataset.sizes[dim] for dim in dims if dim not in LEADING}
        error = None
        if errors:
            if field not in errors:
                raise InputError(
                    f"flatten: {field!r} has no '{field}{ERROR}', and {errors[0]!r} has one; give "
                    "the error variance of each field, or of none"
                )
            error = tuple(map(str, dataset[f"{field}{ERROR}"].dims))
            if not set(error) <= set(dims):
                raise InputError(
                    f"flatten: '{field}{ERROR}' has the dimensions {error}, and {field!r} {dims}; "
                    "give it some of these"
                )
        forms[field] = Form(dims, sizes, error)
    first = next(iter(forms.values())).leading()
    for field, form in forms.items():
        if set(form.leading()) != set(first):
            raise InputError(
                f"flatten: {field!r} has the dimensions {form.dims}, and {next(iter(forms))!r} "
                f"{next(iter(forms.values())).dims}; give all fields the same of "
                f"{', '.join(LEADING)}"
            )
    return forms


def _line(array: xr.DataArray, leading: Sequence[str], form: Form) -> xr.DataArray:
    """Give a field as (..., variable)."""
    values = array.variable.transpose(*leading, *form.sizes).data
    shape = values.shape[: len(leading)]
    return xr.DataArray(values.reshape((*shape, form.size)), dims=(*leading, "variable"))


def _errors(dataset: xr.Dataset, forms: Mapping[str, Form], leading: Sequence[str]) -> xr.DataArray:
    """Give the error variances of a record (variable), or (time, variable) where one changes."""
    timed = [dim for dim in leading if any(dim in (form.error or ()) for form in forms.values())]
    parts = []
    for field, form in forms.items():
        given = dataset[f"{field}{ERROR}"].drop_vars(dataset.coords, errors="ignore")
        wider = {dim: dataset.sizes[dim] for dim in (*timed, *form.sizes) if dim not in given.dims}
        parts.append(_line(given.expand_dims(wider), timed, form))
    return _joined(parts)


def _joined(parts: Sequence[xr.DataArray]) -> xr.DataArray:
    """Join parts (..., variable) along ``variable``."""
    joined = xr.concat(parts, dim="variable")
    return joined.transpose(..., "variable")


def _coordinates(dataset: xr.Dataset, forms: Mapping[str, Form]) -> dict[str, Any]:
    """Give what says of which field and place each variable is, and what the fields were like."""
    counts = [form.size for form in forms.values()]
    points = [name for field, form in forms.items() for name in form.names(field)]
    found: dict[str, Any] = {
        "variable": np.array(points, dtype=object),
        "field": ("variable", np.repeat(list(forms), counts).astype(object), described(forms)),
    }
    space = dict.fromkeys(dim for form in forms.values() for dim in form.sizes)
    for dim in space:
        parts = [
            form.places()[list(form.sizes).index(dim)] if dim in form.sizes
            else np.full(form.size, -1)
            for form in forms.values()
        ]  # fmt: skip
        about = {"long_name": f"place along {dim}, -1 where the field does not have it"}
        found[f"{AT}{dim}"] = ("variable", np.concatenate(parts), about)
    for field, form in forms.items():
        marks = [field] if form.error is None else [field, f"{field}{ERROR}"]
        for name in marks:
            array = dataset[name]
            found[name] = ((), np.zeros((), array.dtype), array.attrs)
    return found


def _points(dataset: xr.Dataset, field: str, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Give which entries of ``variable`` are of a field, and which of its points they are."""
    entries = np.flatnonzero(dataset["field"].values == field)
    at = [dataset[f"{AT}{dim}"].values[entries] for dim in form.sizes]
    if not at:
        return entries, np.zeros(len(entries), dtype=np.int64)
    return entries, np.ravel_multi_index(tuple(at), form.shape)


def _fields(
    dataset: xr.Dataset,
    name: str,
    forms: Mapping[str, Form],
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, xr.Variable]:
    """Give a data variable (..., variable) as fields; those of which nothing is there are left out.

    States and observations get back the attributes of the field, others its units.
    """
    array = dataset[name].variable.transpose(..., "variable")
    found = {}
    for field, form in forms.items():
        entries, at = points[field]
        if not len(entries):
            continue
        part, labels = array.isel(variable=entries), dataset[field]
        whole = len(at) == form.size and bool((at == np.arange(form.size)).all())
        if not whole:  # -1 is masked or left out
            place = np.full(form.size, -1)
            place[at] = np.arange(len(at))
            there = xr.DataArray(place >= 0, dims="variable")
            part = xr.DataArray(part.isel(variable=np.maximum(place, 0))).where(there).variable
        values = part.data.reshape((*part.shape[:-1], *form.shape))
        attrs, kind = labels.attrs, labels.dtype
        if name not in (STATE, RECORD):
            units = {"units": attrs["units"]} if "units" in attrs else {}
            attrs, kind = array.attrs | units, part.dtype
        elif not whole and kind.kind != "f":
            kind = part.dtype
        shaped = xr.Variable((*part.dims[:-1], *form.sizes), values, attrs)
        order = form.dims if set(form.dims) == set(shaped.dims) else shaped.dims
        found[field] = shaped.transpose(*order).astype(kind, copy=False)
    return found


def _error_fields(
    dataset: xr.Dataset,
    forms: Mapping[str, Form],
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, xr.Variable]:
    """Give the error variances of a record, with the dimensions that they had."""
    found = {}
    for field, array in _fields(dataset, "error_variance", forms, points).items():
        name, dims = f"{field}{ERROR}", forms[field].error
        if dims is None or name not in dataset.coords:  # made by daml, for all points
            found[name] = array
            continue
        given = dataset[name]
        picked = array.isel({dim: 0 for dim in array.dims if dim not in dims}).transpose(*dims)
        found[name] = xr.Variable(dims, picked.data, given.attrs).astype(given.dtype, copy=False)
    return found
