"""States that lack the hidden variables of a model, which no record has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.labels.datasets import check_dims, check_names, named, names

if TYPE_CHECKING:
    from daml.protocols import Model


def lacking(model: Model, states: xr.Dataset, name: str) -> list[str]:
    """Give the hidden variables of a model that the states ``name`` of a Dataset lack."""
    hidden = getattr(model, "hidden_names", ())
    if not hidden:
        return []
    check_dims(states, name, ("variable",))
    check_names(states, name)
    there = names(states)
    return [v for v in hidden if v in model.variables and v not in there]


def completed(states: xr.Dataset, name: str, missing: list[str], other: xr.DataArray) -> xr.Dataset:
    """Give states with the missing variables taken from ``other`` (..., variable)."""
    if not missing:
        return states
    added = named(other).sel(variable=missing).drop_attrs()
    given = named(states)[name]
    lead = [d for d in given.dims if d != "variable"]
    added = added.broadcast_like(given.isel(variable=0, drop=True)).transpose(*lead, "variable")
    joined = xr.concat([given, added], "variable", join="override", coords="minimal")
    return joined.transpose(*given.dims).assign_attrs(given.attrs).to_dataset(name=name)


def at_climate(states: xr.Dataset, name: str, model: Model) -> xr.Dataset:
    """Give states in which hidden variables that they lack are at the model's climate, or 0."""
    missing = lacking(model, states, name)
    climate = getattr(model, "climate", None)
    values = np.zeros(len(model.variables)) if climate is None else np.asarray(climate)
    other = xr.DataArray(values, {"variable": list(model.variables)}, ["variable"])
    return completed(states, name, missing, other)
