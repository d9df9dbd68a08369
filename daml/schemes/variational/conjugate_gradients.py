"""Conjugate gradients for a batch of small problems."""

from __future__ import annotations

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

    residual = xp.matmul(target[..., None, :], operator)[..., 0, :]
    v = xp.zeros_like(residual)
    direction, size = residual, xp.sum(residual * residual, axis=-1)[..., None]
    for _ in range(2 * operator.shape[-1]):
        mapped = product(direction)
        curvature = xp.sum(direction * mapped, axis=-1)[..., None]
        alive = curvature > 0
        step = xp.where(alive, size / xp.where(alive, curvature, xp.ones_like(curvature)), 0 * size)
        v = v + step * direction
        residual = residual - step * mapped
        new = xp.sum(residual * residual, axis=-1)[..., None]
        alive = size > 0
        ratio = xp.where(alive, new / xp.where(alive, size, xp.ones_like(size)), 0 * size)
        direction, size = residual + ratio * direction, new
    return v
