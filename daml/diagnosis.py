"""Whether a model knows how wrong it is, and for how long its forecast holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from daml.errors import InputError
from daml.verification import binned


def calibration(
    analysis: xr.Dataset, *, skip: int = 1000, window: int = 1000, bins: int = 20
) -> xr.Dataset:
    """Hold the spread that was expected against the innovations that came.

    Parameters
    ----------
    analysis : xarray.Dataset
        Of :func:`daml.assimilate` with ``ThreeDVar("model")``: ``innovation``,
        ``innovation_spread`` and ``normalized_innovation`` (time, observed).
    skip : int
        Steps at the record's head that are left out.
    window : int
        Steps over which chi-square is a mean.
    bins : int
        Of probability, and of spread.

    Returns
    -------
    xarray.Dataset
        ``chi_square`` (window): squared normalized innovation, 1 where B + R is right;
        ``pit`` (observed, probability): density of the probability integral transform of the
        normalized innovation, 1 everywhere if it is Gaussian of variance 1;
        ``innovation_rms`` (observed, spread_bin) in equally many steps each, sorted by what was
        expected, ``expected_rms``.

    Raises
    ------
    InputError
        If the analysis is of a scheme that did not ask a model, or too short.

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
    lacking = [name for name in needed if name not in analysis]
    if lacking:
        raise InputError(
            f"calibration: the analysis has no {lacking[0]!r}; give one by ThreeDVar('model')"
        )
    part = analysis[list(needed)].isel(time=slice(skip, None)).transpose("time", "observed")
    if part.sizes["time"] < max(window, bins):
        raise InputError(
            f"calibration: {part.sizes['time']} steps are left after 'skip', fewer than a window "
            f"of {window}; give a longer record, or a shorter window"
        )
    normal = part["normalized_innovation"]
    chi = (normal**2).mean("observed").coarsen(time=window, boundary="trim").mean()
    edges = np.linspace(0, 1, bins + 1)
    observed = part["observed"].values
    pit = np.empty((len(observed), bins))
    expected, found = np.empty_like(pit), np.empty_like(pit)
    for place in range(len(observed)):
        values = [part[name].values[:, place] for name in needed]
        there = np.isfinite(values[0])
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


def spread_map(
    analysis: xr.Dataset, x: tuple[str, np.ndarray], y: tuple[str, np.ndarray]
) -> xr.DataArray:
    """Give the spread that was expected of the background in bins of the analysis.

    Parameters
    ----------
    analysis : xarray.Dataset
        ``background_spread`` and ``analysis`` (time, variable).
    x, y : tuple of str and numpy.ndarray
        A variable and the edges of its bins.

    Returns
    -------
    xarray.DataArray (x_bin, y_bin)
        Root mean square over the variables and times in a bin, at the bins' centres; NaN where
        the record never was.
    """
    squares = (analysis["background_spread"] ** 2).mean("variable")
    result = binned(squares, analysis["analysis"], "time", x, y)
    result.attrs = {"long_name": "expected error of the background", "units": "1"}
    return result


def valid_time(forecast: xr.Dataset, truth: xr.Dataset, *, threshold: float = 0.4) -> xr.DataArray:
    """Give for how long each forecast holds: the valid prediction time.

    Up to the first lead at which the root mean square over the variables of its error, each in
    standard deviations of the truth, is above the threshold.

    Parameters
    ----------
    forecast : xarray.Dataset
        ``forecast`` (start, lead, variable), of all leads from the first on.
    truth : xarray.Dataset
        ``state`` (time, variable).
    threshold : float

    Returns
    -------
    xarray.DataArray (start)
        In units of ``lead``; starts whose forecasts reach beyond the truth are left out. A
        forecast that never fails counts with its last lead.

    Raises
    ------
    InputError
        If a start is no time of the truth.

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
    both = [v for v in forecast.indexes["variable"] if v in truth.indexes["variable"]]
    state = truth["state"].sel(variable=both).transpose("time", "variable")
    rows = pd.Index(truth.indexes["time"]).get_indexer(forecast.indexes["start"])
    if (rows < 0).any():
        raise InputError("valid_time: a start of the forecast is no time of the truth")
    steps = forecast["lead_steps"].values
    rows = rows[rows + steps[-1] < truth.sizes["time"]]
    made = forecast["forecast"].sel(variable=both).transpose("start", "lead", "variable")
    true = state.values[rows[:, None] + steps]
    error = (made.values[: len(rows)] - true) / state.std("time").values
    wrong = np.sqrt((error**2).mean(axis=-1)) > threshold
    first = np.where(wrong.any(axis=1), wrong.argmax(axis=1), len(steps) - 1)
    return xr.DataArray(
        forecast["lead"].values[first],
        dims="start",
        coords={"start": forecast["start"].values[: len(rows)]},
        name="valid_time",
        attrs={"long_name": "valid prediction time", "units": "1"},
    )
