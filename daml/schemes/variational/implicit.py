"""The gradient of the minimum of a cost, by what holds there: the cost has no slope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from daml.arrays import namespace
from daml.schemes.variational.conjugate_gradients import solution
from daml.schemes.variational.controls import Control

NEAR = 1e-8
"""Length of the residual at which the gradient is solved for, as a part of the first one."""


def is_recorded(*arrays: Any) -> bool:
    """Whether torch records how any of the arrays depends on something."""
    import torch

    return torch.is_grad_enabled() and any(getattr(x, "requires_grad", False) for x in arrays)


def recorded(control: Control, distance: Callable[[Sequence[Any]], Any], v: Any) -> Any:
    """Give the control (..., control) of a minimum with its gradient.

    The slope g of J / 2 at the minimum is 0 for all parameters p of the model and for each
    background, so that dv/dp = -C^-1 dg/dp, where C = dg/dv. C is not made: products with it are
    gradients of g, and the gradient that comes back is multiplied by C^-1 by conjugate gradients.

    Parameters
    ----------
    control : Control
    distance : callable
        Gives the sum of |R^(-1/2) (y - H(x))|^2 (...) for the changes of the start and of each
        error (..., variable).
    v : torch.Tensor (..., control)
        That of the minimum.
    """
    import torch

    v = v.detach()
    start, errors = control.changes(v)
    changes = [_differentiable(part) for part in (start, *(errors or ()))]
    half = distance(changes).sum() / 2
    how: dict[str, Any] = {"materialize_grads": True, "allow_unused": True}
    by_changes = torch.autograd.grad(half, changes, create_graph=True, **how)
    slope = v + control.adjoint(by_changes[0], by_changes[1:])
    found = v - (slope - slope.detach())

    def product(w: Any) -> Any:
        along, further = control.changes(w)
        pairs = zip(by_changes, (along, *(further or ())), strict=True)
        by, parts = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
        first, *rest = torch.autograd.grad(by, changes, parts, retain_graph=True, **how)
        return w + control.adjoint(first, rest)

    def solved(back: Any) -> Any:
        right, steps = control.lifted(back.detach()), 2 * back.shape[-1]
        found = solution(namespace(back), product, right, steps, NEAR, control.inner)
        return control.lowered(found)

    found.register_hook(solved)
    return found


def _differentiable(part: Any) -> Any:
    """Give a tensor by which torch differentiates, with what it depends on."""
    return part if part.requires_grad else part.detach().requires_grad_()
