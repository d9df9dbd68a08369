"""States of free runs of a model, to start from where H is no matrix that could be solved for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from daml.arrays import fetch, home, put
from daml.errors import InputError, name_of
from daml.observing.batches import picked
from daml.observing.places.moving import MovingRecord
from daml.observing.records import Record
from daml.running.checks import typical
from daml.running.cycling.stepping import advance

if TYPE_CHECKING:
    from daml.protocols import Model

RUNS, STEPS = 50, 100
"""Free runs, and their steps after as long a spin-up."""
KEPT = 1 << 22
"""Values of the states that are compared with observations."""


class FreeStates:
    """States on a model's attractor; of these, those that look most like given observations.

    The distance of H(x) from the observations counts in units of their errors.
    """

    def __init__(self, model: Model, record: Record, times: np.ndarray) -> None:
        self.model, self.record, self.times = model, record, times

    @cached_property
    def states(self) -> np.ndarray:
        """States (state, variable) of free runs from near the model's climate, or from near 1."""
        model = self.model
        x = put(typical(model, RUNS), home(model))
        memory = model.start(x, np.full(RUNS, self.times[0]))
        apart = max(STEPS * RUNS * len(model.variables) // KEPT, 1)
        found = []
        with np.errstate(all="ignore"):
            for step in range(2 * STEPS):
                x, memory = advance(model, x, memory)
                if step >= STEPS and (2 * STEPS - 1 - step) % apart == 0:
                    found.append(fetch(x).copy())
        states: np.ndarray = np.concatenate(found)
        states = states[np.isfinite(states).all(axis=1)]
        if not len(states):
            raise InputError(
                f"{name_of(model)}: free runs of the model diverge, so that the state at the "
                "start is not known; give 'initial', or the model a 'climate', an array with "
                "a typical value of each variable"
            )
        return states

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the states (row, variable) that fit the nearest values of rows best."""
        if isinstance(self.record, MovingRecord):
            found = self._along(self.record, rows)
        else:
            found = self._distances(rows)
        best = [int(np.argmin(np.nan_to_num(distance, nan=np.inf))) for distance in found]
        return np.asarray(self.states[best])

    def _distances(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Give the squared distance of each state (state,) from what is seen at each row."""
        record = self.record
        counted = np.where(record.kind_present, record.kind_variance, np.nan)
        seen = np.asarray(record.kind_present.any(axis=0))
        deviation = np.sqrt(np.nanmean(np.where(seen, counted, 1.0), axis=0)[seen])
        with np.errstate(all="ignore"):
            found = record.operator.apply(self.states)[:, seen] / deviation
        values = record.nearest(rows)[:, seen] / deviation
        return (np.square(found - value).sum(axis=1) for value in values)

    def _along(self, record: MovingRecord, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Give the same where each row has an operator of its own."""
        (near,) = record.around(rows, 1)
        for row in range(len(rows)):
            one = picked(near, row)
            with np.errstate(all="ignore"):
                away = one.values - one.operator.apply(self.states)
                yield np.sum(np.where(one.present, away**2 / one.variance, 0.0), axis=-1)
