"""The background that a cycle starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels import pack
from daml.observations import ObservationArrays

if TYPE_CHECKING:
    from daml.protocols import Model


class FirstGuess:
    """The background from which a segment starts, at any row of a record.

    What is observed comes from the nearest value in time, the rest from the model's climate:
    x = c + H^+ (y - H c).
    """

    def __init__(
        self, model: Model, arrays: ObservationArrays, times: np.ndarray, initial: xr.Dataset | None
    ) -> None:
        self.times = times
        self.initial = None
        variables = tuple(model.variables)
        if initial is not None:
            given, _ = pack(initial, "state", variables)
            if given.size != len(variables):
                raise InputError(
                    f"assimilate: 'state' of 'initial' has {initial['state'].dims}, "
                    f"{given.size // len(variables)} states; give one: initial.isel(time=0)"
                )
            self.initial = given.reshape(len(variables))
        self.values = arrays.values
        self.operator = arrays.operator.matrix()
        self.present = [np.flatnonzero(p) for p in arrays.present.T]
        seen = np.array([len(p) > 0 for p in self.present])
        self.inverse = np.linalg.pinv(self.operator * seen[:, None])
        known = self.inverse @ (self.operator * seen[:, None])
        self.climate = np.zeros(len(variables))
        if not np.allclose(known, np.eye(len(variables))):
            self.climate = self._climate(model)

    def _climate(self, model: Model) -> np.ndarray:
        told = getattr(model, "climate", None)
        if told is not None:
            return np.asarray(told, dtype=np.float64)
        mean = [self.values[p, i].mean() if len(p) else 0.0 for i, p in enumerate(self.present)]
        x = (self.inverse @ np.array(mean))[None]
        memory, total = model.start(x, self.times[:1]), np.zeros_like(x)
        with np.errstate(all="ignore"):
            for _ in range(1000):
                x, memory = model.step(x, memory)
                total = total + x
        if not np.isfinite(total).all():
            raise InputError(
                f"{type(model).__name__}: a variable is never observed and a free run gives no "
                "climate to start it from; give 'initial'"
            )
        return np.asarray(total[0] / 1000)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the state (row, variable) to start from at each row."""
        nearest = np.zeros((len(rows), len(self.present)))
        for place, present in enumerate(self.present):
            if len(present):
                after = np.clip(np.searchsorted(present, rows), 0, len(present) - 1)
                before = np.clip(after - 1, 0, None)
                near = np.where(
                    np.abs(present[before] - rows) <= np.abs(present[after] - rows), before, after
                )
                nearest[:, place] = self.values[present[near], place]
        x = self.climate + (nearest - self.climate @ self.operator.T) @ self.inverse.T
        if self.initial is not None:
            x[rows == 0] = self.initial
        return np.asarray(x)
