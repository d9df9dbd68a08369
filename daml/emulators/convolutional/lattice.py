"""Variables on a regular grid of one or two dimensions: what a convolution goes over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.fields import AT, unflatten
from daml.labels.space import PLACING, StateSpace
from daml.labels.templates import Template

DIGITS = 9
"""Decimal digits up to which positions are compared."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Where variables lie, in the attributes by which a model says it."""

    variables: tuple[str, ...]
    template: xr.Dataset | None
    positions: Any
    period: Any

    @classmethod
    def of(cls, model: Any) -> Ground:
        """Give that of a model."""
        template, space = getattr(model, "template", None), StateSpace.of(model)
        return cls(space.names, template, space.positions, space.period)

    @classmethod
    def of_fields(cls, flat: xr.Dataset, period: Any = None) -> Ground | None:
        """Give that of a flat Dataset; None if it is of no fields."""
        template = Template.in_flat(flat)
        if template is None:
            return None
        names = tuple(flat["variable"].values.tolist())
        state = template.flat["state"].where(template.flat["variable"].isin(list(names)))
        fields = cast("xr.Dataset", unflatten(template.flat.assign(state=state)))
        return cls(names, fields, Template.given(fields, "record").positions, period)

    @classmethod
    def of_dataset(cls, dataset: xr.Dataset) -> Ground | None:
        """Give what :meth:`told_in` wrote; None if nothing was written."""
        lengths = dataset.attrs.get("period")
        period = None if lengths is None else np.asarray(lengths, dtype=float).ravel()
        if period is not None:
            period = np.where(period > 0, period, np.inf)
        found = cls.of_fields(dataset, period)
        if found is not None or "positions" not in dataset:
            return found
        names = tuple(dataset["variable"].values.tolist())
        return cls(names, None, dataset["positions"].values, period)

    def told_in(self, dataset: xr.Dataset) -> xr.Dataset:
        """Write it into the Dataset of an emulator."""
        if self.period is not None:
            lengths = np.atleast_1d(np.asarray(self.period, dtype=float))
            dataset.attrs["period"] = np.where(np.isfinite(lengths), lengths, 0.0).tolist()
        template = Template.of(self)
        if template is not None:
            return dataset.assign_coords(template.coordinates(self.variables))
        about = {"long_name": "where each variable lies", "units": "1"}
        return dataset.assign(positions=(("variable", "dimension"), self.positions, about))


@dataclass(frozen=True, eq=False)
class Lattice:
    """A regular grid and the variables on it.

    Attributes
    ----------
    shape : tuple of int
        Points along each dimension.
    fields : int
        Variables at a point.
    cells : numpy.ndarray (variable,)
        Where each variable stands in an array (field, *shape), flattened.
    ring : tuple of bool
        Whether the last point along each dimension is next to the first.
    """

    shape: tuple[int, ...]
    fields: int
    cells: np.ndarray
    ring: tuple[bool, ...]

    @property
    def lookup(self) -> np.ndarray:
        """The variable in each cell (cell,); the number of variables where there is none."""
        found = np.full(self.fields * math.prod(self.shape), len(self.cells))
        found[self.cells] = np.arange(len(self.cells))
        return found

    def pooled(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean and spread (variable,) of all points of a field, for each variable."""
        field = self.cells // math.prod(self.shape)
        counts = np.bincount(field)

        def average(values: np.ndarray) -> np.ndarray:
            return np.asarray((np.bincount(field, values) / counts)[field])

        middle = average(mean)
        return middle, np.sqrt(average(spread**2 + (mean - middle) ** 2))

    def check(self, kernel: int, owner: str) -> None:
        """Refuse a kernel that is wider than a ring."""
        for dim, (size, ring) in enumerate(zip(self.shape, self.ring, strict=True)):
            if ring and kernel > size:
                raise InputError(
                    f"{owner}: 'kernel' is {kernel}, and the periodic dimension {dim} of the grid "
                    f"has {size} points; give an odd number of at most {size}"
                )


def lattice_of(model: Any, periodic: Any, owner: str) -> Lattice:
    """Give the grid on which the variables of a model lie.

    Parameters
    ----------
    model : Model or Ground
    periodic : bool or sequence of bool, optional
        Whether each dimension is periodic; default: as the ``period`` of the model says.
    owner : str
        Name of the emulator's class, for errors.

    Raises
    ------
    InputError
        If it has no grid of one or two dimensions.
    """
    template = Template.of(model)
    if template is not None:
        shape, fields, cells = _of_template(template, model, owner)
        periods = StateSpace.of(model).period
        ring = _around(periodic, periods if not template.on_sphere else None, len(shape), owner)
        return Lattice(shape, fields, cells, ring)
    space, name = StateSpace.of(model), name_of(model)
    if space.positions is None:
        raise InputError(
            f"{owner}: the variables of {name} have no positions, and a grid is needed; {PLACING}"
        )
    dims = space.positions.shape[1]
    if dims > 2:
        raise InputError(
            f"{owner}: the positions of {name} have {dims} dimensions; a grid of one or two is "
            "needed"
        )
    ring = _around(periodic, space.period, dims, owner)
    return _of_positions(space, ring, f"{owner}: the positions of {name}")


def _around(periodic: Any, period: Any, dims: int, owner: str) -> tuple[bool, ...]:
    """Give whether each dimension is periodic."""
    if periodic is None:
        known = period is not None and len(period) == dims
        return tuple(np.isfinite(period).tolist()) if known else (False,) * dims
    ring = (periodic,) * dims if isinstance(periodic, bool) else tuple(periodic)
    if len(ring) != dims:
        raise InputError(
            f"{owner}: 'periodic' has {len(ring)} entries, and the grid {dims} dimensions; give "
            "one for each, or a single True or False"
        )
    return ring


def _of_template(
    template: Template, model: Any, owner: str
) -> tuple[tuple[int, ...], int, np.ndarray]:
    """Give shape, number of fields and cells of the variables of fields."""
    name, forms = name_of(model), template.forms
    spaces = [dict(form.sizes) for form in forms.values()]
    if any(space != spaces[0] for space in spaces) or not 1 <= len(spaces[0]) <= 2:
        grids = ", ".join(f"{field!r} {tuple(form.sizes)}" for field, form in forms.items())
        raise InputError(
            f"{owner}: the fields of {name} are {grids}; all must lie on one grid of one or two "
            "dimensions"
        )
    if len(model.variables) != len(template.names):
        raise InputError(
            f"{owner}: {name} has {len(model.variables) - len(template.names)} hidden variables, "
            "which lie on no grid; give a model without them"
        )
    about = template.flat.isel(variable=template.there)
    numbers = {field: number for number, field in enumerate(forms)}
    field = np.array([numbers[str(value)] for value in about["field"].values])
    at = (about[f"{AT}{dim}"].values for dim in spaces[0])
    shape = tuple(spaces[0].values())
    cells = np.ravel_multi_index((field, *at), (len(forms), *shape))
    return shape, len(forms), cells


def _of_positions(space: StateSpace, ring: tuple[bool, ...], what: str) -> Lattice:
    """Give the grid of positions (variable, dimension), which must be evenly spaced."""
    positions = np.asarray(space.positions)
    shape, places = [], []
    for dim, around in enumerate(ring):
        along, length = positions[:, dim], np.inf
        if around and space.period is not None and np.isfinite(space.period[dim]):
            length = float(space.period[dim])
            along = along % length
        found, at = np.unique(np.round(along, DIGITS), return_inverse=True)
        gaps = np.diff(found)
        if np.isfinite(length):
            gaps = np.append(gaps, found[0] + length - found[-1])
        if not np.allclose(gaps, gaps[:1]):
            raise InputError(
                f"{what} are not evenly spaced along dimension {dim}; a convolution needs a "
                "regular grid"
            )
        shape.append(len(found))
        places.append(at)
    points = np.ravel_multi_index(places, shape)
    counts = np.bincount(points)
    fields = int(counts.max())
    if counts[counts > 0].min() != fields:
        raise InputError(
            f"{what} have from {counts[counts > 0].min()} to {fields} variables at a point; a "
            "convolution needs the same number at each point"
        )
    order = np.argsort(points, kind="stable")
    number = np.empty(len(points), dtype=int)
    number[order] = np.arange(len(points)) % fields  # those of a point follow each other
    cells = number * math.prod(shape) + points
    return Lattice(tuple(shape), fields, cells, ring)
