"""The assimilation cycle in time: step, analysis, step, ...; assimilation and training run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.arrays import fetch
from daml.protocols import Forecast, Observed, Run, Update
from daml.running.stepping import advance
from daml.schemes.calling import fresh, updated

if TYPE_CHECKING:
    from daml.protocols import Array, KnowsCovariance, Memory, Model, Scheme


def cycle(
    model: Model,
    scheme: Scheme,
    prepared: Memory,
    x: Array,
    memory: Memory,
    seen: Iterable[tuple[Observed, Run]],
) -> Iterator[tuple[Array, Update]]:
    """Yield background (..., variable) and what the scheme made of it, time after time.

    A pure function of arrays: with torch tensors gradients pass through it. ``x`` is the first
    background, ``memory`` the model's, ``prepared`` what the scheme prepared, and ``seen`` gives
    the observations of each time and where the cycle stands.
    """
    asks = "covariance" in getattr(scheme, "needs", ())
    update, prepared = None, fresh(prepared)
    for observed, run in seen:
        if update is not None:
            x, memory = advance(model, update.state, memory)
        covariance = None
        if asks:
            covariance = cast("KnowsCovariance", model).background_covariance(memory)
            if isinstance(x, np.ndarray):  # a network gives tensors
                covariance = fetch(covariance).astype(x.dtype, copy=False)
        update, prepared = updated(scheme, Forecast(x, covariance), observed, run, prepared)
        yield x, update
