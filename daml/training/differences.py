"""The gradient of a step that torch does not differentiate, by central differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch

from daml.errors import InputError, first_line, name_of
from daml.models.forced import held
from daml.protocols import Memory, Model
from daml.running.cycling.stepping import advance
from daml.running.cycling.tangents import ROWS, jacobian, largest, sizes


@dataclass(frozen=True)
class Differenced:
    """A model whose step, of NumPy arrays, is differentiated by central differences.

    Parameters
    ----------
    model : Model
    states : numpy.ndarray (..., variable)
        Typical states, on which the sizes of the differences are found.
    forcing : numpy.ndarray (forcing,), optional
        Typical forcings of a model that takes some.
    tensors : bool
        Whether the model steps tensors, too, and does so where no gradient is recorded.
    """

    model: Model
    states: np.ndarray
    forcing: np.ndarray | None = None
    tensors: bool = False

    arrays: ClassVar[tuple[str, ...]] = ("torch",)

    def step(
        self, x: torch.Tensor, memory: Memory, *forcing: torch.Tensor
    ) -> tuple[torch.Tensor, Memory]:
        """Step tensors (..., variable), in double precision inside."""
        model = held(self.model, _plain(forcing[0]) if forcing else None)
        if x.requires_grad:
            return _ByDifferences.apply(x, model, self.near, self.tensors), None  # type: ignore[no-untyped-call]
        if self.tensors:
            return advance(model, x, memory)
        moved, memory = advance(model, _plain(x), memory)
        return x.new_tensor(moved), memory

    @cached_property
    def near(self) -> np.ndarray:
        """By how much each variable (variable,) is moved."""
        self.check()
        states = self.states.reshape(-1, self.states.shape[-1]).astype(np.float64)
        with np.errstate(all="ignore"):
            few = states[:: -(-len(states) // ROWS)]
            return sizes(partial(_moved, self.typical), few, largest(few))

    @property
    def typical(self) -> Model:
        """The model at its typical forcings."""
        return held(self.model, self.forcing)

    def check(self) -> None:
        """Refuse a model of which differences cannot be taken.

        Raises
        ------
        InputError
            If the model has a memory, or steps the same states to different ones.
        """
        name = name_of(self.model)
        try:
            memory = self.model.start(self.states.copy())
        except Exception as error:
            raise InputError(
                f"fit_cycle: 'start' of {name} failed without a time ({first_line(error)}); a "
                "training through the cycle needs a model that is not driven by the time"
            ) from error
        if memory is not None:
            raise InputError(
                f"fit_cycle: {name} steps NumPy arrays and has a memory, through which no gradient "
                "passes; step torch tensors (and name a 'device'), or train on analyses"
            )
        with np.errstate(all="ignore"):
            one, two = (advance(self.typical, self.states.copy(), None)[0] for _ in range(2))
        if not np.array_equal(one, two, equal_nan=True):
            raise InputError(
                f"fit_cycle: the step of {name} is random, so that it has no gradient; leave "
                "the random part out, or train on analyses"
            )


def _moved(model: Model, states: np.ndarray) -> np.ndarray:
    """Step states (..., variable) of a model without a memory."""
    return np.asarray(advance(model, states, None)[0])


def _plain(x: torch.Tensor) -> np.ndarray:
    plain: np.ndarray = x.detach().cpu().double().numpy()
    return plain


class _ByDifferences(torch.autograd.Function):
    """A step of NumPy's, its Jacobian by central differences when the gradient comes back."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, model: Model, near: np.ndarray, tensors: bool
    ) -> torch.Tensor:
        """Step the states (..., variable)."""
        ctx.model, ctx.near, ctx.tensors = model, near, tensors
        ctx.save_for_backward(x)
        return x.new_tensor(advance(model, _plain(x), None)[0])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Give the gradient (..., variable) by what was moved.

        Where a gradient of it is wanted, too, torch takes both if it can; otherwise the Jacobian is
        a constant.
        """
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled() and ctx.tensors:
            moved = advance(ctx.model, x, None)[0]
            (found,) = torch.autograd.grad(moved, x, gradient, create_graph=True)
            return found, None, None, None
        blocks = jacobian(partial(_moved, ctx.model), _plain(x), ctx.near)
        if torch.is_grad_enabled():
            parts = [x.new_tensor(np.moveaxis(block, 0, -1)) for _, block in blocks]
            matrix = torch.cat(parts, dim=-1)  # (..., variable, moved variable)
            return (gradient[..., None, :] @ matrix)[..., 0, :], None, None, None
        back, into = _plain(gradient), np.empty(tuple(x.shape))
        for first, block in blocks:
            into[..., first : first + len(block)] = np.moveaxis((block * back).sum(-1), 0, -1)
        return gradient.new_tensor(into), None, None, None
