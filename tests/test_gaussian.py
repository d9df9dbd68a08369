"""Schemes that carry a mean and a covariance: in the linear case they are the Kalman filter."""

import numpy as np
import pytest
import torch
import xarray as xr
from test_filters import FIRST, NAMES, START, STEPS, Linear, kalman, record

import daml
from daml.errors import InputError
from daml.observing.records import read
from daml.protocols import Forecast, Observed, Run
from daml.running.cycle import cycle
from daml.schemes import SigmaPoint

Q = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, -0.05], [0.0, -0.05, 0.1]])


def points(mean, covariance):
    """Give 2n points (1, member, variable)."""
    away = len(mean) ** 0.5 * np.linalg.cholesky(covariance).T
    return (mean + np.concatenate((away, -away)))[None]


def filtered(scheme, seen, first):
    """Give mean, covariance, chi-square and log-likelihood of each analysis."""
    scheme = scheme.sized(NAMES)
    found = read(seen, NAMES, 1.0)
    at = [
        (found.seen(step), Run(step, np.zeros(1, int), 0, frozenset(scheme.outputs)))
        for step in np.arange(STEPS)[:, None]
    ]
    given = scheme.prepare(found.setting())
    updates = [u for _, u in cycle(Linear(), scheme, given, first, None, at)]
    states = np.array([update.state[0] for update in updates])
    deviations = states - states.mean(axis=1, keepdims=True)
    covariances = np.swapaxes(deviations, 1, 2) @ deviations / states.shape[1]
    spreads = np.array([update.extras["spread"][0] for update in updates])
    np.testing.assert_allclose(spreads**2, np.diagonal(covariances, axis1=1, axis2=2), rtol=1e-10)
    extras = [np.array([u.extras[n][0] for u in updates]) for n in ("chi_square", "log_likelihood")]
    return states.mean(axis=1), covariances, *extras


@pytest.mark.parametrize("model_error", [None, 0.2, np.array([0.1, 0.2, 0.3]), Q])
@pytest.mark.parametrize("correlated", [False, True])
def test_sigma_points_are_the_kalman_filter(correlated, model_error):
    seen = record(correlated)
    own = filtered(SigmaPoint(model_error), seen, points(START, FIRST))
    q = 0.0 if model_error is None else model_error
    q = q if np.ndim(q) == 2 else np.diag(q * np.ones(3))
    expected = kalman(seen, correlated, model_error=q)
    for found, right in zip(own, expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-10)


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
    at = Observed(np.array([[value]]), np.array([0]), setting.noise)
    run = Run(np.array([0]), np.array([0]), 0, frozenset(scheme.outputs))
    x = points(np.array([mean]), np.array([[variance]]))
    update, _ = scheme.update(Forecast(x), at, run, scheme.prepare(setting))
    signal = np.array([(mean + 0.5) ** 2, (mean - 0.5) ** 2])
    gap, expected = value - signal.mean(), signal.var() + error
    cross = (0.5 * (signal[0] - signal[1])) / 2
    assert update.state.mean() == pytest.approx(mean + cross / expected * gap)
    assert update.extras["spread"][0, 0] ** 2 == pytest.approx(variance - cross**2 / expected)
    assert update.extras["chi_square"][0] == pytest.approx(gap**2 / expected)


def test_a_model_that_never_varies_is_still_filtered():
    class Still(Linear):
        def step(self, x, memory):
            return 0 * x, memory

    found = daml.assimilate(Still(), record(True), SigmaPoint(), segments=1)
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
            Observed(torch.as_tensor(o.values), torch.as_tensor(o.pattern.copy()), setting.noise),
            Run(step, np.zeros(1, int), 0, frozenset({"log_likelihood"})),
        )
        for step in np.arange(steps)[:, None]
        for o in [found.seen(step)]
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
        (-1.0, "SigmaPoint: 'model_error' holds a variance below 0; give variances >= 0"),
        (np.nan, "'model_error' holds values that are not finite; give finite variances"),
        (np.triu(np.ones((3, 3))), r"'model_error' is not symmetric; give \(Q \+ Q.T\) / 2"),
        (np.ones((3, 3)) - np.eye(3), "is no covariance: an eigenvalue is below 0; give"),
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
    how = record(False), SigmaPoint()
    by_model = daml.assimilate(Erring(), *how)
    by_scheme = daml.assimilate(Linear(), record(False), SigmaPoint(labelled))
    xr.testing.assert_equal(by_model, by_scheme)
    none = daml.assimilate(Erring(), record(False), SigmaPoint(0.0))
    xr.testing.assert_allclose(none, daml.assimilate(Linear(), *how), rtol=1e-9, atol=1e-9)
    assert float(by_model.spread.mean()) > 1.1 * float(none.spread.mean())


def test_inflation_is_a_factor():
    with pytest.raises(InputError, match=r"SigmaPoint: 'inflation' is 0\.0; give a factor > 0"):
        SigmaPoint(inflation=0)


def test_a_model_with_a_memory_is_refused():
    truth = daml.simulate(daml.Lorenz63(), steps=200, spinup=100)
    seen = daml.observe(truth)
    emulator = daml.LSTM(hidden=4, epochs=1).fit(truth)
    with pytest.raises(InputError, match="SigmaPoint: LSTM has a memory of the states before"):
        daml.assimilate(emulator, seen, SigmaPoint())
    window = daml.emulators.GRU(hidden=4, epochs=1, window=2).fit(truth)
    with pytest.raises(InputError, match=r"use an ensemble, e\.g\. daml.schemes.ETKF\(20\)"):
        daml.assimilate(window, seen, SigmaPoint())
    short = daml.emulators.GRU(hidden=4, epochs=1, window=1).fit(truth)
    assert np.isfinite(daml.assimilate(short, seen, SigmaPoint(0.1)).analysis).all()


def test_a_model_with_a_clock_has_no_memory():
    class Clock(Linear):
        def start(self, x, time=None):
            return np.broadcast_to(np.asarray(time, float), x.shape[:-1])

        def step(self, x, memory):
            return super().step(x, None)[0] + np.cos(memory)[..., None], memory + 1

    found = daml.assimilate(Clock(), record(False), SigmaPoint())
    assert np.isfinite(found.analysis).all()
