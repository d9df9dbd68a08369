"""Small matrices side by side: the identity, Cholesky's root, and its determinant."""

from __future__ import annotations

from typing import Any

import numpy as np

from daml.arrays import namespace


def identity(size: int, like: Any) -> Any:
    """Give the identity (size, size) in the kind of array that ``like`` is."""
    if isinstance(like, np.ndarray):
        return np.eye(size, dtype=like.dtype)
    return namespace(like).eye(size, dtype=like.dtype, device=like.device)


def cholesky(matrix: Any) -> Any:
    """Give the lower root of symmetric matrices (..., n, n); NaN where there is none.

    A matrix has none if it is not finite, or not positive definite: a cycle that diverges comes
    there, and must not end those beside it.
    """
    xp = namespace(matrix)
    if bool(xp.isfinite(xp.sum(matrix))):  # then each one is; to ask once costs little
        try:
            return xp.linalg.cholesky(matrix)
        except (np.linalg.LinAlgError, RuntimeError):  # torch's LinAlgError is a RuntimeError
            pass
    one = identity(matrix.shape[-1], matrix)
    there = xp.all(xp.isfinite(matrix), axis=(-2, -1))[..., None, None]
    values = xp.linalg.eigvalsh(xp.where(there, matrix, one))
    rounding = 4 * matrix.shape[-1] * xp.finfo(matrix.dtype).eps
    there = there & (values[..., 0] > rounding * values[..., -1])[..., None, None]
    found = xp.linalg.cholesky(xp.where(there, matrix, one))
    return xp.where(there, found, xp.full_like(found, xp.nan))


def solved(root: Any, right: Any, *, upper: bool = False) -> Any:
    """Give L^-1 B, for triangular L (..., n, n) and B (..., n, any), or (n, any) for all.

    By torch, also in NumPy, whose own solution factorises L anew: for 24 equations it takes four
    times as long.
    """
    import torch

    if not isinstance(root, np.ndarray):
        return torch.linalg.solve_triangular(root, right, upper=upper)
    parts = torch.from_numpy(root), torch.from_numpy(right)
    return torch.linalg.solve_triangular(*parts, upper=upper).numpy()


def log_determinant(root: Any) -> Any:
    """Give the logarithm (...) of the determinant of L L', for L (..., n, n)."""
    xp = namespace(root)
    return 2 * xp.sum(xp.log(xp.linalg.diagonal(root)), axis=-1)


def least_squares(seen: Any, target: Any) -> Any:
    """Give the v (..., n) that minimises |v|^2 + |G v - d|^2, in the smaller of two spaces.

    G (..., observed, n), d (..., observed).
    """
    xp = namespace(seen)
    observed, size = seen.shape[-2:]
    turned = xp.matrix_transpose(seen)
    if observed <= size:
        weights = xp.linalg.solve(identity(observed, seen) + seen @ turned, target[..., None])
        return (turned @ weights)[..., 0]
    right = turned @ target[..., None]
    return xp.linalg.solve(identity(size, seen) + turned @ seen, right)[..., 0]
