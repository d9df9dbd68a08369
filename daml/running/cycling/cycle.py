"""The assimilation cycle in time, which assimilation and training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.arrays import fetch
from daml.pairing import asks_covariance, has_window
from daml.protocols import Forecast, Observed, Run, Update
from daml.running.cycling.ending import NO_ENDING, NO_HISTORY, Ending, History, Stand
from daml.running.cycling.guards import REJECTED, Guard
from daml.running.cycling.steps import Steps
from daml.running.cycling.windows import windows
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
    after: Update | None = None,
    history: History = NO_HISTORY,
    ending: Ending = NO_ENDING,
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
        That of the model at ``x``, without its noise if it is a stochastic one.
    seen : iterable of (Observed, Run)
        For each time its observations, and the position of the cycle.
    after : Update, optional
        The update at the time before, from which the cycle goes on: its state is ``x``, and
        ``memory`` is that of the model there.
    history : History, optional
        With ``after``, what is known of the times before.
    ending : Ending, optional
        Takes where the cycle stands at a time.

    A scheme with a ``window`` is asked once for all new times of each.

    Raises
    ------
    InputError
        If ``update`` fails or returns no analysis.
    """
    if has_window(scheme):
        yield from windows(model, scheme, prepared, x, memory, seen, after, history, ending)
        return
    asks, guard = asks_covariance(scheme), Guard(scheme)
    steps = Steps(model, scheme, x, history.near)
    carries = getattr(scheme, "carries", False) and hasattr(model, "packed")
    update, prepared, forecast = after, fresh(prepared), Forecast(x)
    for observed, run in seen:
        if update is not None:
            if update.carried is not None:
                memory = cast("CarriesMemory", model).unpacked(memory, update.carried)
            forecast, memory = steps.forecast(update.state, memory, run)
        x = forecast.state
        if asks:
            covariance = cast("KnowsCovariance", model).background_covariance(memory)
            if isinstance(x, np.ndarray):  # a network gives tensors
                covariance = fetch(covariance).astype(x.dtype, copy=False)
            forecast = forecast._replace(covariance=covariance)
        if carries:
            forecast = forecast._replace(carried=cast("CarriesMemory", model).packed(memory, x))
        observed, rejected = guard.of(forecast, observed, run, prepared)
        update, prepared = updated(scheme, forecast, observed, run, prepared)
        if rejected is not None:
            update = update._replace(extras={**update.extras, REJECTED: rejected})
        update = steps.bounded(update)
        if run.age == ending.age:
            moved = memory
            if update.carried is not None:
                moved = cast("CarriesMemory", model).unpacked(memory, update.carried)
            ending.after(run, Stand(update.state, moved, prepared, History(steps.near)))
        yield x, update
