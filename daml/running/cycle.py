"""The assimilation cycle in time, which assimilation and training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.errors import DamlError, InputError, first_line
from daml.protocols import Forecast, Observed, Run, Update
from daml.running.stepping import advance

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
    asks = "covariance" in getattr(scheme, "needs", ())
    update = None
    for observed, run in seen:
        if update is not None:
            x, memory = advance(model, update.state, memory)
        covariance = None
        if asks:
            covariance = cast("KnowsCovariance", model).background_covariance(memory)
        update, prepared = _updated(scheme, Forecast(x, covariance), observed, run, prepared)
        yield x, update


def _updated(
    scheme: Scheme, forecast: Forecast, observed: Observed, run: Run, prepared: Memory
) -> tuple[Update, Memory]:
    """Give the update of a scheme and its memory; refuse what is not an analysis."""
    x, name = forecast.state, type(scheme).__name__
    if isinstance(x, np.ndarray):
        # A copy: a scheme that writes into its argument must not change the background.
        forecast = forecast._replace(state=x.copy())
    try:
        found = scheme.update(forecast, observed, run, prepared)
        update, prepared = found
        state = update.state
    except DamlError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: 'update' failed ({type(error).__name__}: {first_line(error)}); it must "
            f"return (Update(analysis), memory) for forecasts (..., variable), here of shape "
            f"{tuple(x.shape)}"
        ) from error
    if type(state) is not type(x) or state.shape != x.shape:
        shape = tuple(getattr(state, "shape", ()))
        raise InputError(
            f"{name}: 'update' turned backgrounds of shape {tuple(x.shape)} into a "
            f"{type(state).__name__} of shape {shape}; return the analysis in the same kind and "
            "shape of array"
        )
    return update, prepared
