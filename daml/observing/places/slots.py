"""A record of places that change in time, of a table whose rows lie on the grid of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from daml.labels.dates import after
from daml.labels.templates import Template
from daml.observing.places.around import Weights
from daml.observing.stepped import Nearest

SLOT = ("field", "instrument")
"""Columns that are the same for all values of a slot."""


@dataclass(frozen=True)
class Sites:
    """Rows of a table, and the places at which they lie.

    Attributes
    ----------
    table : pandas.DataFrame
        The rows that are used.
    near : Nearest
        The model steps of all rows that were given.
    rows : numpy.ndarray (row,)
        Which of those are used.
    site : numpy.ndarray (row,)
        The number of the place, and of the instrument there.
    columns, shares : numpy.ndarray (site, corner)
        The variables around a place, and their weights.
    template : Template
        Of the model.
    weights : Weights
        The axes of the grid.
    known : numpy.ndarray (variable, dimension) or None
        Where the variables lie, if that is known.
    """

    table: pd.DataFrame
    near: Nearest
    rows: np.ndarray
    site: np.ndarray
    columns: np.ndarray
    shares: np.ndarray
    template: Template
    weights: Weights
    known: np.ndarray | None

    @property
    def first(self) -> np.ndarray:
        """The first row of each place."""
        return np.unique(self.site, return_index=True)[1]

    @property
    def positions(self) -> np.ndarray | None:
        """Where the places lie (site, dimension), as the variables of the model do."""
        known, axes = self.known, list(self.weights.axes)
        if known is None:
            return None
        if self.template.on_sphere or known.shape[1] != len(axes):
            return np.asarray((self.shares[..., None] * known[self.columns]).sum(axis=1))
        # Around a ring the mean of two places is not between them.
        return np.asarray(self.table.iloc[self.first][axes], dtype=np.float64)

    def visits(self) -> tuple[np.ndarray, int]:
        """Give at how many steps each place (site,) is seen, and how many steps there are."""
        steps = self.near.steps[self.rows]
        pairs = np.unique(np.stack((steps, self.site)), axis=1)
        return np.bincount(pairs[1].astype(int)), len(np.unique(steps))


def moving_record(sites: Sites) -> tuple[xr.Dataset, int]:
    """Give a record with the places of each time; and how many values were merged with others.

    The values of a time are in slots: those of each field and instrument side by side.
    """
    table, count = sites.table, len(sites.columns)
    variance = table["error_variance"].to_numpy(float)
    steps, time = np.unique(sites.near.steps[sites.rows], return_inverse=True)
    groups, group = np.unique(time * count + sites.site, return_inverse=True)
    total = np.bincount(group, 1 / variance)
    mean = np.bincount(group, table["observation"].to_numpy(float) / variance) / total
    times, site = np.divmod(groups, count)
    about = table.iloc[sites.first]
    kinds = about.groupby([n for n in SLOT if n in about], sort=False, dropna=False)
    kind = kinds.ngroup().to_numpy()[site]
    number, widths = _numbers(times, kind)
    slot = (np.cumsum(widths) - widths)[kind] + number
    at, shape = (times, slot), (len(steps), int(widths.sum()))

    def spread(values: np.ndarray, missing: float) -> np.ndarray:
        found = np.full((*shape, *values.shape[1:]), missing, dtype=values.dtype)
        found[at] = values
        return found

    dims = ("time", "variable")
    result = xr.Dataset(
        {
            "observation": (dims, spread(mean, np.nan)),
            "error_variance": (dims, spread(1 / total, np.nan)),
            "place": ((*dims, "corner"), spread(sites.columns[site], -1)),
            "weight": ((*dims, "corner"), spread(sites.shares[site], 0.0)),
        },
        {
            "time": after(sites.near.origin, steps.astype(np.int64), sites.near.step),
            "model_variable": list(sites.template.names),
        },
    )
    first = kinds.head(1)  # one row for each kind, in their order
    of_slot = first.iloc[np.repeat(np.arange(len(first)), widths)]
    places = np.concatenate([np.arange(width) for width in widths])
    own = [n for n in SLOT if n in of_slot]
    names = [
        f"{' '.join(map(str, row))}#{k}"
        for row, k in zip(of_slot[own].to_numpy(), places, strict=True)
    ]
    result = result.assign_coords(variable=names)
    result = result.assign_coords({n: ("variable", of_slot[n].to_numpy()) for n in own})
    for name in sites.weights.axes:
        if name in about:
            result = result.assign_coords(
                {name: (dims, spread(about[name].to_numpy(float)[site], np.nan))}
            )
            result[name].attrs = dict(sites.template.flat[name].attrs)
    where = sites.positions
    if where is not None:
        result = result.assign_coords(position=((*dims, "dimension"), spread(where[site], np.nan)))
    return result, len(group) - len(groups)


def _numbers(times: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the number of each value among those of its time and kind, and the most of a kind.

    They are in their order within a time.
    """
    order = np.lexsort((np.arange(len(times)), kind, times))
    pair = times[order] * (kind.max() + 1) + kind[order]
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]])
    counts = np.diff(np.r_[starts, len(pair)])
    number = np.empty(len(times), dtype=np.int64)
    number[order] = np.arange(len(times)) - np.repeat(starts, counts)
    widths = np.zeros(kind.max() + 1, dtype=np.int64)
    np.maximum.at(widths, kind, number + 1)
    return number, widths
