"""A scheme made for a model: what it leaves open is estimated from innovations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import cast

import numpy as np
import xarray as xr

from daml.errors import InputError, warn
from daml.labels.arguments import checked
from daml.labels.datasets import names
from daml.observing.noise import observing
from daml.protocols import Model, Scheme
from daml.running.assimilation import assimilate
from daml.running.climatology import scaled_climatology
from daml.schemes import ThreeDVar
from daml.schemes.estimation import Pairs, from_innovations, lagged, observed_pairs

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


@checked
def tuned(
    scheme: Scheme,
    model: Model,
    observations: xr.Dataset,
    *,
    before: ThreeDVar | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Give a scheme with all that it leaves open, for a model, and the analysis by it.

    Parameters
    ----------
    scheme : Scheme
        A :class:`ThreeDVar` whose B is "climatological" or "innovations", its factor on R
        "estimated" perhaps; any other stays as it is. One that asks the "model" stays, too, if
        the model knows; for another model B is estimated from innovations.
    model : Model
    observations : xarray.Dataset
        As the contract says.
    before : ThreeDVar, optional
        Of a model much like this one: where to start from. Otherwise from
        :func:`daml.covariance.scaled_climatology`.
    rows : numpy.ndarray (time,) of bool, optional
        Model steps whose innovations count: those that the model was not trained on. All, unless
        given.

    Returns
    -------
    scheme : Scheme
    analysis : xarray.Dataset
        Of :func:`daml.assimilate`.

    Raises
    ------
    InputError, DivergedError
        As of :func:`daml.assimilate` and :func:`daml.innovations.from_innovations`.

    References
    ----------
    Mehra, R. K. (1970): On the identification of variances and adaptive Kalman filtering. IEEE
    Trans. Autom. Control 15, 175-184.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.CoupledLorenz63(), steps=2000, spinup=500)
    >>> seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=1)
    >>> scheme, analysis = tuned(daml.ThreeDVar("innovations"), daml.Lorenz63(), seen)
    >>> scheme.background_covariance.shape
    (3, 3)
    """
    found = cache(lambda: observed_pairs(observations))
    return estimated(scheme, model, observations, found, before, rows)


def estimated(
    scheme: Scheme,
    model: Model,
    observations: xr.Dataset,
    found: Callable[[], Pairs],
    before: Scheme | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Scheme, xr.Dataset]:
    """Do the work of :func:`tuned`; ``found`` gives the observations' pairs if they are needed."""
    if not isinstance(scheme, ThreeDVar) or not isinstance(scheme.background_covariance, str):
        return scheme, assimilate(model, observations, scheme)
    before = before if isinstance(before, ThreeDVar) else None
    if scheme.asks_model and hasattr(model, "background_covariance"):
        if before is not None:
            scheme = replace(scheme, error_factor=before.error_factor)
        return scheme, assimilate(model, observations, scheme)
    if before is None:
        climate = scaled_climatology(model, observations, found())
        before = replace(scheme, background_covariance=climate, error_factor=1.0)
        rounds, apart = ROUNDS, LARGEST
    else:
        rounds, apart = 1, STEP**2
    if scheme.background_covariance == "climatological":
        return before, assimilate(model, observations, before)
    if scheme.error_factor == "estimated":
        part = observations.isel(time=slice(0, PART))
        before = replace(before, error_factor=_factor(model, part, before, rounds, apart))
    scheme, analysis = _estimated(model, observations, before, rounds, rows)
    if rounds == ROUNDS:
        _warn_of_climatology(model, analysis, observations, found()[0])
    return scheme, analysis


def _warn_of_climatology(
    model: Model, analysis: xr.Dataset, observations: xr.Dataset, covariance: np.ndarray
) -> None:
    """Warn where forecasts are farther from the observations than their mean is.

    ``covariance`` (observed, observed) is that of the observations.
    """
    _, error = observing(observations, tuple(model.variables))
    squares = (analysis["innovation"] ** 2).mean("time").values
    variance, noise = covariance.diagonal(), error.diagonal()
    worse = (squares > WORSE * variance) & (variance > 2 * noise)
    if worse.any():
        name = names(observations)[int(np.argmax(worse))]
        warn(
            f"tuned: forecasts of {type(model).__name__} are farther from the observations of "
            f"{name!r} than their mean is, so that analyses gain little from the model; check its "
            "dt, its units and the order of its variables",
        )


def _estimated(
    model: Model,
    observations: xr.Dataset,
    known: ThreeDVar,
    rounds: int,
    rows: np.ndarray | None = None,
) -> tuple[ThreeDVar, xr.Dataset]:
    """Estimate B so many times, each from the innovations that the last one gave."""
    analysis = assimilate(model, observations, known)
    if rows is not None and (rows.shape != (analysis.sizes["time"],) or rows.dtype != bool):
        raise InputError(
            f"tuned: 'rows' has {rows.size} entries of type {rows.dtype}; give True or False for "
            f"each of the {analysis.sizes['time']} times of the analysis"
        )
    for _ in range(rounds):
        judged = analysis if rows is None else analysis.isel(time=np.flatnonzero(rows))
        climate = cast("xr.DataArray", known.background_covariance)
        factor = float(known.error_factor)
        covariance = from_innovations(judged, observations, climate, factor)
        known = replace(known, background_covariance=covariance)
        analysis = assimilate(model, observations, known)
    return known, analysis


def _factor(
    model: Model, observations: xr.Dataset, known: ThreeDVar, rounds: int, apart: float
) -> float:
    """Give the factor on R for which successive innovations are uncorrelated (Mehra 1970).

    With too small an R the gain is too large: an innovation takes back part of the one before. The
    factor grows until they no longer do, from as far ``apart`` below the one known. Where that is
    never so, the least correlated is taken.
    """
    first = float(known.error_factor) / apart
    factors = first * STEP ** np.arange(round(2 * np.log(LARGEST) / np.log(STEP)) + 1)
    found: list[float] = []
    for factor in factors:
        tried = replace(known, error_factor=float(factor))
        _, analysis = _estimated(model, observations, tried, rounds)
        found.append(lagged(analysis["innovation"]))
        if found[-1] > 0:
            break
    if found[-1] <= 0 or len(found) == 1:
        return float(factors[int(np.argmax(found))])
    share = -found[-2] / (found[-1] - found[-2])
    return float(factors[len(found) - 2] * STEP**share)
