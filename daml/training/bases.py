"""The model that an emulator corrects, stepped in the kind of array that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from daml.arrays import fetch, home
from daml.errors import InputError, first_line
from daml.protocols import Memory, Model
from daml.running.checks import check_model, typical
from daml.running.stepping import advance
from daml.training.differences import Differenced, largest

FEW = 8
"""Variables up to which differences in NumPy take less than torch's gradient of a step, by half."""
NEAR = 1e-4
"""Largest difference of torch's gradient from the true one, as a part of it."""
SIZES = 10.0 ** -np.arange(4, 11)
"""Sizes of the differences that it is compared with, in units of the largest values."""


def base_step(
    base: Model | Differenced, x: Any, memory: Memory, device: str
) -> tuple[torch.Tensor, Memory]:
    """Step states (..., variable); the result is a tensor on the device of the network.

    Gradients pass where the base comes from :func:`differentiable`: through torch's own step, or
    through central differences of one that steps NumPy arrays.
    """
    if isinstance(x, torch.Tensor) and not takes_tensors(base):
        x = fetch(x)
    moved, memory = advance(base, x, memory)
    return torch.as_tensor(moved, device=device), memory


def differentiable(base: Model, states: np.ndarray, device: str = "cpu") -> Model | Differenced:
    """Give a base that steps torch tensors, and whose gradient is right.

    Parameters
    ----------
    base : Model
    states : numpy.ndarray (..., variable)
        Typical states, where the gradient is compared and the size of differences is found.
    device : str
        Of the tensors that will be stepped.

    Returns
    -------
    Model or Differenced
        The base itself where torch differentiates it; else one that steps NumPy arrays and is
        differentiated by central differences, as a small ODE on the CPU is for speed.
    """
    if home(base) is not None:
        return base
    if not takes_tensors(base) or no_gradient(base, states):
        return Differenced(base, states)
    small = len(base.variables) <= FEW and device == "cpu"
    return Differenced(base, states, tensors=True) if small else base


def check_differentiable(base: Model) -> None:
    """Refuse a base through which no training through the cycle is possible.

    Raises
    ------
    InputError
        It says how to change the step.
    """
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
            f"{what}: no gradient passes through the step of {type(model).__name__} ({reason}); "
            "write it on the Array API, xp = array_api_compat.array_namespace(x), without NumPy's "
            "functions"
        )


def takes_tensors(base: Any) -> bool:
    """Whether a base steps torch tensors: its ``arrays`` say so, or it names a device."""
    return "torch" in getattr(base, "arrays", ()) or home(base) is not None


def no_gradient(base: Model, states: np.ndarray) -> str:
    """Give why torch does not differentiate a step rightly; nothing where it does.

    A step that leaves torch for NumPy in part has a gradient that lacks this part: the gradient
    is compared with differences of several sizes along one direction.
    """
    x = torch.as_tensor(states, dtype=torch.float64, device=home(base)).requires_grad_()
    along, back = np.random.default_rng(0).standard_normal((2, *states.shape))
    ahead, weights = x.new_tensor(along * largest(states)), x.new_tensor(back / largest(states))
    try:
        moved = base.step(x, base.start(x))[0]
        if not getattr(moved, "requires_grad", False):
            return "the result has no gradient"
        (found,) = torch.autograd.grad(moved, x, weights)
        found, apart = torch.sum(found * ahead, dim=-1), []
        with torch.no_grad():
            for size in SIZES:
                sides = (base.step(x + s * size * ahead, base.start(x))[0] for s in (1, -1))
                expected = torch.sum(weights * torch.sub(*sides), dim=-1) / (2 * size)
                apart.append(float(torch.nan_to_num((found - expected).abs()).max()))
        least = float(torch.nan_to_num(found.abs()).max())
    except Exception as error:
        return first_line(error)
    return "" if min(apart) <= NEAR * max(least, 1.0) else "a part of it does not come from torch"
