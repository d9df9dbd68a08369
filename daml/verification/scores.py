"""Scores on labelled data. With the observations, the only door by which the truth enters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import flox.xarray
import numpy as np
import xarray as xr
from scores.continuous import mse

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import check_dims, named, names
from daml.labels.doors import flat_like, one_unit, points_of
from daml.labels.trajectories import by_trajectory
from daml.verification.matching import at_times, shared_names, true_states, valid_rows

INNOVATIONS = {
    "innovation_rmse": "RMSE of the innovations",
    "innovation_mean": "mean of the innovations",
    "innovation_std": "standard deviation of the innovations",
}


@checked
@by_trajectory
def analysis_error(
    analysis: xr.Dataset,
    truth: xr.Dataset,
    *,
    skip: int = 1000,
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Compute the RMSE of analysis and background against the truth.

    RMSE = sqrt(mean over time and variables of (estimate - truth)^2). Missing values of the truth
    are left out. If an estimate is not finite where there is a truth, the RMSE is infinite.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``analysis`` and ``background`` (time, variable).
    truth : xarray.Dataset
        ``state`` (time, variable), at the same times.
    skip : int
        Number of steps at the start of the record that are left out.
    variables : sequence of str, optional
        Names of the variables or fields to score. Default: all that both Datasets have.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse`` and ``background_rmse``, in the unit of the state. With a dimension
        ``trajectory`` each trajectory is scored on its own.

    Raises
    ------
    InputError
        If the Datasets share no variable, the truth lacks times of the analysis, the fields to
        score have different units, or ``skip`` leaves no step.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> _, analysis = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), daml.observe(truth))
    >>> bool(analysis_error(analysis, truth).analysis_rmse < 1)  # RMSE of the observations
    True
    """
    for name in ("analysis", "background"):
        check_dims(analysis, name, ("time", "variable"))
    truth = flat_like(truth, analysis)
    state = true_states(truth)
    analysis = named(analysis)
    both = shared_names(analysis, truth)
    if variables is not None:
        variables = points_of(analysis, variables)
        lacking = [v for v in variables if v not in both]
        if lacking:
            raise InputError(
                f"analysis_error: {lacking[0]!r} is not in both Datasets, which share {both}; give "
                "some of these"
            )
        both = list(variables)
    one_unit(analysis, both, "analysis_error")
    if skip < 0 or len(analysis["time"]) <= skip:
        raise InputError(
            f"analysis_error: 'skip' is {skip}, and the record has {len(analysis['time'])} "
            "steps; give 0 or more, and fewer than these"
        )
    analysis = analysis.isel(time=slice(skip, None))
    true = at_times(state, analysis.indexes["time"], "analysis_error").sel(variable=both)
    result = xr.Dataset()
    for name in ("analysis", "background"):
        estimate = analysis[name].sel(variable=both)
        result[f"{name}_rmse"] = np.sqrt(squared(estimate, true))
        result[f"{name}_rmse"].attrs = {"long_name": f"RMSE of the {name}", "units": "1"}
    return result


@checked
def squared(estimate: xr.DataArray, true: xr.DataArray, over: str | None = None) -> xr.DataArray:
    """Compute the mean squared error over one dim, or over all dims.

    Missing values of the truth are left out. An estimate that is not finite where there is a truth
    has an infinite error. The error is NaN if the truth has no value at all.
    """
    estimate = estimate.where(np.isfinite(estimate), np.inf)
    true = true.where(np.isfinite(true))
    return cast("xr.DataArray", mse(estimate, true, reduce_dims=over))


@checked
@by_trajectory
def forecast_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Compute the squared error of each forecast, as a mean over the variables.

    Missing values of the truth are left out. A forecast that is not finite where there is a truth
    has an infinite error.

    Parameters
    ----------
    forecast : xarray.Dataset
        ``forecast`` (start, lead, variable), the result of :func:`daml.forecast`.
    truth : xarray.Dataset
        ``state`` (time, variable), at all times at which forecasts start.

    Returns
    -------
    xarray.Dataset
        ``squared_error`` (start, lead), in the unit of the state squared, NaN where the truth has
        no value at the lead; and ``initial`` (start, variable), the true state at the start. With a
        dimension ``trajectory`` each trajectory is scored on its own.

    Raises
    ------
    InputError
        If the truth lacks the time of a start, the Datasets share no variable, the fields have
        different units, or the forecast has members.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=200)
    >>> forecast_error(daml.forecast(daml.Lorenz63(), truth), truth).squared_error.dims
    ('start', 'lead')
    """
    truth = flat_like(truth, forecast)
    rows, valid = valid_rows(forecast, truth, "forecast_error")
    forecast = named(forecast)
    both = shared_names(forecast, truth)
    one_unit(forecast, both, "forecast_error")
    state = true_states(truth).sel(variable=both).transpose("time", "variable")
    initial = state.isel(time=xr.DataArray(rows, dims="start")).drop_vars("time", errors="ignore")
    parts = []
    for place in range(forecast.sizes["lead"]):
        at = xr.DataArray(valid[:, place], dims="start")
        true = state.isel(time=at.clip(min=0)).where(at >= 0).drop_vars("time")
        made = forecast["forecast"].isel(lead=place).sel(variable=both)
        part = squared(made, true, "variable")
        parts.append(part.drop_vars(["lead", "lead_steps"], errors="ignore"))
    error = xr.concat(parts, "lead", coords="minimal", compat="override").transpose("start", "lead")
    result = xr.Dataset({"squared_error": error, "initial": initial})
    result["squared_error"].attrs = {"long_name": "squared forecast error", "units": "1"}
    return result.assign_coords({n: forecast[n] for n in ("lead", "lead_steps") if n in forecast})


@checked
def mfe(errors: xr.Dataset) -> xr.DataArray:
    """Compute the model forecast error: the root mean square over starts and variables.

    Starts without a truth at the lead are left out.

    Parameters
    ----------
    errors : xarray.Dataset
        Result of :func:`forecast_error`.

    Returns
    -------
    xarray.DataArray (lead)
        In the unit of the state.

    Examples
    --------
    >>> errors = xr.Dataset({"squared_error": (("start", "lead"), [[1.0], [9.0]])})
    >>> mfe(errors).round(2).values
    array([2.24])
    """
    check_dims(errors, "squared_error", ("start",))
    result = cast("xr.DataArray", np.sqrt(errors["squared_error"].mean("start")))
    result.attrs = {"long_name": "model forecast error", "units": "1"}
    return result


@checked
def reduction(error: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Compute by how much an error is lower than a reference, in % of the reference.

    Parameters
    ----------
    error, reference : xarray.DataArray
        For example the :func:`mfe` of an emulator and of the imperfect model.

    Returns
    -------
    xarray.DataArray
        100 (1 - error / reference); negative where the error is larger than the reference.

    Examples
    --------
    >>> reduction(xr.DataArray(1.0), xr.DataArray(4.0)).item()
    75.0
    """
    result = 100 * (1 - error / reference)
    result.attrs = {"long_name": "reduction of the model forecast error", "units": "%"}
    return result


@checked
def error_map(
    errors: xr.Dataset,
    x: tuple[str, np.ndarray],
    y: tuple[str, np.ndarray],
) -> xr.DataArray:
    """Compute a map of the model forecast error over the attractor.

    Forecasts are sorted into bins by two variables of the true state at their start; the error of a
    bin is the root mean square over its forecasts.

    Parameters
    ----------
    errors : xarray.Dataset
        Result of :func:`forecast_error`.
    x, y : tuple of str and numpy.ndarray
        Name of a variable, and the edges of its bins.

    Returns
    -------
    xarray.DataArray (lead, x_bin, y_bin)
        In the unit of the state, NaN for a bin in which no forecast starts. The dims of the bins
        are named after the variables, such as ``x0_bin``; their coordinates are the centres.

    Raises
    ------
    InputError
        If a variable is unknown, or both are the same.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=200)
    >>> errors = forecast_error(daml.forecast(daml.Lorenz63(), truth, leads=1), truth)
    >>> error_map(errors, ("x0", np.arange(-20, 21, 10)), ("x2", np.arange(0, 51, 10))).shape
    (1, 4, 5)
    """
    check_dims(errors, "squared_error", ("start",))
    check_dims(errors, "initial", ("start", "variable"))
    result = binned(errors["squared_error"], errors["initial"], "start", x, y)
    result.attrs = {"long_name": "model forecast error", "units": "1"}
    return result


@checked
def binned(
    squares: xr.DataArray,
    states: xr.DataArray,
    dim: str,
    x: tuple[str, np.ndarray],
    y: tuple[str, np.ndarray],
) -> xr.DataArray:
    """Compute the root of the mean of ``squares`` (dim, ...) in bins of ``states`` (dim, variable).

    The result (..., x_bin, y_bin) has the centres of the bins as coordinates, and NaN in empty
    bins. Missing squares and states are left out.
    """
    for name, _ in (x, y):
        if name not in names(states):
            raise InputError(
                f"the states have no variable {name!r} to bin by (they have {names(states)}); "
                "give one of these"
            )
    if x[0] == y[0]:
        raise InputError(f"bins: both are of {x[0]!r}; give two different variables")
    states = named(states)
    mean = flox.xarray.xarray_reduce(
        squares,
        *(states.sel(variable=v).drop_vars("variable").rename(v) for v, _ in (x, y)),
        func="nanmean",
        expected_groups=(x[1], y[1]),
        isbin=True,
        dim=dim,
    )
    result = np.sqrt(mean)
    for name, edges in (x, y):
        result = result.rename({f"{name}_bins": f"{name}_bin"})
        result = result.assign_coords({f"{name}_bin": (edges[1:] + edges[:-1]) / 2})
        result[f"{name}_bin"].attrs = {"long_name": name, "units": "1"}
    return cast("xr.DataArray", result.transpose(..., f"{x[0]}_bin", f"{y[0]}_bin"))


@checked
@by_trajectory
def innovation_statistics(analysis: xr.Dataset, *, skip: int = 0) -> xr.Dataset:
    """Compute statistics of the innovations (observation minus background), without a truth.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), NaN where nothing was observed.
    skip : int
        Number of steps at the start of the record that are left out.

    Returns
    -------
    xarray.Dataset
        ``innovation_rmse`` over all observed quantities, and ``innovation_mean`` and
        ``innovation_std`` (observed) of each, in the unit of the observations. With a dimension
        ``trajectory`` each trajectory has its own.

    Raises
    ------
    InputError
        If ``skip`` is negative or leaves no step.

    Examples
    --------
    >>> analysis = xr.Dataset({"innovation": (("time", "observed"), [[3.0], [np.nan], [-4.0]])})
    >>> innovation_statistics(analysis).innovation_rmse.round(2).item()
    3.54
    """
    check_dims(analysis, "innovation", ("time",))
    if skip < 0 or skip >= analysis.sizes["time"]:
        raise InputError(
            f"innovation_statistics: 'skip' is {skip}, and the record has "
            f"{analysis.sizes['time']} steps; give 0 or more, and fewer than these"
        )
    innovation = analysis["innovation"].isel(time=slice(skip, None))
    result = xr.Dataset(
        {
            "innovation_rmse": np.sqrt((innovation**2).mean()),
            "innovation_mean": innovation.mean("time"),
            "innovation_std": innovation.std("time"),
        }
    )
    for name, words in INNOVATIONS.items():
        result[name].attrs = {"long_name": words, "units": "1"}
    return result
