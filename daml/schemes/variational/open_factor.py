"""Finds the factor on a B of given structure with which innovations are as large as expected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from daml.errors import InputError
from daml.protocols import Scheme, Trial

NEAR = 0.01
"""Distance of the mean chi-square from 1 at which the search ends."""
RUNS = 12
"""Most runs of the cycle."""
LARGEST = 4.0
"""Largest change of the log of the factor from one run to the next."""
FARTHEST = 20.0
"""Largest change of the log of the factor."""
FLATTEST = 0.05
"""Least fall of the log of chi-square with that of the factor, by which the next one is chosen."""


def consistent(trial: Trial, made: Callable[[float], Scheme], first: float) -> float:
    """Give the factor on B for which the mean chi-square of the innovations is 1.

    The chi-square d' (H B H' + R)^-1 d by the number of values falls as B grows, and is 1 in the
    mean if B and R are right.

    Parameters
    ----------
    trial : Trial
        The model and the record.
    made : callable
        Gives the scheme with a factor on B.
    first : float
        The factor to start from.

    Raises
    ------
    InputError
        If there is none: R alone is larger, or B has no part in what is observed.
    """
    here = start = float(np.log(first))
    before: tuple[float, float] | None = None
    for _ in range(RUNS):
        value = float(np.log(_chi_square(trial, made(float(np.exp(here))))))
        if abs(value) < NEAR:
            break
        slope = -1.0
        if before is not None and here != before[0]:
            slope = min((value - before[1]) / (here - before[0]), -FLATTEST)
        before, here = (here, value), here - float(np.clip(value / slope, -LARGEST, LARGEST))
        if abs(here - start) > FARTHEST:
            small = here < start
            raise InputError(
                "tuned: no factor on B makes the innovations as large as expected: they are "
                + ("smaller than R alone; " if small else "larger than B and R can be; ")
                + "check 'error_variance' and the observations, or give 'background_factor'"
            )
    return float(np.exp(here))


def _chi_square(trial: Trial, scheme: Scheme) -> float:
    """Give the mean chi-square of the values of a record."""
    judged = trial.judged(trial.run(scheme))
    counts = judged["innovation"].notnull().sum("observed")
    total = (judged["chi_square"].fillna(0.0) * counts).sum() / counts.sum()
    return float(total)
