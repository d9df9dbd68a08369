"""Inverse square roots of many small matrices, by products alone.

Products of matrices side by side cost a fraction of their eigenvectors, and the gradients that
torch finds through them are finite where eigenvalues meet, as they do with few observations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from daml.arrays import fetch, namespace
from daml.schemes.matrices import identity

TERMS = 64
"""Most terms of a series; a matrix that needs more is inverted by iterations."""
ACCURACY = 1e-11
"""Largest relative error of a series."""
TOGETHER, FEWEST = 1 << 17, 8
"""Most entries of matrices that are worked on together, as the cache holds them; and fewest
matrices: a sum over one alone is rounded in another order."""
ENDLESS = 1 << 30
"""Stands for the bound of a matrix that has none."""
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
    bounds = _bounds(matrices, axes=(-2, -1))
    bound = _common(bounds)
    if bound is None:
        return vectors * math.nan
    if _terms(bound) > TERMS:
        return _iterated(matrices, 1 + bounds[..., None, None], bound) @ vectors
    twice = matrices * (4 / bound) - 2 * identity(matrices.shape[-1], matrices)
    (removed,) = _series(twice.__matmul__, matrices @ vectors, _coefficients(bound)[:1])
    return vectors - removed


def root_and_inverse_times(matrices: Any, vectors: Any) -> tuple[Any, Any]:
    """Give (I + C)^(-1/2) v and (I + C)^-1 v of C (n, n, place) and v (n, place).

    As :func:`root_times`, for thousands of small matrices: with their places on the last axis the
    loops of NumPy are long. Both series share their polynomials. Places whose series are equally
    long are worked on together, so that what lies beside a place changes no bit of it.
    """
    lengths = _halves(fetch(_bounds(matrices, axes=(0, 1))))
    order, roots, inverses = [], [], []
    together = max(TOGETHER // len(matrices) ** 2, FEWEST)
    for halves in np.unique(lengths):
        places = np.flatnonzero(lengths == halves)
        for first in range(0, len(places), together):
            part = places[first : first + together]
            filled = part if len(part) >= FEWEST else np.resize(part, FEWEST)
            given = _at(matrices, filled), _at(vectors, filled)
            root, inverse = _of_one_length(*given, None if halves == ENDLESS else int(halves))
            roots.append(root[:, : len(part)])
            inverses.append(inverse[:, : len(part)])
            order.append(part)
    xp, back = namespace(vectors), np.argsort(np.concatenate(order))
    return _at(xp.concat(roots, axis=-1), back), _at(xp.concat(inverses, axis=-1), back)


def _at(array: Any, places: np.ndarray) -> Any:
    """Give an array (..., place) at some places."""
    if isinstance(array, np.ndarray):
        if array.strides[-1] == array.itemsize:
            return np.take(array, places, axis=-1)
        return np.ascontiguousarray(array[..., places])  # each matrix lies in one piece of memory
    import torch

    return array.index_select(-1, torch.as_tensor(places, device=array.device))


def _of_one_length(matrices: Any, vectors: Any, halves: int | None) -> tuple[Any, Any]:
    """Give the two products for matrices whose bounds are nearly the same; NaN without one."""
    xp = namespace(matrices)
    if halves is None:
        return vectors * math.nan, vectors * math.nan
    bound = _bound(halves)
    if _terms(bound) > TERMS:
        moved, scales = xp.moveaxis(matrices, -1, 0), 1 + _bounds(matrices, axes=(0, 1))
        root = _iterated(moved, scales[..., None, None], bound)
        once = root @ xp.moveaxis(vectors, -1, 0)[..., None]
        once, twice = (xp.moveaxis(found[..., 0], 0, -1) for found in (once, root @ once))
        return once, twice
    twice = matrices * (4 / bound) - 2 * identity(len(matrices), matrices)[..., None]
    times = partial(xp.einsum, "ijp,jp->ip")
    removed = _series(partial(times, twice), times(matrices, vectors), _coefficients(bound))
    root, inverse = (vectors - part for part in removed)
    return root, inverse


def _bounds(matrices: Any, axes: tuple[int, int]) -> Any:
    """Give bounds on the largest eigenvalues of matrices along two axes.

    Bounds say how many terms are needed; no gradient passes through them.
    """
    xp = namespace(matrices)
    fixed = matrices.detach() if hasattr(matrices, "detach") else matrices
    bounds = xp.sqrt(xp.sum(fixed**2, axis=axes))
    if not bool(xp.any(xp.isinf(bounds))):
        return bounds
    # Squares overflow before sums do.
    sums = xp.max(xp.sum(xp.abs(fixed), axis=axes[0], keepdims=True), axis=axes)
    return xp.where(xp.isinf(bounds), sums, bounds)


def _common(bounds: Any) -> float | None:
    """Give one bound for all, None where one is not finite."""
    (halves,) = _halves(np.array([float(namespace(bounds).max(bounds))]))
    return None if halves == ENDLESS else _bound(halves)


def _halves(bounds: np.ndarray) -> np.ndarray:
    """Give the powers of the root of 2 that are no smaller than bounds; `ENDLESS` of others.

    They are few, so that their series are kept.
    """
    finite = np.isfinite(bounds)
    least = np.where(finite, np.maximum(bounds, 1e-3), 1.0)
    return np.where(finite, np.ceil(2 * np.log2(least)), ENDLESS).astype(np.int64)


def _bound(halves: int) -> float:
    return math.sqrt(2.0) ** int(halves)


def _terms(bound: float) -> int:
    """Give how many terms 1 / (x + sqrt(x)) needs on [1, 1 + bound]: its singularity lies at 0."""
    root = math.sqrt(1 + bound)
    return math.ceil(-math.log(ACCURACY) / math.log1p(2 / (root - 1))) + 1


@cache
def _coefficients(bound: float) -> tuple[list[float], list[float]]:
    """Give 1 / (x + sqrt(x)) and 1 / x on [1, 1 + bound] in Chebyshev polynomials."""
    points = np.polynomial.chebyshev.chebpts1(_terms(bound) + 1)
    x = 1 + bound * (points + 1) / 2
    values = np.stack((1 / (x + np.sqrt(x)), 1 / x), axis=1)
    root, inverse = np.polynomial.chebyshev.chebfit(points, values, len(points) - 1).T.tolist()
    return root, inverse


def _series(
    times: Callable[[Any], Any], start: Any, series: Sequence[Sequence[float]]
) -> list[Any]:
    """Give q(C) C v for each series q of Chebyshev polynomials, of C v.

    ``times`` multiplies by twice their argument. With q = 1 / (x + sqrt(x)) and x = I + C the root
    is v - q(C) C v, and with q = 1 / x the inverse: where C is 0, that is v to the last digit.
    """
    before, now = start, times(start) / 2
    totals = [factors[0] * start + factors[1] * now for factors in series]
    for factors in list(zip(*series, strict=True))[2:]:
        before, now = now, times(now) - before
        totals = [total + factor * now for total, factor in zip(totals, factors, strict=True)]
    return totals


def _iterated(matrices: Any, scales: Any, bound: float) -> Any:
    """Give (I + C)^(-1/2); ``scales`` (..., 1, 1) are no smaller than the largest eigenvalues.

    The smallest eigenvalue, 1 / scale at first, grows by 9/4 with each iteration, until the last
    ones square its distance from 1.
    """
    xp = namespace(matrices)
    eye = identity(matrices.shape[-1], matrices)
    root, inverse = (matrices + eye) / scales, eye
    for _ in range(math.ceil(math.log(1 + min(bound, LARGEST)) / math.log(9 / 4)) + 6):
        step = 1.5 * eye - 0.5 * (inverse @ root)
        root, inverse = root @ step, step @ inverse
    return inverse / xp.sqrt(scales)
