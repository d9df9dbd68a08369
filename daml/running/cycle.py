"""The assimilation cycle in time, which assimilation and training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.arrays import fetch
from daml.pairing import asks_covariance
from daml.protocols import Forecast, Observed, Run, Update
from daml.running.stepping import advance
from daml.schemes.calling import fresh, updated

if TYPE_CHECKING:
    from daml.protocols import Array, CarriesMemory, KnowsCovariance, Memory, Model, Scheme


def cycle(
    model: Model,
    scheme: Scheme,
    prepared: Memory,
    x: Array,
    memory: Memory,
    seen: Iterable[tuple[Observed, Run]],
) -> Iterator[tuple[Array, Update]]:
    """Yield the background (..., variable) and the scheme's update of each time.

    All work is on arrays: with torch tensors gradients pass through it.

    Parameters
    ----------
    model, scheme : Model, Scheme
    prepared : memory
        What ``scheme.prepare`` returned.
    x : array (..., variable)
        The first background.
    memory : memory
        That of the model at ``x``.
    seen : iterable of (Observed, Run)
        For each time its observations, and the position of the cycle.

    Raises
    ------
    InputError
        If ``update`` fails or returns no analysis.
    """
    asks = asks_covariance(scheme)
    carries = getattr(scheme, "carries", False) and hasattr(model, "packed")
    update, prepared = None, fresh(prepared)
    for observed, run in seen:
        if update is not None:
            if update.carried is not None:
                memory = cast("CarriesMemory", model).unpacked(memory, update.carried)
            x, memory = advance(model, update.state, memory)
        covariance = None
        if asks:
            covariance = cast("KnowsCovariance", model).background_covariance(memory)
            if isinstance(x, np.ndarray):  # a network gives tensors
                covariance = fetch(covariance).astype(x.dtype, copy=False)
        carried = cast("CarriesMemory", model).packed(memory, x) if carries else None
        forecast = Forecast(x, covariance, carried)
        update, prepared = updated(scheme, forecast, observed, run, prepared)
        yield x, update
