"""The model that an emulator corrects, stepped in the kind of array that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from daml.devices import fetch, home
from daml.errors import InputError, first_line
from daml.models import ODE
from daml.protocols import Memory, Model

NEAR = 1e-5
"""Step of a central difference, in units of 1 + |x|; in double precision it errs by some 1e-10."""
FEW = 8
"""Variables up to which differences in NumPy take less than torch's gradient of a step, by half."""


def base_step(base: Model, x: Any, memory: Memory, device: str) -> tuple[torch.Tensor, Memory]:
    """Step states (..., variable); the result is a tensor on the device of the network.

    Where a gradient has to pass, it does by central differences through a base that steps NumPy
    arrays, and through a small one of ours.
    """
    if isinstance(x, torch.Tensor):
        takes = _takes_tensors(base)
        small = isinstance(base, ODE) and len(base.variables) <= FEW and x.device.type == "cpu"
        if x.requires_grad and (small or not takes):
            return _ByDifferences.apply(x, base, memory), memory  # type: ignore[no-untyped-call]
        x = x if takes else fetch(x)
    moved, memory = base.step(x, memory)
    return torch.as_tensor(moved, device=device), memory


def check_differentiable(base: Model) -> None:
    """Refuse a base through whose step no gradient passes.

    Raises
    ------
    InputError
        It says how to mend the step.
    """
    name, number = type(base).__name__, len(base.variables)
    if not _takes_tensors(base):
        if base.start(np.ones((2, number))) is not None:
            raise InputError(
                f"fit_cycle: {name} steps NumPy arrays and has a memory, through which no gradient "
                "passes; step torch tensors (and name a 'device'), or train on analyses"
            )
        return
    x = torch.ones(2, number, requires_grad=True)
    try:
        moved = base.step(x, base.start(x))[0]
        found, reason = moved.requires_grad, "the result has no gradient"
    except Exception as error:
        found, reason = False, first_line(error)
    if not found:
        raise InputError(
            f"fit_cycle: no gradient passes through the step of {name} ({reason}); write it on the "
            "Array API, xp = array_api_compat.array_namespace(x), without NumPy's functions"
        )


def _takes_tensors(base: Model) -> bool:
    """Whether a base steps torch's tensors: by the contract one that says so, or one of ours."""
    return isinstance(base, ODE) or home(base) is not None


class _ByDifferences(torch.autograd.Function):
    """A step of NumPy's, its Jacobian by central differences."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, base: Model, memory: Memory) -> torch.Tensor:
        """Step the states, and each with one variable a little more, or a little less.

        Those lie along a new first axis: few operations, as threads share Python's lock.
        """
        plain = x.detach().cpu().double().numpy()
        near, size = NEAR * (1 + np.abs(plain)), plain.shape[-1]
        around = np.repeat(plain[None], 2 * size + 1, axis=0)
        for k in range(size):
            around[k, ..., k] += near[..., k]
            around[size + k, ..., k] -= near[..., k]
        moved = np.asarray(base.step(around, memory)[0])
        jacobian = (moved[:size] - moved[size:-1]) / (2 * np.moveaxis(near, -1, 0)[..., None])
        ctx.save_for_backward(x.new_tensor(jacobian))
        return x.new_tensor(moved[-1])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Give the gradient (..., variable) by what was moved."""
        (jacobian,) = ctx.saved_tensors
        return (jacobian * gradient).sum(-1).movedim(0, -1), None, None
