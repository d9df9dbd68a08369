"""What is open in a scheme with a constant B, B itself and the factor on R, from innovations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from daml.errors import warn
from daml.labels.datasets import names
from daml.observing.noise import observing
from daml.protocols import Scheme, Trial
from daml.schemes.estimation import from_innovations, lagged

ROUNDS = 4
"""Times that B is estimated anew for a model that none was known for; once, later."""
PART = 20_000
"""Observation times from which R is estimated."""
LARGEST = 4.0
"""By what R may be wrong either way."""
WORSE = 1.1
"""Squared innovations, in units of the observations' variance, from which a warning is raised."""
STEP = 2**0.25
"""Ratio of two factors on R that are tried."""


class Known(NamedTuple):
    """What is known of B and of R so far."""

    covariance: xr.DataArray
    factor: float


Made = Callable[[Known], Scheme]
"""Gives the scheme with what is known."""


def estimated(trial: Trial, made: Made, known: Known, *, new: bool, factor: bool) -> Scheme:
    """Give the scheme with the B that innovations imply.

    Parameters
    ----------
    trial : Trial
    made : callable
    known : Known
        Where the search starts.
    new : bool
        Whether that is a climatology, not what was found for a model much like this one.
    factor : bool
        Whether the factor on R is estimated, too.
    """
    rounds, apart = (ROUNDS, LARGEST) if new else (1, STEP**2)
    if factor:
        found = _factor(trial.shortened(PART), made, known, rounds, apart)
        known = known._replace(factor=found)
    scheme = made(_after(trial, made, known, rounds))
    if new:
        _warn_of_climatology(trial, trial.run(scheme))
    return scheme


def _after(trial: Trial, made: Made, known: Known, rounds: int) -> Known:
    """Estimate B so many times, each from the innovations that the last one gave."""
    for _ in range(rounds):
        judged = trial.judged(trial.run(made(known)))
        covariance = from_innovations(judged, trial.observations, known.covariance, known.factor)
        known = known._replace(covariance=covariance)
    return known


def _factor(trial: Trial, made: Made, known: Known, rounds: int, apart: float) -> float:
    """Give the factor on R for which successive innovations are uncorrelated (Mehra 1970).

    With too small an R the gain is too large: an innovation takes back part of the one before. The
    factor grows until they no longer do, from as far ``apart`` below the one known. Where that is
    never so, the least correlated is taken.
    """
    count = round(2 * np.log(LARGEST) / np.log(STEP)) + 1
    factors = known.factor / apart * STEP ** np.arange(count)
    found: list[float] = []
    for factor in factors:
        tried = _after(trial, made, known._replace(factor=float(factor)), rounds)
        found.append(lagged(trial.run(made(tried))["innovation"]))
        if found[-1] > 0:
            break
    if found[-1] <= 0 or len(found) == 1:
        return float(factors[int(np.argmax(found))])
    share = -found[-2] / (found[-1] - found[-2])
    return float(factors[len(found) - 2] * STEP**share)


def _warn_of_climatology(trial: Trial, analysis: xr.Dataset) -> None:
    """Warn where forecasts are farther from the observations than their mean is."""
    _, error = observing(trial.observations, trial.variables)
    squares = (analysis["innovation"] ** 2).mean("time").values
    variance, noise = trial.pairs()[0].diagonal(), error.diagonal()
    worse = (squares > WORSE * variance) & (variance > 2 * noise)
    if worse.any():
        name = names(trial.observations)[int(np.argmax(worse))]
        warn(
            f"tuned: forecasts of {trial.model} are farther from the observations of {name!r} than "
            "their mean is, so that analyses gain little from the model; check its dt, its units "
            "and the order of its variables",
        )
