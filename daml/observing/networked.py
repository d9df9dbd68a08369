"""Noisy observations of a true record of fields by a network of places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import shown
from daml.labels.datasets import names
from daml.labels.templates import Template
from daml.observing.places.around import Weights
from daml.observing.places.drawn import Network
from daml.observing.places.slots import Sites
from daml.observing.points import record_of
from daml.observing.stepped import Nearest
from daml.randomness import Seed
from daml.segments import rows_at_once


def networked(
    truth: xr.Dataset,
    source: xr.Variable,
    network: Any,
    fields: Sequence[str] | None,
    error_variance: float | Mapping[str, float],
    every: int,
    missing: float,
    seed: Seed,
) -> xr.Dataset:
    """Give what a network sees of each so-many-th state of a truth.

    Parameters
    ----------
    truth : xarray.Dataset
        Flat, of fields.
    source : xarray.Variable (time, variable)
        Its states, in memory or not.
    network : Network
        Draws the places at each time of the truth.
    fields : sequence of str, optional
        Which fields are observed at each place.
    error_variance : float or mapping of str to float
        Of the observations, or of those of each field.
    every, missing, seed
        See :func:`daml.observe`.

    Raises
    ------
    InputError
        If the truth has no fields, one is unknown, a variance is not positive, or no place lies on
        the grid.
    """
    if not isinstance(network, Network):
        raise InputError(
            f"observe: 'network' is {shown(network)}; give one of daml.networks, e.g. "
            "daml.networks.Tracks(3)"
        )
    template = _template(truth)
    wanted = list(template.forms) if fields is None else list(fields)
    unknown = [field for field in wanted if field not in template.forms]
    if unknown:
        raise InputError(
            f"observe: {unknown[0]!r} is not a field of the truth, which has "
            f"{', '.join(template.forms)}; a network sees fields"
        )
    sites, outside = _sites(template, source, network, wanted, error_variance, every, missing, seed)
    result, _ = record_of(sites, network.moves)
    steps = np.arange(0, len(source), every)
    result = result.reindex(time=steps.astype(float))
    if "place" in result:  # times at which all is missing
        given = result["place"].fillna(-1).astype(np.int64), result["weight"].fillna(0.0)
        result = result.assign(place=given[0], weight=given[1])
    result["observation"].attrs["long_name"] = "observation"
    result["error_variance"].attrs["long_name"] = "observation error variance"
    times = truth["time"].isel(time=steps)
    return result.assign_coords(time=("time", times.values, times.attrs)).assign_attrs(
        network=repr(network), outside=outside
    )


def _sites(
    template: Template,
    source: xr.Variable,
    network: Network,
    fields: Sequence[str],
    error_variance: float | Mapping[str, float],
    every: int,
    missing: float,
    seed: Seed,
) -> tuple[Sites, int]:
    """Give the places that are seen and what is observed there; and how many lie outside."""
    random = seed if isinstance(seed, np.random.Generator) else np.random.default_rng([seed, 1])
    placing, noise, gone = random.spawn(3)
    weights, steps = Weights(template, None, fields), np.arange(0, len(source), every)
    table = _table(weights, network, fields, placing, len(source), steps)
    variance = _variances(error_variance, fields)
    columns, shares = weights.of(table, {})
    inside = np.isfinite(shares).all(axis=1)
    table["error_variance"] = table["field"].map(variance).astype(float)
    table["observation"] = _seen(source, table["step"].to_numpy(), columns, shares)
    table["observation"] += np.sqrt(table["error_variance"]) * noise.standard_normal(len(table))
    rows = np.flatnonzero(inside & (gone.random(len(table)) >= missing))
    if not len(rows):
        raise InputError(
            "observe: no place of the network lies where the truth has values; give more places, "
            "or another seed"
        )
    kept, step = table.iloc[rows], table["step"].to_numpy()
    site = kept.groupby(weights.keys(kept), sort=False).ngroup().to_numpy()
    first = np.unique(site, return_index=True)[1]
    whole = step.astype(float), np.zeros(len(step)), np.ones(len(step), bool)
    near = Nearest(np.float64(0), np.float64(1), *whole)
    around = columns[rows][first], shares[rows][first]
    parts = *around, template, weights, template.positions
    return Sites(kept, near, rows, site, *parts), int((~inside).sum())


def _template(truth: xr.Dataset) -> Template:
    """Give the template of a flat truth, NaN where it has no variable."""
    template = Template.in_flat(truth)
    if template is None:
        raise InputError(
            "observe: 'network' draws places on a grid, and 'state' has no fields; give the truth "
            "of a daml.models.Gridded, or fields with coordinates"
        )
    there = template.flat.indexes["variable"].isin(names(truth))
    state = template.flat["state"].where(xr.DataArray(there, dims="variable"))
    return Template(template.flat.assign(state=state))


def _table(
    weights: Weights,
    network: Network,
    fields: Sequence[str],
    random: np.random.Generator,
    times: int,
    steps: np.ndarray,
) -> pd.DataFrame:
    """Give a row for each field at each place and time that is observed."""
    axes = [values for values, *_ in weights.axes.values()]
    extent = np.array([(axis.min(), axis.max()) for axis in axes])
    spacing = np.array([np.ptp(axis) / max(len(axis) - 1, 1) for axis in axes])
    places = network.drawn(random, times, extent, spacing)[steps]
    count = places.shape[1] * len(fields)
    at = np.repeat(places, len(fields), axis=1).reshape(-1, len(axes))
    table = pd.DataFrame(at, columns=list(weights.axes))
    table["field"] = np.tile(np.array(fields, dtype=object), len(steps) * places.shape[1])
    return table.assign(step=np.repeat(steps, count))


def _seen(
    source: xr.Variable, steps: np.ndarray, columns: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Give what is interpolated (row,) between states (time, variable), a part after the other.

    ``steps`` (row,) rise.
    """
    found, at_once = np.empty(len(steps)), rows_at_once(source.shape[1])
    for first in range(0, len(source), at_once):
        states = np.asarray(source[first : first + at_once].values, dtype=np.float64)
        rows = slice(*np.searchsorted(steps, [first, first + at_once]))
        around = states[(steps[rows] - first)[:, None], columns[rows]]
        found[rows] = (around * shares[rows]).sum(axis=-1)
    return found


def _variances(given: Any, fields: Sequence[str]) -> dict[str, float]:
    """Give the error variance of each field."""
    found = given if isinstance(given, Mapping) else dict.fromkeys(fields, given)
    for field in fields:
        value: Any = found.get(field)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not 0 < float(value) < np.inf:
            raise InputError(
                f"observe: 'error_variance' is {shown(value)} for the field {field!r}; give a "
                "variance > 0, or one for each field by name"
            )
    return {field: float(found[field]) for field in fields}
