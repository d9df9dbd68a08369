"""What must fit together in a loop: a model, a scheme and a record of observations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.assimilation import cycle_steps
from daml.checks import check_model, check_scheme
from daml.devices import fetch, home, put
from daml.errors import InputError
from daml.first_guess import FirstGuess
from daml.labels import first_time
from daml.records import read
from daml.schemes import ThreeDVar

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Array, Memory, Model, Scheme

STEPS = 30
"""Steps of the trial."""


def check_loop(model: Model, scheme: Scheme, observations: xr.Dataset) -> None:
    """Refuse what cannot run in a loop, and a scheme that ignores the model's forecasts.

    A scheme that steps a model of its own gives the same analyses whichever model the loop
    trains. On the first steps of the record its analyses are compared with those from forecasts
    that are changed a little.

    Raises
    ------
    InputError
        If model, scheme or observations are wrong, or the analyses are the same.
    """
    check_model(model, first_time(observations))
    if isinstance(scheme, ThreeDVar):  # it uses the forecasts; B of the "model" comes later
        return
    check_scheme(scheme, model)
    variables = tuple(model.variables)
    record = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    first = FirstGuess(model, record, record.axis.grid(), None)
    steps = np.arange(min(STEPS, record.axis.length))[:, None]
    spread = np.std(record.nearest(steps[:, 0]), axis=0).max() or 1.0

    def analyses(shift: float) -> list[np.ndarray]:
        """Cycle from the same first state, each forecast shifted."""
        device = home(model)
        x = put(first.state(steps[0]), device)
        memory = model.start(x, first.times[steps[0]])
        seen = zip(
            *(put(part, device) for part in (record.values(steps), record.kind[steps])), strict=True
        )
        prepared = scheme.start(variables, record)
        shifted = cast("Model", _Shifted(model, shift))
        with np.errstate(all="ignore"):
            pairs = cycle_steps(shifted, scheme, prepared, x, memory, seen)
            return [fetch(analysis) for _, analysis, *_ in pairs]

    pairs = zip(analyses(0.0), analyses(0.1 * spread), strict=True)
    if all(np.array_equal(one, two, equal_nan=True) for one, two in pairs):
        name = type(scheme).__name__
        raise InputError(
            f"improve: the analyses of {name} do not depend on the forecasts of the model, so that "
            "no better model would change them; compute them from the 'background' that 'update' "
            "is given, which is the forecast of the model of each pass, not from a model of its own"
        )


class _Shifted:
    """A model whose forecasts are off by a constant."""

    def __init__(self, model: Model, shift: float) -> None:
        self.model, self.shift = model, shift

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        moved, memory = self.model.step(x, memory)
        return moved + self.shift, memory
