"""Mean and spread of a record that comes in parts, and how far parts are apart where they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Moments = tuple[int, np.ndarray, np.ndarray]
"""Count, mean (variable,) and variance (variable,) of a part."""
FAR = 4.0
"""Mean squared difference, in units of the analysis's variance, from which on segments of an
ensemble are run again, and the most that one counts: two that are right differ by 2 if they have
nothing in common. One of them has found the observations too late, or has lost them at its end."""


def moments(states: np.ndarray) -> Moments:
    """Give those of states (..., variable), a segment at a time: a copy of all may be large."""
    axes = tuple(range(states.ndim - 1))
    count = math.prod(states.shape[:-1])
    if not count:
        nothing = np.zeros(states.shape[-1])
        return 0, nothing, nothing
    mean = states.mean(axis=axes)
    parts = states if states.ndim > 2 else [states]
    squares = sum(((part - mean) ** 2).sum(axis=axes[:-1] or 0) for part in parts)
    return count, mean, np.asarray(squares / count)


def joined(parts: Sequence[Moments]) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and spread (variable,) of all parts; what never varies has a spread of 1."""
    counts, means, variances = (np.array(part) for part in zip(*parts, strict=True))
    share = (counts / max(counts.sum(), 1))[:, None]
    mean = (share * means).sum(axis=0)
    spread = np.sqrt((share * (variances + (means - mean) ** 2)).sum(axis=0))
    return mean, np.where(spread > 0, spread, 1.0)


def apart(
    ends: np.ndarray, spun: np.ndarray, width: np.ndarray, spread: np.ndarray, many: bool
) -> np.ndarray:
    """Give the differences (segment - 1,) between the end of each segment and the next's start.

    Each is the largest over all variables; of ensembles, ``many``, the mean square.
    """
    found = np.abs(ends[:-1] - spun[1:])
    if not many or not len(found):
        return np.asarray(np.max(found / spread, axis=1))
    variance = np.mean(width[:-1] ** 2, axis=0)
    squares = np.mean(found**2 / np.where(variance > 0, variance, 1.0), axis=1)
    return np.asarray(np.minimum(squares, FAR))
