"""Observations of a batch: of some of its states, of some of the values, and on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from daml.arrays import namespace, put, taken
from daml.observing.noise import TabledNoise
from daml.protocols import Observed, Setting


def picked(observed: Observed, rows: Any) -> Observed:
    """Give the observations of some states, ``rows`` of a batch: a place, or True and False."""
    where = observed.positions
    return observed._replace(
        values=_of(observed.values, rows),
        row=_of(observed.row, rows),
        operator=observed.operator.picked(rows),
        positions=where if where is None or where.ndim == 2 else where[rows],
    )


def restricted(observed: Observed, present: Any) -> Observed:
    """Give observations of which only the values ``present`` (..., observed) count.

    Their noise is their own: it has one row for each state of the batch.
    """
    xp, row = namespace(observed.values), observed.row
    present = present & observed.present
    variance = xp.where(present, observed.variance, xp.ones_like(observed.variance))
    there, variances = (xp.reshape(part, (-1, part.shape[-1])) for part in (present, variance))
    return observed._replace(
        values=xp.where(present, observed.values, xp.zeros_like(observed.values)),
        row=xp.reshape(xp.arange(np.prod(row.shape, dtype=int), device=row.device), row.shape),
        noise=TabledNoise(there, variances, observed.noise.covariance),
        tabled=False,
    )


def placed(observed: Observed, setting: Setting, device: str | None) -> Observed:
    """Move observations to where a cycle computes, whose ``setting`` lies there already."""
    names = ("values", "row", "period", "limit")
    parts = {name: getattr(observed, name) for name in names}
    there = {name: put(part, device) for name, part in parts.items() if part is not None}
    moved = observed._replace(**there)
    return moved._replace(noise=setting.noise if moved.tabled else observed.noise.on(device))


def _of(array: Any, rows: Any) -> Any:
    return taken(array, rows) if isinstance(rows, np.ndarray) else array[rows]
