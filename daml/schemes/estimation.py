"""Estimates of the error covariances of background and observations, from innovations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import xarray as xr

from daml.covariances.dense import check, labelled
from daml.errors import InputError, warn
from daml.labels.arguments import checked
from daml.labels.datasets import check_dims, check_names, names
from daml.labels.trajectories import numbers_of
from daml.observing.noise import observing

LEAST = 0.01
"""Minimum eigenvalue of an estimated H B H', in units of R."""
Pairs = tuple[np.ndarray, np.ndarray]
"""A covariance, and the number of pairs that each entry comes from; both (observed, observed)."""
SURE = 5.0
"""Standard errors by which the variance of innovations must be below R for a warning."""


@checked
def from_innovations(
    analysis: xr.Dataset,
    observations: xr.Dataset,
    climatology: xr.DataArray,
    error_factor: float = 1.0,
) -> xr.DataArray:
    """Estimate B from innovations: their covariance minus that of the observation errors.

    With d = y - H xb, H B H' = cov(d) - R. A missing value leaves out only its own pairs. To reduce
    the sampling noise of cov(d), it is shrunk towards s H C H' + R, where C is the climatology and
    s scales it to the same size: by the oracle approximating shrinkage, in coordinates in which
    this matrix is the identity. The eigenvalues of H B H' are at least 0.01 in units of R.

    Only the part of an innovation that a change of the state can cause is used: two sensors of one
    quantity give the B of one sensor with half their error variance. Variables that are not
    observed follow by regression: with G = C H' (H C H')^-1,

    B = G (H B H') G' + s (C - G H C).

    The computation is in units of R and of the climatology's standard deviations, so that the
    units of the variables do not matter.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), in memory or lazy, at times on which the model was not
        trained; from other times B would be too small.
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable). R is the mean of the
        error covariance over the values that are present.
    climatology : xarray.DataArray (variable, covariable)
        C, which has little influence on quantities that are observed often.
    error_factor : float
        Factor on R.

    Returns
    -------
    xarray.DataArray (variable, covariable)
        B, symmetric positive definite. Its attribute ``innovations`` is the number of innovations.

    Raises
    ------
    InputError
        If there are too few innovations of a quantity, or names do not match.

    Warns
    -----
    UserWarning
        If the innovations vary less than the observation errors alone would: R is too large.

    References
    ----------
    Hollingsworth, A. and Loennberg, P. (1986): The statistical structure of short-range forecast
    errors as determined from radiosonde data. Tellus 38A, 111-136; Chen, Y., Wiesel, A., Eldar,
    Y. C. and Hero, A. O. (2010): Shrinkage algorithms for MMSE covariance estimation. IEEE Trans.
    Signal Process. 58, 5016-5029.

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
    check_dims(observations, "observation", ("variable",))
    check_names(observations, "observation")
    if names(analysis, "observed") != names(observations):
        raise InputError(
            f"from_innovations: the analysis has the innovations of {names(analysis, 'observed')}, "
            f"and the observations are {names(observations)}; give those that were assimilated"
        )
    if not 0 < error_factor < np.inf:
        raise InputError(f"from_innovations: 'error_factor' is {error_factor}; give a factor > 0")
    variables = names(climatology)
    prior = check(climatology, variables, "climatology")
    spread = np.sqrt(prior.diagonal())
    prior = prior / np.outer(spread, spread)
    covariance, pairs, observations = known_pairs(pairwise(analysis["innovation"]), observations)
    labels = names(observations)
    seen = Seen.of(observations, variables, spread, error_factor)
    covariance, count = seen.projected(covariance, pairs, prior, labels, "from_innovations")
    excess, size = float(np.trace(covariance)) - seen.rank, seen.rank
    if excess < -SURE * np.sqrt(2 * size / count):
        warn(
            f"from_innovations: the innovations' variance is {1 + excess / size:.2f} times R, but "
            "should be larger than R; R is too large: correct 'error_variance', or give "
            "ThreeDVar(error_factor='estimated')",
        )
    matrix = _even(seen.implied(covariance, count, prior))
    result = labelled(matrix * np.outer(spread, spread), variables)
    result.attrs |= {"innovations": count}
    return result


@dataclass(frozen=True)
class Seen:
    """The observed part of a state, in coordinates in which observation errors are white.

    z = P d has one entry for each observed direction of the state, and error covariance I.

    Attributes
    ----------
    projection : numpy.ndarray (rank, observed)
        P.
    matrix : numpy.ndarray (rank, variable)
        P H, for a state in units of ``spread``.
    error : numpy.ndarray (observed, observed)
        R.
    operator : numpy.ndarray (observed, variable)
        H, for a state in units of ``spread``.
    """

    projection: np.ndarray
    matrix: np.ndarray
    error: np.ndarray
    operator: np.ndarray

    @classmethod
    def of(
        cls,
        observations: xr.Dataset,
        variables: Sequence[str],
        spread: np.ndarray,
        error_factor: float = 1.0,
    ) -> Seen:
        """Give it for observations of states in units of a spread (variable,)."""
        operator, error = observing(observations, variables)
        operator, error = operator * spread, error_factor * error
        whitener = np.linalg.inv(np.linalg.cholesky(error))
        scaled = whitener @ operator
        length = np.linalg.norm(scaled, axis=0)
        left, sizes, _ = np.linalg.svd(scaled / np.where(length > 0, length, 1.0))
        rank = int((sizes > 1e-8 * sizes[0]).sum())
        turn = left[:, :rank].T
        return cls(turn @ whitener, turn @ scaled, error, operator)

    @property
    def rank(self) -> int:
        """The number of observed directions."""
        return len(self.matrix)

    @property
    def least(self) -> int:
        """The number of values of each quantity that an estimate needs."""
        return 2 * self.rank + 2

    def projected(
        self,
        covariance: np.ndarray,
        pairs: np.ndarray,
        prior: np.ndarray,
        labels: Sequence[str],
        what: str,
    ) -> tuple[np.ndarray, int]:
        """Give cov(z) of innovations, and the smallest number that an entry comes from.

        ``covariance`` and number of ``pairs`` (observed, observed) are those of :func:`pairwise`.
        Entries of quantities that were rarely observed together are taken from the ``prior`` C
        (variable, variable), scaled to the variances.
        """
        counts, needed = pairs.diagonal(), self.least
        if counts.min() < needed:
            place = labels[int(np.argmin(counts))]
            raise InputError(
                f"{what}: {int(counts.min())} values of {place!r} are too few for {self.rank} "
                f"observed quantities, {needed} are needed; give a longer record, or a B of your "
                "own"
            )
        apart = pairs < needed
        if apart.any():
            expected, own = self.operator @ prior @ self.operator.T, self.error.diagonal()
            excess = (covariance.diagonal() / own - 1).sum() / (expected.diagonal() / own).sum()
            covariance = np.where(apart, max(excess, 0.0) * expected + self.error, covariance)
        count = int(pairs[~apart].min())
        return _even(self.projection @ covariance @ self.projection.T), count

    def implied(self, covariance: np.ndarray, count: int, prior: np.ndarray) -> np.ndarray:
        """Give B (variable, variable) from cov(z) of so many z, in units of ``spread``."""
        seen = _even(self.matrix @ prior @ self.matrix.T)
        excess = max(float(np.trace(covariance)) - self.rank, LEAST * self.rank)
        expected = excess / float(np.trace(seen)) * seen + np.eye(self.rank)
        shrunk = _shrunk(covariance, expected, count)
        values, vectors = np.linalg.eigh(shrunk - np.eye(self.rank))
        estimate = (vectors * np.maximum(values, LEAST)) @ vectors.T
        regression = np.linalg.solve(seen, self.matrix @ prior).T
        found = regression @ estimate @ regression.T
        if self.rank < len(prior):
            scale = float(np.trace(np.linalg.solve(seen, estimate))) / self.rank
            found = found + scale * (prior - regression @ self.matrix @ prior)
        return np.asarray(found)


def _shrunk(covariance: np.ndarray, expected: np.ndarray, count: int) -> np.ndarray:
    """Shrink a sample covariance of ``count`` values towards a multiple of the expected one.

    In coordinates in which the latter is the identity, the result is (1 - w) S + w tr(S) / m I,
    with m variables and the w of Chen et al. (2010).
    """
    root = np.linalg.cholesky(expected)
    sample = _whitened(covariance, root)
    size = len(sample)
    level, square = np.trace(sample) / size, np.mean(sample**2)
    apart = (count + 1) * (square - level**2 / size)
    weight = 1.0 if apart <= 0 else min((square + level**2) / apart, 1.0)
    return _even(root @ ((1 - weight) * sample + weight * level * np.eye(size)) @ root.T)


@checked
def desroziers(analysis: xr.Dataset) -> xr.Dataset:
    """Give the covariances that innovations and residuals imply, to be compared with B and R.

    With d = y - H xb and r = y - H xa: R = mean(r d'), H B H' = mean((H xa - H xb) d'). If
    everything is observed, the result confirms any split of B + R that gave the analysis: it is a
    check of their sum and of the gain, and does not estimate B and R separately.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), ``background`` and ``analysis`` (time, variable). The
        names along ``observed`` must be names of variables.

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
        raise InputError(
            f"desroziers: {lacking[0]!r} is observed, and is not a variable of the analysis; "
            "select observed quantities that are: analysis.sel(observed=[...])"
        )
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


def known_pairs(
    found: Pairs, observations: xr.Dataset
) -> tuple[np.ndarray, np.ndarray, xr.Dataset]:
    """Leave out quantities that are never observed.

    Gives the covariance, the number of pairs (observed, observed) and the observations without
    them.
    """
    covariance, pairs = found
    places = np.flatnonzero(pairs.diagonal())
    picked = {d: places for d in ("variable", "covariable") if d in observations.dims}
    return (
        covariance[np.ix_(places, places)],
        pairs[np.ix_(places, places)],
        observations.isel(picked),
    )


@checked
def lagged(innovation: xr.DataArray) -> float:
    """Give the correlation of innovations with those one observation time later, over all values.

    It is 0 for the best gain (Mehra 1970), and negative if the gain is too large.

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
    there = np.isfinite(values).any(axis=1)
    values, numbers = values[there], numbers_of(innovation)[there]
    deviations = values - np.nanmean(values, axis=0)
    spread = np.nanstd(values, axis=0)
    scaled = np.nan_to_num(deviations / np.where(spread > 0, spread, 1.0))
    pairs = np.isfinite(values[1:]) & np.isfinite(values[:-1])
    pairs &= (numbers[1:] == numbers[:-1])[:, None]
    return float((scaled[1:] * scaled[:-1])[pairs].mean())


def observed_pairs(observations: xr.Dataset) -> Pairs:
    """Give the covariance and the number of pairs (observed, observed) of the observations."""
    return pairwise(observations["observation"].rename(variable="observed"))


def pairwise(innovation: xr.DataArray) -> Pairs:
    """Give the covariance and the number of pairs (observed, observed) of the values present."""
    innovation = innovation.drop_vars(innovation.coords)  # a MultiIndex cannot be renamed
    innovation = innovation - innovation.mean("time").compute()  # an offset would cancel digits
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
