"""Inverse square roots of many small matrices, by products alone.

Products of matrices side by side cost a fraction of their eigenvectors, and the gradients that
torch finds through them are finite where eigenvalues meet, as they do with few observations.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from daml.schemes.matrices import identity

TERMS = 64
"""Most terms of a series; a matrix that needs more is inverted by iterations."""
ACCURACY = 1e-11
"""Largest relative error of a series."""
LARGEST = 1e12
"""Condition number from which on iterations stop early: more of them would amplify rounding."""


def root_times(matrices: Any, vectors: Any) -> Any:
    """Give (I + C)^(-1/2) v, the symmetric root, of C (..., n, n) and v (..., n, vector).

    C is symmetric positive semidefinite. Where I + C is well conditioned, the root is a series of
    Chebyshev polynomials that meets the vectors only; else it is found by the iterations of Newton
    and Schulz in coupled form. NaN where C is not finite.

    References
    ----------
    Higham, N. J. (2008): Functions of Matrices. SIAM; sections 4.4.1 and 6.7.
    """
    xp = array_namespace(matrices)
    # Bounds say how many terms are needed; no gradient passes through them.
    fixed = matrices.detach() if hasattr(matrices, "detach") else matrices
    flat = xp.reshape(fixed, (*fixed.shape[:-2], -1))
    bounds = xp.sqrt(xp.vecdot(flat, flat))
    largest = float(xp.max(bounds))
    if math.isinf(largest):  # squares overflow before sums do
        bounds = xp.max(xp.sum(xp.abs(fixed), axis=-1), axis=-1)
        largest = float(xp.max(bounds))
    if not math.isfinite(largest):
        return vectors * math.nan
    # Few different bounds: their series are kept, and hardly depend on what lies side by side.
    bound = 2.0 ** (math.ceil(2 * math.log2(max(largest, 1e-3))) / 2)
    if _terms(bound) <= TERMS:
        return _series(matrices, vectors, bound)
    return _iterated(matrices, 1 + bounds[..., None, None], bound) @ vectors


def _terms(bound: float) -> int:
    """Give how many terms 1 / (x + sqrt(x)) needs on [1, 1 + bound]: its singularity lies at 0."""
    root = math.sqrt(1 + bound)
    return math.ceil(-math.log(ACCURACY) / math.log1p(2 / (root - 1))) + 1


@cache
def _coefficients(bound: float) -> tuple[float, ...]:
    """Give the coefficients of 1 / (x + sqrt(x)) on [1, 1 + bound] in Chebyshev polynomials."""
    points = np.polynomial.chebyshev.chebpts1(_terms(bound) + 1)
    x = 1 + bound * (points + 1) / 2
    values = 1 / (x + np.sqrt(x))
    return tuple(np.polynomial.chebyshev.chebfit(points, values, len(points) - 1).tolist())


def _series(matrices: Any, vectors: Any, bound: float) -> Any:
    """Give (I + C)^(-1/2) v as v - q(C) C v with q(C) = 1 / (x + sqrt(x)), x = I + C.

    Where C is 0, that is v to the last digit. Terms are summed from the last one back, by the
    recurrence of Clenshaw.
    """
    first, *others = _coefficients(bound)
    twice = matrices * (4 / bound) - 2 * identity(matrices.shape[-1], matrices)
    start = matrices @ vectors
    later = now = None
    for factor in reversed(others):
        moved = factor * start
        if now is not None:
            moved = moved + twice @ now
        if later is not None:
            moved = moved - later
        later, now = now, moved
    total = first * start + (twice @ now) / 2
    return vectors - (total if later is None else total - later)


def _iterated(matrices: Any, scales: Any, bound: float) -> Any:
    """Give (I + C)^(-1/2); ``scales`` (..., 1, 1) are no smaller than the largest eigenvalues.

    The smallest eigenvalue, 1 / scale at first, grows by 9/4 with each iteration, until the last
    ones square its distance from 1.
    """
    xp = array_namespace(matrices)
    eye = identity(matrices.shape[-1], matrices)
    root, inverse = (matrices + eye) / scales, eye
    for _ in range(math.ceil(math.log(1 + min(bound, LARGEST)) / math.log(9 / 4)) + 6):
        step = 1.5 * eye - 0.5 * (inverse @ root)
        root, inverse = root @ step, step @ inverse
    return inverse / xp.sqrt(scales)
