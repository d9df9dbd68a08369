"""The model that an emulator corrects, stepped in the kind of array that it takes."""

from __future__ import annotations

from typing import Any

import torch

from daml.devices import fetch, home
from daml.errors import InputError, first_line
from daml.models import ODE
from daml.protocols import Memory, Model


def base_step(base: Model, x: Any, memory: Memory, device: str) -> tuple[torch.Tensor, Memory]:
    """Step states (..., variable); the result is a tensor on the device of the network.

    On another device than the CPU a base that does not take torch's tensors gets NumPy arrays,
    but where a gradient shall pass.
    """
    if device != "cpu" and not x.requires_grad and not _takes_tensors(base):
        x = fetch(x)
    moved, memory = base.step(x, memory)
    return torch.as_tensor(moved, device=device), memory


def check_differentiable(base: Model) -> None:
    """Refuse a base through whose step no gradient of torch passes.

    Raises
    ------
    InputError
        It says how to write the step.
    """
    x = torch.ones(2, len(base.variables), requires_grad=True)
    try:
        moved = base.step(x, base.start(x))[0]
        found = isinstance(moved, torch.Tensor) and moved.requires_grad
        reason = "the result has no gradient"
    except Exception as error:
        found, reason = False, first_line(error)
    if not found:
        name = type(base).__name__
        raise InputError(
            f"fit_cycle: no gradient passes through the step of {name} ({reason}); write it on the "
            "Array API, xp = array_api_compat.array_namespace(x), without NumPy's functions, or "
            "train on analyses"
        )


def _takes_tensors(base: Model) -> bool:
    """Whether a base steps torch's tensors: by the contract one that says so, or one of ours."""
    return isinstance(base, ODE) or home(base) is not None
