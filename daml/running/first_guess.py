"""The background that a cycle starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import pack
from daml.observing.records import Record
from daml.running.stepping import advance

if TYPE_CHECKING:
    from daml.protocols import Model


def one_state(initial: xr.Dataset, variables: tuple[str, ...], what: str) -> np.ndarray:
    """Give the state (variable,) to start from."""
    given, _ = pack(initial, "state", variables)
    if given.size != len(variables):
        raise InputError(
            f"{what}: 'state' of 'initial' has {initial['state'].dims}, "
            f"{given.size // len(variables)} states; give one: initial.isel(time=0)"
        )
    if not np.isfinite(given).all():
        raise InputError(f"{what}: 'state' of 'initial' has missing values; give one for each")
    return given.reshape(len(variables))


RUNS, STEPS = 50, 100
"""Free runs that give a model's climate, and their steps after as long a spin-up."""


class FirstGuess:
    """The background from which a segment starts, at any row of a record.

    What is observed comes from the nearest value in time, the rest from the model's climate:
    x = c + H^+ (y - H c).
    """

    def __init__(
        self, model: Model, record: Record, times: np.ndarray, initial: xr.Dataset | None
    ) -> None:
        self.times = times
        self.initial = None
        variables = tuple(model.variables)
        if initial is not None:
            self.initial = one_state(initial, variables, "assimilate")
        self.record = record
        self.operator = record.operator.matrix()
        seen = self.operator * np.asarray(record.kind_present.any(axis=0))[:, None]
        counted = np.where(record.kind_present, record.kind_variance, np.nan)
        known = record.kind_present.any(axis=0)
        mean = np.nanmean(np.where(known, counted, 1.0), axis=0)
        self.inverse = _inverse(seen, np.sqrt(mean))
        self.climate = np.zeros(len(variables))
        if not np.allclose(self.inverse @ seen, np.eye(len(variables))):
            self.climate = self._climate(model)

    def _climate(self, model: Model) -> np.ndarray:
        told = getattr(model, "climate", None)
        if told is not None:
            return np.asarray(told, dtype=np.float64)
        # Many short runs: rounding, which a chaotic model amplifies, stays small in each.
        rows = np.unique(np.linspace(0, len(self.times) - 1, RUNS).astype(np.int64))
        x = self.record.nearest(rows) @ self.inverse.T
        memory, total = model.start(x, self.times[rows]), np.zeros_like(x)
        with np.errstate(all="ignore"):
            for step in range(2 * STEPS):
                x, memory = advance(model, x, memory)
                total = total + x * (step >= STEPS)
            climate = total.mean(axis=0) / STEPS
        if not np.isfinite(climate).all():
            unseen = np.abs(self.inverse @ self.operator - np.eye(len(climate))).max(axis=1) > 1e-8
            name = model.variables[int(np.argmax(unseen))]
            raise InputError(
                f"{type(model).__name__}: {name!r} is not observed, and free runs diverge, so that "
                "it is not known where to start it; give the model a 'climate', an array with a "
                "typical value of each variable, or another dt"
            )
        return np.asarray(climate)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the state (row, variable) to start from at each row."""
        nearest = self.record.nearest(rows)
        unseen = np.eye(len(self.climate)) - self.inverse @ self.operator
        x = nearest @ self.inverse.T + unseen @ self.climate
        if self.initial is not None:
            x[rows == 0] = self.initial
        return np.asarray(x)


def _inverse(operator: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Give the inverse (variable, observed) of H by least squares, in units of the errors.

    ``deviation`` (observed,) is that of the errors. Columns are scaled, too: units do not matter.
    """
    scaled = operator / deviation[:, None]
    size = np.linalg.norm(scaled, axis=0)
    size = np.where(size > 0, size, 1.0)
    inverse = np.linalg.pinv(scaled / size).round(14)  # of a selection exactly its transpose
    return np.asarray(inverse / size[:, None] / deviation)
