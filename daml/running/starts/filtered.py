"""States to start forecasts from, where a record lacks the hidden variables of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import named, pack
from daml.labels.lacking import completed, lacking
from daml.running.assimilation import assimilated
from daml.schemes.gaussian.sigma_point import SigmaPoint

if TYPE_CHECKING:
    from daml.protocols import Model

EXACT = 1.6e-5
"""Error variance of the given states, as a part of the climate's variance: next to nothing."""
SPINUP = 100
"""Steps at least over which hidden variables are filtered before they are used."""


def filtered(model: Model, states: xr.Dataset, name: str, warmup: int) -> xr.Dataset:
    """Give states with the hidden variables that they lack, filtered along the others.

    The states are observations of a small error for a sigma-point filter of the model. Its
    analysis gives the hidden variables, from the states before each time and at it; all others
    stay as they were given.

    Raises
    ------
    InputError
        If another variable of the model is missing, or there are members without them.
    """
    missing = lacking(model, states, name)
    if not missing:
        return states
    shown = [v for v in model.variables if v not in missing]
    values, _ = pack(states, name, shown)
    if "member" in states[name].dims:
        raise InputError(
            f"forecast: {name!r} has members, and lacks the hidden variable {missing[0]!r}; give "
            "members of an analysis with this model, or their mean"
        )
    if not np.isfinite(values).all():
        raise InputError(f"forecast: {name!r} has missing values; fill them first")
    variance = dict(zip(model.variables, _deviation(model, values, shown) ** 2, strict=True))
    given = named(states)[name].sel(variable=shown)
    error = EXACT * np.array([variance[v] for v in shown])
    observations = xr.Dataset({"observation": given, "error_variance": ("variable", error)})
    analysis = assimilated(model, observations, SigmaPoint(), spinup=max(warmup, SPINUP))
    return completed(states[[name]], name, missing, analysis["analysis"])


def _deviation(model: Model, values: np.ndarray, shown: list[str]) -> np.ndarray:
    """Give standard deviations (variable,): the model's own, or those of values (time, shown)."""
    given = getattr(model, "climate_spread", None)
    if given is not None:
        return np.asarray(given)
    spread = dict(zip(shown, values.std(axis=0), strict=True))
    return np.array([spread.get(v) or 1.0 for v in model.variables])
