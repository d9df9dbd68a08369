"""The gradient of the minimum of a cost, by what holds there: the cost has no slope."""

from __future__ import annotations

from typing import Any

from daml.arrays import namespace
from daml.schemes.variational.conjugate_gradients import solution
from daml.schemes.windowed.window_cost import WindowCost

NEAR = 1e-8
"""Length of the residual at which the gradient is solved for, as a part of the first one."""


def is_recorded(cost: WindowCost) -> bool:
    """Whether torch records how the states of a window depend on something."""
    import torch

    states = cost.window.state, cost.window.background[-1]
    return torch.is_grad_enabled() and any(getattr(x, "requires_grad", False) for x in states)


def recorded(cost: WindowCost, v: Any) -> Any:
    """Give the control (..., control) of a minimum with its gradient.

    The slope g of J / 2 at the minimum is 0 for all parameters p of the model and for each
    background, so that dv/dp = -C^-1 dg/dp, where C = dg/dv. C is not made: products with it are
    gradients of g, and the gradient that comes back is multiplied by C^-1 by conjugate gradients.
    """
    import torch

    v = v.detach().requires_grad_()
    half = cost.at(v)[1].sum() / 2
    (slope,) = torch.autograd.grad(half, v, create_graph=True)
    found = v.detach() - (slope - slope.detach())

    def product(w: Any) -> Any:
        return torch.autograd.grad(slope, v, w, retain_graph=True)[0]

    def solved(back: Any) -> Any:
        return solution(namespace(back), product, back.detach(), 2 * back.shape[-1], NEAR)

    found.register_hook(solved)
    return found
