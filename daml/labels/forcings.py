"""Known inputs of a model in time, such as winds or the sun: read, and brought to its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import check_dims, check_dtype, check_time, listed, step_like
from daml.labels.dates import offsets
from daml.labels.trajectories import TRAJECTORY

NEAR = 2e-3
"""Part of a step by which a time may be off a whole number of steps: as records, and rounding."""
FINE = 2.0**20
"""Parts of a step to which other times are rounded, so that a clock counts without an error."""


@dataclass(frozen=True)
class Forcings:
    """Forcings in memory: a table with a row for each of their times.

    Attributes
    ----------
    times : numpy.ndarray (row,)
        Numbers or datetime64, increasing.
    columns : tuple of str
        The name of the forcing that each column belongs to: a field has as many as points.
    values : numpy.ndarray (row, column)
    """

    times: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def read(cls, dataset: xr.Dataset, names: Sequence[str] | None = None) -> Forcings:
        """Read the forcings of some names, or all, from data variables (time, ...).

        Raises
        ------
        InputError
            If a name is missing, or has no times, no numbers, or missing values.
        """
        if names is None:
            names = [str(name) for name in dataset.data_vars]
        if not names:
            raise InputError(
                "forcings: the Dataset has no data variable; give one for each forcing"
            )
        columns: list[str] = []
        parts, times = [], np.empty(0)
        for name in names:
            if name not in dataset.data_vars:
                raise _lacking(name, tuple(map(str, dataset.data_vars)))
            times = check_time(dataset, name)
            check_dims(dataset, name, ("time",))
            check_dtype(dataset[name], name)
            if TRAJECTORY in dataset[name].dims:
                raise InputError(
                    f"forcings: {name!r} has the dimension 'trajectory', and all trajectories "
                    "must have the same forcings here; give forcings along 'time'"
                )
            array = dataset[name].variable.transpose("time", ...)
            values = np.asarray(array.values, dtype=np.float64).reshape(len(times), -1)
            wrong = ~np.isfinite(values).all(axis=1)
            if wrong.any():
                raise InputError(
                    f"forcings: {name!r} has {wrong.sum()} time(s) with values that are missing or "
                    f"infinite, the first at {times[wrong][0]}; fill them, e.g. with "
                    "ds.interpolate_na('time')"
                )
            parts.append(values)
            columns += [name] * values.shape[1]
        return cls(times, tuple(columns), np.concatenate(parts, axis=1))

    @property
    def names(self) -> tuple[str, ...]:
        """The forcings, in the order of their columns."""
        return tuple(dict.fromkeys(self.columns))

    def of(self, names: Sequence[str]) -> Forcings:
        """Give those of some names, in this order."""
        for name in names:
            if name not in self.columns:
                raise _lacking(name, self.names)
        places = places_of(names, self.columns)
        return Forcings(self.times, tuple(self.columns[p] for p in places), self.values[:, places])


def places_of(names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Give the places of the columns that belong to names, in the order of the names.

    Examples
    --------
    >>> places_of(("sun", "wind"), ("wind", "wind", "sun"))
    [2, 0, 1]
    """
    return [place for name in names for place, of in enumerate(columns) if of == name]


def _lacking(name: str, there: tuple[str, ...]) -> InputError:
    return InputError(f"forcings: {name!r} is missing (there is {listed(there)}); add or rename it")


class Schedule:
    """Forcings by the clock of a model, which counts its steps since their first row.

    Between two rows they are interpolated linearly in time. Beyond the ends the nearest row is
    taken; :meth:`check` refuses that where it would matter.

    Parameters
    ----------
    forcings : Forcings
    dt, time_unit
        Of the model.
    """

    def __init__(self, forcings: Forcings, dt: Any, time_unit: str) -> None:
        self.forcings = forcings
        self.step = step_like(forcings.times, dt, time_unit)
        self.rows = self.clock(forcings.times)
        """The clock (row,) at each row."""

    def clock(self, times: Any) -> np.ndarray:
        """Give the clock (...) at times (...), in steps.

        Raises
        ------
        InputError
            If they are numbers where the forcings have dates, or the other way round.
        """
        first, times = self.forcings.times[0], np.asarray(times)
        kinds = ["f" if t.dtype.kind in "fiu" else t.dtype.kind for t in (times, first)]
        if kinds[0] != kinds[1]:
            words = {"f": "numbers", "M": "dates", "m": "spans of time"}
            raise InputError(
                f"forcings: their times are {words[kinds[1]]} and those of the model "
                f"{words.get(kinds[0], times.dtype)}; give both in the same form"
            )
        offset = offsets(times, first, self.step)
        whole = np.rint(offset)
        near = np.abs(offset - whole) <= NEAR
        return np.asarray(np.where(near, whole, np.rint(offset * FINE) / FINE))

    def at(self, clock: np.ndarray) -> np.ndarray:
        """Give the values (..., column) at a clock (...)."""
        rows, values = self.rows, self.forcings.values
        if len(rows) == 1:
            return np.broadcast_to(values[0], (*clock.shape, values.shape[1]))
        place = np.clip(np.searchsorted(rows, clock, side="right") - 1, 0, len(rows) - 2)
        part = np.clip((clock - rows[place]) / (rows[place + 1] - rows[place]), 0.0, 1.0)[..., None]
        return np.asarray((1 - part) * values[place] + part * values[place + 1])

    def check(self, first: Any, last: Any, what: str) -> None:
        """Refuse forcings that do not reach over all steps from ``first`` to ``last``."""
        needed = self.clock(np.array([first, last]))
        if needed[0] < self.rows[0] or needed[1] > self.rows[-1]:
            times = self.forcings.times
            raise InputError(
                f"{what}: the forcings reach from {times[0]} to {times[-1]}, and the steps start "
                f"at times from {first} to {last}; give forcings for all of them"
            )
