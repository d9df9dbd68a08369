"""3DVar with a nonlinear H: it finds the minimum that a general minimiser finds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import minimize

import daml
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.functions import Function
from daml.observing.records import read
from daml.protocols import Forecast, Run

NAMES = ("u", "v", "w")
B = np.array([[1.0, 0.4, 0.1], [0.4, 0.8, -0.2], [0.1, -0.2, 0.6]])
R = np.array([[0.5, 0.2], [0.2, 0.8]])


def cubes(x):
    return x[..., 1:] ** 3


def wind(x):
    speed = (x[..., :1] ** 2 + x[..., 1:2] ** 2) ** 0.5
    return speed if not isinstance(x, np.ndarray) else np.asarray(speed)


def mixed(x):
    xp = torch if isinstance(x, torch.Tensor) else np
    return xp.stack((x[..., 0] * x[..., 2], xp.exp(x[..., 1] / 2)), **{"axis": -1})


def many(x):
    """More values than variables."""
    return (x[..., None, :] ** 2 + x[..., :, None]).reshape((*x.shape[:-1], 9))


CALLS = {"x^3": (cubes, 2), "|wind|": (wind, 1), "mixed": (mixed, 2), "many": (many, 9)}
labels = {"variable": list(NAMES), "covariable": list(NAMES)}
SCHEME = daml.ThreeDVar(xr.DataArray(B, labels, ("variable", "covariable")))


def record(call, observed, correlated, missing=False):
    """Give 20 times of observations of random states, and backgrounds."""
    random = np.random.default_rng(0)
    states = 1 + random.standard_normal((20, 3))
    values = call(states) + random.standard_normal((20, observed)) * 0.5
    if missing:
        values[random.random(values.shape) < 0.4] = np.nan
        values[0] = np.nan
        values[1] = 1.0
    names = [f"y{n}" for n in range(observed)]
    seen = xr.Dataset(
        {"observation": (("time", "variable"), values)},
        {"time": np.arange(20.0), "variable": names},
    )
    if correlated:
        seen = seen.assign_coords(covariable=names)
        seen = seen.assign(error_covariance=(("variable", "covariable"), R))
    else:
        seen = seen.assign(error_variance=("variable", np.linspace(0.5, 1.0, observed)))
    background = states + random.standard_normal((20, 3)) @ np.linalg.cholesky(B).T / 2
    return seen, background, read(seen, NAMES, 1.0, operator=Function(call, tuple(names), 3))


def analysed(scheme, found, background):
    steps = np.arange(20)
    run = Run(steps, 0 * steps, 0, frozenset(scheme.outputs))
    memory = scheme.prepare(found.setting())
    return scheme.update(Forecast(background), found.seen(steps), run, memory)[0]


def cost(x, row, background, values, call, error):
    there = np.isfinite(values[row])
    gap = (values[row] - call(x[None])[0])[there]
    apart = x - background[row]
    square = gap @ np.linalg.solve(error[np.ix_(there, there)], gap) if there.any() else 0.0
    return apart @ np.linalg.solve(B, apart) + square


def lowest(start, *how):
    """Give the minimum that scipy finds."""
    return minimize(cost, start, args=how, method="BFGS", jac="3-point", options={"gtol": 1e-9})


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("method", ["exact", "cg"])
@pytest.mark.parametrize("name", CALLS)
def test_the_analysis_is_the_minimum_of_the_cost(name, method, missing):
    call, observed = CALLS[name]
    correlated = observed == 2
    seen, background, found = record(call, observed, correlated, missing)
    factor = 1.5
    update = analysed(replace(SCHEME, method=method, error_factor=factor), found, background)
    error = factor * (R if correlated else np.diag(np.linspace(0.5, 1.0, observed)))
    values = seen.observation.values
    for row in range(8):
        how = row, background, values, call, error
        best = lowest(update.state[row], *how)
        np.testing.assert_allclose(update.state[row], best.x, atol=2e-5)
        count = np.isfinite(values[row]).sum()
        if count:
            assert update.extras["chi_square"][row] == pytest.approx(best.fun / count, abs=1e-7)
        else:
            np.testing.assert_array_equal(update.state[row], background[row])
            assert np.isnan(update.extras["chi_square"][row])


def test_most_minima_are_those_from_the_background():
    """Where the cost has several minima, the nearest is usual."""
    call, observed = CALLS["x^3"]
    seen, background, found = record(call, observed, True)
    update, same = analysed(SCHEME, found, background), 0
    for row in range(20):
        how = row, background, seen.observation.values, call, R
        best = lowest(background[row], *how)
        same += np.allclose(best.x, update.state[row], atol=1e-4)
    assert same >= 18


def test_states_side_by_side_do_not_matter():
    _, background, found = record(*CALLS["x^3"], True)
    memory, steps = SCHEME.prepare(found.setting()), np.arange(20)
    together = analysed(SCHEME, found, background).state
    for row in range(20):
        run = Run(steps[:1], steps[:1], 0, frozenset())
        one = found.seen(steps[row : row + 1])
        alone = SCHEME.update(Forecast(background[row : row + 1]), one, run, memory)[0].state[0]
        np.testing.assert_allclose(alone, together[row], rtol=1e-12, atol=1e-12)


def test_a_linear_function_that_says_it_is_not_gives_the_same_analysis():
    class Stated:
        linear = False

        def __call__(self, x):
            return x[..., 1:] * 2

    linear = record(lambda x: x[..., 1:] * 2, 2, True, True)
    stated = record(Stated(), 2, True, True)
    one, two = (analysed(SCHEME, part[2], part[1]) for part in (linear, stated))
    np.testing.assert_allclose(one.state, two.state, atol=1e-10)
    np.testing.assert_allclose(one.extras["chi_square"], two.extras["chi_square"], atol=1e-10)


def test_gradients_pass_through_the_iterations():
    _, background, found = record(*CALLS["x^3"], False)
    setting, steps = found.setting("cpu"), np.arange(4)
    memory, observed = SCHEME.prepare(setting), placed(found.seen(steps), setting, "cpu")
    run = Run(steps, steps, 0, frozenset())
    x = torch.as_tensor(background[:4]).requires_grad_()

    def function(x):
        return SCHEME.update(Forecast(x), observed, run, memory)[0].state

    np.testing.assert_allclose(
        function(x).detach(), analysed(SCHEME, found, background).state[:4], atol=1e-9
    )
    assert torch.autograd.gradcheck(function, (x,), atol=1e-5, fast_mode=True)


def test_a_cycle_with_cubes_follows_the_truth():
    def cubic(x):
        return (x / 10) ** 3

    truth = daml.simulate(daml.Lorenz63(), steps=300, spinup=300, seed=1)
    seen = daml.observe(truth, operator=cubic, error_variance=0.01, seed=2)
    scheme = daml.ThreeDVar(daml.climatological(truth, max_variance=2))
    found = daml.assimilate(daml.Lorenz63(), seen, scheme, operator=cubic)
    before, after = (
        float(np.sqrt(((found[name] - truth.state)[50:] ** 2).mean()))
        for name in ("background", "analysis")
    )
    assert after < 0.85 * before < 1
    assert 0.2 < float(found.chi_square[50:].mean()) < 2


def test_what_cannot_be_is_refused():
    def by_numpy(x):
        return np.sin(np.asarray(x))

    _, background, found = record(by_numpy, 3, False)
    with pytest.raises(InputError, match="'operator' cannot be differentiated by torch"):
        analysed(SCHEME, found, background)
    _, background, found = record(*CALLS["x^3"], False)
    with pytest.raises(InputError, match="'operator' is not linear, and a matrix H is needed"):
        analysed(SCHEME.by_model, found, background)
