"""Scores where the truth is missing: what is not known never counts as good."""

import numpy as np
import pytest
import xarray as xr

import daml
from daml.diagnosis import calibration, spread_map, valid_time
from daml.errors import InputError
from daml.verification import (
    analysis_error,
    error_map,
    forecast_error,
    innovation_statistics,
    mfe,
)

TRUTH = daml.simulate(daml.Lorenz63(), steps=1200, spinup=500, seed=1)
MADE = daml.forecast(daml.Lorenz63(rho=20.0), TRUTH, leads=40, warmup=0)
BINS = ("x0", np.arange(-30, 31, 10)), ("x2", np.arange(-10, 61, 10))
ANALYSIS = xr.Dataset(
    {
        name: TRUTH.state + size * np.random.default_rng(0).standard_normal(TRUTH.state.shape)
        for name, size in (("analysis", 0.5), ("background", 1.0))
    }
)


def without(truth, *rows, variables=slice(None)):
    holes = truth.copy(deep=True)
    for part in rows:
        holes["state"][part, variables] = np.nan
    return holes


HALF = slice(600, None)


@pytest.mark.parametrize("variables", [2, slice(None)])
def test_a_valid_time_without_its_truth_is_not_long(variables):
    whole, holes = (valid_time(MADE, t) for t in (TRUTH, without(TRUTH, HALF, variables=variables)))
    if variables == 2:
        assert float(holes.mean()) == pytest.approx(float(whole.mean()), rel=0.2)
        assert float(holes.max()) < 1.9  # none "never fails", after 2
        return
    early = TRUTH.isel(time=slice(0, 600))
    expected = valid_time(MADE.isel(start=slice(0, 600)), early)  # starts 40 leads before its end
    xr.testing.assert_equal(holes[:560], expected)
    assert holes[600:].isnull().all()
    between = holes[560:600]
    assert 0 < int(between.isnull().sum()) < 40  # some fail before the truth ends
    assert float(between.max()) < 2


def test_a_forecast_that_is_not_finite_has_failed():
    broken = MADE.copy(deep=True)
    broken["forecast"][:, 0] = np.nan
    broken["forecast"][:, 1] = np.inf
    assert (valid_time(broken, TRUTH) == broken.lead.values[0]).all()
    error = forecast_error(broken, TRUTH)
    assert np.isinf(mfe(error)[:2]).all()
    assert np.isfinite(mfe(error)[2:]).all()
    assert np.isinf(error_map(error.isel(lead=[0]), *BINS)).any()


def test_errors_leave_out_what_is_not_known():
    for variables in (2, slice(None)):
        holes = without(TRUTH, HALF, variables=variables)
        error = forecast_error(MADE, holes)
        if variables != 2:
            early = TRUTH.isel(time=slice(0, 600))
            short = forecast_error(MADE.isel(start=slice(0, 600)), early)
            xr.testing.assert_allclose(mfe(error), mfe(short))
            xr.testing.assert_allclose(error_map(error, *BINS), error_map(short, *BINS))
            assert error.squared_error[600:].isnull().all()
        else:
            kept = forecast_error(MADE.sel(variable=["x0", "x1"]), TRUTH)
            np.testing.assert_allclose(error.squared_error[600:], kept.squared_error[600:])
    found = analysis_error(ANALYSIS, without(TRUTH, HALF), skip=0)
    early = analysis_error(ANALYSIS.isel(time=slice(0, 600)), TRUTH, skip=0)
    xr.testing.assert_allclose(found, early)
    nothing = analysis_error(ANALYSIS, without(TRUTH, slice(None)), skip=0)
    assert np.isnan(nothing.analysis_rmse)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_estimate_that_is_not_finite_is_no_good_one(value):
    broken = ANALYSIS.copy(deep=True)
    broken["analysis"][1100:] = value
    found = analysis_error(broken, TRUTH)
    assert np.isinf(found.analysis_rmse)
    assert np.isfinite(found.background_rmse)
    assert np.isfinite(analysis_error(broken, without(TRUTH, slice(1100, None))).analysis_rmse)


def test_a_truth_with_rows_left_out_is_met_by_its_times():
    gaps = TRUTH.isel(time=np.r_[0:300, 310:1200])
    part = MADE.isel(start=np.r_[0:300, 310:1200])
    whole, found = forecast_error(part, TRUTH), forecast_error(part, gaps)
    known = found.squared_error.notnull()
    assert 0.95 < float(known.mean()) < 1
    xr.testing.assert_allclose(
        found.squared_error.where(known, 0), whole.squared_error.where(known, 0)
    )
    held = valid_time(part, gaps)
    assert float(held.mean()) == pytest.approx(float(valid_time(part, TRUTH).mean()), rel=0.05)


def test_dates_are_met_as_numbers_are():
    dates = np.datetime64("2020-01-01") + np.arange(1200) * np.timedelta64(50, "ms")
    truth = TRUTH.assign_coords(time=dates)
    holes = without(truth, HALF)
    made = daml.forecast(daml.Lorenz63(rho=20.0), truth, leads=40, warmup=0)
    found, plain = (valid_time(f, t) for f, t in ((made, holes), (MADE, without(TRUTH, HALF))))
    seconds = found / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds.values, plain.values, atol=1e-9)
    numbers = forecast_error(MADE, without(TRUTH, HALF))
    np.testing.assert_allclose(mfe(forecast_error(made, holes)), mfe(numbers))
    with pytest.raises(InputError, match="one of 'start' and the truth's 'time' has numbers"):
        forecast_error(made, TRUTH)


def normal(steps=5000, observed=("x", "y")):
    values = np.random.default_rng(0).standard_normal((steps, len(observed)))
    arrays = {
        "innovation": 2 * values,
        "innovation_spread": 2 + 0 * values,
        "normalized_innovation": values,
    }
    dims = ("time", "observed")
    return xr.Dataset({n: (dims, a) for n, a in arrays.items()}, {"observed": list(observed)})


def test_a_calibration_leaves_out_what_was_not_observed():
    whole, holes = normal(), normal()
    holes["innovation"][1::2, 0] = np.nan
    holes["normalized_innovation"][1::2, 0] = np.nan
    holes["innovation"][:, 1] = np.nan
    holes["normalized_innovation"][:, 1] = np.nan
    found = calibration(holes)
    even = calibration(whole.isel(time=slice(1000, None, 2), observed=[0]), skip=0)
    for name in ("pit", "innovation_rms", "expected_rms"):
        np.testing.assert_allclose(found[name][0], even[name][0])
        assert found[name][1].isnull().all()
    assert float(found.chi_square.mean()) == pytest.approx(1, abs=0.1)


def test_maps_leave_out_states_and_squares_that_are_missing():
    spread = xr.Dataset({"analysis": ANALYSIS.analysis, "background_spread": 0 * TRUTH.state + 2})
    holes = spread.copy(deep=True)
    holes["background_spread"][600:] = np.nan
    early = spread_map(spread.isel(time=slice(600)), *BINS)
    xr.testing.assert_allclose(spread_map(holes, *BINS), early)
    holes = spread.copy(deep=True)
    holes["analysis"][600:, 2] = np.nan
    xr.testing.assert_allclose(spread_map(holes, *BINS), early)


def test_innovations_that_are_missing_are_left_out():
    holes = normal()
    holes["innovation"][2500:] = np.nan
    half = innovation_statistics(normal().isel(time=slice(2500)))
    xr.testing.assert_allclose(innovation_statistics(holes), half)
