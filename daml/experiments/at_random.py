"""Observations at places that are drawn anew at each time, and what lies between them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.interpolate import griddata

from daml.observing.simulated import observe

CHUNK, EDGE, WRAP = 1000, 20, 4
"""Times that are interpolated at once, times before and after that they use, and places by which a
ring is widened at its ends."""


def observe_at_random(truth: xr.Dataset, count: int, sigma: float, seed: int) -> xr.Dataset:
    """Observe so many variables at each time, which are drawn anew; the others are NaN.

    Parameters
    ----------
    truth : xarray.Dataset
        ``state`` (time, variable).
    count : int
        Variables that are observed at each time.
    sigma : float
        Standard deviation of the errors.
    seed : int
        Of the noise and of the places.
    """
    random = np.random.default_rng(seed)
    record = observe(truth, error_variance=sigma**2, seed=random)
    order = random.random(record["observation"].shape).argsort(axis=1)
    among = xr.DataArray(order < count, dims=("time", "variable"))
    return record.assign(observation=record["observation"].where(among))


def interpolated(record: xr.Dataset) -> xr.Dataset:
    """Give a record on a ring as an analysis, by cubic interpolation in time and space.

    Returns
    -------
    xarray.Dataset
        ``analysis`` (time, variable), and a ``spread`` of 0 where there is an observation and of
        infinity elsewhere. Beyond the observations it is their mean.
    """
    values = record["observation"].transpose("time", "variable").values
    times, places = values.shape
    wrap = min(WRAP, places)
    ring = np.concatenate((values[:, -wrap:], values, values[:, :wrap]), axis=1)
    found = np.empty_like(values)
    for first in range(0, times, CHUNK):
        stop = min(first + CHUNK, times)
        begin = max(first - EDGE, 0)
        part = ring[begin : stop + EDGE]
        seen = np.nonzero(np.isfinite(part))
        wanted = np.mgrid[first - begin : stop - begin, wrap : wrap + places]
        found[first:stop] = griddata(seen, part[seen], tuple(wanted), method="cubic")
    found = np.where(np.isnan(found), np.nanmean(values), found)
    spread = np.where(np.isfinite(values), 0.0, np.inf)
    dims = ("time", "variable")
    coords = {dim: record[dim].variable for dim in dims}
    return xr.Dataset({"analysis": (dims, found), "spread": (dims, spread)}, coords)
