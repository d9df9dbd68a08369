"""The particle filter: its weights, its draws, its kernel, and where it is the wrong tool."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import multivariate_normal

import daml
from daml.errors import DivergedError, InputError
from daml.observing.records import read
from daml.protocols import Forecast, Run
from daml.schemes import ParticleFilter
from daml.schemes.particle_filter import _counts

NAMES = ("x0", "x1", "x2")
ERROR = np.array([[0.5, 0.2], [0.2, 0.8]])


def record(values, correlated=False):
    """Give observations (time, 2) of x0 and of x2."""
    steps = np.arange(len(values)) * 1.0
    seen = xr.Dataset(
        {"observation": (("time", "variable"), np.array(values, dtype=float))},
        {"time": steps, "variable": ["x0", "x2"]},
    )
    if correlated:
        seen = seen.assign_coords(covariable=["x0", "x2"])
        return seen.assign(error_covariance=(("variable", "covariable"), ERROR))
    return seen.assign(error_variance=("variable", np.diag(ERROR)))


def members(count, rows=1, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, count, 3))


def updated(scheme, seen, x, memory=None, step=0):
    """Give the update of members (row, member, variable) by the observations of a step."""
    found = read(seen, NAMES, 1.0)
    memory = scheme.prepare(found.setting()) if memory is None else memory
    steps = np.full(len(x), step)
    run = Run(steps + 100 * np.arange(len(x)), np.arange(len(x)), step, frozenset(scheme.outputs))
    return scheme.update(Forecast(x), found.seen(steps), run, memory)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("values", [[0.5, -1.0], [np.nan, 2.0], [np.nan, np.nan]])
def test_members_are_weighed_by_their_likelihood(values, correlated):
    x, there = members(7), np.isfinite(values)
    seen = record([values, [1.0, 1.0]], correlated)
    update, memory = updated(ParticleFilter(7, resample_below=0.01), seen, x)
    error = (ERROR if correlated else np.diag(np.diag(ERROR)))[np.ix_(there, there)]
    given = np.array(values)[there]
    likelihood = np.ones(7)
    if there.any():
        law = multivariate_normal(np.zeros(there.sum()), error)
        likelihood = law.pdf((given - x[0][:, [0, 2]][:, there]).reshape(7, -1))
    weights = likelihood / likelihood.sum()
    np.testing.assert_allclose(memory.weights[0], weights, rtol=1e-10)
    mean = weights @ x[0]
    variance = weights @ (x[0] - mean) ** 2 / (1 - weights @ weights)
    np.testing.assert_allclose(update.moments["analysis"][0], mean, rtol=1e-10)
    np.testing.assert_allclose(update.moments["spread"][0], np.sqrt(variance), rtol=1e-10)
    np.testing.assert_allclose(update.moments["background"][0], x[0].mean(axis=0), rtol=1e-10)
    wide = x[0].std(axis=0, ddof=1)
    np.testing.assert_allclose(update.moments["background_spread"][0], wide, rtol=1e-10)
    assert update.extras["effective_size"][0] == pytest.approx(1 / (weights @ weights))
    constant = there.sum() * np.log(2 * np.pi) / 2
    expected = np.log(likelihood.mean()) + constant
    assert update.extras["log_likelihood"][0] == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(update.state, x)  # too many have a weight to draw anew
    if there.any():
        shown = x[0][:, [0, 2]][:, there]
        gap = given - shown.mean(axis=0)
        chi = gap @ np.linalg.solve(np.cov(shown.T).reshape(error.shape) + error, gap)
        assert update.extras["chi_square"][0] == pytest.approx(chi / there.sum())
    else:
        assert np.isnan(update.extras["chi_square"][0])


def test_weights_of_several_times_are_multiplied():
    scheme, x = ParticleFilter(9, resample_below=0.01), members(9)
    seen = record([[0.1, 0.2], [-0.3, 0.4], [0.0, 1.0]])
    memory, logs = None, np.zeros(9)
    for step, values in enumerate(seen.observation.values):
        update, memory = updated(scheme, seen, x, memory, step)
        logs -= ((values - x[0][:, [0, 2]]) ** 2 / np.diag(ERROR)).sum(axis=1) / 2
        assert update.state is x
    weights = np.exp(logs) / np.exp(logs).sum()
    np.testing.assert_allclose(memory.weights[0], weights, rtol=1e-10)
    np.testing.assert_allclose(update.moments["analysis"][0], weights @ x[0], rtol=1e-10)


def test_each_member_is_drawn_as_often_as_its_weight_says():
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.full(13, 0.2), size=200)
    weights[0] = 1 / 13
    counts = _counts(weights, random.random(200))
    assert (counts.sum(axis=1) == 13).all()
    assert (np.abs(counts - 13 * weights) < 1 + 1e-9).all()
    assert (counts[0] == 1).all()
    many = _counts(np.repeat(weights[5:6], 4000, axis=0), random.random(4000))
    np.testing.assert_allclose(many.mean(axis=0), 13 * weights[5], atol=0.04)


@pytest.mark.parametrize("factor", [0.0, 0.8])
def test_what_is_drawn_more_than_once_is_spread_by_the_kernel(factor):
    count = 4000
    x = members(count) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 2.0]])
    scheme = ParticleFilter(count, resample_below=1.0, regularisation=factor)
    update, memory = updated(scheme, record([[1.0, -1.0], [0.0, 0.0]]), x)
    assert (memory.weights == 1 / count).all()
    weights = np.exp(-((np.array([1.0, -1.0]) - x[0][:, [0, 2]]) ** 2 / np.diag(ERROR)).sum(1) / 2)
    weights /= weights.sum()
    index = np.repeat(np.arange(count), _counts(weights[None], np.array([0.5]))[0])
    covariance = np.cov(x[0].T, aweights=weights)
    same = (update.state[0][:, None, :1] == x[0][None, :, :1]).any(axis=(1, 2))
    repeated = np.mean(np.isin(index, index[1:][np.diff(index) == 0]))
    assert same.mean() == pytest.approx(1 if factor == 0 else 1 - repeated, abs=0.02)
    width = factor * count ** (-1 / 7)
    expected = covariance * (1 + width**2 * repeated)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(np.cov(update.state[0].T) / scale, expected / scale, atol=0.06)
    np.testing.assert_allclose(update.state[0].mean(axis=0), weights @ x[0], atol=0.05)


def test_of_few_members_and_many_variables_the_kernel_is_the_same():
    x, scheme = members(4), ParticleFilter(4, regularisation=1.0)
    wide = np.concatenate([x, x, x], axis=-1)[0]
    weights = np.array([[0.7, 0.1, 0.1, 0.1]])
    drawn = [
        scheme._kernel(part[None], weights, np.array([step]), np.arange(part.shape[1]))[0]
        for step in range(3000)
        for part in (x[0], wide)
    ]
    one, two = np.concatenate(drawn[::2]), np.concatenate(drawn[1::2])
    factor = (4 ** (-1 / 7) / 4 ** (-1 / 13)) ** 2
    np.testing.assert_allclose(np.cov(one.T), factor * np.cov(two.T)[:3, :3], rtol=0.1, atol=0.05)


def test_a_lone_member_is_spread_by_the_covariance_of_all():
    x = members(300)
    far = record([[4e3, 4e3], [0.0, 0.0]])
    update, _ = updated(ParticleFilter(300), far, x)
    assert update.extras["effective_size"][0] == 1
    assert (update.moments["spread"] == 0).all()
    spread = update.state[0].std(axis=0) / x[0].std(axis=0)
    np.testing.assert_allclose(spread, 300 ** (-1 / 7), rtol=0.2)


def test_many_members_are_the_kalman_filter():
    x, seen = members(200_000), record([[0.6, -0.4], [0.0, 0.0]], correlated=True)
    update, _ = updated(ParticleFilter(200_000), seen, x)
    H = np.eye(3)[[0, 2]]
    gain = H.T @ np.linalg.inv(H @ H.T + ERROR)
    mean = gain @ np.array([0.6, -0.4])
    np.testing.assert_allclose(update.moments["analysis"][0], mean, atol=0.015)
    spread = np.sqrt(np.diag(np.eye(3) - gain @ H))
    np.testing.assert_allclose(update.moments["spread"][0], spread, atol=0.015)


def test_draws_follow_from_seed_and_step():
    x, seen = np.tile(members(50), (2, 1, 1)), record([[1.5, -1.0], [0.0, 0.0]])
    scheme = ParticleFilter(50, resample_below=1.0)
    both, alone = updated(scheme, seen, x)[0], updated(scheme, seen, x[:1])[0]
    np.testing.assert_array_equal(both.state[0], alone.state[0])
    assert (both.state[0] != both.state[1]).any()  # another step
    other = updated(ParticleFilter(50, resample_below=1.0, seed=1), seen, x)[0]
    assert (both.state[0] != other.state[0]).any()


def test_where_it_is_the_wrong_tool_it_says_so():
    model = daml.models.Lorenz96(n=40)
    seen = daml.observe(daml.simulate(model, steps=150, spinup=200, seed=1), seed=2)
    text = r"ParticleFilter has lost the observations.*give it many more members.*LETKF with many"
    with pytest.raises(DivergedError, match=text):
        daml.assimilate(model, seen, ParticleFilter(200), segments=1)


def test_members_with_weights_are_not_kept_as_if_they_counted_alike():
    model = daml.Lorenz63()
    seen = daml.observe(daml.simulate(model, steps=50, spinup=200, seed=1), seed=2)
    with pytest.raises(InputError, match="the members of ParticleFilter have different weights"):
        daml.assimilate(model, seen, ParticleFilter(50), keep_members=True)


def test_an_analysis_says_how_many_members_count():
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=200, spinup=200, seed=1)
    found = daml.assimilate(model, daml.observe(truth, seed=2), ParticleFilter(200), segments=1)
    assert found.effective_size.dims == ("time",)
    assert 40 < float(found.effective_size.mean()) < 180
    assert float(np.sqrt(((found.analysis - truth.state)[50:] ** 2).mean())) < 0.4
    np.testing.assert_allclose(found.innovation, seen_less(found, model, truth), atol=1e-12)


def seen_less(found, model, truth):
    return daml.observe(truth, seed=2).observation.values - found.background.values


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"members": 1}, "'members' is 1; give 2 or more"),
        ({"members": 9, "resample_below": 0.0}, "'resample_below' is 0.0; give a fraction"),
        ({"members": 9, "resample_below": 1.2}, "'resample_below' is 1.2; give a fraction"),
        ({"members": 9, "regularisation": -1.0}, "'regularisation' is -1.0; give 0 or more"),
        ({"members": 9, "regularisation": np.inf}, "'regularisation' is inf; give 0 or more"),
        ({"members": 9, "seed": -1}, "'seed' is -1; give 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(InputError, match=f"ParticleFilter: {text}"):
        ParticleFilter(**settings)


def test_no_gradient_passes():
    found = read(record([[0.0, 0.0], [1.0, 1.0]]), NAMES, 1.0)
    scheme, setting = ParticleFilter(5), found.setting("cpu")
    x = torch.as_tensor(members(5)).requires_grad_()
    with pytest.raises(InputError, match="no gradient passes through the choice of members"):
        scheme.update(Forecast(x), None, None, scheme.prepare(setting))
