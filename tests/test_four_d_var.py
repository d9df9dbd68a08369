"""4DVar: the smoother and the filter of the linear case, its minima, and what it refuses."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import optimize

import daml
from daml.covariances.dense import labelled
from daml.errors import InputError
from daml.schemes import FourDVar
from daml.schemes.variational.conjugate_gradients import solution
from daml.schemes.variational.damped import minimised

NAMES = tuple("abcdefghi")
"""So many that torch differentiates a step that it takes."""
SIZE = len(NAMES)
FIRST = np.linspace(-1.0, 2.0, SIZE)
TORCH = ("numpy", "torch")


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(seed, size=SIZE):
    root = drawn(seed, size, size)
    return labelled(root @ root.T + 0.5 * np.eye(size), NAMES[:size])


@dataclass(frozen=True)
class Linear:
    """A model whose step is a matrix, in NumPy alone or in torch, too."""

    arrays: tuple = ("numpy",)
    model_error: object = None
    dt: ClassVar = 1.0
    variables: ClassVar = NAMES
    matrix: ClassVar = 0.9 * np.linalg.qr(drawn(1, SIZE, SIZE))[0] + 0.1 * drawn(2, SIZE, SIZE)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        matrix = self.matrix if isinstance(x, np.ndarray) else x.new_tensor(self.matrix)
        return x @ matrix.T, memory


def record(times=7, missing=0.0, seed=3, variance=0.5):
    """Observations of three sums of the variables, some of them missing."""
    values = 3 * drawn(seed, times, 3)
    values[np.random.default_rng(seed).random(values.shape) < missing] = np.nan
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", [variance, 1.0, 2.0]),
            "operator": (("variable", "model_variable"), drawn(5, 3, SIZE)),
        },
        {"time": np.arange(float(times)), "variable": ["s", "t", "u"]}
        | {"model_variable": list(NAMES)},
    )


def smoothed(observations, B, Q, start):
    """The Kalman filter and smoother over a record whose first time is not observed.

    Gives the smoothed mean at the start, the filter's at the end, and of each time d' S^-1 d with
    the covariance of a forecast from the start, and the log-likelihood of all values.
    """
    M, H = Linear.matrix, observations.operator.values
    R = observations.error_variance.values
    x, P, free, wide, likelihood, squares, steps = start, B, start, B, 0.0, [], []
    for y in observations.observation.values[1:]:
        forecast, ahead = M @ x, M @ P @ M.T + Q
        free, wide = M @ free, M @ wide @ M.T + Q
        seen = np.isfinite(y)
        h, r, d = H[seen], np.diag(R[seen]), (y - H @ forecast)[seen]
        S = h @ ahead @ h.T + r
        gain = ahead @ h.T @ np.linalg.inv(S)
        steps.append((x, P, forecast, ahead))
        x, P = forecast + gain @ d, ahead - gain @ h @ ahead
        likelihood -= (d @ np.linalg.solve(S, d) + np.linalg.slogdet(S)[1]) / 2
        away = (y - H @ free)[seen]
        square = away @ np.linalg.solve(h @ wide @ h.T + r, away)
        squares.append(square / seen.sum() if seen.any() else np.nan)
    end, state = x, x
    for x, P, forecast, ahead in reversed(steps):
        state = x + P @ M.T @ np.linalg.inv(ahead) @ (state - forecast)
    return state, end, np.array(squares), likelihood


def assimilated(scheme, observations, model=None, **how):
    start = xr.Dataset({"state": ("variable", FIRST)}, {"variable": list(NAMES)})
    how = {"segments": 1, "initial": start} | how
    return daml.assimilate(model or Linear(), observations, scheme, **how)


def unseen_at_first(observations):
    first = observations.time == observations.time[0]
    return observations.assign(observation=observations.observation.where(~first))


@pytest.mark.parametrize(("arrays", "near"), [(TORCH, 1e-10), (("numpy",), 1e-8)])
@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("error", [0.0, 0.3, covariance(8).values])
def test_a_window_of_a_linear_model_is_the_kalman_smoother(missing, error, arrays, near):
    """At its start the smoother's mean, at its end the filter's, as innovations have it."""
    B, observations = covariance(7), unseen_at_first(record(missing=missing))
    scheme = Watched(FourDVar(B, window=6, model_error=error))
    found = assimilated(scheme, observations, Linear(arrays))
    Q = error if np.ndim(error) == 2 else error * np.eye(SIZE)
    start, end, squares, likelihood = smoothed(observations, B.values, Q, FIRST)
    np.testing.assert_allclose(found.analysis[-1], end, rtol=near, atol=near)
    np.testing.assert_allclose(scheme.starts[-1], start, rtol=near, atol=near)
    np.testing.assert_allclose(found.chi_square[1:], squares, rtol=1e-8)
    np.testing.assert_array_equal(found.log_likelihood[:-1], 0)
    assert float(found.log_likelihood[-1]) == pytest.approx(likelihood, rel=1e-8)


class Watched:
    """A scheme that notes the analyses at the starts of its windows."""

    def __init__(self, scheme):
        self.scheme, self.starts = scheme, []
        self.window, self.shift, self.needs = scheme.window, scheme.shift, scheme.needs
        self.model_error, self.outputs = scheme.model_error, scheme.outputs

    def prepare(self, setting):
        return self.scheme.prepare(setting)

    def update(self, window, observed, run, memory):
        update, memory = self.scheme.update(window, observed, run, memory)
        self.starts.append(update.state[0])
        return update, memory


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_a_model_error_of_next_to_nothing_is_none(shift):
    strong = FourDVar(covariance(7), window=4, shift=shift)
    weak = replace(strong, model_error=1e-14)
    one, two = (assimilated(s, record(12)) for s in (strong, weak))
    np.testing.assert_allclose(two.analysis, one.analysis, rtol=1e-9, atol=1e-9)
    of_model = assimilated(strong, record(12), Linear(model_error=1e-14))
    np.testing.assert_array_equal(of_model.analysis, two.analysis)
    none = assimilated(replace(strong, model_error=0), record(12), Linear(model_error=0.1))
    np.testing.assert_array_equal(none.analysis, one.analysis)


def chaotic(steps=41, every=2, missing=0.2, size=9, seed=1):
    """A record of Lorenz 96, a B, and a state near the truth at the first time."""
    model = daml.models.Lorenz96(n=size)
    truth = daml.simulate(model, steps=max(steps, 100), spinup=200, seed=seed)
    B, truth = daml.climatological(truth, max_variance=0.5), truth.isel(time=slice(steps))
    seen = daml.observe(truth, every=every, error_variance=0.5, seed=seed + 1)
    there = np.random.default_rng(seed).random(seen.observation.shape) > missing
    near = truth[["state"]].isel(time=0) + 0.5 * drawn(seed, size)
    return model, seen.assign(observation=seen.observation.where(there)), B, near


def correlated(observations):
    """The same with errors that are correlated."""
    size = observations.sizes["variable"]
    R = 0.5 * (0.5 * np.eye(size) + 0.5)
    labels = {"covariable": observations["variable"].values}
    found = observations.drop_vars("error_variance").assign_coords(labels)
    return found.assign(error_covariance=(("variable", "covariable"), R))


@pytest.mark.parametrize("given", [lambda o: o, correlated])
@pytest.mark.parametrize("error", [None, 0.01])
@pytest.mark.parametrize("operator", [None, lambda x: x[..., ::2] ** 2 / 20 + x[..., ::2]])
def test_conjugate_gradients_give_what_matrices_give(given, error, operator):
    model, observations, B, near = chaotic(9)
    observations = given(observations)
    if operator is not None:
        half = {dim: slice(None, None, 2) for dim in ("variable", "covariable")}
        observations = observations.isel(half, missing_dims="ignore")
    how = {"window": 4, "model_error": error, "tolerance": 1e-6, "error_factor": 1.5}
    exact, products = (
        daml.assimilate(
            model, observations, FourDVar(B, method=m, **how), initial=near, operator=operator
        )
        for m in ("exact", "cg")
    )
    np.testing.assert_allclose(products.analysis, exact.analysis, atol=1e-5)
    np.testing.assert_allclose(products.chi_square, exact.chi_square, rtol=1e-4)
    assert "log_likelihood" not in products
    assert exact.converged.all()
    assert products.converged.all()


def test_it_is_the_minimum_that_a_general_minimiser_finds_after_more_runs():
    """The same cost in plain NumPy, minimised by L-BFGS with torch's gradient."""
    model, observations, B, near = chaotic(9, every=2, missing=0.0, size=20)
    observations = unseen_at_first(observations)
    watched = Watched(FourDVar(B, window=8))
    found = daml.assimilate(model, observations, watched, segments=1, initial=near)
    background = found.background.values[0]
    inverse = torch.from_numpy(np.linalg.inv(B.values))
    values = torch.from_numpy(observations.observation.values[1:])

    def cost(x):
        x = torch.from_numpy(x).requires_grad_()
        away = x - torch.from_numpy(background)
        total, state = away @ inverse @ away, x
        for step in range(1, 9):
            state, _ = model.step(state, None)
            if step % 2 == 0:
                total = total + ((values[step // 2 - 1] - state) ** 2).sum() / 0.5
        total.backward()
        return float(total.detach()), x.grad.numpy()

    how = {"jac": True, "method": "L-BFGS-B"}
    other = optimize.minimize(cost, background, **how, options={"gtol": 1e-2})
    exact = optimize.minimize(cost, background, **how, options={"ftol": 1e-15, "gtol": 1e-8})
    np.testing.assert_allclose(watched.starts[-1], exact.x, atol=1e-3)
    assert exact.fun <= cost(watched.starts[-1])[0] <= other.fun + 1e-9
    # An outer loop runs the model and its tangents; the minimiser runs it and its adjoint.
    assert 2 * float(found.iterations[-1]) < other.nfev


def test_problems_side_by_side_do_not_change_each_other():
    """Rosenbrock's function as a sum of squares, from starts that need few and many steps."""

    def cost(v):
        misfit = np.stack([10 * (v[..., 1] - v[..., 0] ** 2), 1 - v[..., 0]], axis=-1)
        return misfit, np.vecdot(misfit, misfit)

    def step(v, misfit):
        one = np.ones(v.shape[:-1])
        rows = [[-20 * v[..., 0], 10 * one], [-one, 0 * one]]
        slope = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
        return -np.linalg.solve(slope, misfit[..., None])[..., 0]

    starts = np.array([[1.0, 1.0], [-1.2, 1.0], [0.9, 0.8], [np.nan, 0.0]])
    together = minimised(cost, step, starts)
    for row, start in enumerate(starts):
        alone = minimised(cost, step, start[None])
        for part, own in zip(together, alone, strict=True):
            np.testing.assert_array_equal(part[row], own[0])
    np.testing.assert_allclose(together.control[:3], 1, atol=1e-6)
    np.testing.assert_array_equal(together.converged, [True, True, True, False])
    assert together.iterations[0] == 1 < together.iterations[1]


def test_solutions_side_by_side_do_not_change_each_other():
    matrix, right = covariance(2).values, drawn(3, 3, SIZE)
    right[0] *= 1e-8
    right[1] = np.linalg.eigh(matrix)[1][:, 0]  # one step suffices

    def product(v):
        return (matrix @ v[..., None])[..., 0]

    together = solution(np, product, right, 5, 1e-3)
    for row in range(3):
        alone = solution(np, product, right[row : row + 1], 5, 1e-3)[0]
        np.testing.assert_allclose(together[row], alone, rtol=1e-12)
    full = solution(np, product, right, 3 * SIZE, 1e-12)
    np.testing.assert_allclose(product(full), right, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"method": "newton"}, "method 'newton' is unknown; give one of"),
        ({"outer_loops": 0}, "'outer_loops' is 0; give 1 or more"),
        ({"tolerance": 0.0}, "'tolerance' is 0.0; give a number in"),
        ({"error_factor": -1.0}, "'error_factor' is -1.0; give a factor > 0"),
        ({"background_covariance": "model"}, "'background_covariance' is 'model'; give one of"),
        ({"background_covariance": np.eye(3)}, "is a ndarray; give an xarray.DataArray"),
        ({"window": 2.5}, "'window' is 2.5; give a whole number"),
    ],
)
def test_bad_settings_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        FourDVar(**{"window": 4} | given)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (FourDVar(window=4), "B is still 'innovations'; have it estimated"),
        (FourDVar(covariance(1), window=0), "'window' is 0; give 1 model step or more"),
        (FourDVar(covariance(1), window=2, shift=3), "'shift' is 3 model steps, and 'window' 2"),
        (FourDVar(covariance(1, 3), window=2), "lacks 'd'"),
        (FourDVar(covariance(1), window=2, model_error=-1.0), "a variance below 0"),
        (FourDVar(covariance(1), window=2, method="cg"), r"Linear steps NumPy arrays; if its step"),
    ],
)
def test_what_a_cycle_cannot_use_is_refused(scheme, text):
    with pytest.raises(InputError, match=text):
        assimilated(scheme, record())
