"""The cost of a window whose linear problems are solved by products alone, without a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daml.arrays import namespace
from daml.schemes.variational.conjugate_gradients import solution
from daml.schemes.windowed.window_cost import WindowCost

INNER = 1e-3
"""Length of the residual at which an inner loop ends, as a part of the first one."""


@dataclass(frozen=True)
class ByProducts(WindowCost):
    """A cost whose linear problems are solved by conjugate gradients.

    They are those of v, in which B is the identity: its root preconditions them.
    """

    def step(self, v: Any, misfit: Any) -> Any:
        """Give the step (..., control) to the minimum of J of the problem linear around v."""
        return Products(self, v).step(misfit, v)

    def extras(self) -> dict[str, list[Any]]:
        """Give ``chi_square`` of the new times: |v|^2 + |d - G v|^2 at the minimum for each one."""
        if not self.seen:
            return self.of_time({})
        squares, zero = {}, self.control.zero()
        xp = namespace(zero)
        for pair in self.seen:
            alone = replace(self, seen=(pair,))
            misfit, _ = alone.at_background()
            products = Products(alone, zero)
            v = products.step(misfit, zero)
            left = misfit - products.forward(v)
            squares[pair[0]] = xp.vecdot(v, v) + xp.vecdot(left, left)
        return self.of_time(squares)


class Products:
    """Products with G (..., observed, control), by which a control changes what is observed.

    One run of the model is recorded by torch. Its gradient gives G' w; this is linear in w, and its
    gradient by w gives G v.
    """

    def __init__(self, cost: WindowCost, v: Any) -> None:
        import torch

        self.cost, self.like = cost, v
        start, errors = cost.control.moved(v)
        with torch.enable_grad():
            self.inputs = [_leaf(part) for part in (start, *(errors or ()))]
            first, rest = self.inputs[0], tuple(self.inputs[1:])
            states = cost.window.moved(first, rest) if rest else cost.window.moved(first)
            parts = [cost.operator.apply(states[place]) for place, _ in cost.seen]
            self.seen = torch.cat(parts, dim=-1)
            self.weights = torch.zeros_like(self.seen, requires_grad=True)
            self.back = torch.autograd.grad(
                *(self.seen, self.inputs, self.weights),
                create_graph=True,
                allow_unused=True,
            )

    def forward(self, v: Any) -> Any:
        """Give G v (..., observed) of controls (..., control)."""
        import torch

        start, errors = self.cost.control.changes(v)
        changes = [_tensor(part) for part in (start, *(errors or ()))]
        pairs = [p for p in zip(self.back, changes, strict=True) if p[0] is not None]
        by, along = zip(*pairs, strict=True)
        (found,) = torch.autograd.grad(by, self.weights, along, retain_graph=True)
        parts = self._split(_alike(found, self.like))
        white = [
            self.cost.white(part, o) for part, (_, o) in zip(parts, self.cost.seen, strict=True)
        ]
        return self._joined(white)

    def adjoint(self, w: Any) -> Any:
        """Give G' w (..., control) of (..., observed)."""
        import torch

        parts = zip(self._split(w), self.cost.seen, strict=True)
        weights = _tensor(self._joined([self.cost.unwhite(part, o) for part, (_, o) in parts]))
        found = torch.autograd.grad(
            self.seen, self.inputs, weights, retain_graph=True, allow_unused=True
        )
        back = [
            torch.zeros_like(one) if part is None else part
            for part, one in zip(found, self.inputs, strict=True)
        ]
        start, *errors = (_alike(part, self.like) for part in back)
        return self.cost.control.adjoint(start, errors)

    def step(self, misfit: Any, v: Any) -> Any:
        """Give the s that solves (I + G' G) s = G' d - v, the step from v to the minimum."""
        xp = namespace(v)
        right = self.adjoint(misfit) - v
        least = min(misfit.shape[-1] + 1, v.shape[-1])

        def product(s: Any) -> Any:
            return s + self.adjoint(self.forward(s))

        return solution(xp, product, right, 2 * least, INNER)

    def _split(self, rows: Any) -> Sequence[Any]:
        """Give the parts of each time."""
        found, first = [], 0
        for _, observed in self.cost.seen:
            last = first + observed.values.shape[-1]
            found.append(rows[..., first:last])
            first = last
        return found

    def _joined(self, parts: Sequence[Any]) -> Any:
        return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=-1)


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array


def _leaf(array: Any) -> Any:
    return _tensor(array).detach().clone().requires_grad_()


def _alike(tensor: Any, like: Any) -> Any:
    """Give a tensor without its gradient, in the kind of array that ``like`` is."""
    return tensor.detach().numpy() if isinstance(like, np.ndarray) else tensor.detach()
