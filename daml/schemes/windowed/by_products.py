"""The cost of a window whose linear problems are solved by products alone, without a matrix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from daml.arrays import namespace
from daml.schemes.variational.conjugate_gradients import solution
from daml.schemes.windowed.by_gradients import Recorded, alike, tensor
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

    def extras(self, wanted: Collection[str]) -> dict[str, list[Any]]:
        """Give ``chi_square`` of the new times: |v|^2 + |d - G v|^2 at the minimum for each one."""
        if "chi_square" not in wanted:
            return {}
        squares, zero = {}, self.control.zero()
        xp = namespace(zero)
        for pair in self.seen:
            alone = replace(self, seen=(pair,))
            misfit, _ = alone.at_background()
            products = Products(alone, zero)
            v = products.step(misfit, zero)
            left = misfit - products.forward(v)
            squares[pair[0]] = self.control.inner(v, v) + xp.vecdot(left, left)
        return self.of_time(squares)


class Products(Recorded):
    """Products with G (..., observed, control), by which a control changes what is observed.

    The gradient of the run that torch has recorded gives G' w; this is linear in w, and its
    gradient by w gives G v.
    """

    def __init__(self, cost: WindowCost, v: Any) -> None:
        import torch

        super().__init__(cost, v)
        self.weights = torch.zeros_like(self.seen, requires_grad=True)
        with torch.enable_grad():
            self.by_weights = self.back(self.weights, create_graph=True)

    def forward(self, v: Any) -> Any:
        """Give G v (..., observed) of controls (..., control)."""
        import torch

        start, errors = self.cost.control.changes(v)
        changes = [tensor(part) for part in (start, *(errors or ()))]
        pairs = [p for p in zip(self.by_weights, changes, strict=True) if p[0].requires_grad]
        by, along = zip(*pairs, strict=True)
        (found,) = torch.autograd.grad(by, self.weights, along, retain_graph=True)
        parts = zip(self.split(alike(found, self.like)), self.cost.seen, strict=True)
        return _joined([self.cost.white(part, observed) for part, (_, observed) in parts])

    def adjoint(self, w: Any) -> Any:
        """Give G' w (..., control) of (..., observed)."""
        parts = zip(self.split(w), self.cost.seen, strict=True)
        weights = _joined([self.cost.unwhite(part, observed) for part, (_, observed) in parts])
        start, *errors = (alike(part, self.like) for part in self.back(tensor(weights)))
        return self.cost.control.adjoint(start, errors)

    def step(self, misfit: Any, v: Any) -> Any:
        """Give the s that solves (I + G' G) s = G' d - v, the step from v to the minimum."""
        right = self.adjoint(misfit) - v
        least = min(misfit.shape[-1] + 1, v.shape[-1])

        def product(s: Any) -> Any:
            return s + self.adjoint(self.forward(s))

        return solution(namespace(v), product, right, 2 * least, INNER, self.cost.control.inner)


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=-1)
