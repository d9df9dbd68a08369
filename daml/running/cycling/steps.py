"""The steps of a model in a cycle, with what its scheme does about their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from daml.arrays import alike
from daml.covariances.model_error import dense, error_root, model_error
from daml.pairing import certain, has_window
from daml.protocols import Forecast
from daml.randomness import Stream, normal, ranks
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.stepping import advance
from daml.running.cycling.tangents import Tangents
from daml.running.cycling.widening import widened

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Run, Scheme, Update


def given_error(scheme: Scheme, model: Model, as_given: bool = False) -> Array | None:
    """Give Q (variable, variable) for a scheme that adds it itself; None for another one.

    Variances (variable,) stay variances ``as_given``.
    """
    error = model_error(scheme, model)
    if error is None or "model_error" not in getattr(scheme, "needs", ()):
        return None
    return error if as_given else dense(error)


class Steps:
    """The steps of a model, with what its scheme does about their errors.

    ``like`` (..., variable) has the kind of array of the states. ``near`` (variable,) says by how
    much variables are moved for gradients by differences, if steps before have found that.
    """

    def __init__(self, model: Model, scheme: Scheme, like: Array, near: Array | None = None):
        needs = getattr(scheme, "needs", ())
        self.model, self.bounds = certain(model), Bounds.of(model)
        self.tangents = Tangents(self.model, near) if "gradient" in needs else None
        given, error = given_error(scheme, model, has_window(scheme)), model_error(scheme, model)
        self.error = None if given is None else _placed(given, like)
        self.root = None
        if given is None and error is not None and getattr(scheme, "members", None) is not None:
            self.root = _placed(error_root(error), like)
            self.seed, self.order = getattr(scheme, "seed", 0), ranks(model.variables)
            self.drawn = getattr(scheme, "drawn", True)

    @property
    def near(self) -> Array | None:
        """By how much variables (variable,) are moved for gradients, where that is known."""
        return None if self.tangents is None else self.tangents.near

    def forecast(self, x: Array, memory: Memory, run: Run) -> tuple[Forecast, Memory]:
        """Move analyses (..., variable) by a step, to the position ``run``."""
        tangent = None if self.tangents is None else self.tangents.at(x, memory)
        x, memory = self.moved(x, memory, run)
        return Forecast(x, None, self.error, tangent), memory

    def moved(self, x: Array, memory: Memory, run: Run) -> tuple[Array, Memory]:
        """Move states alone; the errors that members draw are the same at each call.

        Of a scheme with members one state (..., variable) is moved without errors.
        """
        x, memory = advance(self.model, x, memory)
        if self.root is not None and x.ndim == run.step.ndim + 2:
            if not self.drawn:
                return widened(x, self.root), memory
            x = x + drawn_errors(self.seed, run.step, self.root, self.order, x)
        return x, memory

    def bounded(self, update: Update) -> Update:
        """Give an update whose states are within the bounds of the model."""
        if self.bounds is None:
            return update
        onward = update.onward and self.bounded(update.onward)
        return update._replace(state=self.bounds.within(update.state), onward=onward)


def drawn_errors(seed: int, steps: Array, root: Array, order: np.ndarray, like: Array) -> Array:
    """Draw errors of a step for members (step, member, variable), of mean 0, at model ``steps``.

    ``root`` is that of Q, ``order`` in which order the variables take what is drawn; ``like``
    (..., member, variable) has the members.
    """
    drawn = normal(seed, steps, tuple(like.shape[-2:]), Stream.MODEL_ERROR)[..., order]
    drawn = alike(drawn - drawn.mean(axis=-2, keepdims=True), like)
    return drawn * root if root.ndim == 1 else drawn @ root


def _placed(array: Array, like: Array) -> Array:
    return alike(array, like) if isinstance(array, np.ndarray) else array
