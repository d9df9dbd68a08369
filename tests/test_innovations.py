"""Covariances from innovations: found where they are known, positive definite wherever."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml.covariance import labelled
from daml.errors import InputError
from daml.innovations import desroziers, from_innovations
from daml.schemes.estimation import lagged

NAMES = ["u", "v", "w"]
B = np.array([[1.0, 0.4, 0.1], [0.4, 0.8, -0.2], [0.1, -0.2, 0.5]])
C = np.array([[9.0, 3.0, 1.0], [3.0, 6.0, -2.0], [1.0, -2.0, 4.0]])


def drawn(steps, observed, missing=0.0, background=B, seed=0):
    """Give an analysis whose background errs by B, and its observations, of error variance 1."""
    random = np.random.default_rng(seed)
    error = random.multivariate_normal(np.zeros(3), background, steps)
    columns = [NAMES.index(name) for name in observed]
    innovation = random.standard_normal((steps, len(observed))) - error[:, columns]
    innovation[random.random(innovation.shape) < missing] = np.nan
    coords = {"time": np.arange(steps) * 1.0, "observed": observed, "variable": NAMES}
    analysis = xr.Dataset(
        {
            "innovation": (("time", "observed"), innovation),
            "background": (("time", "variable"), error),
        },
        coords=coords,
    )
    observations = xr.Dataset(
        {
            "observation": (("time", "variable"), innovation),
            "error_variance": ("variable", np.ones(len(observed))),
        },
        coords={"time": coords["time"], "variable": observed},
    )
    return analysis, observations


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("chunks", [None, {"time": 777}])
def test_a_known_covariance_is_found(missing, chunks):
    analysis, observations = drawn(60_000, NAMES, missing)
    analysis = analysis if chunks is None else analysis.chunk(chunks)
    found = from_innovations(analysis, observations, labelled(C, NAMES))
    np.testing.assert_allclose(found, B, atol=0.05)


def test_what_is_not_observed_follows_by_regression():
    analysis, observations = drawn(60_000, ["u", "v"])
    found = from_innovations(analysis, observations, labelled(C, NAMES))
    np.testing.assert_allclose(found[:2, :2], B[:2, :2], atol=0.05)
    # By hand: of w the climatology says its regression on u and v, and what is left of it.
    regression = np.linalg.solve(C[:2, :2], C[:2, 2])
    np.testing.assert_allclose(found[:2, 2], found.values[:2, :2] @ regression, rtol=1e-9)
    scale = np.trace(np.linalg.solve(C[:2, :2], found.values[:2, :2])) / 2
    left = found.values[2, 2] - regression @ found.values[:2, :2] @ regression
    np.testing.assert_allclose(left, scale * (C[2, 2] - C[2, :2] @ regression), rtol=1e-9)


def test_a_climatology_that_is_right_but_for_its_size_gives_b_back():
    analysis, observations = drawn(200_000, ["u"])
    found = from_innovations(analysis, observations, labelled(10 * B, NAMES))
    np.testing.assert_allclose(found, B, atol=0.03)


@settings(max_examples=60)
@given(
    steps=st.integers(12, 60),
    missing=st.floats(0.0, 0.4),
    size=st.floats(0.0, 3.0),
    observed=st.sampled_from([["u"], ["w", "u"], NAMES]),
    seed=st.integers(0, 1000),
)
def test_an_estimate_is_positive_definite_whatever_the_record(steps, missing, size, observed, seed):
    analysis, observations = drawn(steps, observed, missing, size * B, seed)
    pairs = analysis.innovation.notnull().values.astype(int)
    if (pairs.T @ pairs).diagonal().min() < 2 * len(observed) + 2:
        with pytest.raises(InputError, match="too few"):
            from_innovations(analysis, observations, labelled(C, NAMES))
        return
    found = from_innovations(analysis, observations, labelled(C, NAMES))
    assert np.linalg.eigvalsh(found)[0] > 0
    np.testing.assert_array_equal(found, found.T)
    seen = found.sel(variable=observed, covariable=observed)
    assert np.linalg.eigvalsh(seen)[0] > 0.0099


def test_an_r_that_the_innovations_contradict_is_told():
    analysis, observations = drawn(20_000, NAMES)
    from_innovations(analysis, observations, labelled(C, NAMES), 1.6)  # B + R is 1.77 in the mean
    with pytest.warns(UserWarning, match=r"0\.89 times R.* too large.*error_factor='estimated'"):
        from_innovations(analysis, observations, labelled(C, NAMES), 2.0)


def test_a_further_observation_of_the_same_is_no_harm():
    analysis, observations = drawn(20_000, ["u", "v"])
    analysis = analysis.assign_coords(observed=["low", "high"])
    rows = xr.DataArray(
        [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]],
        dims=("variable", "model_variable"),
        coords={"variable": ["low", "high"], "model_variable": NAMES},
    )
    observations = observations.assign_coords(variable=["low", "high"]).assign(operator=rows)
    found = from_innovations(analysis, observations, labelled(C, NAMES))
    assert np.linalg.eigvalsh(found)[0] > 0


def test_desroziers_confirms_the_covariances_that_made_the_analyses():
    analysis, observations = drawn(100_000, NAMES, 0.2)
    made = daml.ThreeDVar(labelled(B, NAMES)).analyse(
        analysis[["background"]], observations.assign(observation=observations.observation)
    )
    whole = analysis.background.values + analysis.innovation.values
    seen = observations.assign(observation=(("time", "variable"), whole))
    made = daml.ThreeDVar(labelled(B, NAMES)).analyse(analysis[["background"]], seen)
    found = desroziers(made)
    np.testing.assert_allclose(found.error_covariance, np.eye(3), atol=0.03)
    np.testing.assert_allclose(found.background_covariance, B, atol=0.04)
    double = daml.ThreeDVar(labelled(2 * B + np.eye(3), NAMES)).analyse(
        analysis[["background"]], seen
    )
    assert float(np.trace(desroziers(double).error_covariance)) < 2.5


def test_observations_in_another_order_are_refused():
    truth = daml.simulate(daml.Lorenz63(), steps=300, spinup=300)
    seen, climate = daml.observe(truth), daml.climatological(truth, max_variance=2)
    analysis = daml.assimilate(daml.Lorenz63(), seen, daml.ThreeDVar(climate))
    with pytest.raises(InputError, match=r"the innovations of .*'x0', 'x1', 'x2'.*those that were"):
        from_innovations(analysis, seen.isel(variable=[2, 0, 1]), climate)


def test_a_bias_is_no_correlation_in_time():
    noise = np.random.default_rng(0).normal(size=(4000, 2))
    for values in (noise, noise + 3, np.ones((4000, 2))):
        found = lagged(xr.DataArray(values, dims=("time", "observed")))
        assert abs(found) < 0.05
