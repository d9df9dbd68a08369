"""What innovations say of the errors of background and observations, without any truth."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import xarray as xr

from daml.arguments import checked
from daml.covariance import check, labelled, observing
from daml.errors import InputError
from daml.labels import check_dims, names

LEAST = 0.01
"""Smallest eigenvalue of an estimated H B H', in units of R."""
SURE = 5.0
"""Standard errors by which innovations must vary less than R says, before we warn of it."""


@checked
def from_innovations(
    analysis: xr.Dataset,
    observations: xr.Dataset,
    climatology: xr.DataArray,
    error_factor: float = 1.0,
) -> xr.DataArray:
    """Estimate B from innovations: their covariance less that of the observation errors.

    H B H' = cov(y - H xb) - R. Missing values leave out a pair at a time. The estimate is drawn
    towards the climatology of the same size by (m + 1) / (n + m + 1), of n innovations of m
    observed quantities, and an eigenvalue in units of R is 0.01 at least. What is not observed
    follows by regression: with G = C H' (H C H')^-1 of the climatology C,

    B = G (H B H') G' + s (C - G H C),

    s being the size of H B H' in units of H C H'.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), in memory or not: of times that the model was not
        trained on, or it understates B.
    observations : xarray.Dataset
        As the contract says; R is the mean of its error covariance.
    climatology : xarray.DataArray (variable, covariable)
        C; what is observed does not depend on it.
    error_factor : float
        Multiplies R.

    Returns
    -------
    xarray.DataArray (variable, covariable)
        Symmetric positive definite; attrs say from how many innovations.

    Raises
    ------
    InputError
        If there are too few innovations of a quantity, or names do not match.

    Warns
    -----
    UserWarning
        If innovations vary less than the observation errors alone should: R is too large.

    References
    ----------
    Hollingsworth, A. and Loennberg, P. (1986): The statistical structure of short-range forecast
    errors as determined from radiosonde data. Tellus 38A, 111-136.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=4000, spinup=500)
    >>> seen = daml.observe(truth, seed=1)
    >>> C = daml.climatological(truth, max_variance=2)
    >>> B = from_innovations(daml.assimilate(daml.Lorenz63(), seen, daml.ThreeDVar(C)), seen, C)
    >>> bool(B.max() < 2)
    True
    """
    check_dims(analysis, "innovation", ("time", "observed"))
    if not 0 < error_factor < np.inf:
        raise InputError(f"from_innovations: 'error_factor' is {error_factor}; give a factor > 0")
    variables = names(climatology)
    prior = check(climatology, variables, "climatology")
    matrix, error = observing(observations, variables)
    error = error_factor * error
    covariance, pairs = _pairwise(analysis["innovation"])
    size, count = len(error), int(pairs.min())
    if count < 2 * size + 2:
        place = str(analysis["observed"].values[int(np.argmin(pairs.diagonal()))])
        raise InputError(
            f"from_innovations: {count} innovations with {place!r} are too few for {size} observed "
            "quantities; give a longer record, or a B of your own"
        )
    seen = matrix @ prior @ matrix.T
    root = np.linalg.cholesky(error)
    whitened = _whitened(covariance, root) - np.eye(size)
    excess = np.trace(whitened)
    if excess < -SURE * np.sqrt(2 * size / count):
        warnings.warn(
            f"from_innovations: the innovations' variance is {1 + excess / size:.2f} of R, and R "
            "is a part of it; R is too large: correct 'error_variance', or give "
            "ThreeDVar(error_factor='estimated')",
            stacklevel=2,
        )
    drawn = _whitened(seen, root)
    drawn *= max(excess, 0.01 * size) / np.trace(drawn)
    weight = (size + 1) / (count + size + 1)
    values, vectors = np.linalg.eigh((1 - weight) * whitened + weight * drawn)
    estimate = root @ (vectors * np.maximum(values, LEAST)) @ vectors.T @ root.T
    regression = np.linalg.lstsq(seen, matrix @ prior, rcond=None)[0].T
    scale = np.trace(np.linalg.lstsq(seen, estimate, rcond=None)[0]) / size
    rest = prior - regression @ matrix @ prior
    result = labelled(_even(regression @ estimate @ regression.T + scale * rest), variables)
    result.attrs |= {"innovations": count}
    return result


@checked
def desroziers(analysis: xr.Dataset) -> xr.Dataset:
    """Give the covariances that innovations and residuals imply, to hold against B and R.

    With d = y - H xb and r = y - H xa: R = mean(r d'), H B H' = mean((H xa - H xb) d'). Where
    everything is observed any split of B + R that gave the analysis is confirmed: it is a check of
    their sum and of the gain, and no estimate of both.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), ``background``, ``analysis`` (time, variable); what is
        observed must be variables.

    Returns
    -------
    xarray.Dataset
        ``background_covariance`` and ``error_covariance`` (observed, coobserved).

    References
    ----------
    Desroziers, G. et al. (2005): Diagnosis of observation, background and analysis-error
    statistics in observation space. Q. J. R. Meteorol. Soc. 131, 3385-3396.

    Examples
    --------
    >>> import daml
    >>> seen = daml.observe(daml.simulate(daml.Lorenz63(), steps=2000, spinup=500))
    >>> _, analysis = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen)
    >>> desroziers(analysis).error_covariance.dims
    ('observed', 'coobserved')
    """
    check_dims(analysis, "innovation", ("time", "observed"))
    for name in ("background", "analysis"):
        check_dims(analysis, name, ("time", "variable"))
    observed = names(analysis["innovation"], "observed")
    lacking = [v for v in observed if v not in analysis.indexes["variable"]]
    if lacking:
        raise InputError(f"desroziers: {lacking[0]!r} is observed and no variable; select others")
    innovation = analysis["innovation"]
    moved = (analysis["analysis"] - analysis["background"]).sel(variable=list(observed))
    moved = moved.rename(variable="observed").where(innovation.notnull())
    other = innovation.rename(observed="coobserved").fillna(0.0)

    def mean(first: xr.DataArray) -> xr.DataArray:
        there = first.notnull().astype(float)
        pairs = xr.dot(there, there.rename(observed="coobserved"), dim="time")
        return cast("xr.DataArray", xr.dot(first.fillna(0.0), other, dim="time") / pairs)

    return xr.Dataset(
        {
            "background_covariance": mean(moved).assign_attrs(
                long_name="H B H' that the analyses imply", units="1"
            ),
            "error_covariance": mean(innovation - moved).assign_attrs(
                long_name="R that the analyses imply", units="1"
            ),
        }
    )


@checked
def lagged(innovation: xr.DataArray) -> float:
    """Give the correlation of innovations with those one observation time later, of all together.

    It is 0 where the gain is the best one (Mehra 1970), negative where it is too large.

    Parameters
    ----------
    innovation : xarray.DataArray (time, observed)
        Rows without any value are left out.

    Examples
    --------
    >>> lagged(xr.DataArray([[1.0], [-1.0], [1.0], [-1.0]], dims=("time", "observed")))
    -1.0
    """
    if set(innovation.dims) != {"time", "observed"}:
        raise InputError(
            f"lagged: 'innovation' has the dimensions {innovation.dims}; give ('time', 'observed')"
        )
    values = innovation.transpose("time", "observed").values
    values = values[np.isfinite(values).any(axis=1)]
    scaled = np.nan_to_num(values / np.nanstd(values, axis=0))
    pairs = np.isfinite(values[1:]) & np.isfinite(values[:-1])
    return float((scaled[1:] * scaled[:-1])[pairs].mean())


def _pairwise(innovation: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Give covariance and number of pairs (observed, observed) of what is there."""
    there = innovation.notnull().astype(float)
    values = innovation.fillna(0.0)

    def product(first: xr.DataArray, second: xr.DataArray) -> xr.DataArray:
        return cast("xr.DataArray", xr.dot(first, second.rename(observed="coobserved"), dim="time"))

    wanted = (product(there, there), product(values, values), product(values, there))
    named = {str(k): v.drop_attrs() for k, v in enumerate(wanted)}
    found = xr.Dataset(named).transpose("observed", "coobserved").compute()
    pairs, products, sums = (found[name].values for name in named)
    counted = np.maximum(pairs, 1.0)
    return products / counted - (sums / counted) * (sums / counted).T, pairs


def _whitened(matrix: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Give root^-1 M root'^-1."""
    return np.linalg.solve(root, np.linalg.solve(root, matrix).T)


def _even(matrix: np.ndarray) -> np.ndarray:
    return np.asarray((matrix + matrix.T) / 2)
