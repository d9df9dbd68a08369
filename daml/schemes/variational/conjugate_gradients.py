"""Conjugate gradients for a batch of problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def conjugate_gradients(xp: Any, operator: Any, target: Any) -> Any:
    """Minimise |v|^2 + |A v - d|^2 over v, for a batch.

    ``operator`` A (..., observed, variable), ``target`` d (..., observed); the result has shape
    (..., variable). In exact arithmetic as many steps as variables suffice; twice as many bring
    it to rounding.
    """

    def product(v: Any) -> Any:
        return (
            v
            + xp.matmul(xp.matmul(operator, v[..., None])[..., 0][..., None, :], operator)[
                ..., 0, :
            ]
        )

    right = xp.matmul(target[..., None, :], operator)[..., 0, :]
    return solution(xp, product, right, 2 * operator.shape[-1])


def solution(
    xp: Any,
    product: Callable[[Any], Any],
    right: Any,
    steps: int,
    tolerance: float = 0.0,
    inner: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Solve C v = b for a batch, with C symmetric positive definite.

    Parameters
    ----------
    xp : module
        NumPy or torch, as the Array API has it.
    product : callable
        Gives C v (..., variable).
    right : array (..., variable)
        b.
    steps : int
        Steps at most.
    tolerance : float
        A state is done when its residual is shorter than this part of b; others side by side do
        not change it.
    inner : callable, optional
        Gives the scalar products (...) in which C is symmetric, by default those of the entries.
    """

    def dot(one: Any, other: Any) -> Any:
        found = xp.sum(one * other, axis=-1) if inner is None else inner(one, other)
        return found[..., None]

    residual, v = right, xp.zeros_like(right)
    direction, size = residual, dot(residual, residual)
    least = tolerance**2 * size
    for _ in range(steps):
        going = size > least
        if not xp.any(going):
            break
        mapped = product(direction)
        curvature = dot(direction, mapped)
        alive = going & (curvature > 0)
        step = xp.where(alive, size / xp.where(alive, curvature, xp.ones_like(curvature)), 0 * size)
        v = v + step * direction
        residual = residual - step * mapped
        new = dot(residual, residual)
        alive = size > 0
        ratio = xp.where(alive, new / xp.where(alive, size, xp.ones_like(size)), 0 * size)
        direction, size = residual + ratio * direction, new
    return v
