"""Scores on labelled data. With the observations, the only door by which the truth enters."""

from __future__ import annotations

from typing import cast

import flox.xarray
import numpy as np
import pandas as pd
import xarray as xr
from scores.continuous import mse

from daml.errors import InputError


def analysis_error(
    analysis: xr.Dataset, truth: xr.Dataset, *, skip: int = 1000, variables: object = None
) -> xr.Dataset:
    """Give the RMSE of analysis and background against the truth.

    RMSE = sqrt(mean over time and variables of (estimate - truth)^2)

    Parameters
    ----------
    analysis : xarray.Dataset
        ``analysis`` and ``background`` (time, variable).
    truth : xarray.Dataset
        ``state`` (time, variable), at the same times.
    skip : int
        Steps at the record's head that are left out.
    variables : sequence of str, optional
        Over which; those that both have, unless given.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse`` and ``background_rmse``, in the state's units.

    Raises
    ------
    InputError
        If they share no variables or not all times.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)
    >>> _, analysis = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), daml.observe(truth))
    >>> bool(analysis_error(analysis, truth).analysis_rmse < 1)  # the observations' is 1
    True
    """
    both = _shared(analysis, truth) if variables is None else list(cast("list[str]", variables))
    if len(analysis["time"]) <= skip:
        raise InputError(f"analysis_error: {len(analysis['time'])} steps, all of them skipped")
    analysis = analysis.isel(time=slice(skip, None))
    true = _at(truth, analysis.indexes["time"]).sel(variable=both)
    result = xr.Dataset()
    for name in ("analysis", "background"):
        estimate = analysis[name].sel(variable=both)
        result[f"{name}_rmse"] = np.sqrt(mse(estimate, true))
        result[f"{name}_rmse"].attrs = {"long_name": f"RMSE of the {name}", "units": "1"}
    return result


def _at(truth: xr.Dataset, times: pd.Index) -> xr.DataArray:
    """Give the true states at ``times``; as a slice where that will do: a record may be long."""
    index = truth.indexes["time"]
    first = int(index.searchsorted(times[0]))
    if index[first : first + len(times)].equals(times):
        return truth["state"].isel(time=slice(first, first + len(times)))
    rows = index.get_indexer(times)
    if (rows < 0).any():
        raise InputError("analysis_error: the truth lacks times of the analysis; select the same")
    return truth["state"].isel(time=rows)


def _shared(first: xr.Dataset, second: xr.Dataset) -> list[str]:
    both = [str(v) for v in first.indexes["variable"] if v in second.indexes["variable"]]
    if not both:
        raise InputError("verification: the two Datasets share no variable; rename one's")
    return both


def forecast_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Give each forecast's squared error, the mean over variables, beside its true start.

    Parameters
    ----------
    forecast : xarray.Dataset
        ``forecast`` (start, lead, variable) with ``lead_steps``.
    truth : xarray.Dataset
        ``state`` (time, variable), one row a model step; starts are among its times.

    Returns
    -------
    xarray.Dataset
        ``squared_error`` (start, lead), NaN where the record ends before the lead, and
        ``initial`` (start, variable), the true state at the start.

    Raises
    ------
    InputError
        If a start is no time of the truth.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=200)
    >>> forecast_error(daml.forecast(daml.Lorenz63(), truth), truth).squared_error.dims
    ('start', 'lead')
    """
    both = _shared(forecast, truth)
    rows = truth.indexes["time"].get_indexer(forecast.indexes["start"])
    if (rows < 0).any():
        raise InputError("forecast_error: a start of the forecast is no time of the truth")
    state = truth["state"].sel(variable=both).transpose("time", "variable")
    initial = state.isel(time=xr.DataArray(rows, dims="start")).drop_vars("time", errors="ignore")
    parts = []
    for place, steps in enumerate(forecast["lead_steps"].values):
        valid = xr.DataArray(rows + steps, dims="start")
        inside = valid < truth.sizes["time"]
        true = state.isel(time=valid.clip(max=truth.sizes["time"] - 1)).drop_vars("time")
        made = forecast["forecast"].isel(lead=place).sel(variable=both)
        parts.append(
            mse(made, true, reduce_dims="variable").where(inside).drop_vars(["lead", "lead_steps"])
        )
    error = xr.concat(parts, "lead", coords="minimal", compat="override").transpose("start", "lead")
    result = xr.Dataset({"squared_error": error, "initial": initial})
    result["squared_error"].attrs = {"long_name": "squared forecast error", "units": "1"}
    return result.assign_coords(lead=forecast["lead"], lead_steps=forecast["lead_steps"])


def mfe(errors: xr.Dataset) -> xr.DataArray:
    """Give the model forecast error (lead): the root mean square over starts and variables.

    Parameters
    ----------
    errors : xarray.Dataset
        From :func:`forecast_error`.

    Examples
    --------
    >>> errors = xr.Dataset({"squared_error": (("start", "lead"), [[1.0], [9.0]])})
    >>> mfe(errors).round(2).values
    array([2.24])
    """
    result = cast("xr.DataArray", np.sqrt(errors["squared_error"].mean("start")))
    result.attrs = {"long_name": "model forecast error", "units": "1"}
    return result


def reduction(error: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Give by how much an error is below a reference, in % of the reference.

    Examples
    --------
    >>> reduction(xr.DataArray(1.0), xr.DataArray(4.0)).item()
    75.0
    """
    result = 100 * (1 - error / reference)
    result.attrs = {"long_name": "reduction of the model forecast error", "units": "%"}
    return result


def error_map(
    errors: xr.Dataset,
    x: tuple[str, np.ndarray],
    y: tuple[str, np.ndarray],
) -> xr.DataArray:
    """Give the model forecast error in bins of the true start: a map over the attractor.

    Parameters
    ----------
    errors : xarray.Dataset
        From :func:`forecast_error`.
    x, y : tuple of str and numpy.ndarray
        A variable and the edges of its bins.

    Returns
    -------
    xarray.DataArray (lead, x_bin, y_bin)
        Named ``<variable>_bin``, at the bins' centres; NaN where no forecast starts.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=200)
    >>> errors = forecast_error(daml.forecast(daml.Lorenz63(), truth, leads=1), truth)
    >>> error_map(errors, ("x0", np.arange(-20, 21, 10)), ("x2", np.arange(0, 51, 10))).shape
    (1, 4, 5)
    """
    result = binned(errors["squared_error"], errors["initial"], "start", x, y)
    result.attrs = {"long_name": "model forecast error", "units": "1"}
    return result


def binned(
    squares: xr.DataArray,
    states: xr.DataArray,
    dim: str,
    x: tuple[str, np.ndarray],
    y: tuple[str, np.ndarray],
) -> xr.DataArray:
    """Give the root mean of squares (dim, ...) in bins of states (dim, variable).

    Shape (..., x_bin, y_bin), at the bins' centres; NaN where a bin is empty.
    """
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


def innovation_statistics(analysis: xr.Dataset, *, skip: int = 0) -> xr.Dataset:
    """Give what innovations say, without any truth.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``innovation`` (time, observed), NaN where missing.
    skip : int
        Steps at the record's head that are left out.

    Returns
    -------
    xarray.Dataset
        ``innovation_rmse``, and ``innovation_mean`` and ``innovation_std`` (observed).

    Examples
    --------
    >>> analysis = xr.Dataset({"innovation": (("time", "observed"), [[3.0], [np.nan], [-4.0]])})
    >>> innovation_statistics(analysis).innovation_rmse.round(2).item()
    3.54
    """
    innovation = analysis["innovation"].isel(time=slice(skip, None))
    result = xr.Dataset(
        {
            "innovation_rmse": np.sqrt((innovation**2).mean()),
            "innovation_mean": innovation.mean("time"),
            "innovation_std": innovation.std("time"),
        }
    )
    for name in result.data_vars:
        result[name].attrs = {"long_name": str(name).replace("_", " "), "units": "1"}
    return result
