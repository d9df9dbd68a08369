"""Small matrices side by side: the identity, Cholesky's root, and its determinant."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device


def identity(size: int, like: Any) -> Any:
    """Give the identity (size, size) in the kind of array that ``like`` is."""
    xp = array_namespace(like)
    return xp.eye(size, dtype=like.dtype, device=device(like))


def cholesky(matrix: Any) -> Any:
    """Give the lower root of symmetric matrices (..., n, n); NaN where one is not finite."""
    xp = array_namespace(matrix)
    finite = xp.all(xp.isfinite(matrix), axis=(-2, -1))[..., None, None]
    found = xp.linalg.cholesky(xp.where(finite, matrix, identity(matrix.shape[-1], matrix)))
    return xp.where(finite, found, xp.full_like(found, xp.nan))


def solved(root: Any, given: Any, *, transposed: bool = False) -> Any:
    """Give L^-1 B, or L'^-1 B, (..., n, any) for lower roots L (..., n, n)."""
    matrix = array_namespace(root).matrix_transpose(root) if transposed else root
    if isinstance(root, np.ndarray):
        return np.linalg.solve(matrix, given)
    import torch

    return torch.linalg.solve_triangular(matrix, given, upper=transposed)


def log_determinant(root: Any) -> Any:
    """Give the logarithm (...) of the determinant of L L', for L (..., n, n)."""
    xp = array_namespace(root)
    return 2 * xp.sum(xp.log(xp.linalg.diagonal(root)), axis=-1)
