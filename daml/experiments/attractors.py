"""How the free runs of models compare: their power spectra and Lyapunov exponents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import welch

from daml.errors import DivergedError
from daml.running.forecasting import simulate
from daml.verification.predictability import lyapunov_spectrum

SPINUP = 100
"""Steps before a free run, or in which directions turn to those that grow."""
WELCH = 512
"""Steps of the pieces of which the power spectrum is a mean, at most."""
STARTS, GROWTH = 10, 500
"""States from which Lyapunov exponents are found, and steps over which they are a mean, at most."""


def spectra(models: Mapping[str, Any], initial: xr.Dataset, steps: int) -> xr.Dataset:
    """Give the power spectra (model, frequency) of free runs; NaN of a model that diverges.

    Parameters
    ----------
    models : mapping of str to Model
    initial : xarray.Dataset
        ``state`` (variable).
    steps : int
        Length of each run.
    """
    rows, frequency = [], np.zeros(0)
    for model in models.values():
        try:
            run = simulate(model, steps=steps, spinup=SPINUP, initial=initial)
            values = run["state"].values
        except DivergedError:
            values = np.full((steps, len(model.variables)), np.nan)
        frequency, power = welch(values, fs=1 / model.dt, nperseg=min(WELCH, steps), axis=0)
        rows.append(power.mean(axis=1))
    about = {"long_name": "frequency", "units": "1"}
    return xr.Dataset(
        {"power": (("model", "frequency"), np.stack(rows), {"long_name": "power", "units": "1"})},
        {"model": list(models), "frequency": ("frequency", frequency, about)},
    )


def exponents(models: Mapping[str, Any], truth: xr.Dataset, number: int, steps: int) -> xr.Dataset:
    """Give the Lyapunov exponents (model, number); NaN of a model that diverges.

    Parameters
    ----------
    models : mapping of str to Model
    truth : xarray.Dataset
        ``state`` (time, variable), from which the states to start from are taken. They are as far
        apart as can be, so that their trajectories are not the same.
    number : int
        How many, the largest ones.
    steps : int
        Steps of growth, at most.
    """
    apart, steps = max(truth.sizes["time"] // STARTS, 1), min(GROWTH, steps)
    starts = truth.isel(time=slice(0, apart * STARTS, apart))
    how = {"exponents": number, "steps": steps, "spinup": min(SPINUP, steps)}
    found = [lyapunov_spectrum(model, starts, **how) for model in models.values()]
    return xr.concat(found, xr.DataArray(list(models), dims="model", name="model"))
