"""Gross errors are left out in the cycle, and innovations of angles go the short way round."""

import warnings

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import InputError

STEPS, YOUNG = 400, 80


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.Lorenz63(), steps=STEPS, spinup=300, seed=5)


@pytest.fixture(scope="module")
def record(truth):
    return daml.observe(truth, error_variance=1.0, seed=6)


@pytest.fixture(scope="module")
def covariance():
    return daml.climatological(daml.simulate(daml.Lorenz63(), steps=400), max_variance=2)


def spoilt(record, seed=7, share=0.01, size=60.0):
    """Give a record with gross errors, and where they are."""
    wrong = np.random.default_rng(seed).random(record.observation.shape) < share
    wrong[:YOUNG] = False
    where = record.observation.copy(data=wrong)
    return record.assign(observation=record.observation + size * where), where


def unwarned(model, record, scheme):
    """Give an analysis of a filter that may be lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return daml.assimilate(model, record, scheme, segments=1)


def rmse(analysis, truth):
    return float(np.sqrt(((analysis.analysis - truth.state)[YOUNG:] ** 2).mean()))


SCHEMES = {
    "ThreeDVar": daml.ThreeDVar,
    "by conjugate gradients": lambda b: daml.ThreeDVar(b, method="cg"),
    "ETKF": lambda _: daml.schemes.ETKF(10, inflation=1.1),
    "EnKF": lambda _: daml.schemes.EnKF(30, inflation=1.05),
    "IEnKS": lambda _: daml.schemes.IEnKS(10, window=3, shift=1, inflation=1.1),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_gross_errors_are_left_out_and_shown(name, record, truth, covariance):
    scheme = SCHEMES[name](covariance)
    seen, where = spoilt(record)
    clean = rmse(daml.assimilate(daml.Lorenz63(), record, scheme, segments=1), truth)
    found = daml.assimilate(
        daml.Lorenz63(), seen.assign_coords(gross_error=6.0), scheme, segments=1
    )
    assert rmse(found, truth) < 1.2 * clean
    assert rmse(unwarned(daml.Lorenz63(), seen, scheme), truth) > 1.5 * clean
    rejected = found.rejected.values == 1
    assert rejected[where.values].all()
    assert rejected[~where.values].mean() < 0.01
    assert found.attrs["gross_errors"] == rejected.sum()
    missing = seen.assign(observation=seen.observation.where(~rejected))
    alone = daml.assimilate(daml.Lorenz63(), missing, scheme, segments=1)
    np.testing.assert_allclose(alone.analysis, found.analysis, atol=1e-6)


def test_a_record_without_gross_errors_keeps_its_values(record, covariance):
    scheme = daml.ThreeDVar(covariance)
    found = daml.assimilate(daml.Lorenz63(), record.assign_coords(gross_error=20.0), scheme)
    without = daml.assimilate(daml.Lorenz63(), record, scheme)
    assert not found.rejected.any()
    np.testing.assert_array_equal(found.analysis, without.analysis)


def test_each_variable_may_have_its_own_limit(record, covariance):
    seen, where = spoilt(record)
    limits = ("variable", [6.0, np.inf, 6.0])
    found = daml.assimilate(
        daml.Lorenz63(), seen.assign_coords(gross_error=limits), daml.ThreeDVar(covariance)
    )
    assert (found.rejected.values[where.values].reshape(-1) == 1).any()
    assert not found.rejected.sel(observed="x1").any()


def test_too_many_gross_errors_name_r_and_b(record, covariance):
    small = record.assign(error_variance=1e-4 * record.error_variance)
    with pytest.raises(InputError, match=r"% of the values .* R \('error_variance'\) or B"):
        daml.assimilate(
            daml.Lorenz63(),
            small.assign_coords(gross_error=5.0),
            daml.ThreeDVar(1e-4 * covariance),
        )


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, "five"])
def test_a_limit_that_is_none_is_refused(limit, record, covariance):
    with pytest.raises(InputError, match=r"'gross_error' .*; give a number > 0"):
        daml.assimilate(
            daml.Lorenz63(), record.assign_coords(gross_error=limit), daml.ThreeDVar(covariance)
        )


def test_a_scheme_that_does_not_know_its_innovations_is_refused(record, covariance):
    scheme = daml.schemes.FourDVar(covariance, window=2)
    with pytest.raises(InputError, match=r"FourDVar: the record asks for a check"):
        daml.assimilate(daml.Lorenz63(), record.assign_coords(gross_error=5.0), scheme)


class Turning:
    """A direction in degrees that turns, and how fast it does."""

    variables, dt = ("direction", "rate"), 1.0
    climate, climate_spread = np.array([0.0, 7.0]), np.array([100.0, 3.0])

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return np.stack([x[..., 0] + x[..., 1], x[..., 1]], axis=-1), memory


@pytest.mark.parametrize(
    "scheme",
    [
        daml.schemes.ETKF(8, inflation=1.05),
        daml.schemes.ExtendedKalman(model_error=[1.0, 0.01]),
        daml.schemes.IEnKS(8, window=2, inflation=1.05),
    ],
)
def test_innovations_of_an_angle_go_the_short_way_round(scheme):
    truth = daml.simulate(
        Turning(), steps=200, initial=daml.simulate(Turning(), steps=1).isel(time=0)
    )
    seen = daml.observe(truth, variables=["direction"], error_variance=25.0, seed=3)
    wrapped = seen.assign(observation=seen.observation % 360)
    found = daml.assimilate(
        Turning(), wrapped.assign_coords(period=("variable", [360.0])), scheme, segments=1
    )
    assert float(abs(found.innovation).max()) <= 180
    error = (found.analysis - truth.state).sel(variable="direction")[50:]
    away = (error + 180) % 360 - 180
    assert float(np.sqrt((away**2).mean())) < 5
    without = unwarned(Turning(), wrapped, scheme)
    assert float(abs(without.innovation).max()) > 180


@pytest.mark.parametrize("period", [0.0, -360.0, "monthly"])
def test_an_attribute_that_is_no_period_is_refused(period, record, covariance):
    values = record.observation.assign_attrs(period=period)
    with pytest.raises(InputError, match=r"'period' is .*; give a number > 0"):
        daml.assimilate(
            daml.Lorenz63(), record.assign(observation=values), daml.ThreeDVar(covariance)
        )


@pytest.mark.parametrize("period", [0.0, -360.0, "round"])
def test_a_period_that_is_none_is_refused(period, record, covariance):
    with pytest.raises(InputError, match=r"'period' .*; give a number > 0"):
        daml.assimilate(
            daml.Lorenz63(), record.assign_coords(period=period), daml.ThreeDVar(covariance)
        )


def angles(values, **more):
    data = {"observation": (("time", "variable"), np.array(values)[:, None]), **more}
    record = xr.Dataset(data, {"time": np.arange(len(values)) * 1.0, "variable": ["a"]})
    return record.assign(error_variance=("variable", [1.0])).assign_coords(period=360.0)


def test_angles_are_analysed_the_short_way_round():
    background = angles([1.0, 2.0, 3.0]).rename(observation="state")[["state"]]
    B = daml.covariance.labelled(np.eye(1), ("a",))
    found = daml.ThreeDVar(B).analyse(background, angles([359.0, 358.0, 4.0]))
    np.testing.assert_allclose(found.innovation[:, 0], [-2, -4, 1])
    np.testing.assert_allclose(found.analysis[:, 0], [0, 0, 3.5])
    with pytest.raises(InputError, match=r"'gross_error' is checked by .*; leave it out"):
        daml.ThreeDVar(B).analyse(background, angles([0.0]).assign_coords(gross_error=3.0))


def test_angles_on_one_step_are_averaged_the_short_way_round():
    record = angles([359.0, 1.0, 10.0]).assign_coords(time=[0.0, 0.1, 1.0])
    record = record.reset_coords("period").assign(gross_error=5.0)
    found = daml.on_steps(record, type("Own", (Turning,), {"variables": ("a",)})())
    np.testing.assert_allclose(found.observation[:, 0], [360, 10])
    assert (float(found.period), float(found.gross_error)) == (360, 5)


def test_angles_are_scored_the_short_way_round():
    random = np.random.default_rng(0).normal(size=(3, 50, 1))
    members = (("time", "member", "variable"), 0.5 + random)
    made = xr.Dataset({"background_members": members}, {"time": np.arange(3.0), "variable": ["a"]})
    score = daml.verification.probabilistic.crps
    np.testing.assert_allclose(
        score(made, angles([359.0, 1.0, 721.0])), score(made, angles([-1.0, 1.0, 1.0]))
    )


def test_an_angle_that_members_give_by_a_function_is_refused():
    seen = angles([10.0] * 20)

    def direction(x):
        return np.rad2deg(np.arctan2(x[..., 1:2], x[..., :1]))

    model = type("Own", (Turning,), {"variables": ("u", "v")})()
    with pytest.raises(InputError, match="has a 'period', and 'operator' is not linear"):
        daml.assimilate(model, seen, daml.schemes.ETKF(5), operator=direction)


def test_the_error_of_the_model_is_in_the_size_of_innovations():
    """Of 3,000 values without gross errors none is 5 standard deviations away."""
    alone = {"variables": ("a",), "climate": np.zeros(1), "climate_spread": np.full(1, 7.0)}
    slow = type("Own", (Turning,), alone | {"step": lambda _, x, memory: (0.99 * x, memory)})()
    model = daml.models.Stochastic(slow, model_error=1.0, seed=0)
    seen = daml.observe(daml.simulate(model, steps=3000, seed=1), error_variance=0.1, seed=2)
    scheme = daml.schemes.SigmaPoint(model_error=1.0)
    found = daml.assimilate(slow, seen.assign_coords(gross_error=5.0), scheme)
    assert found.attrs["gross_errors"] == 0
