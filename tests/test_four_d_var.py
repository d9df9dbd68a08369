"""4DVar: the smoother and the filter of the linear case, its minima, and what it refuses."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import optimize

import daml
from daml.covariance import Localised, Stationary
from daml.covariances.dense import labelled
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.protocols import Observed, Run, Setting
from daml.running.cycling.cycle import cycle
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


def test_windows_that_do_not_converge_are_marked_and_warned_of_once():
    model, observations, B, near = chaotic(9)
    scheme = FourDVar(B, window=4, outer_loops=1)
    with pytest.warns(UserWarning, match="did not converge") as warned:
        found = daml.assimilate(model, unseen_at_first(observations), scheme, initial=near)
    (text,) = [str(one.message) for one in warned]
    assert text.startswith("assimilate: FourDVar did not converge in 88.9 % of the record (where")
    assert "take a shorter window, quasi_static=True" in text
    np.testing.assert_array_equal(found.converged, [1] + 8 * [0])
    np.testing.assert_array_equal(found.iterations, [0] + 8 * [1])


class Forced:
    """Lorenz 96 with a forcing and a damping that are being learned."""

    arrays: ClassVar = TORCH
    variables, dt = daml.models.Lorenz96(n=9).variables, 0.05

    def __init__(self, forcing):
        self.forcing = forcing

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        moved, _ = daml.models.Lorenz96(n=9, forcing=0.0).step(x, None)
        return moved + 0.05 * self.forcing * (1 - 0.1 * x), memory


def through(model, scheme, values):
    """A sum of the analyses of windows and their likelihood, by torch."""
    count, size = values.shape[-1], len(model.variables)
    operator = Selection(tuple(range(0, size, 2 if count < size else 1)), size)
    noise = TabledNoise(np.ones((1, count), bool), np.full((1, count), 0.5)).on("cpu")
    names = tuple(model.variables[place] for place in operator.places)
    space = StateSpace(tuple(model.variables))
    prepared = scheme.prepare(Setting(space.names, names, operator, noise, space))
    x = torch.from_numpy(3 + drawn(1, 2, size))
    rows = torch.zeros(2, dtype=torch.long)
    wanted = frozenset(scheme.outputs)
    seen = (
        (Observed(value, rows, noise, operator), Run(np.full(2, step), np.zeros(2), 500, wanted))
        for step, value in enumerate(values)
    )
    updates = list(cycle(model, scheme, prepared, x, model.start(x), seen))
    total = sum((update.state**2).sum() for _, update in updates[1:])
    if "log_likelihood" in scheme.outputs:
        total = total + 10 * sum(u.extras["log_likelihood"].sum() for _, u in updates)
    return total


def around(**given):
    """Give a B by its products of nine variables on a ring."""
    how = {"radius": 1.5, "variance": 0.5, "positions": np.arange(9.0), "period": 9.0}
    return Localised(**how | given)


@pytest.mark.parametrize(
    ("B", "method", "error"),
    [
        (labelled(0.5 * np.eye(9), Forced.variables), "exact", None),
        (labelled(0.5 * np.eye(9), Forced.variables), "cg", None),
        (labelled(0.5 * np.eye(9), Forced.variables), "cg", 0.02),
        pytest.param(around(), "cg", 0.02, marks=pytest.mark.slow),
    ],
)
def test_a_gradient_passes_through_the_minimum(B, method, error):
    values = torch.from_numpy(3 + drawn(2, 5, 2, 5))
    how = {"window": 3, "shift": 2, "tolerance": 1e-7, "model_error": error}
    scheme = FourDVar(B, method=method, **how)
    forcing = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(through(Forced(forcing), scheme, values), forcing)
    with torch.no_grad():
        up, down = (through(Forced(forcing + d), scheme, values) for d in (1e-3, -1e-3))
    assert float(found) == pytest.approx(float(up - down) / 2e-3, rel=1e-4)


def test_a_stationary_covariance_is_that_of_distances_round_a_grid():
    B = Stationary((6, 8), variance=2.0, length=0.7)
    rows, columns = np.divmod(np.arange(48), 8)
    away = [abs(part[:, None] - part) for part in (rows, columns)]
    squares = sum(np.minimum(d, n - d) ** 2 for d, n in zip(away, (6, 8), strict=True))
    np.testing.assert_allclose(B.dense(), 2 * np.exp(-squares / (2 * 0.7**2)), atol=1e-6)
    np.testing.assert_array_equal(B.variances(), 48 * [2.0])
    v, x = drawn(0, 2, 48), drawn(1, 2, 48)
    assert np.vecdot(B.root(v), x) == pytest.approx(np.vecdot(v, B.root_adjoint(x)))
    np.testing.assert_allclose(B.root(torch.from_numpy(v)).numpy(), B.root(v), rtol=1e-12)


@pytest.mark.parametrize("method", ["exact", "cg"])
def test_a_covariance_by_its_actions_is_its_matrix(method):
    model, observations, _, near = chaotic(9)
    B = Stationary(9, variance=0.5, length=1.0)
    matrix = labelled(B.dense() + 1e-12 * np.eye(9), model.variables)
    how = {"window": 4, "tolerance": 1e-6}
    exact = daml.assimilate(model, observations, FourDVar(matrix, **how), initial=near)
    acting = FourDVar(B, method=method, **how)
    found = daml.assimilate(model, observations, acting, initial=near)
    np.testing.assert_allclose(found.analysis, exact.analysis, atol=1e-5)
    assert FourDVar(window=4).restored(acting.to_dataset()).background_covariance == B
    with pytest.raises(InputError, match="a Stationary, is for 8 variables, and the model"):
        daml.assimilate(model, observations, FourDVar(Stationary(8), window=4))


@pytest.mark.parametrize(("method", "error"), [("exact", None), ("cg", 0.01)])
def test_a_covariance_by_its_products_alone_is_its_matrix(method, error):
    model, observations, _, near = chaotic(7, missing=0.4)
    B = around(variance=np.linspace(0.2, 0.8, 9))
    how = {"window": 4, "shift": 3, "tolerance": 1e-6, "model_error": error}
    matrix = FourDVar(labelled(B.dense(), model.variables), **how)
    whole = daml.assimilate(model, observations, matrix, initial=near)
    scheme = FourDVar(replace(B, positions=None, period=None), method=method, **how)
    found = daml.assimilate(model, observations, scheme, initial=near)
    np.testing.assert_allclose(found.analysis, whole.analysis, atol=1e-8)
    np.testing.assert_allclose(found.chi_square, whole.chi_square, atol=1e-3)


def test_conjugate_gradients_take_the_same_iterations_with_products_as_with_a_root():
    """In the scalar product of B they are those of any root of it."""
    model, observations, _, near = chaotic(5)
    matrix = labelled(around().dense(), model.variables)
    how = {"window": 4, "method": "cg", "tolerance": 1e-2, "quasi_static": True}
    found = [
        daml.assimilate(model, observations, FourDVar(B, **how), initial=near)
        for B in (matrix, around())
    ]
    np.testing.assert_allclose(found[0].analysis, found[1].analysis, atol=1e-8)
    np.testing.assert_array_equal(found[0].iterations, found[1].iterations)


def test_a_matrix_that_does_not_follow_from_products_is_refused():
    model, observations, _, near = chaotic(5)
    crowded = Localised(1.0, positions=np.zeros(9))
    with pytest.raises(InputError, match="a Localised, is not positive definite within rounding"):
        daml.assimilate(model, observations, FourDVar(crowded, window=4), initial=near)
    found = daml.assimilate(
        model, observations, FourDVar(crowded, window=4, method="cg"), initial=near
    )
    assert np.isfinite(found.analysis).all()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"shape": 0}, "'shape' is 0; give the number of points"),
        ({"shape": (3, 2.5)}, "'shape' is "),
        ({"variance": -1.0}, "'variance' is -1.0; give a number > 0"),
        ({"length": np.inf}, "'length' is inf; give a number > 0"),
    ],
)
def test_a_stationary_covariance_of_wrong_numbers_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        Stationary(**{"shape": 4} | given)


@pytest.mark.slow
def test_the_factor_of_b_is_found_from_innovations():
    """With it the innovations are more likely than with others, and it is kept for the next."""
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=301, spinup=200, seed=1)
    seen = daml.observe(truth, every=4, seed=2)
    scheme, found = daml.tuned(FourDVar(window=4), model, seen)
    assert not scheme.open
    for factor in (0.25, 4.0):
        other = replace(scheme, background_covariance=factor * scheme.background_covariance)
        compared = daml.assimilate(model, seen, other)
        likelihoods = (float(a.log_likelihood[75:].sum()) for a in (found, compared))
        assert next(likelihoods) > next(likelihoods)
    again, _ = daml.tuned(FourDVar(window=4), model, seen, before=scheme)
    np.testing.assert_allclose(again.background_covariance, scheme.background_covariance, rtol=0.1)


@pytest.mark.slow
def test_a_long_window_that_is_filled_little_by_little_has_its_global_minimum():
    """Lorenz 63 over three time units, from a state that is wrong by two units: five records."""
    model, B = daml.Lorenz63(), labelled(4 * np.eye(3), daml.Lorenz63.variables)
    plain, gradual = [], []
    for seed in range(5):
        truth = daml.simulate(model, steps=61, spinup=300, seed=seed)
        seen = unseen_at_first(daml.observe(truth, every=4, error_variance=0.5, seed=seed + 9))
        near = truth[["state"]].isel(time=0) + 2 * drawn(seed, 3)
        for into, quasi_static in ((plain, False), (gradual, True)):
            scheme = FourDVar(B, window=60, quasi_static=quasi_static)
            found = daml.assimilate(model, seen, scheme, initial=near)
            squares = ((found.analysis - truth.state)[1:] ** 2).mean()
            into.append(float(squares) ** 0.5)
    assert max(gradual) < 1.0
    assert max(plain) > 5.0


@pytest.fixture(scope="module")
def network():
    """An emulator with a memory, and a record for it."""
    truth = daml.simulate(daml.Lorenz63(), steps=200, spinup=300, seed=1)
    emulator = daml.LSTM(hidden=4, layers=1, epochs=1, base=daml.Lorenz63(rho=26.0))
    seen = daml.observe(truth.isel(time=slice(9)), every=2, error_variance=0.5, seed=3)
    B = daml.climatological(truth, max_variance=0.5)
    return emulator.fit(truth.rename(state="analysis")), seen, B


def test_a_window_goes_through_the_memory_of_a_network(network):
    emulator, seen, B = network
    exact, products = (
        daml.assimilate(emulator, seen, FourDVar(B, window=8, method=m, tolerance=1e-5))
        for m in ("exact", "cg")
    )
    np.testing.assert_allclose(products.analysis, exact.analysis, atol=1e-4)
    np.testing.assert_allclose(products.chi_square, exact.chi_square, rtol=1e-3)


@pytest.mark.parametrize("method", ["exact", "cg"])
def test_a_gradient_passes_through_the_memory_of_a_network(network, method):
    emulator, _, B = network
    scheme = FourDVar(B, window=4, shift=2, method=method, tolerance=1e-6)
    bias = emulator.fitted.network.head.bias.requires_grad_()
    values = torch.from_numpy(drawn(2, 5, 2, 3) + 5)
    found = torch.autograd.grad(through(emulator, scheme, values), bias)[0]
    with torch.no_grad():
        sides = []
        for change in (0.1, -0.2):
            bias[0] += change
            sides.append(float(through(emulator, scheme, values)))
        bias[0] += 0.1
    assert float(found[0]) == pytest.approx((sides[0] - sides[1]) / 0.2, rel=5e-3)
