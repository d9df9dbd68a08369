"""The gain of a constant B, computed once for each pattern of observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daml.arrays import alike, fetch, namespace
from daml.observing.noise import fetched
from daml.protocols import Forecast, Observed, Setting
from daml.schemes.variational.conjugate_gradients import conjugate_gradients
from daml.schemes.variational.gauss_newton import GaussNewton

TABLE = 2**23
"""Maximum number of entries in a table of gains; larger ones are computed batch by batch."""


@dataclass(frozen=True)
class Tables:
    """What a cycle with constant B computes once for each pattern; NumPy's or torch's arrays.

    If the record has too many patterns for a table, ``made`` computes that of the patterns in a
    batch. No table holds for a time whose H or R is its own.
    """

    alone: GaussNewton
    """Gives the analysis of such a time."""
    root: Any
    """The Cholesky factor L of B (variable, variable) for conjugate gradients; None for gains."""
    first: Any = None
    """K (pattern, variable, observed); for conjugate gradients R^(-1/2) H L (pattern, observed,
    variable)."""
    second: Any = None
    """S^-1 (pattern, observed, observed) divided by the number of values, where S = H B H' + R; for
    conjugate gradients R^(-1/2)."""
    counts: Any = None
    """Number of values (pattern,); NaN for patterns without any."""
    made: Callable[[Any], tuple[Any, Any, Any]] | None = None

    def analysed(self, background: Any, observed: Observed) -> tuple[Any, Any]:
        """Give the analysis (..., variable), and the chi-square (...) of the innovation."""
        if not observed.tabled:
            return self.alone.analysed(background, observed)
        innovation = observed.values - observed.operator.apply(background)
        return self._by_tables(background, innovation, observed.pattern)

    def innovation_variance(self, forecast: Forecast, observed: Observed) -> Any:
        """Give the diagonal (..., observed) of H B H' + R."""
        return self.alone.innovation_variance(forecast, observed)

    def _by_tables(self, background: Any, innovation: Any, pattern: Any) -> tuple[Any, Any]:
        """Give the same of an innovation; what is missing has zeros in the tables."""
        xp = namespace(background)
        if self.made is not None:
            distinct, place = np.unique(fetch(pattern), return_inverse=True)
            first, second, counts = self.made(distinct)
            found = replace(self, first=first, second=second, counts=counts, made=None)
            return found._by_tables(background, innovation, place.reshape(pattern.shape))
        if self.root is None:
            # One state takes the same products whichever patterns a record has: so an analysis
            # that goes on has the bits of one over both records.
            if len(self.first) == 1 or math.prod(innovation.shape[:-1]) == 1:
                at = 0 if len(self.first) == 1 else int(pattern.reshape(-1)[0])
                increment, weights = innovation @ self.first[at].T, innovation @ self.second[at]
            else:
                column = innovation[..., None]
                increment = xp.matmul(self.first[pattern], column)[..., 0]
                weights = xp.matmul(self.second[pattern], column)[..., 0]
            return background + increment, xp.vecdot(innovation, weights)
        whitened = xp.matmul(self.second[pattern], innovation[..., None])[..., 0]
        seen = self.first[pattern]
        control = conjugate_gradients(xp, seen, whitened)
        left = whitened - xp.matmul(seen, control[..., None])[..., 0]
        square = xp.vecdot(control, control) + xp.vecdot(left, left)  # the minimum of J
        return background + control @ self.root.T, square / self.counts[pattern]


def tables(setting: Setting, covariance: np.ndarray, factor: float, method: str) -> Tables:
    """Compute the tables of a setting.

    Parameters
    ----------
    setting : Setting
    covariance : numpy.ndarray (variable, variable)
        B.
    factor : float
        Multiplies R.
    method : {"exact", "cg"}
    """
    exact, noise = method == "exact", fetched(setting.noise)
    root = None if exact else np.linalg.cholesky(covariance)

    like = setting.noise.variance

    def made(patterns: Any) -> tuple[Any, Any, Any]:
        present = noise.present[patterns]
        matrix = setting.operator.matrix()[None] * present[:, :, None]
        error = noise.covariances(patterns) * factor
        counts = np.where(present.any(axis=1), present.sum(axis=1), np.nan)
        if exact:
            gain, inverse = _gain(covariance, matrix, error)
            both = present[:, :, None] & present[:, None, :]
            scaled = np.where(both, inverse, 0.0) / counts[:, None, None]
            return alike(gain, like), alike(scaled, like), alike(counts, like)
        triangle = np.linalg.cholesky(error)
        inverse = np.linalg.inv(triangle)
        seen = np.linalg.solve(triangle, matrix @ root)
        whitener = inverse * present[:, None, :]
        return alike(seen, like), alike(whitener, like), alike(counts, like)

    alone = GaussNewton.of(setting, covariance, factor, method)
    factor_of_b = None if root is None else alike(root, like)
    patterns, observed = noise.present.shape
    if not patterns:
        return Tables(alone, factor_of_b)
    if patterns > 1 and patterns * observed * max(observed, len(covariance)) > TABLE:
        return Tables(alone, factor_of_b, made=made)
    return Tables(alone, factor_of_b, *made(slice(None)))


def _gain(
    covariance: np.ndarray, matrix: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give K = B H' S^-1 (pattern, variable, observed), and the inverse of S = H B H' + R.

    S is scaled to a unit diagonal before it is inverted, so that units and pivots do not matter.
    """
    cross = covariance @ np.swapaxes(matrix, 1, 2)
    total = matrix @ cross + error
    size = np.sqrt(np.diagonal(total, axis1=1, axis2=2))
    scaled = total / (size[:, :, None] * size[:, None, :])
    solved = np.linalg.solve(scaled, np.swapaxes(cross, 1, 2) / size[:, :, None])
    gain: np.ndarray = np.swapaxes(solved / size[:, :, None], 1, 2)
    inverse: np.ndarray = np.linalg.inv(scaled) / (size[:, :, None] * size[:, None, :])
    return gain, inverse
