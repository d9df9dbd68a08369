"""Estimates B and the factor on R of a scheme with a constant B, from innovations."""

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
from daml.schemes.gross_errors import FAR, gross_errors, without

ROUNDS = 4
"""Number of times that B is estimated for the first model; for later ones it is 1."""
PART = 20_000
"""Number of observation times from which the factor on R is estimated."""
LARGEST = 4.0
"""Largest factor by which R may be wrong, in either direction."""
WORSE = 1.1
"""Mean squared innovation above which a warning is raised, in units of the observed variance."""
STEP = 2**0.25
"""Ratio of successive factors on R that are tried."""


class Known(NamedTuple):
    """The current B and factor on R."""

    covariance: xr.DataArray
    factor: float


Made = Callable[[Known], Scheme]
"""Gives the scheme with a B and a factor on R."""


def estimated(trial: Trial, made: Made, known: Known, *, new: bool, factor: bool) -> Scheme:
    """Give the scheme with the B that innovations imply.

    Parameters
    ----------
    trial : Trial
        The model and the record.
    made : callable
        Gives the scheme with a B and a factor on R.
    known : Known
        B and the factor on R to start from.
    new : bool
        Whether this B is a climatology, not the B of a similar model.
    factor : bool
        Whether the factor on R is estimated, too.
    """
    rounds, apart = (ROUNDS, LARGEST) if new else (1, STEP**2)
    if factor:
        found = _factor(trial.shortened(PART), made, known, rounds, apart)
        known = known._replace(factor=found)
    known = _after(trial, made, known, rounds)
    scheme = made(known)
    if new:
        analysis = trial.run(scheme)
        _warn_of_climatology(trial, analysis)
        _warn_of_gross_errors(trial, gross_errors(analysis, trial.observations, *known))
    return scheme


def _after(trial: Trial, made: Made, known: Known, rounds: int) -> Known:
    """Estimate B a number of times, each time from the innovations with the last estimate."""
    for _ in range(rounds):
        judged = trial.judged(trial.run(made(known)))
        judged = without(judged, gross_errors(judged, trial.observations, *known))
        covariance = from_innovations(judged, trial.observations, known.covariance, known.factor)
        known = known._replace(covariance=covariance)
    return known


def _factor(trial: Trial, made: Made, known: Known, rounds: int, apart: float) -> float:
    """Give the factor on R for which successive innovations are uncorrelated (Mehra 1970).

    If R is too small, the gain is too large and successive innovations are negatively correlated.
    The factor starts at the known one divided by ``apart`` and grows until the correlation is
    positive; the factor of correlation 0 is interpolated. If it stays negative, the factor with
    the correlation closest to 0 is taken.
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


def _warn_of_gross_errors(trial: Trial, gross: xr.DataArray) -> None:
    """Warn of observations that are farther from their forecasts than any error of these is."""
    count = int(gross.sum())
    if not count:
        return
    row, place = np.argwhere(gross.values)[0]
    name, time = gross["observed"].values[place], gross["time"].values[row]
    label = np.datetime_as_string(time, "s") if gross["time"].dtype.kind == "M" else f"{time:g}"
    warn(
        f"tuned: {count} of the observations are more than {FAR:g} standard deviations of H B "
        f"H' + R from the forecast of {trial.model}, the first of them {str(name)!r} at time "
        f"{label}; B is estimated without them, but analyses use them: if these are gross "
        "errors, set them to NaN",
    )


def _warn_of_climatology(trial: Trial, analysis: xr.Dataset) -> None:
    """Warn if forecasts are farther from the observations than the observations' mean is."""
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
