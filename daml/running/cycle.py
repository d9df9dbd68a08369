"""The assimilation cycle in time, which assimilation and training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.arrays import alike, fetch
from daml.covariances.model_error import dense, model_error
from daml.pairing import asks_covariance
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
    asks, error = asks_covariance(scheme), given_error(scheme, model, x)
    update, prepared, added = None, fresh(prepared), None
    for observed, run in seen:
        if update is not None:
            x, memory = advance(model, update.state, memory)
            added = error
        covariance = None
        if asks:
            covariance = cast("KnowsCovariance", model).background_covariance(memory)
            if isinstance(x, np.ndarray):  # a network gives tensors
                covariance = fetch(covariance).astype(x.dtype, copy=False)
        forecast = Forecast(x, covariance, added)
        update, prepared = updated(scheme, forecast, observed, run, prepared)
        yield x, update


def given_error(scheme: Scheme, model: Model, like: Array) -> Array | None:
    """Give Q (variable, variable) for a scheme that adds it itself, in the kind of an array."""
    if "model_error" not in getattr(scheme, "needs", ()):
        return None
    found = model_error(scheme, model)
    if found is None:
        return None
    found = dense(found)
    return alike(found, like) if isinstance(found, np.ndarray) else found
