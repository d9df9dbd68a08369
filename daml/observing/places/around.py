"""Linear interpolation from the points of a template to any places of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError
from daml.labels.templates import Template

if TYPE_CHECKING:
    from daml.labels.fields import Form

HALF = 0.5
"""Least weight of the points of the grid, around a place, that are not masked."""
EAST = re.compile(r"degrees?_?e(ast)?")
"""Units of longitudes, as the CF conventions spell them."""


class Weights:
    """Linear interpolation from the points of some fields of a template to any places."""

    def __init__(self, template: Template, period: Any, fields: Iterable[str]) -> None:
        self.template = template
        given = np.atleast_1d(np.array(period, dtype=object))
        self.axes: dict[str, tuple[np.ndarray, float | None, bool]] = {}
        spaces = [form.sizes for name, form in template.forms.items() if name in set(fields)]
        dims = list(dict.fromkeys(dim for space in spaces for dim in space))
        for place, dim in enumerate(dims):
            index = template.flat.indexes.get(dim)
            if index is None or index.dtype.kind not in "fiu" or not index.is_unique:
                raise InputError(
                    f"from_points: the template has no coordinate of numbers along {dim!r}; give "
                    "it one, in the unit of the points"
                )
            values = np.asarray(index, dtype=np.float64)
            own = given[place] if len(given) == len(dims) else None
            closed = own is not None
            if own is None and _is_longitude(template.flat[dim]):
                own, closed = 360.0, _goes_around(values)
            self.axes[dim] = values, None if own is None else float(own), closed

    def reach(self) -> str:
        """Say where the grid lies."""
        return ", ".join(f"{d} {v.min():g} to {v.max():g}" for d, (v, *_) in self.axes.items())

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

    def of(
        self, table: pd.DataFrame, through: Mapping[str, Sequence[str]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give variables and their weights (row, corner); NaN outside of the grid.

        ``through`` has the fields that a function takes; they lie side by side along the corners,
        as many parts as the function with most fields has. Other rows have the first part alone.
        """
        corners = 2 ** max(len(form.sizes) for form in self.template.forms.values())
        parts = max((len(fields) for fields in through.values()), default=1)
        columns = np.zeros((len(table), parts, corners), dtype=np.int64)
        shares = np.zeros(columns.shape)
        for name in table["field"].unique():
            rows = np.flatnonzero((table["field"] == name).to_numpy())
            for part, field in enumerate(through.get(name, (name,))):
                found, weights = self._of_field(table.iloc[rows], field)
                columns[rows, part, : found.shape[1]] = found
                shares[rows, part, : found.shape[1]] = weights
        return columns.reshape(len(table), -1), shares.reshape(len(table), -1)

    def _of_field(self, table: pd.DataFrame, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Give variables of a field and their weights (row, corner)."""
        form, there = self.template.forms[field], self.template.there
        points, weights = self._around(table, field, form)
        forms = list(self.template.forms.items())
        before = sum(other.size for name, other in forms[: [n for n, _ in forms].index(field)])
        inside = there[before + points]
        weights = np.where(inside, weights, 0.0)
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total >= HALF, total, np.nan)
        number = np.cumsum(there) - 1
        return np.where(inside, number[before + points], 0), weights

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


def _is_longitude(axis: xr.DataArray) -> bool:
    return EAST.fullmatch(str(axis.attrs.get("units", "")).lower()) is not None


def _goes_around(axis: np.ndarray) -> bool:
    """Whether longitudes lie all around the globe: the way from last to first is one more step."""
    steps = np.diff(np.sort(axis))
    return len(axis) > 1 and 360.0 - steps.sum() <= 1.5 * steps.max()


def _between(
    wanted: np.ndarray, axis: np.ndarray, period: float | None, closed: bool
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Give the two places on an axis around each that is wanted, and their weights; NaN outside.

    A place may be given any number of periods away; between the last and the first place of an axis
    that is ``closed`` is no gap.
    """
    order = np.argsort(axis)
    sorted_axis, size = axis[order], len(axis)
    if period is not None and closed:
        wanted = sorted_axis[0] + np.mod(wanted - sorted_axis[0], period)
        sorted_axis = np.append(sorted_axis, sorted_axis[0] + period)
        order = np.append(order, order[0])
    elif period is not None:
        middle = (sorted_axis[0] + sorted_axis[-1]) / 2
        wanted = wanted - period * np.rint((wanted - middle) / period)
    if size == 1 and not closed:
        weight = np.where(np.isclose(wanted, axis[0]), 1.0, np.nan)
        nothing = np.zeros(len(wanted), int)
        return (nothing, nothing), (weight, np.zeros_like(weight))
    low = np.clip(np.searchsorted(sorted_axis, wanted, side="right") - 1, 0, len(sorted_axis) - 2)
    share = (wanted - sorted_axis[low]) / (sorted_axis[low + 1] - sorted_axis[low])
    share = np.where((share >= -1e-9) & (share <= 1 + 1e-9), np.clip(share, 0, 1), np.nan)
    return (order[low], order[low + 1]), (1 - share, share)
