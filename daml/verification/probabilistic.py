"""Scores of ensembles, and of means with a spread: how accurate and how well calibrated they are.

The estimate is an analysis, with its members (``analysis_members``, ``background_members``) or its
mean and spread; or a forecast (start, lead, member, variable); or any data variable with the
dimension ``member``. It is compared with a truth or with observations. Each variable is scored on
its own, and the scores are averaged over all dimensions except those in ``by``.

Observations have errors. Even a perfect ensemble has too little spread in comparison with them,
unless a random error of the same variance is added to each member (Saetra, O., Hersbach, H.,
Bidlot, J.-R. and Richardson, D. S., 2004: Effects of observation errors on the statistics for
ensemble spread and reliability. Mon. Wea. Rev. 132, 1487-1501). The scores do so, with random
numbers from ``seed``; if there is only a spread, the error variance is added to its square.
Observations that an analysis has used do not measure its quality: compare its background or its
forecasts with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import xarray as xr
from scipy.special import ndtr
from scipy.stats import binom
from scores.probability import crps_for_ensemble
from scores.probability import rank_histogram as shares_of_ranks

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.doors import flat_like
from daml.labels.ranges import seed as whole_seed
from daml.verification.compared import Compared, compared

WITHIN = 0.95
"""Of the frequencies of a flat histogram, those that lie between its bounds."""


@checked
def crps(
    estimate: xr.Dataset,
    truth: xr.Dataset,
    *,
    of: str | None = None,
    by: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.DataArray:
    """Compute the continuous ranked probability score (CRPS); lower is better, and 0 is perfect.

    For N members x_i and the true value y, it is the fair score
    ``mean |x_i - y| - sum |x_i - x_j| / (2 N (N - 1))``, with the sum over all i and j. Its
    expected value does not depend on N if all members have the same distribution. For a mean m and
    a spread s, it is the score of a Gaussian, s (z (2 P(z) - 1) + 2 p(z) - 1 / sqrt(pi)), where
    z = (y - m) / s, and P and p are the standard normal distribution function and density.

    Parameters
    ----------
    estimate : xarray.Dataset
        Members with the dims (time, member, variable) or (start, lead, member, variable), in any
        order; or an analysis with ``spread`` or ``background_spread``.
    truth : xarray.Dataset
        Either a truth, ``state`` (time, variable) at all times of the analysis; or observations,
        ``observation`` (time, variable) with ``error_variance`` or ``error_covariance``, and with
        ``operator`` if they are made by a matrix H.
    of : str, optional
        What to score: "forecast", "analysis", "background" or the name of a variable with the
        dim ``member``. Default: "forecast" if the estimate has it; otherwise "analysis" for a
        truth, and "background" for observations.
    by : sequence of str, optional
        Dims that the result keeps. Default: ``lead``, if the estimate has this dim.
    seed : int
        Seed of the errors that are added to members when they are compared with observations.

    Returns
    -------
    xarray.DataArray
        The score in the unit of the state, with the dims ``by``. Missing values of the truth are
        left out; an estimate that is not finite has an infinite score.

    Raises
    ------
    InputError
        If the estimate has neither members nor a spread, or only one member, or if estimate and
        truth share no variable or time.

    References
    ----------
    Ferro, C. A. T. (2014): Fair scores for ensemble forecasts. Q. J. R. Meteorol. Soc. 140,
    1917-1923. Gneiting, T. and Raftery, A. E. (2007): Strictly proper scoring rules, prediction,
    and estimation. J. Am. Stat. Assoc. 102, 359-378.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> named = {"time": np.arange(2000), "variable": ["x"]}
    >>> truth = xr.Dataset({"state": (("time", "variable"), random.normal(size=(2000, 1)))}, named)
    >>> drawn = ("time", "member", "variable"), random.normal(size=(2000, 10, 1))
    >>> found = crps(xr.Dataset({"analysis": drawn}, named), truth)
    >>> round(found.item(), 1)  # 1 / sqrt(pi) in the mean
    0.6
    """
    seed = whole_seed(seed, "crps: 'seed'")
    pair = compared(estimate, truth, of, "crps")
    if pair.members is None:
        score = _gaussian(pair)
    else:
        members = pair.perturbed(pair.members, seed)
        score = crps_for_ensemble(members, pair.true, "member", method="fair", preserve_dims="all")
    score = score.where(pair.finite, np.inf).where(pair.true.notnull())
    result = _mean(score, by, "crps").rename("crps")
    return result.assign_attrs(long_name="CRPS", units=_units(estimate, truth))


@checked
def rank_histogram(
    estimate: xr.Dataset,
    truth: xr.Dataset,
    *,
    of: str | None = None,
    by: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Count how often the truth has each rank among the members of an ensemble.

    Rank 1 means that the truth is below all N members, rank N + 1 that it is above all. The
    histogram is flat if truth and members are drawn from the same distribution. It is U-shaped if
    the ensemble has too little spread, dome-shaped if it has too much, and sloped if it is biased.
    A truth that equals one or more members is counted in equal parts for all ranks that it could
    have.

    Parameters
    ----------
    estimate : xarray.Dataset
        Members with the dims (time, member, variable) or (start, lead, member, variable).
    truth, of, by, seed
        See :func:`crps`.

    Returns
    -------
    xarray.Dataset
        ``frequency`` (..., rank), whose sum over the ranks 1 to N + 1 is 1; ``cases`` (...), the
        number of values of the truth that are counted; ``flat_low`` and ``flat_high`` (...), the
        bounds of 95 % of the frequencies of a flat histogram with as many independent cases. Times
        that are close together are not independent, and the bounds are then too narrow; select
        times that are far enough apart. A member that is not finite counts as larger than the
        truth.

    Raises
    ------
    InputError
        If the estimate has fewer than two members, or if estimate and truth share no variable or
        time.

    References
    ----------
    Hamill, T. M. (2001): Interpretation of rank histograms for verifying ensemble forecasts. Mon.
    Wea. Rev. 129, 550-560.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> named = {"time": np.arange(2000), "variable": ["x"]}
    >>> truth = xr.Dataset({"state": (("time", "variable"), random.normal(size=(2000, 1)))}, named)
    >>> drawn = ("time", "member", "variable"), random.normal(size=(2000, 4, 1))
    >>> rank_histogram(xr.Dataset({"analysis": drawn}, named), truth).frequency.round(1).values
    array([0.2, 0.2, 0.2, 0.2, 0.2])
    """
    seed = whole_seed(seed, "rank_histogram: 'seed'")
    pair = compared(estimate, truth, of, "rank_histogram")
    if pair.members is None:
        raise InputError(
            "rank_histogram: the estimate has a mean and a spread only, which have no ranks; give "
            "one with the dimension 'member'"
        )
    size = pair.members.sizes["member"] + 1
    members = pair.perturbed(pair.members, seed).where(pair.there, np.inf)
    shares = xr.apply_ufunc(
        _shares,
        members,
        pair.true,
        input_core_dims=[["member"], []],
        output_core_dims=[["rank"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"rank": size}},
        output_dtypes=[np.float64],
    ).assign_coords(rank=np.arange(1, size + 1))
    cases = _sum(pair.true.notnull(), by, "rank_histogram")
    low, high = (
        xr.apply_ufunc(
            *(_bound, cases),
            kwargs={"size": size, "side": side},
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        for side in (0, 1)
    )
    result = xr.Dataset(
        {
            "frequency": _mean(shares, by, "rank_histogram", "rank"),
            "cases": cases,
            "flat_low": low,
            "flat_high": high,
        }
    )
    texts = {
        "frequency": "relative frequency",
        "cases": "number of cases",
        "flat_low": "lower bound of 95 % of the frequencies of a flat histogram",
        "flat_high": "upper bound of 95 % of the frequencies of a flat histogram",
        "rank": "rank of the truth among the members",
    }
    for name, words in texts.items():
        result[name].attrs = {"long_name": words, "units": "1"}
    return result


@checked
def spread_error(
    estimate: xr.Dataset,
    truth: xr.Dataset,
    *,
    of: str | None = None,
    by: Sequence[str] | None = None,
    members: int | None = None,
) -> xr.Dataset:
    """Compute the spread, the error of the mean, and their ratio: 1 for a calibrated ensemble.

    The spread is sqrt((N + 1) / N mean s^2), where s^2 is the sample variance of the N members
    (with the divisor N - 1). The factor (N + 1) / N accounts for the sampling error of a mean of N
    members. The error is sqrt(mean (m - y)^2), where m is the mean of the members and y the true
    value. If the estimate is compared with observations, the mean of their error variances is added
    to the squared spread.

    Parameters
    ----------
    estimate, truth, of, by
        See :func:`crps`.
    members : int, optional
        N, for an estimate with only a mean and a spread. Default: the factor is left out.

    Returns
    -------
    xarray.Dataset
        ``spread`` and ``error``, in the unit of the state, and ``ratio``, spread / error, with the
        dims ``by``. All three leave out the values that are missing in the truth. An estimate that
        is not finite has an infinite error.

    Raises
    ------
    InputError
        If the estimate has neither members nor a spread, or only one member, or if estimate and
        truth share no variable or time.

    References
    ----------
    Fortin, V., Abaza, M., Anctil, F. and Turcotte, R. (2014): Why should ensemble spread match the
    RMSE of the ensemble mean? J. Hydrometeor. 15, 1708-1713.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> named = {"time": np.arange(2000), "variable": ["x"]}
    >>> truth = xr.Dataset({"state": (("time", "variable"), random.normal(size=(2000, 1)))}, named)
    >>> drawn = ("time", "member", "variable"), random.normal(size=(2000, 4, 1))
    >>> found = spread_error(xr.Dataset({"analysis": drawn}, named), truth)
    >>> [round(value.item(), 1) for value in (found.spread, found.error, found.ratio)]
    [1.1, 1.1, 1.0]
    """
    pair = compared(estimate, truth, of, "spread_error")
    if members is not None and (members < 2 or pair.size not in (None, members)):
        raise InputError(
            f"spread_error: 'members' is {members}, and the estimate has {pair.size or 'no'} "
            "members; give 2 or more, for an estimate that has only a mean and a spread"
        )
    size = pair.size or members
    variance = pair.variance if size is None else (size + 1) / size * pair.variance
    if pair.error is not None:
        variance = variance + pair.error
    known = pair.true.notnull()
    square = ((pair.mean - pair.true) ** 2).where(pair.finite, np.inf).where(known)
    spread = np.sqrt(_mean(variance.where(pair.finite & known), by, "spread_error"))
    error = np.sqrt(_mean(square, by, "spread_error"))
    result = xr.Dataset({"spread": spread, "error": error, "ratio": spread / error})
    units = _units(estimate, truth)
    result["spread"].attrs = {"long_name": "spread", "units": units}
    result["error"].attrs = {"long_name": "RMSE of the mean", "units": units}
    result["ratio"].attrs = {"long_name": "ratio of spread and error", "units": "1"}
    return result


def _gaussian(pair: Compared) -> xr.DataArray:
    """Give the score of a Gaussian; without a spread it is the absolute error."""
    variance = pair.variance if pair.error is None else pair.variance + pair.error
    spread = cast("xr.DataArray", np.sqrt(variance))
    distance = pair.true - pair.mean
    z = distance / spread.where(spread > 0)
    below = xr.apply_ufunc(ndtr, z, dask="parallelized", output_dtypes=[np.float64])
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    score = spread * (z * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return cast("xr.DataArray", score.where(spread > 0, np.abs(distance)))


def _shares(members: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Give the part (..., rank) that each true value (...) has in the ranks among its members."""
    cases = members.reshape(-1, members.shape[-1])
    known = np.broadcast_to(true, members.shape[:-1])
    found = shares_of_ranks(
        xr.DataArray(cases, dims=("case", "member")),
        xr.DataArray(known.reshape(-1), dims="case"),
        "member",
        preserve_dims="case",
    )
    values: np.ndarray = found.transpose("case", "rank").values
    return values.reshape(*known.shape, -1)


def _bound(cases: np.ndarray, size: int, side: int) -> Any:
    """Give a bound of the frequencies of one of ``size`` equally likely ranks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return binom.interval(WITHIN, cases, 1 / size)[side] / cases


def _kept(array: xr.DataArray, by: Sequence[str] | None, what: str) -> list[str]:
    """Give the dims that are kept."""
    dims = [str(dim) for dim in array.dims]
    if by is None:
        return [dim for dim in dims if dim == "lead"]
    lacking = [dim for dim in by if dim not in dims]
    if lacking:
        raise InputError(
            f"{what}: 'by' holds {lacking[0]!r}, which is not a dimension of the score; give some "
            f"of {dims}"
        )
    return list(dict.fromkeys(by))


def _mean(score: xr.DataArray, by: Sequence[str] | None, what: str, *always: str) -> xr.DataArray:
    kept = [*_kept(score, by, what), *always]
    return score.mean([dim for dim in score.dims if dim not in kept]).transpose(*kept)


def _sum(known: xr.DataArray, by: Sequence[str] | None, what: str) -> xr.DataArray:
    kept = _kept(known, by, what)
    return known.sum([dim for dim in known.dims if dim not in kept]).transpose(*kept)


def _units(estimate: xr.Dataset, truth: xr.Dataset) -> str:
    """Give the unit of what is compared."""
    truth = flat_like(truth, estimate)
    name = "state" if "state" in truth else "observation"
    return str(truth[name].attrs.get("units", "1"))
