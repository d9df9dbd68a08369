"""The analysis for torch tensors, with its gradient written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from daml.arrays import namespace
from daml.schemes.variational.conjugate_gradients import solution


def analysed(
    background: torch.Tensor, innovation: torch.Tensor, cross: torch.Tensor, total: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the analysis (batch, variable), and the log-likelihood (batch,) of the innovation.

    Parameters
    ----------
    background : torch.Tensor (batch, variable)
    innovation : torch.Tensor (batch, observed)
        d, 0 where a value is missing.
    cross : torch.Tensor (..., variable, observed)
        C = B H'.
    total : torch.Tensor (..., observed, observed)
        S = H B H' + R.
    """
    rows = len(background)
    wide = (part.expand(rows, *part.shape[-2:]) for part in (cross, total))
    increment, surprise = _Analysis.apply(innovation, *wide)  # type: ignore[no-untyped-call]
    return background + increment, -surprise


class _Analysis(torch.autograd.Function):
    """The increment C S^-1 d, and the surprise (d' S^-1 d + log det S) / 2, for a batch.

    d (batch, observed) is the innovation, C = B H' (batch, variable, observed) and S = H C + R.
    The gradient is written out because torch's own, through a Cholesky factor and the solution
    with it, takes dozens of small operations.
    """

    @staticmethod
    def forward(
        ctx: Any, innovation: torch.Tensor, cross: torch.Tensor, total: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give increment (batch, variable) and surprise (batch,)."""
        root = torch.linalg.cholesky_ex(total).L
        inverse = torch.cholesky_inverse(root)
        weights = (inverse @ innovation[..., None])[..., 0]
        ctx.save_for_backward(cross, inverse, weights)
        size = torch.log(root.diagonal(dim1=-2, dim2=-1)).sum(-1)
        increment = (cross @ weights[..., None])[..., 0]
        return increment, torch.sum(innovation * weights, dim=-1) / 2 + size

    @staticmethod
    def backward(ctx: Any, moved: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give the gradients with respect to innovation, C and S.

        With w = S^-1 d, and u and s the gradients with respect to increment and surprise, they are
        v + s w, u w' and s (S^-1 - w w') / 2 - v w', where v = S^-1 C' u.
        """
        cross, inverse, weights = ctx.saved_tensors
        back = (inverse @ (cross.mT @ moved[..., None]))[..., 0]
        scale = scale[..., None]
        by_total = scale[..., None] / 2 * inverse
        by_total -= (back + scale / 2 * weights)[..., None] * weights[..., None, :]
        by_cross = moved[..., None] * weights[..., None, :]
        return torch.addcmul(back, scale, weights), by_cross, by_total


def solved(
    product: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    steps: int,
    tolerance: float,
) -> torch.Tensor:
    """Give the solution (..., n) of C v = b by conjugate gradients, with its gradient by b.

    C is symmetric, so that the gradient is solved for in the same way; see
    :func:`daml.schemes.variational.conjugate_gradients.solution`.
    """
    found: torch.Tensor = _Solution.apply(right, product, steps, tolerance)  # type: ignore[no-untyped-call]
    return found


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, right: torch.Tensor, product: Any, steps: int, tolerance: float
    ) -> torch.Tensor:
        ctx.how = product, steps, tolerance
        found: torch.Tensor = solution(namespace(right), product, right, steps, tolerance)
        return found

    @staticmethod
    def backward(ctx: Any, moved: torch.Tensor) -> tuple[Any, ...]:
        product, steps, tolerance = ctx.how
        return solution(namespace(moved), product, moved, steps, tolerance), None, None, None
