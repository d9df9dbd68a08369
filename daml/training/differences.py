"""The gradient of a step that torch does not differentiate, by central differences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch

from daml.errors import InputError, first_line
from daml.protocols import Memory, Model
from daml.running.stepping import advance

ROWS = 32
"""States on which sizes of the differences are tried."""
SIZES = 10.0 ** -np.arange(5, 18)
"""Sizes that are tried, in units of the largest value of a variable."""
SINGLE = 10.0 ** -np.arange(1, 7)
"""The same for a model that computes in single precision."""
ROUNDING = 1e-12
"""The smallest size that is not lost in the rounding of a value."""
WIDTH = 1 << 22
"""Numbers in the states that are stepped at once."""


@dataclass(frozen=True)
class Differenced:
    """A model whose step, of NumPy arrays, is differentiated by central differences.

    Parameters
    ----------
    model : Model
    states : numpy.ndarray (..., variable)
        Typical states, on which the sizes of the differences are found.
    tensors : bool
        Whether the model steps tensors, too, and does so where no gradient is recorded.
    """

    model: Model
    states: np.ndarray
    tensors: bool = False

    arrays: ClassVar[tuple[str, ...]] = ("torch",)

    def step(self, x: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, Memory]:
        """Step tensors (..., variable), in double precision inside."""
        if x.requires_grad:
            return _ByDifferences.apply(x, self.model, self.near), None  # type: ignore[no-untyped-call]
        if self.tensors:
            return advance(self.model, x, memory)
        moved, memory = advance(self.model, _plain(x), memory)
        return x.new_tensor(moved), memory

    @cached_property
    def near(self) -> np.ndarray:
        """By how much each variable (variable,) is moved."""
        self.check()
        states = self.states.reshape(-1, self.states.shape[-1]).astype(np.float64)
        with np.errstate(all="ignore"):
            return _sizes(self.model, states[:: -(-len(states) // ROWS)])

    def check(self) -> None:
        """Refuse a model of which differences cannot be taken.

        Raises
        ------
        InputError
            If the model has a memory, or steps the same states to different ones.
        """
        name = type(self.model).__name__
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
            one, two = (advance(self.model, self.states.copy(), None)[0] for _ in range(2))
        if not np.array_equal(one, two, equal_nan=True):
            raise InputError(
                f"fit_cycle: {name} steps the same states to different ones, so that its step has "
                "no gradient; leave the random part out, or train on analyses"
            )


def largest(states: np.ndarray) -> np.ndarray:
    """Give the largest size of each variable (variable,) of states (..., variable); 1 where 0."""
    size: np.ndarray = np.abs(states).reshape(-1, states.shape[-1]).max(axis=0)
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def _sizes(model: Model, states: np.ndarray) -> np.ndarray:
    """Give by how much to move each variable (variable,) of states (row, variable).

    Of the sizes that are tried, the one where the derivative changes least towards the next: a
    larger one misses the model's local structure, a smaller one is lost in rounding.
    """
    scale, size = largest(states), states.shape[-1]
    moved = advance(model, states.copy(), None)[0]
    whole = np.isfinite(moved).all(axis=-1)
    fine = states + 3e-9 * scale  # a model in single precision takes both for the same
    pair = (advance(model, x, None)[0] for x in (fine, fine.astype(np.float32).astype(np.float64)))
    single = np.array_equal(next(pair), next(pair), equal_nan=True)
    sizes, rounding = (SINGLE, SINGLE[-1]) if single else (SIZES, ROUNDING)
    tried = []
    for part in sizes:
        jacobian = np.empty((size, *states.shape))
        for first, block in _jacobian(model, states, part * scale):
            jacobian[first : first + len(block)] = block
        tried.append(jacobian[:, whole] / largest(moved[whole]) if whole.any() else jacobian)
    changes = np.array([np.abs(a - b).max(axis=(1, 2)) for a, b in pairwise(tried)])
    rounded = sizes[1:, None] * scale < rounding * np.abs(states).max(axis=0)
    changes = np.where(np.isfinite(changes) & ~rounded, changes, np.inf)
    best = changes.argmin(axis=0)
    found: np.ndarray = scale * np.sqrt(sizes[best] * sizes[best + 1])
    return found


def _jacobian(model: Model, states: np.ndarray, near: np.ndarray) -> Any:
    """Yield first variables and derivatives by these (variable, ..., variable), in blocks.

    The moved states lie along a new first axis: few operations, as threads share Python's lock.
    """
    size = states.shape[-1]
    count = max(WIDTH // (2 * states.size), 1)
    for first in range(0, size, count):
        places = range(first, min(first + count, size))
        around = np.repeat(states[None], 2 * len(places), axis=0)
        for row, place in enumerate(places):
            around[row, ..., place] += near[place]
            around[len(places) + row, ..., place] -= near[place]
        up, down = around[: len(places)], around[len(places) :]
        wide = np.stack([up[row, ..., k] - down[row, ..., k] for row, k in enumerate(places)])
        moved = advance(model, around, None)[0]
        yield first, (moved[: len(places)] - moved[len(places) :]) / wide[..., None]


def _plain(x: torch.Tensor) -> np.ndarray:
    plain: np.ndarray = x.detach().cpu().double().numpy()
    return plain


class _ByDifferences(torch.autograd.Function):
    """A step of NumPy's, its Jacobian by central differences when the gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, model: Model, near: np.ndarray) -> torch.Tensor:
        """Step the states (..., variable)."""
        ctx.model, ctx.near, plain = model, near, _plain(x)
        ctx.states = plain
        return x.new_tensor(advance(model, plain, None)[0])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Give the gradient (..., variable) by what was moved."""
        back, found = _plain(gradient), np.empty(ctx.states.shape)
        for first, block in _jacobian(ctx.model, ctx.states, ctx.near):
            found[..., first : first + len(block)] = np.moveaxis((block * back).sum(-1), 0, -1)
        return gradient.new_tensor(found), None, None
