"""Mean and spread of a record that comes in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Moments = tuple[int, np.ndarray, np.ndarray]
"""Count, mean (variable,) and variance (variable,) of a part."""


def moments(states: np.ndarray) -> Moments:
    """Give those of states (..., variable)."""
    flat = states.reshape(-1, states.shape[-1])
    return len(flat), flat.mean(axis=0), flat.var(axis=0)


def joined(parts: Sequence[Moments]) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and spread (variable,) of all parts; what never varies has a spread of 1."""
    counts, means, variances = (np.array(part) for part in zip(*parts, strict=True))
    share = (counts / max(counts.sum(), 1))[:, None]
    mean = (share * means).sum(axis=0)
    spread = np.sqrt((share * (variances + (means - mean) ** 2)).sum(axis=0))
    return mean, np.where(spread > 0, spread, 1.0)
