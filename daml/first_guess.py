"""The background that a cycle starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels import pack
from daml.records import Record
from daml.stepping import advance

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
        self.inverse = np.linalg.pinv(seen)
        self.climate = np.zeros(len(variables))
        if not np.allclose(self.inverse @ seen, np.eye(len(variables))):
            self.climate = self._climate(model)

    def _climate(self, model: Model) -> np.ndarray:
        told = getattr(model, "climate", None)
        if told is not None:
            return np.asarray(told, dtype=np.float64)
        x = (self.inverse @ self.record.mean)[None]
        memory, total = model.start(x, self.times[:1]), np.zeros_like(x)
        with np.errstate(all="ignore"):
            for _ in range(1000):
                x, memory = advance(model, x, memory)
                total = total + x
        if not np.isfinite(total).all():
            raise InputError(
                f"{type(model).__name__}: a variable is never observed and a free run gives no "
                "climate to start it from; give 'initial'"
            )
        return np.asarray(total[0] / 1000)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the state (row, variable) to start from at each row."""
        nearest = self.record.nearest(rows)
        x = self.climate + (nearest - self.climate @ self.operator.T) @ self.inverse.T
        if self.initial is not None:
            x[rows == 0] = self.initial
        return np.asarray(x)
