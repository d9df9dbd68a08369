"""Diagnosis of what a model expects of itself: known distributions, known exponents."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from array_api_compat import array_namespace

import daml
from daml.diagnosis import calibration, spread_map, valid_time
from daml.errors import InputError
from daml.verification.predictability import lyapunov_exponent


def expected(actual):
    """Give 20,000 steps whose innovations are ``actual`` times what was expected."""
    random = np.random.default_rng(0)
    normal = actual * random.standard_normal((20_000, 2))
    spread = random.uniform(0.5, 3, normal.shape)
    parts = {
        "innovation": spread * normal,
        "innovation_spread": spread,
        "normalized_innovation": normal,
    }
    return xr.Dataset(
        {name: (("time", "observed"), array) for name, array in parts.items()},
        coords={"observed": ["u", "v"]},
    )


def test_what_is_honest_is_called_so():
    found = calibration(expected(1.0))
    np.testing.assert_allclose(found.chi_square, 1, atol=0.15)
    np.testing.assert_allclose(found.pit, 1, atol=0.2)
    np.testing.assert_allclose(found.innovation_rms, found.expected_rms, rtol=0.1)
    assert (found.expected_rms.diff("spread_bin") > 0).all()


@pytest.mark.parametrize("actual", [0.5, 2.0])
def test_too_sure_and_too_modest_are_told_apart(actual):
    found = calibration(expected(actual))
    np.testing.assert_allclose(found.chi_square, actual**2, rtol=0.15)
    edge, middle = found.pit.isel(probability=0), found.pit.isel(probability=10)
    assert ((edge > middle) == (actual > 1)).all()
    np.testing.assert_allclose(found.innovation_rms / found.expected_rms, actual, rtol=0.1)


def test_missing_values_count_nowhere():
    plain = expected(1.0)
    holes = plain.where(np.random.default_rng(1).random((20_000, 2)) > 0.3)
    np.testing.assert_allclose(calibration(holes).pit, 1, atol=0.25)
    np.testing.assert_allclose(calibration(holes).chi_square.mean(), 1, atol=0.03)


def test_the_map_holds_the_spread_of_its_bins():
    state = np.array([[0.5, 0.5], [0.5, 0.6], [1.5, 0.5]])
    spread = np.array([[1.0, 1.0], [3.0, 3.0], [2.0, 4.0]])
    analysis = xr.Dataset(
        {
            "analysis": (("time", "variable"), state),
            "background_spread": (("time", "variable"), spread),
        },
        coords={"variable": ["u", "v"]},
    )
    edges = np.array([0.0, 1.0, 2.0])
    found = spread_map(analysis, ("u", edges), ("v", edges))
    np.testing.assert_allclose(found, [[np.sqrt(5), np.nan], [np.sqrt(10), np.nan]])


@dataclass(frozen=True)
class Growing(daml.models.ODE):
    """Two variables that grow at known rates."""

    rate: float = 0.7
    variables = ("u", "v")

    def tendency(self, x):
        return array_namespace(x).stack((self.rate * x[..., 0], 0.2 * x[..., 1]), -1)


def states(model, steps):
    return daml.simulate(model, steps=steps, spinup=500, seed=1)


def test_the_exponent_of_a_linear_model_is_its_largest_rate():
    run = daml.simulate(Growing(rate=0.7), steps=5)
    assert lyapunov_exponent(Growing(rate=0.7), run) == pytest.approx(0.7, rel=1e-3)
    assert lyapunov_exponent(Growing(rate=-2.0), run) == pytest.approx(0.2, rel=1e-3)


@pytest.mark.statistical
def test_the_exponent_of_lorenz_63_is_the_published_one():
    """0.906 (Sprott 2003, Chaos and Time-Series Analysis)."""
    run = states(daml.Lorenz63(), 4000).isel(time=slice(0, None, 20))
    assert lyapunov_exponent(daml.Lorenz63(), run, steps=300) == pytest.approx(0.906, rel=0.03)


def test_the_exponent_of_an_lstm_takes_its_memory_along():
    run = states(daml.Lorenz63(), 400)
    emulator = daml.LSTM(hidden=4, epochs=1, base=daml.Lorenz63()).fit(run)
    found = lyapunov_exponent(emulator, run.isel(time=slice(0, 20)), steps=50, spinup=20)
    assert np.isfinite(found)


def test_a_forecast_holds_until_its_error_is_too_large():
    times = np.arange(40) * 0.5
    truth = xr.Dataset(
        {"state": (("time", "variable"), np.tile([[1.0], [-1.0]], (20, 1)))},
        coords={"time": times, "variable": ["u"]},
    )
    error = np.array([0.1, 0.2, 0.5, 0.9])
    forecast = xr.Dataset(
        {"forecast": (("start", "lead", "variable"), np.zeros((40, 4, 1)))},
        coords={
            "start": times,
            "lead": np.arange(1, 5) * 0.5,
            "lead_steps": ("lead", np.arange(1, 5)),
            "variable": ["u"],
        },
    )
    true = truth.state.values[(np.arange(40)[:, None] + np.arange(1, 5)).clip(max=39)]
    forecast["forecast"][:] = true + error[:, None]
    assert (valid_time(forecast, truth) == 1.5).all()
    assert (valid_time(forecast, truth, threshold=2.0) == 2.0).all()
    assert valid_time(forecast, truth).sizes["start"] == 36


def test_what_was_not_expected_is_not_judged():
    plain = expected(1.0)
    with pytest.raises(InputError, match="has no 'innovation_spread'"):
        calibration(plain.drop_vars("innovation_spread"))
    with pytest.raises(InputError, match="1000 steps are left after 'skip'"):
        calibration(plain.isel(time=slice(0, 2000)), window=1500)

    class ByNumPy(daml.Lorenz63):
        def step(self, x, memory=None):
            return super().step(np.asarray(x))

    run = states(daml.Lorenz63(), 5)
    with pytest.raises(InputError, match="no tangent passes through the step of ByNumPy"):
        lyapunov_exponent(ByNumPy(), run)
