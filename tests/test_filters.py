"""Filters of a linear model with Gaussian errors: all are the Kalman filter."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import minimize_scalar

import daml
from daml.covariances.model_error import error_root
from daml.errors import InputError
from daml.observing.records import read
from daml.protocols import Run
from daml.running.cycling.cycle import cycle
from daml.running.cycling.widening import widened
from daml.running.lost import flags as lost_flags

NAMES, STEPS = ("x0", "x1", "x2"), 25
MATRIX = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.1, 0.0, 0.95]])
FIRST = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])
ERROR = np.array([[0.5, 0.2], [0.2, 0.8]])
START = np.array([1.0, -1.0, 0.5])


@dataclass(frozen=True)
class Linear:
    """x -> M x."""

    variables, dt = NAMES, 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ MATRIX.T, memory


def record(correlated):
    """Give observations of x0 and of 2 x1 - x2, a fifth of them missing."""
    random = np.random.default_rng(0)
    values = random.standard_normal((STEPS, 2)) * 2
    values[random.random(values.shape) < 0.2] = np.nan
    values[7] = np.nan
    values[STEPS - 1, 0] = 1.0
    seen = xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "operator": (("variable", "model_variable"), [[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]]),
        },
        {"time": np.arange(STEPS) * 1.0, "variable": ["a", "b"], "model_variable": list(NAMES)},
    )
    if correlated:
        seen = seen.assign_coords(covariable=["a", "b"])
        return seen.assign(error_covariance=(("variable", "covariable"), ERROR))
    return seen.assign(error_variance=("variable", np.diag(ERROR)))


def kalman(seen, correlated, inflation=1.0, model_error=0.0, first=FIRST):
    """Give mean and covariance of each analysis, chi-square and log-likelihood: the textbook's."""
    mean, covariance, found = START, first, []
    R = ERROR if correlated else np.diag(np.diag(ERROR))
    for row in seen.observation.values:
        there = np.isfinite(row)
        H, part = seen.operator.values[there], R[np.ix_(there, there)]
        expected = H @ covariance @ H.T + part
        gap, gain = row[there] - H @ mean, covariance @ H.T @ np.linalg.inv(expected)
        mean = mean + gain @ gap
        covariance = (np.eye(3) - gain @ H) @ covariance * inflation**2
        square = gap @ np.linalg.inv(expected) @ gap
        likelihood = -(square + np.linalg.slogdet(expected)[1]) / 2
        chi = square / there.sum() if there.any() else np.nan
        found.append((mean, covariance, chi, likelihood))
        mean, covariance = MATRIX @ mean, MATRIX @ covariance @ MATRIX.T + model_error
    return [np.array(part) for part in zip(*found, strict=True)]


def exact(members):
    """Give an ensemble (1, member, variable) whose mean and covariance are those of the start."""
    drawn = np.random.default_rng(1).standard_normal((members, 3))
    drawn -= drawn.mean(axis=0)
    drawn = np.linalg.qr(drawn)[0] * (members - 1) ** 0.5
    return (START + drawn @ np.linalg.cholesky(FIRST).T)[None]


def filtered(scheme, seen, steps=None):
    """Give the same of a scheme's ensembles, old enough that no start-up inflation acts."""
    found = read(seen, NAMES, 1.0)
    steps = np.arange(steps or seen.sizes["time"])[:, None]
    at = [
        (found.seen(step), Run(step, np.zeros(1, int), 1000 + age, frozenset(scheme.outputs)))
        for age, step in enumerate(steps)
    ]
    pairs = cycle(
        Linear(), scheme, scheme.prepare(found.setting()), exact(scheme.members), None, at
    )
    updates = [update for _, update in pairs]
    states = np.array([update.state[0] for update in updates])
    extras = [np.array([u.extras[n][0] for u in updates]) for n in ("chi_square", "log_likelihood")]
    covariances = np.array([np.cov(state.T) for state in states])
    return states.mean(axis=1), covariances, *extras


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("name", ["ETKF", "SerialEnSRF"])
def test_an_ensemble_with_the_exact_moments_is_the_kalman_filter(name, rotate, correlated):
    seen = record(correlated)
    scheme = getattr(daml.schemes, name)(members=8, rotate=rotate)
    for own, expected in zip(filtered(scheme, seen), kalman(seen, correlated), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["ETKF", "SerialEnSRF"])
@pytest.mark.parametrize("error", [0.3 * np.eye(3), FIRST / 4])
def test_a_model_error_that_is_not_drawn_is_that_of_the_kalman_filter(name, error):
    seen = record(True)
    scheme = getattr(daml.schemes, name)(members=8, model_error=error, drawn=False)
    right = kalman(seen, True, model_error=error)
    for own, expected in zip(filtered(scheme, seen), right, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("members", "size"), [(4, 6), (9, 4)])
def test_members_are_widened_where_they_have_spread_and_with_a_gradient(members, size):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, members, size)) + 3
    factor = random.standard_normal((size, size))
    root = error_root(factor @ factor.T)
    found, tensors = widened(x, root), torch.tensor(x, requires_grad=True)
    for before, after in zip(x, found, strict=True):
        directions = np.linalg.svd(before - before.mean(axis=0))[2][: members - 1]
        shadow = directions.T @ directions @ root
        np.testing.assert_allclose(np.cov(after.T), np.cov(before.T) + shadow @ shadow.T)
        np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0))
        moves = np.linalg.lstsq((before - before.mean(axis=0)).T, (after - before).T)[0]
        np.testing.assert_allclose(moves, moves.T, atol=1e-9)  # the nearest of all such roots
    by_torch = widened(tensors, torch.tensor(root))
    np.testing.assert_allclose(by_torch.detach(), found, rtol=1e-9)
    one = tensors[:1].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: widened(given, torch.tensor(root)), one)
    x[0, 1, 2] = np.nan
    lost, sound = widened(x, root)
    assert np.isnan(lost).all()
    np.testing.assert_array_equal(sound, found[1])


def test_the_order_of_correlated_observations_changes_the_root_only():
    seen = record(True)
    turned = seen.isel(variable=[1, 0], covariable=[1, 0])
    both = (filtered(daml.schemes.SerialEnSRF(8), given) for given in (seen, turned))
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("correlated", [False, True])
def test_perturbed_observations_are_the_kalman_filter_within_their_sampling_error(correlated):
    seen, members = record(correlated), 10_000
    own, expected = filtered(daml.schemes.EnKF(members), seen), kalman(seen, correlated)
    apart = 5 / members**0.5
    for found, right in zip(own, expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=apart, atol=apart)


def test_half_a_gain_widens_what_is_seen_by_a_quarter_of_its_square():
    seen = record(True).isel(time=slice(0, 1))
    mean, covariance, chi, likelihood = (p[0] for p in kalman(seen, True))
    own = filtered(daml.schemes.DEnKF(8), seen, steps=1)
    there = np.isfinite(seen.observation.values[0])
    assert there.all()
    H = seen.operator.values
    pull = FIRST @ H.T @ np.linalg.inv(H @ FIRST @ H.T + ERROR) @ H
    right = mean, covariance + pull @ FIRST @ pull.T / 4, chi, likelihood
    for found, expected in zip(own, right, strict=True):
        np.testing.assert_allclose(found[0], expected, rtol=1e-10)


def cost(u, seen, members):
    """Give the cost of a factor u on the first background covariance, as published."""
    H, gap = seen.operator.values, seen.observation.values[0] - seen.operator.values @ START
    signal = np.linalg.solve(np.linalg.cholesky(ERROR), H @ np.linalg.cholesky(FIRST))
    eigenvalues = np.concatenate((np.linalg.eigvalsh(signal @ signal.T), np.zeros(members - 2)))
    e, c = (members + 1) / members, members / (members - 1)
    corrected = (e / c) ** (np.mean(1 / (1 + eigenvalues)) / 2)
    square = gap @ np.linalg.solve(u * H @ FIRST @ H.T + ERROR, gap)
    return square / (members - 1) + e / corrected / u + c * corrected * np.log(u)


@pytest.mark.parametrize("members", [5, 8, 30])
def test_a_finite_ensemble_inflates_by_the_factor_of_least_cost(members):
    seen = record(True).isel(time=slice(0, 1))
    seen = seen.assign(observation=seen.observation * 3)
    _, covariance, *_ = filtered(daml.schemes.EnKFN(members), seen, steps=1)
    least = minimize_scalar(cost, (0.5, 1.0), args=(seen, members), tol=1e-12).x
    assert least > 1.005
    wide = np.linalg.inv(least * FIRST)
    H = seen.operator.values
    right = np.linalg.inv(wide + H.T @ np.linalg.solve(ERROR, H))
    np.testing.assert_allclose(covariance[0], right, rtol=1e-6)


@pytest.mark.parametrize("correlated", [False, True])
def test_interpolation_is_an_analysis_of_the_mean_of_the_climate(correlated):
    seen = record(correlated)
    climate = xr.Dataset(
        {"mean": ("variable", START), "covariance": daml.covariance.labelled(FIRST, NAMES)}
    )
    scheme = daml.schemes.OptimalInterpolation(climate)
    found = daml.assimilate(Linear(), seen, scheme)
    for time in range(STEPS):
        right, _, chi, _ = (part[0] for part in kalman(seen.isel(time=[time]), correlated))
        if np.isnan(chi):  # nothing is observed: the forecast goes on
            right = MATRIX @ found.analysis.values[time - 1]
        np.testing.assert_allclose(found.analysis[time], right, rtol=1e-10)
        np.testing.assert_allclose(found.chi_square[time], chi, rtol=1e-10)
    assert found.chi_square.isnull().any()


def test_a_climatology_is_needed():
    seen = record(False)
    with pytest.raises(InputError, match="'climatology' is missing; give a run of the model"):
        daml.assimilate(Linear(), seen, daml.schemes.OptimalInterpolation())
    with pytest.raises(InputError, match="'climatology' has no 'covariance'; give a run"):
        daml.schemes.OptimalInterpolation(xr.Dataset({"mean": ("variable", START)}))


@pytest.mark.parametrize("name", ["ETKF", "EnKF", "DEnKF", "SerialEnSRF", "EnKFN"])
def test_nothing_is_inflated_where_nothing_is_observed(name):
    seen = record(False).isel(time=slice(7, None))  # its first row is empty
    scheme = getattr(daml.schemes, name)(8, inflation=2.0)
    mean, covariance, chi, likelihood = filtered(scheme, seen, steps=1)
    np.testing.assert_allclose(covariance[0], FIRST, rtol=1e-12)
    np.testing.assert_allclose(mean[0], START, rtol=1e-12)
    assert np.isnan(chi[0])
    assert likelihood[0] == pytest.approx(0, abs=1e-12)


def test_inflation_multiplies_the_anomalies_of_each_analysis():
    seen = record(False).isel(time=slice(0, 7))
    kept = seen.observation.notnull().any("variable").values
    assert kept.all()
    own = filtered(daml.schemes.ETKF(8, inflation=1.3), seen)
    for found, expected in zip(own, kalman(seen, False, inflation=1.3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_filter_that_loses_the_observations_ends_with_an_error():
    model = daml.models.Lorenz96()
    seen = daml.observe(daml.simulate(model, steps=600, spinup=200, seed=0), seed=100)
    with pytest.raises(daml.errors.DivergedError, match=r"ETKF has lost .* more members"):
        daml.assimilate(model, seen, daml.schemes.ETKF(5, rotate=True))


@pytest.mark.statistical
@pytest.mark.parametrize("segments", [1, None])
def test_where_a_filter_is_lost_for_a_while_it_says_so(segments):
    """The truth jumps, and members that hardly differ cannot follow."""
    model = daml.models.Lorenz96()
    parts = [daml.simulate(model, steps=n, spinup=200, seed=n) for n in (700, 200)]
    state = np.concatenate([part.state.values for part in parts])
    coords = {"time": np.arange(len(state)) * model.dt, "variable": list(model.variables)}
    truth = xr.Dataset({"state": (("time", "variable"), state)}, coords)
    scheme = daml.schemes.ETKF(24, inflation=1.03, rotate=True)
    with pytest.warns(UserWarning, match="ETKF has lost the observations in .* % of the record"):
        found = daml.assimilate(model, daml.observe(truth, seed=1), scheme, segments=segments)
    wrong = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable"))
    assert (found.lost[:600] == 0).all()
    assert (found.lost[700:] == 1).any()
    assert float(wrong.where(found.lost == 0).mean()) < 0.5 < float(wrong.mean())


@pytest.mark.parametrize(
    ("chi_square", "relative", "lost"),
    [(1.0, 0.2, 0), (9.0, 0.2, 0), (1.0, 2.0, 0), (9.0, 0.9, 1)],
)
def test_a_piece_is_lost_by_surprise_and_by_size(chi_square, relative, lost):
    found = np.empty((2, 20, 1))
    found[:, :10] = [[[1.0]], [[0.1]]]
    found[0, 10:], found[1, 10:] = chi_square, relative
    marked = lost_flags(found, np.array([0]), np.array([20]), 10)
    np.testing.assert_array_equal(marked, [[0] * 10 + [lost] * 10])


class Unlucky(daml.schemes.ETKF):
    """Segments 2 and 6 lose what they know at the end of a spin-up of 100 steps."""

    def update(self, forecast, observed, run, memory):
        state = forecast.state.copy()
        end = run.step == 100 * run.segment - 1
        unlucky = np.isin(run.segment, (2, 6)) & end & (run.age == 99)
        mean = state.mean(axis=-2, keepdims=True)
        state[unlucky] = (mean + 10 + 1e-6 * (state - mean))[unlucky]
        return super().update(forecast._replace(state=state), observed, run, memory)


@pytest.mark.statistical
@pytest.mark.parametrize("scheme", ["too wide", "wrong B"])
def test_an_analysis_that_is_worse_than_none_says_so(scheme):
    """An ensemble that grows wider than the climate expects its errors, and 3DVar says nothing."""
    if scheme == "too wide":
        model = daml.models.QuasiGeostrophic(n=9)
        truth = daml.simulate(model, steps=100, spinup=300, seed=0)
        seen = daml.observe(truth, variables=model.variables[::3], error_variance=4.0, seed=1)
        made = daml.schemes.LETKF(10, radius=0.3, inflation=1.3)
    else:
        model = daml.Lorenz63()
        truth = daml.simulate(model, steps=1000, spinup=300, seed=0)
        seen = daml.observe(truth, variables=["x0"], seed=1)
        B = daml.climatological(truth, max_variance=2)
        B.values[:] = [[1.0, -0.9, 0.0], [-0.9, 1.7, 0.0], [0.0, 0.0, 1.0]]  # the wrong sign
        made = daml.ThreeDVar(B)
    text = r"assimilate: \w+: the squared innovations are in the mean .* times the variance"
    with pytest.warns(UserWarning, match=text):
        found = daml.assimilate(model, seen, made)
    deviation = truth["state"].std("time").mean()
    assert np.sqrt(((found.analysis - truth.state) ** 2).mean()) > deviation


@pytest.mark.filterwarnings("error")
def test_a_model_that_runs_free_is_not_far_from_the_observations():
    truth = daml.simulate(daml.Lorenz63(), steps=5000, spinup=300, seed=0)
    seen = daml.observe(truth, variables=["x0"], error_variance=1e6, seed=1)
    seen["observation"] = truth["state"].sel(variable=["x0"])
    B = daml.climatological(truth, max_variance=1e-6)
    found = daml.assimilate(daml.Lorenz63(), seen, daml.ThreeDVar(B), segments=1)
    squares = (found.innovation**2).mean() / truth.state.sel(variable="x0").var()
    assert 1.5 < squares < 2.5


@pytest.mark.statistical
def test_segments_that_lose_the_observations_are_started_again():
    model = daml.models.Lorenz96()
    truth = daml.simulate(model, steps=800, spinup=200, seed=5)
    scheme = Unlucky(24, inflation=1.03, rotate=True)
    found = daml.assimilate(model, daml.observe(truth, seed=101), scheme)
    wrong = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable"))
    assert 2 <= found.attrs["segments_restarted"] < 8
    assert not found.lost.any()
    assert float(wrong[100:].mean()) < 0.3


@pytest.mark.parametrize(
    "scheme",
    [
        daml.schemes.ETKF(8, inflation=1.02, rotate=True),
        daml.schemes.EnKFN(8, rotate=True),
        daml.schemes.DEnKF(8, inflation=1.1, rotate=True),
    ],
    ids=lambda s: type(s).__name__,
)
def test_members_are_turned_only_where_something_was_observed(scheme):
    model = daml.Lorenz63(dt=0.01)
    seen = daml.observe(daml.simulate(model, steps=101, spinup=500, seed=1), every=10, seed=2)
    found = daml.assimilate(model, seen, scheme, keep_members=True, segments=1)
    moved = np.abs(found.analysis_members - found.background_members).max(("member", "variable"))
    observed = np.arange(101) % 10 == 0
    assert (moved.values[observed] > 0).all()
    np.testing.assert_allclose(moved.values[~observed], 0.0, atol=1e-12)


def test_a_filter_of_rare_observations_is_as_good_as_with_a_step_from_one_to_the_next():
    """Sakov et al. (2012): 0.60 for this setting."""
    model = daml.Lorenz63(dt=0.01)
    truth = daml.simulate(model, steps=20_001, spinup=1000, seed=1)
    seen = daml.observe(truth, every=25, error_variance=2.0, seed=2)
    found = daml.assimilate(model, seen, daml.schemes.ETKF(10, inflation=1.02, rotate=True))
    assert found.attrs["spinup"] == 999  # forty times with observations
    error = (found.analysis - truth.state)[1000::25]
    assert float(np.sqrt((error**2).mean("variable")).mean()) < 0.7
