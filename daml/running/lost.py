"""Where a filter has lost the observations: its innovations are far larger than it expects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daml.errors import DivergedError, warn
from daml.observing.records import Record
from daml.protocols import Outputs
from daml.segments import Cut, own_steps, segment_length

LOST: Outputs = {
    "lost": (
        ("time",),
        {"long_name": "1 where the filter has lost the observations, otherwise 0", "units": "1"},
    )
}
"""The variable of an analysis that says so."""
SURPRISE, CLIMATE = 3.0, 0.5
"""A filter is lost where, in the mean over a piece of the record, chi-square is larger than the
first, and squared innovations than the second in units of the variance of what is observed: those
of a free run have twice this variance. A filter whose model is wrong has a large chi-square, too,
but its innovations stay small."""
MOST = 0.5
"""Part of a record that may be lost."""
ADVICE = (
    "try more members, more inflation, a model_error or rotate=True, and with many variables "
    "localisation (daml.schemes.LETKF)"
)
"""What to try, unless a scheme has an ``advice`` of its own."""

WORSE = 2.5
"""Squared innovations, in the mean over a record and in units of the variance of what is observed,
above which an analysis is probably worse than none."""
FEW = 10
"""Values of an observed variable, below which their variance is not known."""
JUDGED = 100
"""Steps that say something of a filter; those before a record that goes on are judged with it."""


class Watched(NamedTuple):
    """What says of an earlier record whether a filter has lost the observations."""

    counts: np.ndarray
    """Number, mean and variance of the values (3, observed)."""
    signs: np.ndarray
    """Those of its last steps (2, step)."""


def pooled(record: Record, before: Watched | None = None) -> np.ndarray:
    """Give number, mean and variance of the values (3, observed) of a record and those before."""
    steps = np.bincount(record.kind, minlength=len(record.kind_present))
    counts = steps @ record.kind_present
    own = np.stack((counts, record.mean, record.variance))
    if before is None or before.counts.shape != own.shape:
        return own
    both = np.stack((own, before.counts))  # (record, 3, observed)
    total = np.maximum(both[:, 0].sum(axis=0), 1)
    share = both[:, 0] / total
    mean = (share * both[:, 1]).sum(axis=0)
    within = np.where(both[:, 0] > 1, both[:, 2], 0.0)  # one value does not vary
    variance = (share * (within + (both[:, 1] - mean) ** 2)).sum(axis=0)
    return np.stack((total, mean, np.where(variance > 0, variance, 1.0)))


def known(counts: np.ndarray) -> np.ndarray:
    """Give the variances (observed,) of :func:`pooled`, infinite where values are too few."""
    return np.where(counts[0] >= FEW, counts[2], np.inf)


def distances(innovation: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Give squared innovations in units of the variance of what is observed (step, segment).

    They are the mean of the values of a step, NaN where nothing is observed.
    """
    present = np.isfinite(innovation)
    counts = present @ np.ones(len(variance))
    squares = np.where(present, innovation * innovation, 0.0) @ (1 / variance)
    return np.asarray(squares / np.where(counts > 0, counts, np.nan))


def summed(found: np.ndarray, early: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Give sum and number (segment, 2) of :func:`distances`, without the spin-up."""
    own = np.where(own_steps(len(found), early, rows), found, np.nan)
    return np.stack((np.nansum(own, axis=0), np.isfinite(own).sum(axis=0)), axis=1)


def judged(
    found: np.ndarray, early: np.ndarray, rows: np.ndarray, cut: Cut, before: Watched | None
) -> tuple[np.ndarray, np.ndarray]:
    """Give :func:`flags` of segments, and the signs of the last steps (2, step), NaN before them.

    A short segment that goes on is judged with the last steps of the record ``before``.
    """
    count = 0 if before is None else min(before.signs.shape[1], max(JUDGED - int(rows[0]), 0))
    if before is not None and count:
        earlier = before.signs[:, -count:, None]
        found, early = np.concatenate((earlier, found[:, early[0] :]), axis=1), 0 * early
    stop = int(early[-1] + rows[-1]) + count
    signs = np.full((2, JUDGED), np.nan)
    last = found[:, max(stop - JUDGED, 0) : stop, -1]
    signs[:, JUDGED - last.shape[1] :] = last
    piece = min(segment_length(cut.total + count), cut.length + count)
    return flags(found, early, rows + count, piece)[:, count:], signs


def flags(found: np.ndarray, early: np.ndarray, rows: np.ndarray, piece: int) -> np.ndarray:
    """Give 1 where a segment is lost, otherwise 0 (segment, step).

    Parameters
    ----------
    found : numpy.ndarray (2, step, segment)
        Chi-square and :func:`distances` of all steps, spin-up included.
    early, rows : numpy.ndarray (segment,)
        Steps of spin-up, and rows of the record after them; the last segment may have fewer.
    piece : int
        Steps that are judged together.
    """
    pieces = -(-int(rows.max()) // piece)
    result = np.zeros((len(early), pieces * piece))
    for segment, (first, count) in enumerate(zip(early, rows, strict=True)):
        own = np.full((2, pieces * piece), np.nan)
        own[:, :count] = found[:, first : first + count, segment]
        parts = own.reshape(2, pieces, piece)
        counts = np.isfinite(parts).sum(axis=-1)
        chi_square, relative = np.nansum(parts, axis=-1) / np.maximum(counts, 1)
        lost = (chi_square > SURPRISE) & (relative > CLIMATE)
        result[segment] = np.repeat(lost, piece)
    return result[:, : int(rows.max())]


def check_lost(
    share: float,
    segments: int,
    restarted: int,
    what: str,
    *,
    advice: str = ADVICE,
    refuse: bool = True,
) -> None:
    """Refuse an analysis that is lost for the most part; warn of one that is lost in parts.

    A loop does not refuse it: the next pass may have a better model.

    Raises
    ------
    DivergedError
        If more than half of the record is lost, where this is refused.

    Warns
    -----
    UserWarning
        If some of the record is lost.
    """
    if not share:
        return
    again = f", though {restarted} of {segments} segments were started again" if restarted else ""
    lost = (
        f"{what} has lost the observations in {100 * share:.3g} % of the record{again}: its "
        "innovations are as large as those of a free run, and far larger than its spread says"
    )
    if refuse and share > MOST:
        raise DivergedError(f"{lost}; {advice}")
    warn(f"{lost} (where 'lost' is 1 in the analysis); {advice}")


def check_near(squares: float, steps: int, what: str) -> None:
    """Warn of a background that is farther from the observations than that of a free run.

    Parameters
    ----------
    squares : float
        The sum of :func:`distances` over a record.
    steps : int
        Its number of steps with observations; a few say nothing, as they hardly vary.

    Warns
    -----
    UserWarning
        If it is.
    """
    if steps >= JUDGED and squares > WORSE * steps:
        warn(
            f"{what}: the squared innovations are in the mean {squares / steps:.3g} times the "
            "variance of the observed values, and those of a model that runs freely are 2 times "
            "that: the analysis may be worse than none; check the model and R, and B or the "
            "inflation, localisation and members of an ensemble"
        )
