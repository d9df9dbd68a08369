"""Observations that are far from what is forecast: they are no part of an estimate of B."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daml.covariances.dense import check
from daml.labels.datasets import names
from daml.observing.noise import observing

FAR = 15.0
"""Standard deviations of H B H' + R from which on an innovation is that of a gross error."""
MOST = 0.05
"""Part of the times at most: if there are more, it is B that is too small."""
AFTER = 20
"""Model steps after a gross error that are left out, too: the cycle has to forget it."""


def gross_errors(
    analysis: xr.Dataset,
    observations: xr.Dataset,
    covariance: xr.DataArray,
    error_factor: float = 1.0,
) -> xr.DataArray:
    """Give where an analysis (time, observed) shows gross errors of the observations.

    An innovation is that of a gross error if it is more than 15 standard deviations of H B H' + R
    from 0. Where more than 5 % of the times have one it is B that is wrong, and none is named.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), of a cycle with this B.
    observations : xarray.Dataset
        Of the cycle.
    covariance : xarray.DataArray (variable, covariable)
        B.
    error_factor : float
        Factor on R.
    """
    variables = names(covariance)
    operator, error = observing(observations, variables)
    matrix = operator @ check(covariance, variables, "the background covariance") @ operator.T
    deviation = np.sqrt(np.diagonal(matrix) + error_factor * np.diagonal(error))
    innovation = analysis["innovation"].transpose("time", "observed")
    far: xr.DataArray = (abs(innovation) > FAR * deviation).compute()
    return far if float(far.any("observed").mean()) <= MOST else xr.zeros_like(far)


def without(analysis: xr.Dataset, gross: xr.DataArray) -> xr.Dataset:
    """Give an analysis without the times of gross errors, and those soon after them."""
    rows = np.flatnonzero(gross.any("observed").values)
    if not len(rows):
        return analysis
    kept = np.ones(analysis.sizes["time"], dtype=bool)
    for row in rows:
        kept[row : row + AFTER + 1] = False
    return analysis.isel(time=np.flatnonzero(kept))
