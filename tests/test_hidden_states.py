"""States that lack the hidden variables of a model: forecasts, free runs, scores."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import daml
from daml import verification
from daml.errors import InputError
from daml.labels.lacking import completed

SHOWN = ["x0", "x1", "x2"]


@dataclass(frozen=True)
class Hiding(daml.CoupledLorenz63):
    """The perfect model of coupled Lorenz 63, two of whose variables no record has."""

    hidden_names: ClassVar[tuple[str, ...]] = ("x3", "x4")


@dataclass(frozen=True)
class Climatic(Hiding):
    """The same, with the climate of its variables."""

    climate: ClassVar[np.ndarray] = np.array([0.3, 0.4, 23.6, 0.2, -0.3])
    climate_spread: ClassVar[np.ndarray] = np.array([7.8, 9.1, 8.6, 7.1, 7.9])


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.CoupledLorenz63(), steps=500, spinup=2000, seed=0)


@pytest.fixture(scope="module")
def shown(truth):
    return truth.sel(variable=SHOWN)


@pytest.fixture(scope="module")
def taught():
    """The imperfect model with two hidden variables, trained on a record of 100,000 steps."""
    return daml.load_emulator(daml.reports.published("hidden"), base=daml.Lorenz63())


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, variables=SHOWN, seed=100)


def test_forecasts_start_from_the_given_and_the_filtered(truth, shown):
    """The hidden part is what a sigma-point filter of the states gives; the rest is as given."""
    made = daml.forecast(Climatic(), shown, leads=3)
    variance = 1.6e-5 * Climatic.climate_spread[:3] ** 2
    seen = shown.rename(state="observation").assign(error_variance=("variable", variance))
    analysis = daml.assimilate(Climatic(), seen, daml.schemes.SigmaPoint()).analysis
    start = truth.state.copy()
    start.loc[:, ["x3", "x4"]] = analysis.sel(variable=["x3", "x4"])
    by_hand = daml.forecast(daml.CoupledLorenz63(), start.to_dataset(), leads=3)
    xr.testing.assert_allclose(made.forecast, by_hand.forecast, rtol=1e-12)
    assert list(made.variable.values) == ["x0", "x1", "x2", "x3", "x4"]


@pytest.mark.statistical
def test_the_perfect_model_finds_what_is_hidden(truth, shown):
    """Filtered along exact states, its hidden variables are nearly the true ones."""
    found = daml.forecast(Hiding(), shown)
    known = daml.forecast(daml.CoupledLorenz63(), truth)
    apart = np.abs(found.forecast - known.forecast).max(["start", "lead"])
    assert float(apart.max()) < 0.02
    errors = [
        verification.mfe(verification.forecast_error(made, truth))
        for made in (found, daml.forecast(daml.Lorenz63(), truth))
    ]
    assert float(verification.reduction(*errors).min()) > 99


def test_later_states_do_not_matter(shown):
    """A start knows the states up to it only."""
    later = shown.copy(deep=True)
    later.state[300:] *= 0.9
    forecasts = [daml.forecast(Climatic(), states, leads=1).forecast for states in (shown, later)]
    first, second = (made.sel(start=slice(None, float(shown.time[299]))) for made in forecasts)
    # The spin-up of a segment differs, which the filter forgets but for rounding.
    np.testing.assert_allclose(first, second, atol=2e-3)
    assert float(np.abs(forecasts[0] - forecasts[1]).max()) > 1


def test_order_dask_and_other_variables_do_not_matter(shown):
    made = daml.forecast(Hiding(), shown, leads=1)
    turned = shown.isel(variable=[2, 0, 1])
    xr.testing.assert_identical(daml.forecast(Hiding(), turned, leads=1), made)
    extra = shown.state.isel(variable=[0]).assign_coords(variable=["other"])
    more = xr.concat([shown.state, extra], "variable").to_dataset()
    xr.testing.assert_identical(daml.forecast(Hiding(), more, leads=1), made)
    lazily = daml.forecast(Hiding(), shown.chunk(time=100), leads=1)
    xr.testing.assert_identical(lazily.compute(), made)


def test_hidden_variables_that_are_given_are_taken(truth):
    made = daml.forecast(Hiding(), truth, leads=1)
    xr.testing.assert_equal(made, daml.forecast(daml.CoupledLorenz63(), truth, leads=1))
    analysis = truth.rename(state="analysis")
    xr.testing.assert_equal(daml.forecast(Hiding(), analysis, leads=1), made)


def test_what_cannot_be_filtered(shown):
    with pytest.raises(InputError, match="lacks the variable 'x2'"):
        daml.forecast(Hiding(), shown.isel(variable=slice(0, 2)))
    members = shown.expand_dims(member=3)
    with pytest.raises(InputError, match="has members, and lacks the hidden variable 'x3'"):
        daml.forecast(Hiding(), members)
    holes = shown.copy(deep=True)
    holes.state[7, 1] = np.nan
    with pytest.raises(InputError, match="has missing values"):
        daml.forecast(Hiding(), holes)


def test_scores_compare_what_both_have(truth, shown):
    """The truth lacks hidden variables, or has other ones: scores are over what is shared."""
    made = daml.forecast(Hiding(), shown, leads=40)
    named = made.assign_coords(variable=[*SHOWN, "hidden0", "hidden1"])
    for score in (
        lambda forecast, true: verification.forecast_error(forecast, true).squared_error,
        daml.diagnosis.valid_time,
    ):
        part = made.sel(variable=SHOWN)
        xr.testing.assert_identical(score(named, truth), score(part, shown))
    seen = daml.observe(shown, seed=1)
    scheme = daml.schemes.SigmaPoint(model_error=1e-4)
    analysis = daml.assimilate(Hiding(), seen, scheme)
    part = analysis.sel(variable=SHOWN)
    other = analysis.assign_coords(variable=[*SHOWN, "hidden0", "hidden1"])
    errors = [verification.analysis_error(a, truth, skip=100) for a in (other, part)]
    xr.testing.assert_identical(*errors)
    scores = [verification.probabilistic.crps(a, truth) for a in (other, part)]
    xr.testing.assert_identical(*scores)
    edges = ("x0", np.linspace(-20, 20, 4)), ("x2", np.linspace(0, 50, 4))
    maps = [daml.diagnosis.spread_map(a, *edges, variables=SHOWN) for a in (other, part)]
    xr.testing.assert_identical(*maps)
    with pytest.raises(InputError, match="spread_map: the analysis has no variable 'x9'"):
        daml.diagnosis.spread_map(part, *edges, variables=["x9"])


def test_a_free_run_starts_from_the_climate(shown):
    """A model that has its climate's mean and deviations starts from these."""
    drawn = np.random.default_rng(np.random.SeedSequence(3)).standard_normal(5)
    first = daml.simulate(Climatic(), steps=1, seed=3).state[0]
    np.testing.assert_allclose(first, Climatic.climate + Climatic.climate_spread * drawn)
    given = daml.simulate(Climatic(), steps=1, initial=shown.isel(time=7)).state[0]
    np.testing.assert_array_equal(given, [*shown.state[7], *Climatic.climate[3:]])
    other = daml.simulate(Hiding(), steps=1, initial=shown.isel(time=7)).state[0]
    np.testing.assert_array_equal(other, [*shown.state[7], 0, 0])


def test_growth_starts_from_the_climate(shown):
    starts, model = shown.isel(time=slice(0, None, 100)), daml.CoupledLorenz63()
    found = daml.lyapunov_exponent(Climatic(), starts, steps=3, spinup=2)
    climate = xr.DataArray(Climatic.climate, {"variable": list(model.variables)}, ["variable"])
    whole = completed(starts, "state", ["x3", "x4"], climate)
    assert found == daml.lyapunov_exponent(model, whole, steps=3, spinup=2)


@pytest.mark.statistical
def test_a_trained_model_knows_what_its_base_lacks(taught, truth, seen):
    """Its hidden variables are the true x3 and x4, up to a linear map of its state."""
    assert taught.hidden_names == ("hidden0", "hidden1")
    analysis = daml.assimilate(taught, seen, daml.schemes.SigmaPoint())
    error = verification.analysis_error(analysis, truth, skip=200, variables=SHOWN)
    assert float(error.analysis_rmse) < 0.3  # that of 3DVar with the base is 0.6
    states = np.column_stack((analysis.analysis.values, np.ones(500)))[100:]
    true = truth.state.sel(variable=["x3", "x4"]).values[100:]
    mapped = states @ np.linalg.lstsq(states[:200], true[:200], rcond=None)[0]
    for found, target in zip(mapped.T, true.T, strict=True):
        assert np.corrcoef(found[200:], target[200:])[0, 1] > 0.998
    made, given = (
        verification.mfe(verification.forecast_error(daml.forecast(model, states), truth))
        for model, states in ((taught, truth), (daml.Lorenz63(), truth))
    )
    assert float(verification.reduction(made, given).min()) > 94


@pytest.mark.statistical
def test_a_reanalysis_has_the_hidden_variables(taught, truth, seen):
    """Later observations say something of all variables, those that are hidden included."""
    scheme = daml.schemes.SigmaPoint()
    filtered = daml.assimilate(taught, seen, scheme)
    smoothed = daml.smooth(taught, seen, scheme, lag=20)
    assert tuple(smoothed.variable.values) == (*SHOWN, "hidden0", "hidden1")
    inside = slice(100, -20)
    ratios = (smoothed.spread / filtered.spread).isel(time=inside).mean("time")
    assert (ratios.sel(variable=SHOWN) < 0.75).all()
    assert (ratios < 0.98).all()
    errors = [
        np.sqrt(((made.analysis - truth.state)[inside] ** 2).mean())
        for made in (smoothed, filtered)
    ]
    assert float(errors[0]) < 0.75 * float(errors[1])


@pytest.mark.slow
@pytest.mark.statistical
def test_free_runs_stay_on_the_attractor(taught):
    """200 runs of 2,000 steps from the climate have the truth's means and deviations."""
    random = np.random.default_rng(0)
    x = taught.climate + taught.climate_spread * random.standard_normal((200, 5))
    memory, found = taught.start(x), []
    for step in range(2100):
        x, memory = taught.step(x, memory)
        if step >= 100:
            found.append(x)
    free = np.array(found)
    truth = daml.simulate(daml.CoupledLorenz63(), steps=100_000, spinup=2000, seed=7).state
    assert np.isfinite(free).all()
    own, true = free.std(axis=(0, 1))[:3], truth.std("time").values[:3]
    np.testing.assert_allclose(own, true, rtol=0.015)
    assert (np.abs(free.mean(axis=(0, 1))[:3] - truth.mean("time").values[:3]) < 0.05 * true).all()
