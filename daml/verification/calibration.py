"""Whether a model knows how wrong it is, and for how long its forecast holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.stats import norm

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import check_dims, named, names
from daml.labels.doors import flat_like
from daml.verification.matching import valid_at, valid_rows
from daml.verification.scores import binned


@checked
def calibration(
    analysis: xr.Dataset, *, skip: int = 1000, window: int = 1000, bins: int = 20
) -> xr.Dataset:
    """Compare the innovations with their expected spread.

    Parameters
    ----------
    analysis : xarray.Dataset
        Result of :func:`daml.assimilate` with ``ThreeDVar("model")``, for which the model predicts
        B: ``innovation``, ``innovation_spread`` and ``normalized_innovation`` (time, observed).
    skip : int
        Number of steps at the start of the record that are left out.
    window : int
        Number of steps over which chi-square is averaged.
    bins : int
        Number of bins of the probability, and of the expected spread.

    Returns
    -------
    xarray.Dataset
        ``chi_square`` (window): mean squared normalized innovation, 1 if B + R is right;
        ``pit`` (observed, probability): density of the probability integral transform of the
        normalized innovation, 1 everywhere if the innovation is Gaussian with the expected
        variance; ``expected_rms`` and ``innovation_rms`` (observed, spread_bin): expected and
        actual RMS of the innovations, where the steps are sorted by their expected spread and
        divided into bins of equally many steps. Missing values are left out; an observed quantity
        with fewer than ``bins`` values has NaN.

    Raises
    ------
    InputError
        If the analysis lacks one of these variables, or ``skip`` leaves fewer steps than
        ``window`` or ``bins``.

    References
    ----------
    Dee, D. P. (1995): On-line estimation of error covariance parameters for atmospheric data
    assimilation. Mon. Weather Rev. 123, 1128-1145 (chi-square of innovations); Gneiting, T.,
    Balabdaoui, F. and Raftery, A. E. (2007): Probabilistic forecasts, calibration and sharpness.
    J. R. Stat. Soc. B 69, 243-268 (probability integral transform).

    Examples
    --------
    >>> normal = np.random.default_rng(0).standard_normal((5000, 1))
    >>> analysis = xr.Dataset(
    ...     {name: (("time", "observed"), array) for name, array in {
    ...         "innovation": 2 * normal, "innovation_spread": 2 + 0 * normal,
    ...         "normalized_innovation": normal}.items()},
    ...     coords={"observed": ["x"]})
    >>> round(float(calibration(analysis).chi_square.mean()), 1)
    1.0
    """
    needed = ("innovation", "innovation_spread", "normalized_innovation")
    if skip < 0 or window < 1 or bins < 1:
        raise InputError(
            f"calibration: skip={skip}, window={window}, bins={bins}; give skip >= 0, window >= 1, "
            "bins >= 1"
        )
    lacking = [name for name in needed if name not in analysis]
    if lacking:
        raise InputError(
            f"calibration: the analysis has no {lacking[0]!r}; give one by ThreeDVar('model')"
        )
    part = analysis[list(needed)].isel(time=slice(skip, None)).transpose("time", "observed")
    if part.sizes["time"] < max(window, bins):
        raise InputError(
            f"calibration: {part.sizes['time']} steps are left after 'skip', fewer than "
            f"window={window} or bins={bins}; give a longer record, or smaller numbers"
        )
    normal = part["normalized_innovation"]
    chi = (normal**2).mean("observed").coarsen(time=window, boundary="trim").mean()
    edges = np.linspace(0, 1, bins + 1)
    observed = part["observed"].values
    pit = np.empty((len(observed), bins))
    expected, found = np.empty_like(pit), np.empty_like(pit)
    for place in range(len(observed)):
        values = [part[name].values[:, place] for name in needed]
        there = np.isfinite(values).all(axis=0)
        if there.sum() < bins:  # too few values of a quantity say nothing of it
            pit[place] = expected[place] = found[place] = np.nan
            continue
        innovation, spread, normalized = (array[there] for array in values)
        pit[place], _ = np.histogram(norm.cdf(normalized), edges, density=True)
        for number, rows in enumerate(np.array_split(np.argsort(spread), bins)):
            expected[place, number] = np.sqrt(np.mean(spread[rows] ** 2))
            found[place, number] = np.sqrt(np.mean(innovation[rows] ** 2))
    dims = ("observed", "spread_bin")
    result = xr.Dataset(
        {
            "chi_square": ("window", chi.values, {"long_name": "chi-square of the innovations"}),
            "pit": (("observed", "probability"), pit, {"long_name": "density"}),
            "expected_rms": (dims, expected, {"long_name": "expected RMS"}),
            "innovation_rms": (dims, found, {"long_name": "RMS of the innovation"}),
        },
        coords={
            "observed": observed,
            "probability": ("probability", (edges[1:] + edges[:-1]) / 2),
            "window": ("window", np.arange(len(chi)), {"long_name": f"window of {window} steps"}),
        },
    )
    for array in result.data_vars.values():
        array.attrs["units"] = "1"
    return result


@checked
def spread_map(
    analysis: xr.Dataset,
    x: tuple[str, np.ndarray],
    y: tuple[str, np.ndarray],
    *,
    variables: Sequence[str] | None = None,
) -> xr.DataArray:
    """Compute a map of the expected spread of the background over the attractor.

    Steps are sorted into bins by two variables of their analysis; the spread of a bin is the root
    mean square over its steps.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``background_spread`` and ``analysis`` (time, variable).
    x, y : tuple of str and numpy.ndarray
        Name of a variable, and the edges of its bins.
    variables : sequence of str, optional
        Names of the variables over which the spread is averaged. Default: all; leave out hidden
        variables by naming the others.

    Returns
    -------
    xarray.DataArray (x_bin, y_bin)
        In the unit of the state, NaN for an empty bin. The dims are named after the variables, such
        as ``x0_bin``; their coordinates are the centres of the bins.

    Raises
    ------
    InputError
        If a variable is not in the analysis.

    Examples
    --------
    >>> states = ("time", "variable"), [[0.5, 0.5], [1.5, 0.5]]
    >>> spread = ("time", "variable"), [[3.0, 3.0], [4.0, 4.0]]
    >>> analysis = xr.Dataset(
    ...     {"analysis": states, "background_spread": spread}, {"variable": ["u", "v"]})
    >>> spread_map(analysis, ("u", np.arange(3)), ("v", np.arange(2))).values
    array([[3.],
           [4.]])
    """
    for name in ("background_spread", "analysis"):
        check_dims(analysis, name, ("time", "variable"))
    spread = named(analysis)["background_spread"]
    if variables is not None:
        lacking = [v for v in variables if v not in names(spread)]
        if lacking:
            raise InputError(
                f"spread_map: the analysis has no variable {lacking[0]!r} (it has "
                f"{names(spread)}); give some of these"
            )
        spread = spread.sel(variable=list(variables))
    squares = (spread**2).mean("variable")
    result = binned(squares, analysis["analysis"], "time", x, y)
    result.attrs = {"long_name": "expected error of the background", "units": "1"}
    return result


@checked
def valid_time(forecast: xr.Dataset, truth: xr.Dataset, *, threshold: float = 0.4) -> xr.DataArray:
    """Compute the valid prediction time of each forecast.

    The error of each variable is divided by the standard deviation of its truth over time. A
    forecast fails at the first lead at which the root mean square of these errors over the
    variables is above the threshold, or not finite. The valid prediction time is the time to this
    lead. Missing values of the truth are left out.

    Parameters
    ----------
    forecast : xarray.Dataset
        ``forecast`` (start, lead, variable), at all leads from the first step on.
    truth : xarray.Dataset
        ``state`` (time, variable).
    threshold : float
        Largest error of a valid forecast, in standard deviations.

    Returns
    -------
    xarray.DataArray (start)
        The times, in the unit of ``lead``. A forecast that does not fail has its last lead.
        Forecasts that reach beyond the truth are left out. The value is missing (NaN, or NaT if
        leads are time spans) if the truth has no value at a lead before the forecast fails.

    Raises
    ------
    InputError
        If the truth lacks the time of a start.

    References
    ----------
    Vlachas, P. R. et al. (2020): Backpropagation algorithms and reservoir computing in recurrent
    neural networks for the forecasting of complex spatiotemporal dynamics. Neural Networks 126,
    191-217.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=300, spinup=500)
    >>> made = daml.forecast(daml.Lorenz63(rho=27.0), truth, leads=40, warmup=0)
    >>> 0 < float(valid_time(made, truth).mean()) < 2
    True
    """
    if not threshold > 0:
        raise InputError(f"valid_time: 'threshold' is {threshold}; give a number > 0")
    truth = flat_like(truth, forecast)
    _, valid = valid_rows(forecast, truth, "valid_time")
    leads = forecast["lead"].values
    end = valid_at(forecast, leads[-1]) <= truth["time"].values[-1]
    inside = end | (valid[:, -1] >= 0)  # rounding may move the last time
    both = [v for v in names(forecast) if v in names(truth)]
    state = named(truth)["state"].sel(variable=both).transpose("time", "variable")
    made = named(forecast)["forecast"].sel(variable=both)
    made = made.transpose("start", "lead", "variable").values[inside]
    true = np.where(valid[inside, :, None] >= 0, state.values[valid[inside]], np.nan)
    with np.errstate(all="ignore"):
        error = np.where(np.isfinite(made), made - true, np.where(np.isnan(true), np.nan, np.inf))
        squares = (error / state.std("time").values) ** 2
        known = ~np.isnan(squares)
        size = np.where(known, squares, 0.0).sum(axis=-1) / known.sum(axis=-1)
    over = ~(size <= threshold**2)  # failed, or not known
    first = np.where(over.any(axis=1), over.argmax(axis=1), len(leads) - 1)
    held = leads[first].astype(np.float64 if leads.dtype.kind in "iuf" else leads.dtype)
    held[np.isnan(size[np.arange(len(first)), first])] = np.nan if held.dtype.kind == "f" else "NaT"
    return xr.DataArray(
        held,
        dims="start",
        coords={"start": forecast["start"].values[inside]},
        name="valid_time",
        attrs={"long_name": "valid prediction time", "units": "1"},
    )
