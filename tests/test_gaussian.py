"""Schemes that carry a mean and a covariance, and the errors of models that all schemes add."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import xarray as xr
from test_filters import FIRST, MATRIX, NAMES, START, STEPS, Linear, kalman, record

import daml
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Forecast, Observed, Run
from daml.running.cycling import tangents
from daml.running.cycling.cycle import cycle
from daml.running.cycling.tangents import Tangents
from daml.schemes import ETKF, DEnKF, ExtendedKalman, SigmaPoint
from daml.schemes.matrices import cholesky

Q = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, -0.05], [0.0, -0.05, 0.1]])


def blurred():
    """Give the record with errors so large that no filter loses it."""
    seen = record(False)
    return seen.assign(error_variance=seen.error_variance * 100)


def points(mean, covariance):
    """Give 2n points (1, member, variable)."""
    away = len(mean) ** 0.5 * np.linalg.cholesky(covariance).T
    return (mean + np.concatenate((away, -away)))[None]


def cycled(scheme, seen, first, setting=None, model=None):
    """Give the updates of a cycle."""
    found = read(seen, NAMES, 1.0)
    at = [
        (found.seen(step), Run(step, np.zeros(1, int), 0, frozenset(scheme.outputs)))
        for step in np.arange(STEPS)[:, None]
    ]
    given = scheme.prepare(setting or found.setting())
    return [u for _, u in cycle(model or Linear(), scheme, given, first, None, at)]


def filtered(scheme, seen, first):
    """Give mean, covariance, chi-square and log-likelihood of each analysis of sigma points."""
    updates = cycled(scheme.sized(NAMES), seen, first)
    states = np.array([update.state[0] for update in updates])
    deviations = states - states.mean(axis=1, keepdims=True)
    covariances = np.swapaxes(deviations, 1, 2) @ deviations / states.shape[1]
    spreads = np.array([update.extras["spread"][0] for update in updates])
    np.testing.assert_allclose(spreads**2, np.diagonal(covariances, axis1=1, axis2=2), rtol=1e-10)
    return states.mean(axis=1), covariances, *judged(updates)


def judged(updates):
    """Give chi-square and log-likelihood of each update."""
    return [np.array([u.extras[n][0] for u in updates]) for n in ("chi_square", "log_likelihood")]


def dense(model_error):
    """Give Q (variable, variable)."""
    q = np.zeros(3) if model_error is None else np.asarray(model_error)
    return q if q.ndim == 2 else np.diag(q * np.ones(3))


ERRORS = [None, 0.2, np.array([0.1, 0.2, 0.3]), Q]


@pytest.mark.parametrize("model_error", ERRORS)
@pytest.mark.parametrize("correlated", [False, True])
def test_sigma_points_are_the_kalman_filter(correlated, model_error):
    seen = record(correlated)
    own = filtered(SigmaPoint(model_error), seen, points(START, FIRST))
    expected = kalman(seen, correlated, model_error=dense(model_error))
    for found, right in zip(own, expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)


class ByTorch(Linear):
    """The same model, stepped by torch, too."""

    arrays = "numpy", "torch"

    def step(self, x, memory):
        return x @ (MATRIX.T if isinstance(x, np.ndarray) else x.new_tensor(MATRIX.T)), memory


@pytest.mark.parametrize("model", [Linear(), ByTorch()])
@pytest.mark.parametrize("inflation", [1.0, 1.1])
@pytest.mark.parametrize("model_error", ERRORS)
@pytest.mark.parametrize("correlated", [False, True])
def test_the_extended_filter_is_the_kalman_filter(
    correlated, model_error, inflation, model, monkeypatch
):
    monkeypatch.setattr(tangents, "FEW", 0)
    seen = record(correlated)
    if inflation != 1:
        seen = seen.assign(observation=seen.observation.fillna(0.5))
    scheme = ExtendedKalman(model_error, inflation=inflation)
    setting = read(seen, NAMES, 1.0).setting()._replace(deviation=lambda: np.sqrt(np.diag(FIRST)))
    updates = cycled(scheme, seen, START[None], setting, model)
    own = [np.array([u.state[0] for u in updates]), *judged(updates)]
    own.append(np.array([u.extras["spread"][0] ** 2 for u in updates]))
    first = np.diag(np.diag(FIRST))
    mean, covariance, *others = kalman(seen, correlated, inflation, dense(model_error), first)
    right = mean, *others, np.diagonal(covariance, axis1=1, axis2=2)
    for found, expected in zip(own, right, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@dataclass(frozen=True)
class Plain:
    """A model that steps NumPy's arrays only, as Lorenz 96 does."""

    model: object = daml.models.Lorenz96(n=9)

    def __getattr__(self, name):
        if name == "arrays":
            raise AttributeError
        return getattr(self.model, name)

    def step(self, x, memory):
        return self.model.step(np.asarray(x), memory)


def test_tangents_are_those_of_the_step():
    model = daml.models.Lorenz96(n=9)
    states = np.random.default_rng(0).standard_normal((2, 4, 9)) * 3 + 2
    by_torch, by_differences = (Tangents(m).at(states, None) for m in (model, Plain()))
    assert Tangents(model).tensors
    assert not Tangents(Plain()).tensors
    h = 1e-6
    for place in range(9):
        moved = h * np.eye(9)[place]
        slope = (model.step(states + moved, None)[0] - model.step(states - moved, None)[0]) / 2 / h
        np.testing.assert_allclose(by_torch[..., place], slope, atol=1e-7)
    np.testing.assert_allclose(by_differences, by_torch, atol=1e-8)


def test_a_clock_goes_on_where_tangents_are_taken():
    class Growing(ByTorch):
        def start(self, x, time=None):
            return np.broadcast_to(np.asarray(time, float), x.shape[:-1])

        def step(self, x, memory):
            rate = memory if isinstance(x, np.ndarray) else x.new_tensor(memory)
            return super().step(x, None)[0] * rate[..., None], memory + 1

    states, clock = np.random.default_rng(0).standard_normal((2, 3)), np.array([2.0, 5.0])
    found = Tangents(Growing()).at(states, clock)
    np.testing.assert_allclose(found, MATRIX * clock[:, None, None], rtol=1e-9, atol=1e-12)
    tensors = Tangents(Growing()).at(torch.as_tensor(states), clock)
    np.testing.assert_allclose(tensors, MATRIX * clock[:, None, None], rtol=1e-14)
    for scheme in (ExtendedKalman(), SigmaPoint()):
        assert np.isfinite(daml.assimilate(Clocked(), blurred(), scheme).analysis).all()


class Clocked(Linear):
    """A model that the time drives: its memory is a clock, and no state."""

    def start(self, x, time=None):
        return np.broadcast_to(np.asarray(time, float), x.shape[:-1])

    def step(self, x, memory):
        return super().step(x, None)[0] + np.cos(memory)[..., None], memory + 1


def test_a_nonlinear_operator_enters_the_extended_filter_by_its_derivative():
    """H(x) = x^3 of a first state: the textbook's update, by hand."""
    seen = record(False).drop_vars(["operator", "model_variable"]).isel(time=slice(0, 1))
    seen = seen.assign(observation=seen.observation * 0 + 3.0)
    start = xr.Dataset({"state": ("variable", START)}, {"variable": list(NAMES)})
    how = {"operator": lambda x: x[..., :2] ** 3, "initial": start}
    found = daml.assimilate(Linear(), seen, ExtendedKalman(), **how).isel(time=0)
    P = np.diag(found.background_spread.values**2)
    H = np.eye(3)[:2] * 3 * START[:2, None] ** 2
    gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + np.diag(seen.error_variance))
    np.testing.assert_allclose(found.analysis, START + gain @ (3 - START[:2] ** 3), rtol=1e-9)
    spread = np.sqrt(np.diag((np.eye(3) - gain @ H) @ P))
    np.testing.assert_allclose(found.spread, spread, rtol=1e-9)


def test_the_extended_filter_needs_a_cycle_that_says_how_it_starts():
    run = daml.simulate(daml.Lorenz63(), steps=20)
    with pytest.raises(InputError, match="ExtendedKalman: it needs the uncertainty"):
        daml.schemes.analyse(ExtendedKalman(), run, daml.observe(run))


@pytest.mark.parametrize("model_error", ERRORS[1:])
def test_members_get_draws_of_the_model_error(model_error):
    """Without observations the variance of a large ensemble grows by Q; its mean stays."""
    seen = record(False).isel(time=slice(0, 2))
    seen = seen.assign(observation=seen.observation.where(seen.time > 5, 1e-9))
    seen = seen.assign(error_variance=seen.error_variance * 1e20)
    schemes = (DEnKF(2000, model_error=q) for q in (None, model_error))
    still, moved = (daml.assimilate(Linear(), seen, s, segments=1) for s in schemes)
    grown = moved.background_spread[1] ** 2 - still.background_spread[1] ** 2
    expected = np.diag(dense(model_error))
    wide = (still.background_spread[1] ** 2).values
    np.testing.assert_allclose(grown, expected, atol=4 * (expected + wide).max() / 2000**0.5)
    np.testing.assert_allclose(moved.background[1], still.background[1], atol=1e-9)


def test_draws_follow_from_seed_and_step_and_not_from_the_cuts():
    truth = daml.simulate(daml.Lorenz63(), steps=300, spinup=100)
    seen = daml.observe(truth)

    def spread(seed, **how):
        scheme = ETKF(8, inflation=1.05, model_error=0.1, seed=seed)
        return daml.assimilate(daml.Lorenz63(), seen, scheme, **how)

    one, two = spread(0, segments=1), spread(0, segments=1)
    xr.testing.assert_equal(one, two)
    assert float(abs(spread(1, segments=1).analysis - one.analysis).max()) > 0.01
    cut = spread(0, segments=3)
    apart = ((cut.analysis - one.analysis) ** 2).mean("time") / (one.spread**2).mean("time")
    assert float(apart.max()) < 0.5


@pytest.mark.filterwarnings("ignore:assimilate. .* has lost the observations")
@pytest.mark.parametrize(
    ("kind", "given"),
    [(ETKF, daml.covariance.labelled(Q, NAMES)), (SigmaPoint, Q), (ExtendedKalman, 0.3)],
)
def test_a_model_error_comes_back_from_a_store(kind, given, tmp_path):
    seen = daml.observe(daml.simulate(daml.Lorenz63(), steps=60, spinup=100))
    scheme = kind(6, model_error=given) if kind is ETKF else kind(given)
    emulator = daml.LSTM(hidden=2, epochs=1, window=1, sequence_length=20, burn_in=2)
    how = {"passes": 1, "held_out": 0, "store": tmp_path / "loop.zarr"}
    daml.improve(daml.Lorenz63(), seen, scheme, emulator, **how)
    back = daml.load_scheme(tmp_path / "loop.zarr", 0)
    if isinstance(given, xr.DataArray):
        xr.testing.assert_equal(back.model_error.drop_attrs(), given.drop_attrs())
    else:
        np.testing.assert_array_equal(back.model_error, given)


def test_inflation_widens_each_analysis_where_something_was_observed():
    seen = record(False)
    seen = seen.assign(observation=seen.observation.fillna(0.5))
    own = filtered(SigmaPoint(inflation=1.1), seen, points(START, FIRST))
    for found, right in zip(own, kalman(seen, False, inflation=1.1), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)
    empty = seen.assign(observation=seen.observation.where(seen.time == STEPS - 1))
    one, two = (filtered(SigmaPoint(inflation=i), empty, points(START, FIRST)) for i in (1, 1.1))
    np.testing.assert_array_equal(one[1][:-1], two[1][:-1])


def test_a_cycle_starts_from_points_as_uncertain_as_the_first_guess():
    seen = record(False).isel(time=slice(0, 2))
    found = daml.assimilate(Linear(), seen, SigmaPoint(), segments=1)
    # Linear free runs decay to 0: what is observed says how wide the first background is.
    assert (found.background_spread[0] > 0).all()
    ensemble = daml.assimilate(Linear(), seen, daml.schemes.ETKF(200), segments=1)
    wide = ensemble.background_spread[0]
    np.testing.assert_allclose(found.background_spread[0], wide, rtol=0.2)
    np.testing.assert_allclose(found.background[0], ensemble.background[0], atol=1e-10)
    assert found.attrs["scheme"].count("model_error") == 1
    assert "members" not in found.attrs["scheme"]


def test_a_nonlinear_operator_is_seen_by_the_points():
    """One variable, H(x) = x^2: by hand, with points at m + s and m - s."""
    mean, variance, value, error = 1.5, 0.25, 3.0, 0.4

    class Squared:
        linear = False

        def apply(self, x):
            return x**2

    scheme = SigmaPoint().sized(("x",))
    seen = xr.Dataset(
        {"observation": (("time", "variable"), [[value]]), "error_variance": ("variable", [error])},
        {"time": [0.0], "variable": ["x"]},
    )
    setting = read(seen, ("x",), 1.0).setting()
    setting = setting._replace(operator=Squared())
    at = Observed(np.array([[value]]), np.array([0]), setting.noise, setting.operator)
    run = Run(np.array([0]), np.array([0]), 0, frozenset(scheme.outputs))
    x = points(np.array([mean]), np.array([[variance]]))
    update, _ = scheme.update(Forecast(x), at, run, scheme.prepare(setting))
    signal = np.array([(mean + 0.5) ** 2, (mean - 0.5) ** 2])
    gap, expected = value - signal.mean(), signal.var() + error
    cross = (0.5 * (signal[0] - signal[1])) / 2
    assert update.state.mean() == pytest.approx(mean + cross / expected * gap)
    assert update.extras["spread"][0, 0] ** 2 == pytest.approx(variance - cross**2 / expected)
    assert update.extras["chi_square"][0] == pytest.approx(gap**2 / expected)


def watched(x):
    """Give two observed quantities of Lorenz 63, one not linear."""
    return x[..., :2] ** 2 / 10 + x[..., 2:]


def derivative(function, x):
    """Give the derivative (..., variable) of a function at a state, by differences."""
    moved = ((function(x + e) - function(x - e)) / 2e-6 for e in 1e-6 * np.eye(len(x)))
    return np.stack(list(moved), axis=-1)


def textbook(kind, seen, mean, P, q):
    """Give means and covariances of the textbook's filter for Lorenz 63 and `watched`, a loop."""
    model, n, R, found = daml.Lorenz63(), 3, np.diag(seen.error_variance), []
    for time, row in enumerate(seen.observation.values):
        if time > 0 and kind is SigmaPoint:
            moved = np.array([model.step(x)[0] for x in points(mean, P)[0]])
            mean = moved.mean(axis=0)
            P = sum(np.outer(x - mean, x - mean) for x in moved) / (2 * n) + q
        elif time > 0:
            M = derivative(lambda x: model.step(x)[0], mean)
            mean, P = model.step(mean)[0], M @ P @ M.T + q
        there = np.isfinite(row)
        if kind is SigmaPoint:
            x = points(mean, P)[0]
            y = watched(x)[:, there]
            gap, away = row[there] - y.mean(axis=0), y - y.mean(axis=0)
            S, C = away.T @ away / (2 * n), (x - mean).T @ away / (2 * n)
        else:
            H = derivative(watched, mean)[there]
            gap, S, C = row[there] - watched(mean)[there], H @ P @ H.T, P @ H.T
        gain = C @ np.linalg.inv(S + R[np.ix_(there, there)])
        mean, P = mean + gain @ gap, P - gain @ C.T
        found.append((mean, np.diag(P)))
    return [np.array(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", [SigmaPoint, ExtendedKalman])
def test_a_nonlinear_cycle_is_that_of_the_textbook(kind):
    truth = daml.simulate(daml.Lorenz63(), steps=15, spinup=200, seed=3)
    seen = daml.observe(truth, operator=watched, missing=0.2, seed=1)
    start = truth.isel(time=0).drop_vars("time")
    how = {"operator": watched, "initial": start, "segments": 1}
    found = daml.assimilate(daml.Lorenz63(), seen, kind(Q), **how)
    first = np.diag(found.background_spread.values[0] ** 2)
    means, variances = textbook(kind, seen, start.state.values, first, Q)
    np.testing.assert_allclose(found.analysis, means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.spread**2, variances, rtol=1e-5)


def test_a_model_that_never_varies_is_still_filtered():
    class Still(Linear):
        def step(self, x, memory):
            return 0 * x, memory

    found = daml.assimilate(Still(), blurred(), SigmaPoint(), segments=1)
    np.testing.assert_allclose(found.analysis[1:], 0, atol=1e-9)


def likelihood(model_error, rho, steps=4):
    """Give the log-likelihood (tensor) of a short cycle of Lorenz 63 by its parameter and Q."""
    truth = daml.simulate(daml.Lorenz63(), steps=steps, spinup=100)
    seen = daml.observe(truth, missing=0.2, seed=1)
    found = read(seen, NAMES, 0.05)
    setting = found.setting("cpu")
    scheme = SigmaPoint(model_error).sized(NAMES)
    at = [
        (
            placed(found.seen(step), setting, "cpu"),
            Run(step, np.zeros(1, int), 0, frozenset({"log_likelihood"})),
        )
        for step in np.arange(steps)[:, None]
    ]
    first = torch.as_tensor(points(np.array([1.0, 2.0, 20.0]), np.eye(3)))
    model = daml.Lorenz63(rho=rho)
    pairs = cycle(model, scheme, scheme.prepare(setting), first, None, at)
    return sum(update.extras["log_likelihood"].sum() for _, update in pairs)


def test_gradients_pass_through_the_cycle():
    rho = torch.tensor(27.0, dtype=torch.float64, requires_grad=True)
    root = torch.tensor([[0.3, 0, 0], [0.1, 0.2, 0], [0, 0.1, 0.3]], dtype=torch.float64)
    root.requires_grad_()
    likelihood(root @ root.T, rho).backward()

    def value(r, t):
        with torch.no_grad():
            return float(likelihood(t @ t.T, r))

    h = 1e-5
    plain, fixed = rho.detach(), root.detach()
    assert (value(plain + h, fixed) - value(plain - h, fixed)) / (2 * h) == pytest.approx(
        float(rho.grad), rel=1e-5
    )
    for row, column in np.ndindex(3, 3):
        moved = torch.zeros_like(fixed)
        moved[row, column] = h
        slope = (value(plain, fixed + moved) - value(plain, fixed - moved)) / (2 * h)
        assert slope == pytest.approx(float(root.grad[row, column]), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (np.ones(2), r"SigmaPoint: 'model_error' has the shape \(2,\), and the model 3 variables"),
        ("large", "SigmaPoint: 'model_error' is 'large'; give a variance, variances"),
        (True, "SigmaPoint: 'model_error' is True; give a variance, variances"),
        ([[1, 2, 3], [4]], "SigmaPoint: 'model_error' is a list; give a variance, variances"),
        (-1.0, "SigmaPoint: 'model_error' holds a variance below 0; give variances >= 0"),
        (np.nan, "'model_error' holds values that are not finite; give finite variances"),
        (np.triu(np.ones((3, 3))), r"'model_error' is not symmetric; give \(Q \+ Q.T\) / 2"),
        (np.ones((3, 3)) - np.eye(3), "is not a covariance: an eigenvalue is below 0; give"),
        (daml.covariance.labelled(np.eye(2), ["x0", "x1"]), "lacks 'x2' in 'variable'"),
        (xr.DataArray(np.ones(3), dims="x"), r"has the dimensions \('x',\); give a variance"),
    ],
)
def test_a_model_error_that_is_none_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        daml.assimilate(Linear(), record(False), SigmaPoint(given))


def test_a_model_error_is_of_the_model_unless_the_scheme_has_its_own():
    class Erring(Linear):
        model_error = np.diag([0.1, 0.2, 0.3])

    labelled = daml.covariance.labelled(np.diag([0.3, 0.2, 0.1]), NAMES[::-1])
    how = blurred(), SigmaPoint()
    by_model = daml.assimilate(Erring(), *how)
    by_scheme = daml.assimilate(Linear(), blurred(), SigmaPoint(labelled))
    xr.testing.assert_equal(by_model, by_scheme)
    none = daml.assimilate(Erring(), blurred(), SigmaPoint(0.0))
    xr.testing.assert_allclose(none, daml.assimilate(Linear(), *how), rtol=1e-9, atol=1e-9)
    assert float(by_model.spread.mean()) > 1.1 * float(none.spread.mean())


def test_inflation_is_a_factor():
    with pytest.raises(InputError, match=r"SigmaPoint: 'inflation' is 0\.0; give a factor from"):
        SigmaPoint(inflation=0)


def test_a_model_that_draws_in_its_step_is_refused():
    class Rough(Linear):
        def step(self, x, memory):
            return x @ MATRIX.T + np.random.default_rng().standard_normal(x.shape), memory

    with pytest.raises(InputError, match="Rough: its step is random, and"):
        daml.assimilate(Rough(), record(False), SigmaPoint())


def test_a_model_with_a_memory_is_refused():
    truth = daml.simulate(daml.Lorenz63(), steps=200, spinup=100)
    seen = daml.observe(truth, error_variance=100.0)
    emulator = daml.LSTM(hidden=4, epochs=1).fit(truth)
    with pytest.raises(InputError, match="SigmaPoint: LSTM has a memory of the states before"):
        daml.assimilate(emulator, seen, SigmaPoint())
    window = daml.emulators.GRU(hidden=4, epochs=1, window=2).fit(truth)
    with pytest.raises(InputError, match=r"use an ensemble, e\.g\. daml.schemes.ETKF\(20\)"):
        daml.assimilate(window, seen, SigmaPoint())
    for forgetful in (daml.LSTM(), daml.emulators.GRU(window=2)):  # before anything is trained
        with pytest.raises(InputError, match=r"SigmaPoint: .* has a memory of the states before"):
            daml.improve(daml.Lorenz63(), seen, SigmaPoint(), forgetful, passes=1)
    short = daml.emulators.GRU(hidden=4, epochs=1, window=1).fit(truth)
    assert np.isfinite(daml.assimilate(short, seen, SigmaPoint(0.1)).analysis).all()


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_matrix_without_a_root_leaves_those_beside_it(kind):
    matrices = kind([[[4.0, 0.0], [0.0, 9.0]], [[1.0, 2.0], [2.0, 1.0]], [[np.nan, 0], [0, 1.0]]])
    found = np.asarray(cholesky(matrices))
    np.testing.assert_array_equal(found[0], np.diag([2.0, 3.0]))
    assert np.isnan(found[1:]).all()
