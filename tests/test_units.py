"""Units do not matter: with every variable rescaled and shifted, everything commutes."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml.running.climatology import scaled_climatology
from daml.training.held_out import HeldOut

NAMES = ("x0", "x1", "x2")


class Converted:
    """A model of states x in other units: x' = scale x + offset."""

    variables, dt = NAMES, 0.05

    def __init__(self, model, scale=1.0, offset=0.0):
        self.model, self.scale, self.offset = model, np.broadcast_to(scale, 3), offset
        # From here variables start that nobody observes.
        self.climate = np.array([0.0, 0.0, 23.0]) * self.scale + offset

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        moved, _ = self.model.step((x - self.offset) / self.scale, None)
        return moved * self.scale + self.offset, None


class Persistence:
    variables, dt = NAMES, 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x.copy(), None


class Damped(Persistence):
    def step(self, x, memory):
        return x * np.array([0.9, 0.7, 0.99]), None


class Constant(Persistence):
    """x2 never changes, and x0, x1 turn."""

    def step(self, x, memory):
        turn = np.array([[0.98, 0.2, 0.0], [-0.2, 0.98, 0.0], [0.0, 0.0, 1.0]])
        return x @ turn.T, None


def record(seen=NAMES, **more):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=1500, spinup=500, seed=1)
    return daml.observe(truth, variables=list(seen), seed=2, **more)


def converted(observations, scale, offset):
    """Give a record in other units."""
    scale, offset = np.broadcast_to(scale, 3), np.broadcast_to(offset, 3)
    place = [NAMES.index(v) for v in observations["variable"].values]
    return observations.assign(
        observation=observations.observation * scale[place] + offset[place],
        error_variance=observations.error_variance * scale[place] ** 2,
    )


SCALES = st.lists(st.floats(-9, 9).map(lambda p: 10.0**p), min_size=3, max_size=3)


@settings(max_examples=4)
@given(
    scale=SCALES,
    shift=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    model=st.sampled_from([daml.Lorenz63(), Persistence(), Damped(), Constant()]),
    seen=st.sampled_from([NAMES, ("x0", "x2"), ("x1",)]),
    missing=st.sampled_from([0.0, 0.3]),
)
def test_b_and_analyses_commute_with_units(scale, shift, model, seen, missing):
    scale = np.array(scale)
    offset = np.array(shift) * scale
    plain = record(seen, missing=missing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "tuned: ")  # persistence is worse than climatology
        one, first = daml.tuned(daml.ThreeDVar(), Converted(model), plain)
        two, second = daml.tuned(
            daml.ThreeDVar(), Converted(model, scale, offset), converted(plain, scale, offset)
        )
    back = two.background_covariance.values / np.outer(scale, scale)
    # What is neither observed nor varies has next to no variance in any unit.
    deviation = np.sqrt(one.background_covariance.values.diagonal()) + 1e-40
    rounding = 1e-6 * np.outer(deviation, deviation)
    assert (np.abs(back - one.background_covariance.values) < rounding).all()
    again = (second.analysis.values - offset) / scale
    np.testing.assert_allclose(again, first.analysis.values, rtol=1e-5, atol=1e-5)


def test_an_offset_of_ten_million_and_a_scale_of_a_billionth_lose_nothing():
    plain, scale, offset = record(), np.array([1e-9, 1.0, 1e9]), np.array([0.0, 1e7, 0.0])
    _, first = daml.tuned(daml.ThreeDVar(), Converted(daml.Lorenz63()), plain)
    model = Converted(daml.Lorenz63(), scale, offset)
    _, second = daml.tuned(daml.ThreeDVar(), model, converted(plain, scale, offset))
    again = (second.analysis.values - offset) / scale
    np.testing.assert_allclose(again, first.analysis.values, atol=1e-4)


@pytest.mark.parametrize("training", ["analyses", "cycle"])
def test_a_training_is_the_same_bit_for_bit_in_units_of_powers_of_two(training):
    scale, plain = 2.0 ** np.array([-30, 3, 25]), record()
    found = []
    for units in (np.ones(3), scale):
        model = Converted(daml.Lorenz63(), units)
        covariance = "predicted" if training == "cycle" else None
        emulator = daml.LSTM(base=model, hidden=4, epochs=2, cycle_epochs=2, covariance=covariance)
        tree = daml.improve(
            model, converted(plain, units, 0.0), emulator=emulator, passes=1, training=training
        )
        found.append(tree["iteration/0000"].analysis.values / units)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("training", ["analyses", "cycle"])
def test_a_training_is_as_good_at_an_offset_of_ten_million(training):
    offset, plain, found = np.array([0.0, 1e7, 0.0]), record(), []
    for shift in (np.zeros(3), offset):
        model = Converted(daml.Lorenz63(), np.array([1.0, 1.0, 1e-9]), shift)
        covariance = "predicted" if training == "cycle" else None
        emulator = daml.LSTM(base=model, hidden=4, epochs=2, cycle_epochs=2, covariance=covariance)
        seen = converted(plain, np.array([1.0, 1.0, 1e-9]), shift)
        tree = daml.improve(model, seen, emulator=emulator, passes=1, training=training)
        found.append(tree["iteration/0000/scores"].held_out_rmse.values)
    np.testing.assert_allclose(*found, rtol=0.02)


@pytest.mark.parametrize("model", [Persistence(), Damped(), Constant()])
def test_models_that_stand_still_have_the_climatology_of_the_record(model):
    seen = record()
    climate = scaled_climatology(model, seen).values
    assert (
        np.linalg.eigvalsh(climate / np.sqrt(np.outer(np.diag(climate), np.diag(climate))))[0] > 0
    )
    assert climate.max() == pytest.approx(2.0)  # twice the error variance
    ratio = np.diag(climate) / seen.observation.var("time").values
    assert ratio.max() < 1.5 * ratio.min()  # the variances of the record


def test_two_sensors_of_one_quantity_are_one_sensor_of_half_the_variance():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=1500, spinup=500, seed=1)
    noise = np.random.default_rng(3).normal(0, 2**0.5, (1500, 4))
    values = truth.state.values[:, [0, 0, 1, 1]] + noise
    names = ["x0a", "x0b", "x1a", "x1b"]
    two = xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", np.full(4, 2.0)),
            "operator": (("variable", "model_variable"), np.eye(3)[[0, 0, 1, 1]]),
        },
        coords={"time": truth.time, "variable": names, "model_variable": list(NAMES)},
    )
    one = xr.Dataset(
        {
            "observation": (("time", "variable"), values.reshape(-1, 2, 2).mean(axis=2)),
            "error_variance": ("variable", np.ones(2)),
        },
        coords={"time": truth.time, "variable": ["x0", "x1"]},
    )
    found = [daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen) for seen in (one, two)]
    covariances = [scheme.background_covariance for scheme, _ in found]
    xr.testing.assert_allclose(*covariances, rtol=1e-6)
    np.testing.assert_allclose(*(analysis.analysis for _, analysis in found), atol=1e-6)


@pytest.mark.parametrize("filler", [2.0, 100.0, 1e-6, np.inf])
def test_the_error_of_a_missing_value_does_not_matter(filler):
    seen = record(missing=0.3)
    gone = seen.observation.isnull()
    timed = seen.assign(error_variance=xr.where(gone, filler, 1.0).transpose("time", "variable"))
    plain = seen.assign(error_variance=xr.where(gone, 1.0, 1.0).transpose("time", "variable"))
    one, two = (daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), o)[0] for o in (plain, timed))
    xr.testing.assert_allclose(one.background_covariance, two.background_covariance)


def test_sensors_that_are_never_observed_together():
    seen = record()
    even = xr.DataArray(np.arange(1500) % 2 == 0, dims="time")
    first = xr.DataArray([True, False, False], dims="variable")
    apart = seen.assign(observation=seen.observation.where(even == first))
    scheme, analysis = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), apart)
    assert np.linalg.eigvalsh(scheme.background_covariance)[0] > 0
    assert np.isfinite(analysis.analysis).all()


def test_a_variable_that_is_never_observed_needs_no_variance():
    seen = record()
    gone = seen.observation.where(seen["variable"] != "x1")
    scheme, _ = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen.assign(observation=gone))
    dropped, _ = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen.sel(variable=["x0", "x2"]))
    xr.testing.assert_allclose(scheme.background_covariance, dropped.background_covariance)


def test_few_innovations_of_many_variables_give_a_usable_b():
    """Without shrinkage, the smallest eigenvalues of B from few innovations lie at the floor."""
    truth = daml.simulate(daml.Lorenz63(), steps=20_000, spinup=500)
    seen = daml.observe(truth, seed=1)
    rows = HeldOut(20_000, 0.1).judged
    whole, _ = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(rho=27.0), seen)
    part, _ = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(rho=27.0), seen, rows=rows)
    np.testing.assert_allclose(part.background_covariance, whole.background_covariance, atol=0.2)
