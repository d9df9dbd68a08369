"""The background that a cycle starts from."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.datasets import pack
from daml.labels.doors import flat
from daml.labels.lacking import at_climate
from daml.observing.functions import Function
from daml.observing.operators import Selection
from daml.observing.places.moving import MovingRecord
from daml.observing.records import Record
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.stepping import advance
from daml.running.starts.along_tracks import Along
from daml.running.starts.free_states import FreeStates

if TYPE_CHECKING:
    from daml.protocols import Model


def one_state(initial: xr.Dataset, model: Model, what: str) -> np.ndarray:
    """Give the state (variable,) to start from; hidden variables may be missing there."""
    variables, initial = tuple(model.variables), flat(initial, model)
    given, _ = pack(at_climate(initial, "state", model), "state", variables)
    if given.size != len(variables):
        raise InputError(
            f"{what}: 'state' of 'initial' has {initial['state'].dims}, "
            f"{given.size // len(variables)} states; give one: initial.isel(time=0)"
        )
    if not np.isfinite(given).all():
        raise InputError(
            f"{what}: 'state' of 'initial' has missing values; give a value for each variable"
        )
    return given.reshape(len(variables))


RUNS, STEPS = 50, 100
"""Free runs that give a model's climate, and their steps after as long a spin-up."""


class FirstGuess:
    """The background from which a segment starts, at any row of a record.

    What is observed comes from the nearest value in time, the rest from the model's climate c: the
    state nearest to c, by least squares, for which H x = y. Where H is no matrix it is the state of
    free runs for which H(x) comes closest to y.
    """

    def __init__(
        self, model: Model, record: Record, times: np.ndarray, initial: xr.Dataset | None
    ) -> None:
        self.times, self.bounds = times, Bounds.of(model)
        if self.bounds is not None and isinstance(record.operator, Selection):
            places = list(record.operator.places)
            self.bounds.check(record.observed, places, record.mean, name_of(model))
        self.initial = None
        if initial is not None:
            self.initial = one_state(initial, model, "assimilate")
        self.record, self.runs = record, None
        if isinstance(record.operator, Function) or not record.operator.linear:
            self.runs = FreeStates(model, record, times)
            return
        self.fit = fit_of(record)
        self.model = model

    @cached_property
    def climate(self) -> np.ndarray:
        """What stands for variables (variable,) that are not observed: the model's climate."""
        model = self.model
        if not self.fit.unseen.any():
            return np.zeros(len(model.variables))
        given = getattr(model, "climate", None)
        if given is not None:
            return np.asarray(given, dtype=np.float64)
        # Many short runs: rounding, which a chaotic model amplifies, stays small in each.
        rows = np.unique(np.linspace(0, len(self.times) - 1, RUNS).astype(np.int64))
        x = self.fit.states(rows, np.zeros(len(model.variables)))
        memory, total = model.start(x, self.times[rows]), np.zeros_like(x)
        with np.errstate(all="ignore"):
            for step in range(2 * STEPS):
                x, memory = advance(model, x, memory)
                total = total + x * (step >= STEPS)
            climate = total.mean(axis=0) / STEPS
        if not np.isfinite(climate).all():
            name = model.variables[int(np.argmax(self.fit.unseen))]
            raise InputError(
                f"{name_of(model)}: {name!r} is not observed, and free runs of the model "
                "diverge, so that its value at the start is not known; give the model a "
                "'climate', an array with a typical value of each variable, or another dt"
            )
        return np.asarray(climate)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the state (row, variable) to start from at each row."""
        if self.initial is not None and not rows.any():
            return np.tile(self.initial, (len(rows), 1))
        runs = self.runs
        x = self.fit.states(rows, self.climate) if runs is None else runs.state(rows)
        if self.initial is not None:
            x[rows == 0] = self.initial
        return x if self.bounds is None else self.bounds.within(x)


def fit_of(record: Record) -> _Picked | _LeastSquares | Along:
    """Give what turns observations into states, for the operator of a record."""
    if isinstance(record, MovingRecord):
        return Along(record)
    seen = np.asarray(record.kind_present.any(axis=0))
    if isinstance(record.operator, Selection):
        return _Picked(record, record.operator, seen)
    counted = np.where(record.kind_present, record.kind_variance, np.nan)
    mean = np.nanmean(np.where(seen, counted, 1.0), axis=0)
    return _LeastSquares(record, seen, np.sqrt(mean))


class _Picked:
    """States of observations that are entries of the state themselves."""

    def __init__(self, record: Record, operator: Selection, seen: np.ndarray) -> None:
        self.record, self.seen, self.places = record, seen, np.array(operator.places)[seen]
        self.unseen = np.ones(operator.size, dtype=bool)
        """Which variables (variable,) the observations leave open."""
        self.unseen[self.places] = False

    def states(self, rows: np.ndarray, climate: np.ndarray) -> np.ndarray:
        """Give the states (row, variable) at rows (row,) of the record."""
        x = np.tile(climate, (len(rows), 1))
        x[:, self.places] = self.record.nearest(rows)[:, self.seen]
        return x


class _LeastSquares:
    """States of observations by a matrix, in units of the observations' errors.

    ``deviation`` (observed,) is that of the errors. Columns are scaled, too: units do not matter.
    """

    def __init__(self, record: Record, seen: np.ndarray, deviation: np.ndarray) -> None:
        self.record, self.seen, self.deviation = record, seen, deviation[seen]
        self.matrix = record.operator.matrix()[seen]
        scaled = self.matrix / self.deviation[:, None]
        size = np.linalg.norm(scaled, axis=0)
        self.size = np.where(size > 0, size, 1.0)
        self.scaled = scaled / self.size
        drawn = np.random.default_rng(0).standard_normal(len(size))
        apart = np.abs(self._solved(self.scaled @ drawn) - drawn)
        self.unseen = apart > 1e-8
        """Which variables (variable,) the observations leave open: a state does not come back."""

    def _solved(self, target: np.ndarray) -> np.ndarray:
        """Give the smallest x (variable, ...) whose distance from the target is least."""
        found: np.ndarray = np.linalg.lstsq(self.scaled, target, rcond=None)[0]
        return found

    def states(self, rows: np.ndarray, climate: np.ndarray) -> np.ndarray:
        """Give the states (row, variable) at rows (row,) of the record."""
        values = self.record.nearest(rows)
        distance = (values[:, self.seen] - self.matrix @ climate) / self.deviation
        return climate + self._solved(distance.T).T / self.size
