"""The climatology that a model's B starts from, before any innovation is known."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daml.arrays import fetch, home, put, stacked
from daml.covariances.dense import labelled
from daml.errors import DivergedError, InputError, StepError, name_of
from daml.labels.datasets import first_time, names
from daml.observing.noise import observing
from daml.observing.records import Record, read
from daml.protocols import Model
from daml.running.checks import check_finite, check_model
from daml.running.cycling.stepping import advance
from daml.running.starts.first_guess import FirstGuess
from daml.schemes.estimation import Pairs, Seen, known_pairs, observed_pairs

RATIO = 2.0
"""Largest variance of the scaled climatology, in units of the observations' error variance."""
STILL = 1e-3
"""Standard deviation of free runs, in units of the observations', below which they stand still."""
KNOWN = 1e-100
"""Standard deviation of what never varies and is not observed: none, in any unit."""
SINGULAR = 1e-8
"""Smallest eigenvalue of a correlation matrix that is still used as it is."""


def scaled_climatology(
    model: Model, observations: xr.Dataset, found: Pairs | None = None, record: Record | None = None
) -> xr.DataArray:
    """Give the climatology of a model, scaled to the observations.

    It is the covariance of free runs of the model. Where they diverge or stand still in what is
    observed (persistence, damped models), it is that of the record: the covariance of the
    observations less that of their errors. The scale is such that the variance of a
    variable is at most twice that of the error with which all sensors together observe it.

    Parameters
    ----------
    model : Model
        It is run freely from states spread over the record.
    observations : xarray.Dataset
        As the contract says.
    found : Pairs, optional
        Covariance and number of pairs of the observations, where these are computed already.
    record : Record, optional
        What was read of the observations already.

    Returns
    -------
    xarray.DataArray (variable, covariable)
        Symmetric positive definite.

    Raises
    ------
    InputError
        If the observations break the contract.
    """
    variables = tuple(model.variables)
    found = observed_pairs(observations) if found is None else found
    covariance, pairs, given = known_pairs(found, observations)
    operator, error = observing(given, variables)
    variance = covariance.diagonal()
    spread, correlation = _of_free_runs(model, observations, record)
    moved = operator * spread
    seen_variance = np.einsum("iv,vw,iw->i", moved, correlation, moved)
    if not (seen_variance >= STILL**2 * np.maximum(variance, error.diagonal())).all():
        size = np.sqrt(np.maximum(variance, error.diagonal()))[:, None]
        reach = np.where(operator == 0, np.inf, size / np.where(operator == 0, 1, abs(operator)))
        nearest = reach.min(axis=0)
        spread = np.where(np.isfinite(nearest), nearest, spread)
        if np.isnan(spread).any():
            unknown = variables[int(np.argmax(np.isnan(spread)))]
            raise InputError(
                f"{name_of(model)}: free runs diverge, and {unknown!r} is not observed, so "
                "that no climatology is known; give a B: daml.ThreeDVar(B)"
            )
        uncorrelated = np.eye(len(variables))
        seen = Seen.of(given, variables, spread)
        projected, count = seen.projected(
            covariance, pairs, uncorrelated, names(given), "scaled_climatology"
        )
        correlation = seen.implied(projected, count, uncorrelated)
        own = np.sqrt(correlation.diagonal())
        spread, correlation = spread * own, correlation / np.outer(own, own)
    seen = Seen.of(given, variables, spread)
    scale = RATIO / float((seen.matrix**2).sum(axis=0).max())
    return labelled(scale * np.outer(spread, spread) * correlation, variables)


def _of_free_runs(
    model: Model, observations: xr.Dataset, record: Record | None
) -> tuple[np.ndarray, np.ndarray]:
    """Give the spread (variable,) of free runs and their correlations, positive definite.

    A variable that never varies is taken to be known: its spread is next to nothing. Where the
    runs diverge, the spread is NaN.
    """
    size = len(model.variables)
    try:
        states = free_runs(model, observations, record).reshape(-1, size)
    except DivergedError:
        return np.full(size, np.nan), np.zeros((size, size))
    mean, spread = states.mean(axis=0), states.std(axis=0)
    still = spread <= 1e-11 * np.abs(mean)
    normal = (states - mean) / np.where(still, 1.0, spread)
    normal[:, still] = 0.0
    correlation = normal.T @ normal / len(states)
    if np.linalg.eigvalsh(correlation)[0] < SINGULAR:
        correlation = (1 - SINGULAR) * correlation + SINGULAR * np.eye(size)
    correlation[still, still] = 1.0
    return np.where(still, KNOWN, spread), correlation


def free_runs(
    model: Model,
    observations: xr.Dataset,
    record: Record | None = None,
    *,
    starts: int = 200,
    spinup: int = 100,
    steps: int = 100,
) -> np.ndarray:
    """Run a model freely from states spread over a record, as :func:`assimilate` would start.

    Many short runs say what one long run says of a climate, and rounding, which a chaotic model
    amplifies exponentially, stays small in each of them.

    Parameters
    ----------
    model : Model
    observations : xarray.Dataset
        As the contract says.
    record : Record, optional
        What was read of them already.
    starts, spinup, steps : int
        Number of runs, steps at the head of each that are left out, and steps that are given.

    Returns
    -------
    numpy.ndarray (start, step, variable)

    Raises
    ------
    InputError
        If model or observations break the contract.
    DivergedError
        If the state of a run is no longer finite.
    """
    check_model(model, first_time(observations))
    variables = tuple(model.variables)
    if record is None:
        record = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    times = record.axis.grid()
    seen = np.flatnonzero(record.kind_present[record.kind].any(axis=1))
    rows = np.unique(seen[np.linspace(0, len(seen) - 1, starts).astype(np.int64)])
    x = put(FirstGuess(model, record, times, None).state(rows), home(model))
    memory, found = model.start(x, times[rows]), []
    with np.errstate(all="ignore"):
        for step in range(spinup + steps):
            try:
                x, memory = advance(model, x, memory)
            except StepError as error:
                raise error.at(step + 1, times[rows[0]]) from error.__cause__
            if step >= spinup:
                found.append(x)
    states = np.swapaxes(fetch(stacked(found)), 0, 1)
    when = np.broadcast_to(times[rows][:, None], states.shape[:2])
    check_finite(states, when, variables, f"a free run of {name_of(model)}")
    return states
