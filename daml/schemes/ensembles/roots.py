"""Inverse square roots of many small matrices."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def root_times(matrices: Any, vectors: Any) -> Any:
    """Give (I + C)^(-1/2) v, the symmetric root, of C (..., n, n) and v (..., n, vector).

    C is symmetric positive semidefinite.
    """
    xp = array_namespace(matrices)
    values, own = xp.linalg.eigh(matrices)
    values = 1 + xp.where(values > 0, values, xp.zeros_like(values))
    return own @ ((xp.matrix_transpose(own) @ vectors) / xp.sqrt(values)[..., None])
