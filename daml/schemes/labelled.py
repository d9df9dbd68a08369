"""Analyses of labelled backgrounds, each on its own, without a model or a cycle."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import ANALYSED, check_time, names, pack
from daml.observing.guarded import facing
from daml.observing.records import read
from daml.pairing import check_one_state
from daml.protocols import Forecast, Outputs, Run, Scheme
from daml.schemes.calling import prepared, updated

CHI_SQUARE: Outputs = {
    "chi_square": (
        ("time",),
        {"long_name": "squared innovation per degree of freedom, in units of B + R", "units": "1"},
    )
}
"""The output of every scheme that knows the covariance of its innovations; its mean should be 1."""


@checked
def analyse(scheme: Scheme, background: xr.Dataset, observations: xr.Dataset) -> xr.Dataset:
    """Compute the analysis of each background state, independently of the others.

    Parameters
    ----------
    scheme : Scheme
        A scheme that analyses single states without a model, such as a :class:`daml.ThreeDVar` with
        a given B.
    background : xarray.Dataset
        ``background``, or if there is none ``state``, (time, variable).
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable), at times of the
        background.

    Returns
    -------
    xarray.Dataset
        ``background`` and ``analysis`` (time, variable), ``innovation`` (time, observed).

    Raises
    ------
    InputError
        If a Dataset lacks a variable or has wrong dims or values, the background lacks times of the
        observations, or the scheme needs members or a model.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=500, spinup=100)
    >>> scheme = daml.ThreeDVar(daml.climatological(run, max_variance=2))
    >>> analyse(scheme, run, daml.observe(run)).analysis.shape
    (500, 3)
    """
    owner = type(scheme).__name__
    if "covariance" in getattr(scheme, "needs", ()):
        raise InputError(
            f"{owner}: 'analyse' has no model that could predict B; give a B, or use "
            "daml.assimilate"
        )
    check_one_state(scheme, "analyse")
    name = "background" if "background" in background else "state"
    times = check_time(background, name)
    extra = [d for d in background[name].dims if d not in ("time", "variable")]
    if extra:
        raise InputError(
            f"{owner}.analyse: {name!r} has the further dimension {extra[0]!r}; select one"
        )
    x, layout = pack(background, name)
    variables = names(background)
    rows = _rows(times, observations)
    record = read(observations.assign_coords(time=rows), variables, 1.0)
    steps = np.arange(record.axis.length)
    place, seen = rows[0] + steps, record.seen(steps)
    analysis = x.copy()
    run = Run(steps, np.zeros_like(steps), 0, frozenset())
    memory = prepared(scheme, record.setting())
    if seen.limit is not None:
        raise InputError(
            f"{owner}.analyse: 'gross_error' is checked by daml.assimilate alone; leave it out"
        )
    equivalent = seen.operator.apply(x[place])
    seen = facing(seen, equivalent)
    update, _ = updated(scheme, Forecast(x[place]), seen, run, memory)
    analysis[place] = update.state
    innovation = np.full((len(x), len(record.observed)), np.nan)
    innovation[place] = np.where(seen.present, seen.values - equivalent, np.nan)
    found = {"background": x, "analysis": analysis, "innovation": innovation}
    units = {"units": layout.attrs.get("units", "1")}
    return xr.Dataset(
        {n: (dims, found[n], attrs | units) for n, (dims, attrs) in ANALYSED.items()},
        coords={
            "time": times,
            "variable": list(variables),
            "observed": list(record.observed),
        },
    )


def _rows(times: np.ndarray, observations: xr.Dataset) -> np.ndarray:
    """Give the row of the background that each observation time is."""
    seen = check_time(observations, "observation")
    if seen.dtype.kind != times.dtype.kind and "M" in (seen.dtype.kind, times.dtype.kind):
        raise InputError(
            f"analyse: 'time' is {seen.dtype} in the observations and {times.dtype} in the "
            "background; give both as numbers, or both as dates"
        )
    rows = np.clip(np.searchsorted(times, seen), 0, len(times) - 1)
    before = np.clip(rows - 1, 0, None)
    rows = np.where(abs(times[before] - seen) < abs(times[rows] - seen), before, rows)
    wrong = times[rows] != seen
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"analyse: 'time' of 'observation': {seen[at]} is not a time of the background; select "
            "the times that both have, or interpolate the background"
        )
    return rows.astype(np.int64)
