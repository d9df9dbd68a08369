"""An ensemble, or a mean with its spread, beside the truth or the observations of its times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
import xarray as xr

from daml.covariances.dense import check
from daml.errors import InputError
from daml.labels.datasets import check_dims, check_dtype, check_names, check_time, named, names
from daml.labels.doors import flat_like, one_unit
from daml.observing.guarded import periods
from daml.randomness import ranks
from daml.verification.matching import at_times, rows_at_leads, shared_names, true_states

SPREADS = {"analysis": "spread", "background": "background_spread"}


@dataclass(frozen=True)
class Compared:
    """What is scored.

    Attributes
    ----------
    members : xarray.DataArray (..., member, variable) or None
        0 where one is not finite.
    mean, variance : xarray.DataArray (..., variable)
        Of the members, or as they were given.
    finite : xarray.DataArray (..., variable) of bool
        Where mean, variance and all members are finite.
    there : xarray.DataArray (..., member, variable) of bool, or None
        Where each member is finite.
    true : xarray.DataArray (..., variable)
        The truth or the observations; NaN where there is none.
    error : xarray.DataArray or None
        The error variance of observations (variable) or (..., variable).
    """

    members: xr.DataArray | None
    mean: xr.DataArray
    variance: xr.DataArray
    finite: xr.DataArray
    true: xr.DataArray
    error: xr.DataArray | None
    there: xr.DataArray | None = None

    @property
    def size(self) -> int | None:
        """The number of members."""
        return None if self.members is None else self.members.sizes["member"]

    def perturbed(self, members: xr.DataArray, seed: int) -> xr.DataArray:
        """Give members with random errors like those of the observations added to each."""
        if self.error is None:
            return members
        members = members.transpose(..., "variable")
        drawn = np.random.default_rng(seed).standard_normal(members.shape)
        drawn = drawn[..., ranks(names(members))]
        return members + np.sqrt(self.error) * xr.DataArray(drawn, dims=members.dims)


def compared(estimate: xr.Dataset, truth: xr.Dataset, of: str | None, what: str) -> Compared:
    """Give an estimate beside what it is compared with; see :func:`probabilistic.crps`."""
    truth = flat_like(truth, estimate)
    values, error = _reference(truth)
    if of is None:
        of = "forecast" if "forecast" in estimate else "analysis" if error is None else "background"
    many, spread = f"{of}_members", SPREADS.get(of, f"{of}_spread")
    first = estimate[[many]].rename({many: of}) if many in estimate else estimate
    check_dims(first, of, ("variable",))
    check_names(first, of)
    dims = first[of].dims
    if {*dims} - {"member"} not in ({"time", "variable"}, {"start", "lead", "variable"}):
        raise InputError(
            f"{what}: {of!r} has the dimensions {dims}; give (time, variable) or (start, lead, "
            "variable), with 'member' where there are several"
        )
    lacking = [dim for dim in ("start", "lead") if dim in dims and dim not in first.coords]
    if lacking:
        raise InputError(
            f"{what}: {of!r} has no coordinate {lacking[0]!r}; add it with "
            f"ds.assign_coords({lacking[0]}=...)"
        )
    needed = [of] if "member" in dims else [of, spread]
    if spread not in first and "member" not in dims:
        raise InputError(
            f"{what}: {of!r} has no dimension 'member', and there is no {spread!r} beside it; "
            "assimilate with an ensemble scheme, or forecast from an analysis with members"
        )
    if "member" in dims and first.sizes["member"] < 2:
        raise InputError(f"{what}: {of!r} has one member; give 2 or more")
    for name in needed:
        check_dtype(first[name], name)
    part = named(first[needed])
    if error is not None and "operator" in truth:
        part = _observed(part, truth["operator"], what)
    both = shared_names(part, truth)
    one_unit(part, both, what)
    part, values, error = part.sel(variable=both), *_selected(values, error, both)
    part, values, error = _beside(part, values, error, what)
    found = _compared(part, of, spread, values, error)
    period = None if error is None else periods(truth)
    if period is None:
        return found
    turn = xr.DataArray(period, {"variable": list(names(truth))}, "variable").sel(variable=both)
    turns = ((found.true - found.mean) / turn).round()
    return replace(found, true=found.true - (turns * turn).where(turns != 0, 0.0))


def _reference(truth: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Give the truth, or the observations with their error variance."""
    if "state" in truth or "observation" not in truth:
        return true_states(truth), None
    check_dims(truth, "observation", ("time", "variable"))
    check_names(truth, "observation")
    check_dtype(truth["observation"], "observation")
    check_time(truth, "observation")
    given = named(truth)
    if "error_variance" in given:
        variance = given["error_variance"]
        if set(variance.dims) not in ({"variable"}, {"time", "variable"}):
            raise InputError(
                f"'error_variance' has the dimensions {variance.dims}; give (variable) or (time, "
                "variable)"
            )
        check_dtype(variance, "error_variance")
        if variance.chunks is None and bool((variance <= 0).any()):
            raise InputError("observations: 'error_variance' is not positive; give variances > 0")
        return given["observation"], variance
    if "error_covariance" not in given:
        raise InputError(
            "observations need 'error_variance' or 'error_covariance' (neither is there); give "
            "one, e.g. ds.assign(error_variance=('variable', [...]))"
        )
    matrix = check(given["error_covariance"], names(given), "'error_covariance'")
    variance = xr.DataArray(np.diagonal(matrix), coords={"variable": given["variable"]})
    return given["observation"], variance


def _observed(part: xr.Dataset, operator: xr.DataArray, what: str) -> xr.Dataset:
    """Give what is observed of members by a matrix."""
    check_names(operator, "operator", "model_variable")
    operator = named(named(operator), "model_variable")
    lacking = [v for v in operator["model_variable"].values if v not in part.indexes["variable"]]
    if lacking or len(part.data_vars) > 1:
        problem = f"no variable {lacking[0]!r}" if lacking else "a mean and a spread only"
        raise InputError(
            f"{what}: the observations are made by a matrix, and the estimate has {problem}; give "
            "members of all variables of the model"
        )
    part = part.rename(variable="model_variable").sel(model_variable=operator["model_variable"])
    return part.map(lambda members: xr.dot(members, operator, dim="model_variable"))


def _selected(
    values: xr.DataArray, error: xr.DataArray | None, both: list[str]
) -> tuple[xr.DataArray, xr.DataArray | None]:
    return values.sel(variable=both), None if error is None else error.sel(variable=both)


def _beside(
    part: xr.Dataset, values: xr.DataArray, error: xr.DataArray | None, what: str
) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray | None]:
    """Give the estimate and what is known at its times; of observations only these times."""
    index: pd.Index = values.indexes["time"]
    if "start" in part.dims:
        rows = xr.DataArray(rows_at_leads(index, part, what), dims=("start", "lead"))
        if not (rows >= 0).any():
            raise InputError(
                f"{what}: the truth has none of the times that the forecast is for; give a truth "
                "that covers the start plus the leads"
            )
        there = {"time": rows.clip(min=0)}
        values = values.isel(there).where(rows >= 0).drop_vars("time")
        if error is not None and "time" in error.dims:
            error = error.isel(there).drop_vars("time")
        return part, values, error
    check_time(part, str(next(iter(part.data_vars))))
    if error is None:
        return part, at_times(values, part.indexes["time"], what), None
    shared = index.intersection(part.indexes["time"])
    if not len(shared):
        raise InputError(
            f"{what}: the estimate and the observations have no time in common; give both for the "
            "same times"
        )
    if "time" in error.dims:
        error = error.sel(time=shared)
    return part.sel(time=shared), values.sel(time=shared), error


def _compared(
    part: xr.Dataset, of: str, spread: str, values: xr.DataArray, error: xr.DataArray | None
) -> Compared:
    """Mark what is missing, and find mean and variance of members."""
    true = values.where(np.isfinite(values))
    if error is not None:  # an infinite variance means missing
        true = true.where(np.isfinite(error))
        error = error.where(np.isfinite(error), 0.0)
    given = part[of]
    if "member" not in given.dims:
        variance = part[spread] ** 2
        return Compared(None, given, variance, _finite(given) & _finite(variance), true, error)
    if given.chunks is not None:
        given = given.chunk(member=-1)
    members = given.where(_finite(given), 0.0)
    mean, variance = members.mean("member"), members.var("member", ddof=1)
    there = _finite(given)
    return Compared(members, mean, variance, there.all("member"), true, error, there)


def _finite(array: xr.DataArray) -> xr.DataArray:
    return cast("xr.DataArray", np.isfinite(array))
