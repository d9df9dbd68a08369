"""The assimilation cycle in time, which assimilation and training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from daml.arrays import alike, fetch
from daml.covariances.model_error import dense, error_root, model_error
from daml.pairing import asks_covariance, certain
from daml.protocols import Forecast, Observed, Run, Update
from daml.randomness import Stream, normal, ranks
from daml.running.stepping import advance
from daml.running.tangents import Tangents
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

    Raises
    ------
    InputError
        If ``update`` fails or returns no analysis.
    """
    asks, steps = asks_covariance(scheme), _Steps(model, scheme, x)
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
        update, prepared = updated(scheme, forecast, observed, run, prepared)
        yield x, update


def given_error(scheme: Scheme, model: Model) -> Array | None:
    """Give Q (variable, variable) for a scheme that adds it itself; None for another one."""
    error = model_error(scheme, model)
    if error is None or "model_error" not in getattr(scheme, "needs", ()):
        return None
    return dense(error)


class _Steps:
    """The steps of a model, with what its scheme does about their errors.

    ``like`` (..., variable) has the kind of array of the states.
    """

    def __init__(self, model: Model, scheme: Scheme, like: Array) -> None:
        needs = getattr(scheme, "needs", ())
        self.model = certain(model)
        self.tangents = Tangents(self.model) if "gradient" in needs else None
        given, error = given_error(scheme, model), model_error(scheme, model)
        self.error = None if given is None else _placed(given, like)
        self.root = None
        if given is None and error is not None and getattr(scheme, "members", None) is not None:
            self.root = _placed(error_root(error), like)
            self.seed, self.order = getattr(scheme, "seed", 0), ranks(model.variables)

    def forecast(self, x: Array, memory: Memory, run: Run) -> tuple[Forecast, Memory]:
        """Move analyses (..., variable) by a step, to the position ``run``."""
        tangent = None if self.tangents is None else self.tangents.at(x, memory)
        x, memory = advance(self.model, x, memory)
        if self.root is not None:
            x = x + self._drawn(x, self.root, run)
        return Forecast(x, None, self.error, tangent), memory

    def _drawn(self, x: Array, root: Array, run: Run) -> Array:
        """Draw errors of a step for the members (..., member, variable); their mean is 0."""
        shape = tuple(x.shape[-2:])
        drawn = normal(self.seed, run.step, shape, Stream.MODEL_ERROR)[..., self.order]
        drawn = alike(drawn - drawn.mean(axis=-2, keepdims=True), x)
        return drawn * root if root.ndim == 1 else drawn @ root


def _placed(array: Array, like: Array) -> Array:
    return alike(array, like) if isinstance(array, np.ndarray) else array
