"""Checks of models and schemes: before they run, and of what they gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from daml.devices import home, put
from daml.errors import DivergedError, InputError

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme


def check_model(model: Model, time: Any = 0.0) -> None:
    """Refuse what is no model, or steps one state only."""
    name = type(model).__name__
    for needed in ("variables", "dt", "start", "step"):
        if not hasattr(model, needed):
            raise InputError(
                f"{name} is no model: it has no {needed!r}; a model has variables, dt, "
                "start(x, time) and step(x, memory)"
            )
    variables = model.variables
    if isinstance(variables, str) or not variables or len(set(variables)) != len(variables):
        raise InputError(f"{name}: 'variables' is {variables!r}; give a tuple of different names")
    if not model.dt > type(model.dt)(0):
        raise InputError(f"{name}: 'dt' is {model.dt}; give a step > 0")
    shape = (len(variables) + 2, len(variables))
    x = put(np.ones(shape), home(model))
    with np.errstate(all="ignore"):
        try:
            result = model.step(x, model.start(x, np.full(shape[0], time)))
        except Exception as error:
            raise InputError(
                f"{name}: 'step' failed for a batch of states of shape {shape}: "
                f"{type(error).__name__}: {error}; it must take shape (..., variable): write "
                "x[..., 0], not x[0]"
            ) from error
    if not (isinstance(result, tuple) and len(result) == 2):
        raise InputError(f"{name}: 'step' must give (state, memory); return x, memory")
    if np.shape(result[0]) != shape:
        raise InputError(
            f"{name}: 'step' turned states of shape {shape} into {np.shape(result[0])}; it must "
            "keep the shape (..., variable): write x[..., 0], not x[0]"
        )


def check_scheme(scheme: Scheme, model: Model) -> None:
    """Refuse what is no scheme, and one that asks the model for what it does not know."""
    for needed in ("start", "update"):
        if not hasattr(scheme, needed):
            raise InputError(
                f"{type(scheme).__name__} is no scheme: it has no {needed!r}; give one, e.g. "
                "daml.ThreeDVar(B)"
            )
    if getattr(scheme, "asks_model", False) and not hasattr(model, "background_covariance"):
        raise InputError(
            f"{type(scheme).__name__}('model'): a {type(model).__name__} does not say how wrong "
            "its forecast is (it has no 'background_covariance'); use daml.ThreeDVar('innovations')"
        )


def check_finite(
    states: np.ndarray, times: np.ndarray, variables: Sequence[str], what: str
) -> None:
    """Refuse states (..., variable) at ``times`` (...) that are not finite; say where it began."""
    wrong = ~np.isfinite(states)
    if wrong.any():
        places = np.argwhere(wrong)
        when = times[tuple(places[:, :-1].T)]
        first = int(np.argmin(when))
        raise DivergedError(
            f"{what} left the finite numbers at time {when[first]} in variable "
            f"{variables[places[first, -1]]!r}; take a smaller dt, or start nearer to the model's "
            "climate"
        )
