"""The model that an emulator corrects, stepped in the kind of array that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from daml.arrays import fetch, home
from daml.errors import InputError, name_of
from daml.models.forced import held
from daml.pairing import takes_tensors
from daml.protocols import Memory, Model
from daml.running.checks import check_model, typical
from daml.running.cycling.stepping import advance
from daml.running.cycling.tangents import FEW, no_gradient
from daml.training.differences import Differenced


def base_step(
    base: Model | Differenced, x: Any, memory: Memory, device: str, *forcing: Any
) -> tuple[torch.Tensor, Memory]:
    """Step states (..., variable); the result is a tensor on the device of the network.

    Gradients pass where the base comes from :func:`differentiable`: through torch's own step, or
    through central differences of one that steps NumPy arrays. ``forcing`` (..., forcing) is that
    of a base that takes forcings, in the kind of array of ``x``.
    """
    if isinstance(x, torch.Tensor) and not takes_tensors(base):
        x, forcing = fetch(x), tuple(map(fetch, forcing))
    moved, memory = advance(base, x, memory, *forcing)
    return torch.as_tensor(moved, device=device), memory


def differentiable(
    base: Model, states: np.ndarray, device: str = "cpu", forcing: np.ndarray | None = None
) -> Model | Differenced:
    """Give a base that steps torch tensors, and whose gradient is right.

    Parameters
    ----------
    base : Model
    states : numpy.ndarray (..., variable)
        Typical states, where the gradient is compared and the size of differences is found.
    device : str
        Of the tensors that will be stepped.
    forcing : numpy.ndarray (forcing,), optional
        Typical forcings of a base that takes some.

    Returns
    -------
    Model or Differenced
        The base itself where torch differentiates it; else one that steps NumPy arrays and is
        differentiated by central differences, as a small ODE on the CPU is for speed.
    """
    if home(base) is not None:
        return base
    if not takes_tensors(base) or no_gradient(held(base, forcing), states):
        return Differenced(base, states, forcing)
    small = len(base.variables) <= FEW and device == "cpu"
    return Differenced(base, states, forcing, tensors=True) if small else base


def check_differentiable(base: Model, forcing: np.ndarray | None = None) -> None:
    """Refuse a base through which no training through the cycle is possible.

    It is tried with typical forcings (forcing,), if it takes some.

    Raises
    ------
    InputError
        It says how to change the step.
    """
    base = held(base, forcing)
    check_model(base)
    if home(base) is None:
        Differenced(base, typical(base)).check()
    else:
        check_torch(base, "fit_cycle")


def check_torch(model: Model, what: str) -> None:
    """Refuse a model through whose step torch passes no gradient, or a wrong one.

    Raises
    ------
    InputError
        It says how to change the step.
    """
    reason = no_gradient(model, typical(model))
    if reason:
        raise InputError(
            f"{what}: no gradient passes through the step of {name_of(model)} ({reason}); "
            "write it on the Array API, xp = array_api_compat.array_namespace(x), without NumPy's "
            "functions"
        )
