"""The cycle: segments, missing values, times, chunks; and its control numbers."""

import functools

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import DivergedError, InputError
from daml.verification import analysis_error, forecast_error, mfe


def models():
    run = daml.simulate(daml.Lorenz63(), steps=400, spinup=500)
    return [
        daml.Lorenz63(),
        daml.CoupledLorenz63(),
        daml.LSTM(hidden=8, epochs=3).fit(run),
        daml.LSTM(hidden=8, epochs=3, window=3, base=daml.Lorenz63()).fit(run),
    ]


def covariance_for(model):
    return daml.ThreeDVar(
        daml.climatological(
            daml.simulate(daml.CoupledLorenz63(), steps=2000, spinup=500), max_variance=2
        )
    )


@pytest.mark.parametrize("model", models(), ids=lambda m: type(m).__name__)
def test_segments_agree_with_the_sequential_run(model, truth, observations):
    scheme = covariance_for(model)
    one = daml.assimilate(model, observations, scheme, segments=1)
    many = daml.assimilate(model, observations, scheme, segments=3, spinup=50, tolerance=1e-3)
    assert many.attrs["segments"] == 3
    spread = one.analysis.std("time")
    assert float((np.abs(many.analysis - one.analysis) / spread).max()) < 1e-2


def test_a_start_that_is_not_forgotten_is_refused(observations, truth):
    scheme = covariance_for(None)
    with pytest.raises(InputError, match="use segments=1"):
        daml.assimilate(daml.CoupledLorenz63(), observations, scheme, segments=20, tolerance=1e-12)


def test_a_scheme_or_a_first_state_of_the_wrong_kind_is_refused(observations, truth, scheme):
    with pytest.raises(InputError, match="'scheme' is a DataArray; give a scheme"):
        daml.assimilate(daml.Lorenz63(), observations, scheme.background_covariance)
    with pytest.raises(InputError, match=r"'initial' has .* 3000 states; give one"):
        daml.assimilate(daml.Lorenz63(), observations, scheme, initial=truth)


def test_any_chunking_and_memory_give_the_same_bytes(observations, scheme):
    plain = daml.assimilate(daml.Lorenz63(), observations, scheme)
    for chunks in (7, 1000):
        lazy = daml.assimilate(daml.Lorenz63(), observations.chunk(time=chunks), scheme)
        assert lazy.analysis.chunks is not None
        xr.testing.assert_equal(plain, lazy.compute())


def test_noise_follows_from_the_place_in_the_record(truth):
    whole = daml.observe(truth, seed=5, missing=0.2)
    part = daml.observe(truth.isel(time=slice(700)).chunk(time=9), seed=5, missing=0.2)
    np.testing.assert_array_equal(whole.observation[:700], part.observation)


def test_observing_every_third_step_keeps_a_row_a_step(truth, scheme):
    observations = daml.observe(truth, variables=["x0", "x2"], every=3, seed=1)
    result = daml.assimilate(daml.Lorenz63(), observations, scheme)
    assert result.sizes["time"] == 2998
    np.testing.assert_array_equal(result.time[::3], observations.time)
    unseen = result.isel(time=slice(1, None, 3))
    np.testing.assert_array_equal(unseen.analysis, unseen.background)
    assert unseen.innovation.isnull().all()


def test_datetimes_go_through(observations, scheme):
    times = np.datetime64("2020-01-01", "ns") + np.arange(3000) * np.timedelta64(50, "ms")
    dated = observations.assign_coords(time=times)
    plain = daml.assimilate(daml.Lorenz63(), observations, scheme)
    result = daml.assimilate(daml.Lorenz63(), dated, scheme)
    np.testing.assert_array_equal(result.analysis, plain.analysis)
    np.testing.assert_array_equal(result.time, times)


def test_the_truth_does_not_leak(truth, observations, scheme):
    with_truth = observations.merge(truth.sel(variable=["x0", "x1", "x2"]))
    plain = daml.assimilate(daml.Lorenz63(), observations, scheme)
    xr.testing.assert_identical(plain, daml.assimilate(daml.Lorenz63(), with_truth, scheme))


def test_a_matrix_operator_that_selects_equals_the_selection(observations, scheme):
    names = ["x0", "x1", "x2"]
    matrix = xr.DataArray(
        np.eye(3), dims=("variable", "model_variable"), coords={"model_variable": names}
    )
    with_matrix = observations.assign(operator=matrix)
    plain = daml.assimilate(daml.Lorenz63(), observations, scheme)
    result = daml.assimilate(daml.Lorenz63(), with_matrix, scheme)
    np.testing.assert_allclose(result.analysis, plain.analysis, atol=1e-8)


def test_a_model_that_blows_up_is_told_with_its_time(observations, scheme):
    class Explosive(daml.Lorenz63):
        def tendency(self, x):
            return 1e3 * x

    with pytest.raises(DivergedError, match=r"diverged: .* not finite at time"):
        daml.simulate(Explosive(), steps=2000)


def test_a_step_for_one_state_only_is_refused(observations, scheme):
    class OneState(daml.Lorenz63):
        def step(self, x, memory=None):
            return np.array([x[0], x[1], x[2]]), None

    with pytest.raises(InputError, match=r"states of shape \(4, 3\)"):
        daml.assimilate(OneState(), observations, scheme)


def test_forecasts_start_from_the_states_and_step_the_model():
    model = daml.Lorenz63()
    run = daml.simulate(model, steps=700, spinup=100)
    result = daml.forecast(model, run, leads=[1, 3], warmup=20)
    assert list(result.lead.values) == pytest.approx([0.05, 0.15])
    np.testing.assert_allclose(result.forecast[:-3, 1], run.state[23:], atol=1e-9)
    errors = forecast_error(result, run)
    np.testing.assert_allclose(mfe(errors), 0, atol=1e-9)
    assert errors.squared_error.isnull().sum("start").values.tolist() == [1, 3]


SCALES = {1: (0.961, 0.960), 0.1: (0.807, 0.796), 0.02: (0.655, 0.600), 0.01: (0.615, 0.505)}
"""Analysis RMSE of an independent implementation by scale of B: imperfect and perfect model."""
OBSERVED = ["x0", "x1", "x2"]
LENGTHS = pytest.mark.parametrize(
    ("steps", "tolerance"),
    [(20_000, 0.04), pytest.param(100_000, 0.015, marks=pytest.mark.slow)],
)


@pytest.mark.statistical
@pytest.mark.parametrize("seed", [1, 2, 3])
@LENGTHS
def test_control_numbers_of_an_independent_implementation(seed, steps, tolerance):
    imperfect, perfect = daml.Lorenz63(), daml.CoupledLorenz63()
    truth = daml.simulate(perfect, steps=steps, spinup=2000, seed=seed)
    observations = daml.observe(truth, variables=OBSERVED, seed=seed + 10)
    run = daml.simulate(imperfect, steps=steps, spinup=2000, seed=seed + 20)
    own = daml.simulate(perfect, steps=steps, spinup=2000, seed=seed + 30)
    near = functools.partial(pytest.approx, rel=tolerance)
    assert truth.state.std("time").values == near([7.86, 9.06, 8.56, 6.63, 7.31])
    assert run.state.std("time").values == near([7.91, 9.01, 8.67])
    for scale, expected in SCALES.items():
        for model, climate, rmse in zip((imperfect, perfect), (run, own), expected, strict=True):
            scheme = daml.ThreeDVar(daml.climatological(climate, scale=scale))
            # The oscillator, unobserved, forgets its start within some 2,500 steps.
            result = daml.assimilate(model, observations, scheme, spinup=2500)
            found = analysis_error(result, truth, variables=OBSERVED).analysis_rmse
            assert float(found) == near(rmse)


@pytest.mark.statistical
@LENGTHS
def test_control_numbers_of_the_imperfect_models_forecasts(steps, tolerance):
    # The slow oscillator makes a record of 100,000 steps differ by 0.7 to 0.9 % (one standard
    # deviation of 12 seeds), so that single seeds may lie 2 % off: the mean of three is held.
    found = []
    for seed in (1, 2, 3):
        truth = daml.simulate(daml.CoupledLorenz63(), steps=steps, spinup=2000, seed=seed)
        forecasts = daml.forecast(daml.Lorenz63(), truth, warmup=0)
        found.append(mfe(forecast_error(forecasts, truth)).values)
    expected = [0.263, 0.528, 0.846, 1.255]
    assert np.mean(found, axis=0) == pytest.approx(expected, rel=tolerance)
