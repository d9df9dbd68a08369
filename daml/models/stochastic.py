"""A model to whose steps random errors are added: the truth of an experiment with model error."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.arrays import alike
from daml.covariances.model_error import error_root, of_variables
from daml.errors import InputError
from daml.labels.arguments import fitting
from daml.labels.dates import is_span, months_of, span
from daml.models.enclosing import Around
from daml.randomness import Stream, normal, ranks

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

EARLY = 1e-6
"""Fraction of a step by which a time may be too early, by rounding."""
TURN = 1 << 62
"""Steps before the time 0 count from here down: a position of a generator is not negative."""


class Stochastic(Around):
    """A model to which a random error, drawn from N(0, Q), is added after each step.

    The error depends only on the seed and on the number of the step, counted from time 0 (for
    dates: from 1970). A run that is continued from its end therefore equals a longer run. All
    states of the same time get the same error, except that each member of an ensemble (..., member,
    variable) gets its own.

    In :func:`daml.assimilate` the model is stepped without the error, because the scheme accounts
    for it: ensemble schemes draw errors with a seed of their own, and
    :class:`daml.schemes.SigmaPoint` and :class:`daml.schemes.ExtendedKalman` add Q to their
    covariance.

    Parameters
    ----------
    model : Model
        The model without random errors. The new model has all its other attributes (``climate``,
        ``positions``, ...).
    model_error : float, array or xarray.DataArray
        Q: one variance for all variables, variances (variable,), or a covariance matrix (variable,
        covariable), in units of the variables squared.
    seed : int
        Seed of the errors, 0 or more.

    Raises
    ------
    InputError
        If Q is not a covariance of the variables of the model, or the seed is negative.

    Examples
    --------
    >>> import daml
    >>> model = daml.models.Stochastic(daml.Lorenz63(), model_error=0.01, seed=1)
    >>> whole = daml.simulate(model, steps=20)
    >>> rest = daml.simulate(model, steps=11, initial=whole.isel(time=9))
    >>> bool((rest.state.values == whole.state.values[9:]).all())
    True
    """

    def __init__(self, model: Model, model_error: Any, seed: int = 0) -> None:
        model = fitting("Stochastic", "model", model, "Model")
        seed = fitting("Stochastic", "seed", seed, "int")
        if seed < 0:
            raise InputError(f"Stochastic: 'seed' is {seed}; give 0 or more")
        self.model, self.model_error, self.seed = model, model_error, seed
        of_variables(model_error, tuple(model.variables), "Stochastic")

    def __repr__(self) -> str:
        return f"Stochastic({self.model!r}, {self.model_error!r}, seed={self.seed})"

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along the last axis of a state."""
        return tuple(self.model.variables)

    @property
    def dt(self) -> Any:
        """Length of a step."""
        return self.model.dt

    @property
    def certain(self) -> Model:
        """The model without noise."""
        return self.model

    @cached_property
    def _error(self) -> tuple[np.ndarray, np.ndarray]:
        """The root of Q, and the order in which the variables take what is drawn."""
        q = of_variables(self.model_error, self.variables, "Stochastic")
        return error_root(q), ranks(self.variables)

    def start(self, x: Array, time: Array | None = None) -> tuple[Memory, np.ndarray]:
        """Give the memory of the model, and the number (...) of the next step.

        Without ``time``, states are those of time 0.
        """
        steps = np.zeros(x.shape[:-1], np.int64)
        if time is not None:
            steps = steps + np.floor(self._steps(np.asarray(time)) + EARLY).astype(np.int64)
        return self.model.start(x, time), steps

    def _steps(self, time: np.ndarray) -> np.ndarray:
        """Give times (...) in steps since the time 0."""
        dt, unit = self.dt, getattr(self.model, "time_unit", "s")
        months = months_of(dt, unit)
        if months and time.dtype.kind == "M":
            return np.asarray(time.astype("M8[M]").astype(np.int64) / months)
        if time.dtype.kind in "mM":
            name, count = np.datetime_data(time.dtype)
            tick = np.timedelta64(count, cast("Any", name)) / np.timedelta64(1, "ns")
            nanoseconds = span(dt, unit, "Stochastic").value
            return np.asarray(time.astype(np.int64) * (tick / nanoseconds))
        if is_span(dt):
            dt = span(dt, unit, "Stochastic") / span(1, unit, "Stochastic")
        return np.asarray(time.astype(np.float64) / dt)

    def step(
        self, x: Array, memory: tuple[Memory, np.ndarray], *forcing: Array
    ) -> tuple[Array, Any]:
        """Step states (..., [member,] variable) by one dt, and add a random error to each.

        A model with ``forcings`` also takes their values (..., forcing).
        """
        inner, steps = memory
        moved, inner = cast("Any", self.model).step(x, inner, *forcing)
        members = x.shape[-2] if x.ndim > 2 else 1
        found, place = np.unique(steps, return_inverse=True)
        root, order = self._error
        drawn = normal(self.seed, found % TURN, (members, x.shape[-1]), Stream.TRUTH)[..., order]
        drawn = drawn * root if root.ndim == 1 else drawn @ root
        member = np.arange(members) if x.ndim > 2 else 0
        error = drawn[place.reshape(steps.shape), member]
        return moved + alike(error, moved), (inner, steps + 1)
