"""How a step changes with its state: by torch, or by central differences of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from daml.arrays import home, stacked
from daml.errors import first_line
from daml.pairing import takes_tensors
from daml.running.checks import typical
from daml.running.cycling.stepping import advance

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

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
FEW = 8
"""Variables up to which differences in NumPy take less time than torch's gradient of a step."""
NEAR = 1e-4
"""Largest difference of torch's gradient from the true one, as a part of it."""
COMPARED = 10.0 ** -np.arange(4, 11)
"""Sizes of the differences that it is compared with, in units of the largest values."""

Step = Callable[[np.ndarray], np.ndarray]
"""Moves states (..., variable) with any leading axes."""


class Tangents:
    """The derivatives of a model's step, for a scheme that carries a covariance by them.

    They are torch's where it differentiates the step and there are more than a few variables; else
    central differences, whose sizes ``near`` (variable,) are found at the first states, unless
    given.
    """

    def __init__(self, model: Model, near: np.ndarray | None = None) -> None:
        self.model = model
        self.near = near
        self.learns: bool | None = None

    def at(self, x: Array, memory: Memory) -> Array:
        """Give dM/dx (..., variable, variable) of the step from states ``x`` (..., variable)."""
        if not isinstance(x, np.ndarray):
            return self._by_torch(x, memory)
        if self.tensors and not has_past(self.model, memory):
            import torch

            found: np.ndarray = self._by_torch(torch.from_numpy(x.copy()), memory).numpy()
            return found
        return self._by_differences(x, memory)

    @cached_property
    def tensors(self) -> bool:
        """Whether a step of NumPy's may be taken by torch, whose gradient is right."""
        if len(self.model.variables) <= FEW or not takes_tensors(self.model):
            return False
        return not no_gradient(self.model, typical(self.model))

    def _by_torch(self, x: Any, memory: Memory) -> Any:
        import torch

        size, recorded = x.shape[-1], torch.is_grad_enabled() and self._is_recorded(x, memory)
        with torch.enable_grad():
            x = x if recorded and x.requires_grad else x.detach().requires_grad_()
            if has_past(self.model, memory):
                moved = advance(self.model, x, memory)[0]
                parts = torch.unbind(moved.sum(dim=tuple(range(moved.ndim - 1))))
                rows = [
                    torch.autograd.grad(part, x, retain_graph=True, create_graph=recorded)[0]
                    for part in parts
                ]
                return torch.stack(rows, dim=-2)
            # A copy of the states for each variable of the result: one gradient gives all rows.
            copies = x.expand(size, *x.shape).clone()
            moved = advance(self.model, copies, memory)[0]
            total = torch.diagonal(moved, dim1=0, dim2=-1).sum()
            (found,) = torch.autograd.grad(total, copies, create_graph=recorded)
        return torch.movedim(found, 0, -2)

    def _is_recorded(self, x: Any, memory: Memory) -> bool:
        """Whether a gradient is wanted of what a step gives: of its state, or of the model."""
        if x.requires_grad:
            return True
        if self.learns is None:
            self.learns = bool(advance(self.model, x, memory)[0].requires_grad)
        return self.learns

    def _by_differences(self, x: np.ndarray, memory: Memory) -> np.ndarray:
        def step(states: np.ndarray) -> np.ndarray:
            if not has_past(self.model, memory):
                return np.asarray(advance(self.model, states, memory)[0])
            batch = states.reshape(-1, *x.shape)  # as many states as the memory is of
            moved = stacked([advance(self.model, part, memory)[0] for part in batch])
            return np.asarray(moved.reshape(states.shape))

        if self.near is None:
            scale = largest(np.concatenate((typical(self.model), x.reshape(-1, x.shape[-1]))))
            few = x if has_arrays(memory) else x.reshape(-1, x.shape[-1])[:ROWS]
            with np.errstate(all="ignore"):
                self.near = sizes(step, few, scale)
        found = np.empty((x.shape[-1], *x.shape))
        for first, block in jacobian(step, x, self.near):
            found[first : first + len(block)] = block
        return np.ascontiguousarray(np.moveaxis(found, 0, -1))


def has_past(model: Model, memory: Memory) -> bool:
    """Whether a memory holds anything but the clock of forcings, which is that of any copies."""
    past = getattr(model, "past", None)
    return has_arrays(memory if past is None else past(memory))


def has_arrays(memory: Memory) -> bool:
    """Whether a memory holds anything, which is of a batch of states then."""
    if isinstance(memory, (tuple, list)):
        return any(map(has_arrays, memory))
    return memory is not None


def largest(states: np.ndarray) -> np.ndarray:
    """Give the largest size of each variable (variable,) of states (..., variable); 1 where 0."""
    size: np.ndarray = np.abs(states).reshape(-1, states.shape[-1]).max(axis=0)
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def sizes(step: Step, states: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Give by how much to move each variable (variable,) of states (..., variable).

    Of the sizes that are tried, in units of the scale (variable,), the one where the derivative
    changes least towards the next: a larger one misses the model's local structure, a smaller one
    is lost in rounding.
    """
    moved = step(states.copy())
    whole = np.isfinite(moved).all(axis=-1)
    fine = states + 3e-9 * scale  # a model in single precision takes both for the same
    pair = (step(x) for x in (fine, fine.astype(np.float32).astype(np.float64)))
    single = np.array_equal(next(pair), next(pair), equal_nan=True)
    parts, rounding = (SINGLE, SINGLE[-1]) if single else (SIZES, ROUNDING)
    tried = []
    for part in parts:
        found = np.empty((states.shape[-1], *states.shape))
        for first, block in jacobian(step, states, part * scale):
            found[first : first + len(block)] = block
        tried.append(found[:, whole] / largest(moved[whole]) if whole.any() else found)
    axes = tuple(range(1, tried[0].ndim))
    changes = np.array([np.abs(a - b).max(axis=axes) for a, b in pairwise(tried)])
    values = np.abs(states).reshape(-1, states.shape[-1]).max(axis=0)
    rounded = parts[1:, None] * scale < rounding * values
    changes = np.where(np.isfinite(changes) & ~rounded, changes, np.inf)
    best = changes.argmin(axis=0)
    moves: np.ndarray = scale * np.sqrt(parts[best] * parts[best + 1])
    return moves


def jacobian(step: Step, states: np.ndarray, near: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
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
        moved = step(around)
        yield first, (moved[: len(places)] - moved[len(places) :]) / wide[..., None]


def no_gradient(base: Model, states: np.ndarray) -> str:
    """Give why torch does not differentiate a step rightly; nothing where it does.

    A step that leaves torch for NumPy in part has a gradient that lacks this part: the gradient
    is compared with differences of several sizes along one direction.
    """
    import torch

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
            for size in COMPARED:
                sides = (base.step(x + s * size * ahead, base.start(x))[0] for s in (1, -1))
                expected = torch.sum(weights * torch.sub(*sides), dim=-1) / (2 * size)
                apart.append(float(torch.nan_to_num((found - expected).abs()).max()))
        least = float(torch.nan_to_num(found.abs()).max())
    except Exception as error:
        return first_line(error)
    return "" if min(apart) <= NEAR * max(least, 1.0) else "a part of it does not come from torch"
