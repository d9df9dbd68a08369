"""Observations at any places of a model's grid, from a table with a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked, shown
from daml.labels.templates import Template
from daml.observing.stepped import merged, nearest, told

if TYPE_CHECKING:
    from daml.labels.fields import Form
    from daml.protocols import Model

NEEDED = ("time", "observation", "error_variance")
LARGEST = 1 << 25
"""Values of the largest operator that is made: 256 MB."""
HALF = 0.5
"""Least weight of the points of the grid, around a place, that are not masked."""


@checked
def from_points(
    points: pd.DataFrame | xr.Dataset, model: Model, *, tolerance: Any = None, start: Any = None
) -> xr.Dataset:
    """Give a record of observations at any places and times, from a table.

    Each place of a field, seen by an instrument, becomes a variable of the record. Its ``operator``
    interpolates linearly between the points of the model's grid around it, without those that are
    masked. Times are those of the nearest step of the model, see :func:`daml.on_steps`.

    Parameters
    ----------
    points : pandas.DataFrame or xarray.Dataset
        A row, or an entry along one dimension, for each observation: ``time``, ``observation``,
        ``error_variance``; the coordinates of the field, such as ``lat`` and ``lon``; ``field``,
        unless the model has only one; and ``instrument``, if several may be at one place, each with
        errors of its own.
    model : Model
        With a ``template``, whose dimensions have coordinates (:class:`daml.models.Gridded`).
    tolerance, start
        See :func:`daml.on_steps`.

    Returns
    -------
    xarray.Dataset
        ``observation`` and ``error_variance`` (time, variable), ``operator`` (variable,
        model_variable). Attributes are those of :func:`daml.on_steps`, and ``outside``: how many
        rows lie outside of the grid or where it is masked, and are left out.

    Raises
    ------
    InputError
        If the model has no template or no coordinates, a column is missing, a field is unknown, a
        variance is not positive, all rows lie outside, or there are so many places that their
        operator would have more than 33 million entries.

    Examples
    --------
    >>> import daml
    >>> class Ring(daml.models.Gridded):
    ...     template = xr.Dataset({"q": ("x", [0.1, 0.2, 0.3])}, {"x": [0.0, 1.0, 2.0]})
    ...     dt = 1.0
    ...
    ...     def move(self, fields):
    ...         return {"q": np.cos(3 * fields["q"])}
    >>> buoys = pd.DataFrame({"time": [0.0, 1.1, 2.0], "x": [0.5, 0.5, 1.75],
    ...                       "observation": [0.9, 0.8, 0.4], "error_variance": 0.01})
    >>> record = from_points(buoys, Ring())
    >>> record.operator.values
    array([[0.5 , 0.5 , 0.  ],
           [0.  , 0.25, 0.75]])
    """
    template = Template.of(model)
    if template is None:
        raise InputError(
            f"from_points: {type(model).__name__} has no template, which says where its variables "
            "lie; make it a daml.models.Gridded"
        )
    table = _table(points, template)
    near = nearest(table["time"].to_numpy(), model, tolerance, start, "from_points")
    weights = _Weights(template, getattr(model, "period", None))
    columns, shares = weights.of(table)
    inside = np.isfinite(shares).all(axis=1)
    good = inside & near.kept & np.isfinite(table["observation"].to_numpy())
    if not good.any():
        raise InputError(
            f"from_points: none of {len(table)} rows lies on the grid of {type(model).__name__}, "
            f"{weights.reach()}, within the tolerance in time and with a value; look at units"
        )
    rows = np.flatnonzero(good)
    kept = table.iloc[rows]
    site = kept.groupby(weights.keys(kept), sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(site, return_index=True)[1]
    operator = _operator(columns[rows][first], shares[rows][first], len(template.names))
    given = kept["observation"].to_numpy(float), kept["error_variance"].to_numpy(float)
    found = merged(near, rows, site, *given, len(first))
    names = [weights.name(row) for row in kept.iloc[first].to_dict("records")]
    result = xr.Dataset(
        {
            "observation": (("time", "variable"), found.observation),
            "error_variance": (("time", "variable"), found.error_variance),
            "operator": (("variable", "model_variable"), operator),
        },
        {"time": found.times, "variable": names, "model_variable": list(template.names)},
    )
    if template.positions is not None:
        where = operator @ template.positions
        if not template.on_sphere:  # around a ring the mean of two places is not between them
            where = kept.iloc[first][list(weights.axes)].to_numpy(float)
        result = result.assign_coords(position=(("variable", "dimension"), where))
    told_of = told(near, rows, found, int(table["observation"].notna().sum()))
    return result.assign_attrs(told_of, outside=int((~inside).sum()))


def _table(points: Any, template: Template) -> pd.DataFrame:
    """Give the rows as a DataFrame with all columns; refuse what lacks one."""
    if isinstance(points, xr.Dataset):
        points = points.to_dataframe()
    if not isinstance(points, pd.DataFrame) or not len(points):
        raise InputError(
            f"from_points: 'points' is {shown(points)}; give a pandas.DataFrame, or a Dataset "
            "along one dimension, with a row for each observation"
        )
    table = points.reset_index()
    if "field" not in table and len(template.forms) == 1:
        table = table.assign(field=template.first)
    needed = [*NEEDED, "field"]
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise InputError(
            f"from_points: the column {lacking[0]!r} is missing (there are "
            f"{', '.join(map(str, points.columns))}); add it, or rename yours"
        )
    unknown = [name for name in table["field"].unique() if name not in template.forms]
    if unknown:
        raise InputError(
            f"from_points: {unknown[0]!r} is no field of the model, which has "
            f"{', '.join(template.forms)}; rename it"
        )
    wrong = table["observation"].notna() & ~(table["error_variance"] > 0)
    if wrong.any():
        at = int(np.argmax(wrong.to_numpy()))
        raise InputError(
            f"from_points: 'error_variance' is {table['error_variance'].iloc[at]} in row {at}; "
            "give variances > 0"
        )
    return table


class _Weights:
    """Linear interpolation from the points of a template to any places."""

    def __init__(self, template: Template, period: Any) -> None:
        self.template = template
        given = np.atleast_1d(np.array(period, dtype=object))
        self.axes: dict[str, tuple[np.ndarray, float | None]] = {}
        dims = list(dict.fromkeys(dim for form in template.forms.values() for dim in form.sizes))
        for place, dim in enumerate(dims):
            index = template.flat.indexes.get(dim)
            if index is None or index.dtype.kind not in "fiu" or not index.is_unique:
                raise InputError(
                    f"from_points: the template has no coordinate of numbers along {dim!r}; give "
                    "it one, in the unit of the points"
                )
            values = np.asarray(index, dtype=np.float64)
            own = given[place] if len(given) == len(dims) else None
            if own is None and template.flat[dim].attrs.get("units", "").startswith("degrees_east"):
                own = 360.0
            self.axes[dim] = values, None if own is None else float(own)

    def reach(self) -> str:
        """Say where the grid lies."""
        return ", ".join(f"{d} {v.min():g} to {v.max():g}" for d, (v, _) in self.axes.items())

    def keys(self, table: pd.DataFrame) -> list[str]:
        """Give the columns that distinguish places and instruments."""
        wanted = ("field", "instrument", *self.axes)
        return [name for name in wanted if name in table]

    def name(self, row: Mapping[str, Any]) -> str:
        """Give the name of a place: u@10,20, and its instrument."""
        form = self.template.forms[row["field"]]
        at = ",".join(f"{row[dim]:.10g}" for dim in form.sizes)
        by = f" {row['instrument']}" if "instrument" in row else ""
        return f"{row['field']}@{at}{by}" if at else f"{row['field']}{by}"

    def of(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Give variables and their weights (row, corner); NaN outside of the grid."""
        corners = 2 ** max(len(form.sizes) for form in self.template.forms.values())
        columns = np.zeros((len(table), corners), dtype=np.int64)
        shares = np.zeros((len(table), corners))
        number = np.cumsum(self.template.there) - 1
        before = 0
        for field, form in self.template.forms.items():
            rows = np.flatnonzero((table["field"] == field).to_numpy())
            if len(rows):
                points, weights = self._around(table.iloc[rows], field, form)
                there = self.template.there[before + points]
                weights = np.where(there, weights, 0.0)
                total = weights.sum(axis=1, keepdims=True)
                weights = weights / np.where(total >= HALF, total, np.nan)
                columns[rows, : points.shape[1]] = np.where(there, number[before + points], 0)
                shares[rows, : points.shape[1]] = weights
            before += form.size
        return columns, shares

    def _around(self, table: pd.DataFrame, field: str, form: Form) -> tuple[np.ndarray, np.ndarray]:
        """Give the points of a field around places, and their weights (row, corner)."""
        sides = []
        for dim in form.sizes:
            if dim not in table:
                raise InputError(
                    f"from_points: the column {dim!r} is missing, along which {field!r} lies; add "
                    "it"
                )
            sides.append(_between(table[dim].to_numpy(float), *self.axes[dim]))
        points, weights = [], []
        for corner in product((0, 1), repeat=len(sides)):
            at = [side[0][end] for side, end in zip(sides, corner, strict=True)]
            each = [side[1][end] for side, end in zip(sides, corner, strict=True)]
            flat = np.ravel_multi_index(tuple(at), form.shape) if at else np.zeros(len(table), int)
            points.append(flat)
            weights.append(np.prod(each, axis=0) if each else np.ones(len(table)))
        return np.stack(points, axis=1), np.stack(weights, axis=1)


def _between(
    wanted: np.ndarray, axis: np.ndarray, period: float | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Give the two places on an axis around each that is wanted, and their weights; NaN outside."""
    order = np.argsort(axis)
    sorted_axis, size = axis[order], len(axis)
    if period is not None:
        wanted = sorted_axis[0] + np.mod(wanted - sorted_axis[0], period)
        sorted_axis = np.append(sorted_axis, sorted_axis[0] + period)
        order = np.append(order, order[0])
    if size == 1 and period is None:
        weight = np.where(np.isclose(wanted, axis[0]), 1.0, np.nan)
        nothing = np.zeros(len(wanted), int)
        return (nothing, nothing), (weight, np.zeros_like(weight))
    low = np.clip(np.searchsorted(sorted_axis, wanted, side="right") - 1, 0, len(sorted_axis) - 2)
    share = (wanted - sorted_axis[low]) / (sorted_axis[low + 1] - sorted_axis[low])
    share = np.where((share >= -1e-9) & (share <= 1 + 1e-9), np.clip(share, 0, 1), np.nan)
    return (order[low], order[low + 1]), (1 - share, share)


def _operator(columns: np.ndarray, shares: np.ndarray, size: int) -> np.ndarray:
    """Give the matrix (place, variable) of weights (place, corner)."""
    if len(columns) * size > LARGEST:
        raise InputError(
            f"from_points: {len(columns)} places and {size} variables make an operator of "
            f"{len(columns) * size:,} entries, more than {LARGEST:,}; give fewer places, e.g. "
            "means over the boxes of the grid"
        )
    matrix = np.zeros((len(columns), size))
    np.add.at(matrix, (np.arange(len(columns))[:, None], columns), shares)
    return matrix
