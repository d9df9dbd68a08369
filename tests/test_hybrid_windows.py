"""4DEnVar and the ETKF with 4DVar: windows that an ensemble analyses."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_filters import MATRIX, NAMES, STEPS, exact, kalman, record

import daml
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Run, Window
from daml.running.cycling.cycle import cycle
from daml.schemes import ETKF4DVar, FourDEnVar, FourDVar, IEnKS
from daml.training.through_cycle import Course

WINDOWS = [(1, 1), (4, 4), (5, 2)]


def ends(shift):
    """Give for each time of the record the end of the last window in which it is new."""
    times = np.arange(STEPS)
    return np.minimum(-(-times // shift) * shift, STEPS - 1)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(("window", "shift"), WINDOWS)
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (FourDEnVar, {}),
        (FourDEnVar, {"rotate": True}),
        (FourDEnVar, {"radius": np.inf}),
        (ETKF4DVar, {}),
        (ETKF4DVar, {"rotate": True, "quasi_static": True}),
    ],
)
def test_a_linear_model_is_smoothed_from_the_end_of_each_window(
    window, shift, kind, how, correlated
):
    """A model without errors: what is known at the end is known at all times before."""
    seen = record(correlated)
    mean, covariance, *_ = kalman(seen, correlated)
    means, covariances, *_ = filtered_in_windows(kind(8, window, shift, **how), seen)
    # Tangents by differences of a linear model are exact to rounding of the states.
    near = 1e-9 if kind is FourDEnVar else 1e-7
    for time, end in enumerate(ends(shift)):
        back = np.linalg.inv(np.linalg.matrix_power(MATRIX, end - time))
        np.testing.assert_allclose(means[time], back @ mean[end], atol=near)
        np.testing.assert_allclose(covariances[time], back @ covariance[end] @ back.T, atol=near)


class Linear:
    """x -> M x, on a line."""

    variables, dt, positions = NAMES, 1.0, (0.0, 1.0, 2.5)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ MATRIX.T, memory


def cycled(scheme, seen, model, first, age=1000):
    """Give the updates at all times, old enough that no start-up inflation acts."""
    space = daml.labels.space.StateSpace.of(model)
    found = read(seen, tuple(model.variables), model.dt, space=space)
    steps = np.arange(seen.sizes["time"])[:, None]
    at = [
        (found.seen(step), Run(step, np.zeros(1, int), age + row, frozenset(scheme.outputs)))
        for row, step in enumerate(steps)
    ]
    memory = scheme.prepare(found.setting())
    return [update for _, update in cycle(model, scheme, memory, first, None, at)]


def filtered_in_windows(scheme, seen, model=None):
    updates = cycled(scheme, seen, model or Linear(), exact(scheme.members))
    states = np.array([update.state[0] for update in updates])
    extras = [np.array([u.extras[n][0] for u in updates]) for n in ("chi_square", "log_likelihood")]
    return states.mean(axis=1), np.array([np.cov(state.T) for state in states]), *extras


@pytest.mark.parametrize(
    "make",
    [
        lambda shift: FourDEnVar(8, shift),
        lambda shift: FourDEnVar(8, shift, radius=np.inf),
        lambda shift: ETKF4DVar(8, shift),
    ],
)
@pytest.mark.parametrize("shift", [1, 3])
def test_what_is_expected_of_a_window_is_the_likelihood_of_its_observations(shift, make):
    seen = record(True)
    *_, chi, likelihood = kalman(seen, True)
    *_, own, joint = filtered_in_windows(make(shift), seen)
    if shift == 1:
        np.testing.assert_allclose(own, chi, rtol=1e-7)
    # The joint likelihood of some times is the product of those of each, given those before.
    for end in range(shift, STEPS, shift):
        window = slice(end - shift + 1, end + 1)
        np.testing.assert_allclose(joint[window].sum(), likelihood[window].sum(), atol=1e-8)
    assert np.isnan(own[7])
    assert joint[7] == (0 if shift > 1 else pytest.approx(0))


def loop(model, first, seen, window):
    """Analyse windows of new observations, one after the other: the textbook's formulas."""
    members, found = first[0], []
    H, R = np.eye(3)[:2], np.diag([0.7, 1.2])
    values = seen.observation.values
    for start in range(0, len(values) - window, window):
        path, states = members, []
        for _ in range(window):
            path = model.step(path, None)[0]
            states.append(path)
        rows = [time for time in range(window) if np.isfinite(values[start + 1 + time]).all()]
        x = np.array([states[time] @ H.T for time in rows])  # (time, member, observed)
        x = np.moveaxis(x, 1, 0).reshape(len(members), -1)
        gap = np.concatenate([values[start + 1 + time] for time in rows]) - x.mean(axis=0)
        white = np.linalg.cholesky(np.linalg.inv(np.kron(np.eye(len(rows)), R)))
        S = (x - x.mean(axis=0)) @ white / (len(members) - 1) ** 0.5
        values_of, vectors = np.linalg.eigh(np.linalg.inv(np.eye(len(members)) + S @ S.T))
        anomalies = members - members.mean(axis=0)
        cov = (vectors * values_of) @ vectors.T
        mean = (
            members.mean(axis=0)
            + anomalies.T @ cov @ S @ (white.T @ gap) / (len(members) - 1) ** 0.5
        )
        members = mean + (vectors * values_of**0.5) @ vectors.T @ anomalies
        for _ in range(window):
            found.append(members := model.step(members, None)[0])
    return np.array(found)


def lorenz(steps, every=1, seed=1, variables=("x0", "x1")):
    truth = daml.simulate(daml.Lorenz63(), steps=steps, spinup=300, seed=seed)
    seen = daml.observe(truth, variables=list(variables), every=every, seed=seed + 1)
    seen = seen.reindex(time=truth.time).assign(error_variance=seen.error_variance)
    return truth, seen.assign(error_variance=("variable", [0.7, 1.2, 1.0][: len(variables)]))


def test_of_a_nonlinear_model_it_is_the_loop_of_the_textbook():
    truth, seen = lorenz(21, every=2)
    first = truth.state.values[0] + np.random.default_rng(3).standard_normal((1, 6, 3))
    seen["observation"][0] = np.nan
    right = loop(daml.Lorenz63(), first, seen, window=4)
    own = np.array([u.state[0] for u in cycled(FourDEnVar(6, 4), seen, daml.Lorenz63(), first)])
    np.testing.assert_allclose(own[1:], right, rtol=1e-8)


def test_without_a_radius_it_is_the_first_iteration_of_the_smoother():
    truth, seen = lorenz(40)
    first = truth.state.values[0] + np.random.default_rng(3).standard_normal((1, 6, 3))
    one, other = (
        cycled(scheme, seen, daml.Lorenz63(), first)
        for scheme in (FourDEnVar(6, 5, 3, rotate=True), IEnKS(6, 5, 3, iterations=1, rotate=True))
    )
    for own, right in zip(one, other, strict=True):
        np.testing.assert_allclose(own.state, right.state, rtol=1e-8)
        np.testing.assert_allclose(own.extras["chi_square"], right.extras["chi_square"])


def test_a_localised_analysis_has_the_tapered_covariances_of_its_times():
    model, radius = daml.models.Lorenz96(n=8), 1.5
    truth = daml.simulate(model, steps=4, spinup=300, seed=1)
    seen = daml.observe(truth, variables=["x1", "x4", "x5"], error_variance=0.5, seed=2)
    seen["observation"][0] = np.nan
    seen["observation"][2, 1] = np.nan
    first = truth.state.values[0] + np.random.default_rng(3).standard_normal((1, 5, 8))
    own = cycled(FourDEnVar(5, 3, radius=radius), seen, model, first)
    apart = np.abs(np.arange(8)[:, None] - np.arange(8))
    tapers = daml.schemes.taper(np.minimum(apart, 8 - apart), radius)
    states = [first[0]]
    for _ in range(3):
        states.append(model.step(states[-1], None)[0])
    A = [x - x.mean(axis=0) for x in states]
    rows = [np.isfinite(row) for row in seen.observation.values]
    H = [np.eye(8)[[1, 4, 5]][there] for there in rows]
    cross = np.concatenate([(tapers * (A[0].T @ A[k] / 4)) @ H[k].T for k in (1, 2, 3)], axis=1)
    S = np.block(
        [[H[j] @ (tapers * (A[j].T @ A[k] / 4)) @ H[k].T for k in (1, 2, 3)] for j in (1, 2, 3)]
    )
    gap = np.concatenate(
        [seen.observation.values[k][rows[k]] - H[k] @ states[k].mean(axis=0) for k in (1, 2, 3)]
    )
    total = S + 0.5 * np.eye(len(gap))
    mean = first[0].mean(axis=0) + cross @ np.linalg.solve(total, gap)
    values, vectors = np.linalg.eigh(total)
    root = (vectors * values**0.5) @ vectors.T
    gain = cross @ np.linalg.inv(root) @ np.linalg.inv(root + 0.5**0.5 * np.eye(len(gap)))
    signal = np.concatenate([H[k] @ A[k].T for k in (1, 2, 3)])
    members = mean + A[0] - (gain @ signal).T
    for time in (1, 2, 3):
        members = model.step(members, None)[0]
        np.testing.assert_allclose(own[time].state[0], members, rtol=1e-9)
    square = gap @ np.linalg.solve(total, gap)
    likelihood = -(square + np.linalg.slogdet(total)[1]) / 2
    assert own[3].extras["log_likelihood"][0] == pytest.approx(likelihood)
    last = slice(5, 8)
    chi = gap[last] @ np.linalg.solve(total[last, last], gap[last]) / 3
    assert own[3].extras["chi_square"][0] == pytest.approx(chi)


class Placed(daml.Lorenz63):
    positions = (0.0, 1.0, 2.5)


@pytest.mark.parametrize("radius", [None, 2.0])
def test_the_gradient_is_that_of_differences(radius):
    model, scheme = Placed(), FourDEnVar(5, 3, radius=radius, inflation=1.1)
    truth, seen = lorenz(4)
    seen["observation"][2, 0] = np.nan
    space = daml.labels.space.StateSpace.of(model)
    found = read(seen, model.variables, model.dt, space=space)
    setting = found.setting("cpu")
    memory = scheme.prepare(setting)
    observed = []
    for step in (1, 2, 3):
        observed.append(placed(found.seen(np.array([step])), setting, "cpu"))
    step = np.zeros(1, int)
    runs = [Run(step, step, 3, frozenset(scheme.outputs))] * 3

    def function(x):
        path = [x]
        for _ in range(3):
            path.append(model.step(path[-1], None)[0])
        window = Window(x, tuple(path[1:]), 3, None, None, (0, 0, 0), forecasts=tuple(path[1:]))
        update, _ = scheme.update(window, observed, runs, memory)
        return update.state, update.extras["log_likelihood"][-1]

    drawn = np.random.default_rng(3).standard_normal((1, 5, 3))
    x = torch.as_tensor(truth.state.values[0] + drawn).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,), atol=1e-6, fast_mode=True)


STATIC = daml.covariance.labelled(np.array([[1.0, 0.5, 0], [0.5, 2.0, 0], [0, 0, 1.5]]), NAMES)


@pytest.mark.parametrize("correlated", [False, True])
def test_4dvar_beside_an_ensemble_has_a_blend_of_covariances(correlated):
    """The first window, of a linear model: its mean is that of the Kalman filter with this B."""
    seen, beta, window = record(correlated).isel(time=slice(0, 5)), 0.3, 4
    seen["observation"][0] = np.nan
    blend = beta * STATIC.values + (1 - beta) * np.cov(exact(5)[0].T)
    scheme = ETKF4DVar(5, window, beta=beta, background_covariance=STATIC)
    updates = cycled(scheme, seen, Linear(), exact(5))
    mean, _, _, likelihood = kalman(seen, correlated, first=blend)
    own = [update.state[0] for update in updates]
    np.testing.assert_allclose(own[4].mean(axis=0), mean[4], atol=1e-7)
    assert updates[4].extras["log_likelihood"][0] == pytest.approx(likelihood.sum(), abs=1e-7)
    _, covariance, *_ = kalman(seen, correlated, first=np.cov(exact(5)[0].T))
    np.testing.assert_allclose(np.cov(own[4].T), covariance[4], atol=1e-7)


class Warmed(daml.Lorenz63):
    """Lorenz 63 with a rho that torch differentiates by."""

    def __init__(self, rho):
        super().__init__()
        object.__setattr__(self, "rho", rho)


@pytest.mark.parametrize(
    "how",
    [{}, {"rotate": True, "shift": 2}, {"beta": 0.3, "background_covariance": STATIC}],
    ids=["ensemble", "turned", "blended"],
)
def test_a_gradient_passes_through_the_cycle_of_4dvar_beside_an_ensemble(how):
    """That of the loss of a training through the cycle, by a parameter of the model."""
    _, seen = lorenz(9)
    seen["observation"][3, 1] = np.nan
    like = torch.zeros((), dtype=torch.float64)
    course = Course(daml.Lorenz63(), seen, 0.0, like)
    sequences = [tensor[None] for tensor in course.tensors]
    scheme = ETKF4DVar(4, 3, tolerance=1e-8, inflation=1.1, **how)

    def loss(rho):
        model = Warmed(rho)
        return course.objective(lambda: model, scheme, like, 2).total(sequences)

    rho = torch.tensor(28.0, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(loss(rho), rho)
    with torch.no_grad():
        up, down = (float(loss(rho + move)) for move in (1e-4, -1e-4))
    assert abs(float(found)) > 0.1
    assert float(found) == pytest.approx((up - down) / 2e-4, rel=1e-3)


def test_with_the_climatology_alone_the_mean_is_that_of_4dvar():
    truth, seen = lorenz(5)
    seen["observation"][0] = np.nan
    first = truth.state.values[0] + np.random.default_rng(3).standard_normal((1, 6, 3))
    how = {"background_covariance": STATIC, "window": 4, "tolerance": 1e-6}
    own = cycled(ETKF4DVar(6, beta=1.0, **how), seen, daml.Lorenz63(), first)
    right = cycled(FourDVar(**how), seen, daml.Lorenz63(), first.mean(axis=1))
    x = right[1].state[0]
    for _ in range(3):
        x = daml.Lorenz63().step(x, None)[0]
    assert own[1].extras["iterations"][0] == right[1].extras["iterations"][0] > 1
    np.testing.assert_allclose(own[1].extras["chi_square"], right[1].extras["chi_square"])
    # Members are moved by the model, and their mean is not on the way of the analysis: at the
    # start it is.
    start = own[1].state[0]
    np.testing.assert_allclose(start.mean(axis=0), right[1].state[0], atol=0.05)
    tight = first.mean(axis=1, keepdims=True) + 1e-6 * (first - first.mean(axis=1, keepdims=True))
    own = cycled(ETKF4DVar(6, beta=1.0, **how), seen, daml.Lorenz63(), tight)
    for one, other in zip(own, right, strict=True):
        np.testing.assert_allclose(one.state[0].mean(axis=0), other.state[0], atol=1e-5)


def test_with_the_ensemble_alone_the_mean_is_the_minimum_in_the_space_of_the_members():
    """As a general minimiser finds it; that of the smoother, which has no tangent, lies near."""
    truth, seen = lorenz(9, every=2)
    seen["observation"][0] = np.nan
    first = truth.state.values[0] + 0.5 * np.random.default_rng(3).standard_normal((1, 4, 3))
    model, mean = daml.Lorenz63(), first[0].mean(axis=0)
    anomalies = (first[0] - mean) / 3**0.5

    def cost(weights):
        x, total = mean + weights @ anomalies, weights @ weights
        for row in seen.observation.values[1:]:
            x = model.step(x, None)[0]
            total += np.nansum((row - x[:2]) ** 2 / [0.7, 1.2])
        return total

    least = minimize(cost, np.zeros(4), method="BFGS", options={"gtol": 1e-6})
    right, spread = mean + least.x @ anomalies, first[0].std(axis=0)
    schemes = ETKF4DVar(4, 8, tolerance=1e-6), IEnKS(4, 8), FourDEnVar(4, 8)
    apart = [
        np.abs((start_of(scheme, seen, model, first).state[0].mean(axis=0) - right) / spread).max()
        for scheme in schemes
    ]
    assert apart[0] < 1e-4
    assert apart[0] < apart[1] < 0.05 < apart[2]  # which makes one step


def start_of(scheme, seen, model, first):
    """Give the update of the last window, at its start."""
    found, given = [], scheme.update

    def update(*parts):
        found.append(given(*parts))
        return found[-1]

    object.__setattr__(scheme, "update", update)
    cycled(scheme, seen, model, first)
    return found[-1][0]


def test_members_beside_4dvar_are_those_of_an_etkf_that_takes_times_in_turn():
    """A plain loop in NumPy: each time moves the start, from which members are moved again."""
    truth, seen = lorenz(5, every=2)
    seen["observation"][0] = np.nan
    first = truth.state.values[0] + np.random.default_rng(3).standard_normal((1, 6, 3))
    own = start_of(ETKF4DVar(6, 4), seen, daml.Lorenz63(), first).state[0]
    members, H, R = first[0], np.eye(3)[:2], np.diag([0.7, 1.2])
    for time in (2, 4):
        x = members
        for _ in range(time):
            x = daml.Lorenz63().step(x, None)[0]
        gap = seen.observation.values[time] - H @ x.mean(axis=0)
        S = (x - x.mean(axis=0)) @ H.T @ np.diag(np.diag(R) ** -0.5) / 5**0.5
        values, vectors = np.linalg.eigh(np.eye(6) + S @ S.T)
        A = members - members.mean(axis=0)
        weights = (vectors / values) @ vectors.T @ S @ (gap / np.diag(R) ** 0.5) / 5**0.5
        members = members.mean(axis=0) + weights @ A + (vectors / values**0.5) @ vectors.T @ A
    np.testing.assert_allclose(
        own - own.mean(axis=0), members - members.mean(axis=0), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"members": 1}, "'members' is 1; give 2 or more"),
        ({"radius": -2.0}, "'radius' is -2.0; give a length > 0"),
        ({"radius": "wide"}, "'radius' is 'wide'; give a number or None"),
        ({"window": "long"}, "'window' is 'long'; give a whole number"),
    ],
)
def test_bad_settings_are_refused(how, text):
    with pytest.raises(InputError, match=text):
        FourDEnVar(**({"members": 5, "window": 4} | how))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"outer_loops": 0}, "'outer_loops' is 0; give 1 or more"),
        ({"tolerance": 2.0}, r"'tolerance' is 2.0; give a number in \(0, 1\)"),
        ({"beta": -0.1}, "ETKF4DVar: 'beta' is -0.1; give a number from 0"),
        ({"background_covariance": "innovations"}, "'background_covariance' is 'innovations'; gi"),
    ],
)
def test_bad_settings_of_4dvar_with_an_ensemble_are_refused(how, text):
    with pytest.raises(InputError, match=text):
        ETKF4DVar(**({"members": 5, "window": 4} | how))


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (FourDEnVar(5, 0), "'window' is 0; give 1 model step or more"),
        (FourDEnVar(5, 2, 3), "'shift' is 3 model steps, and 'window' 2"),
        (ETKF4DVar(5, 3, 4), "'shift' is 4 model steps, and 'window' 3"),
        (FourDEnVar(5, 2, radius=1.0), "it weighs observations by their distance"),
    ],
)
def test_what_does_not_fit_a_record_is_refused(scheme, text):
    with pytest.raises(InputError, match=text):
        daml.assimilate(daml.Lorenz63(), lorenz(30)[1], scheme)


@pytest.mark.statistical
def test_with_few_members_localised_windows_beat_a_local_filter():
    model = daml.models.Lorenz96(n=40)
    truth = daml.simulate(model, steps=600, spinup=500, seed=1)
    seen, how = daml.observe(truth, every=2, seed=2), {"inflation": 1.05, "rotate": True}
    schemes = FourDEnVar(8, 2, radius=7.28, **how), daml.schemes.LETKF(8, 7.28, **how)
    found = [daml.assimilate(model, seen, scheme) for scheme in schemes]
    own, local = (float(((f.analysis - truth.state)[200:] ** 2).mean() ** 0.5) for f in found)
    assert own < 0.36
    assert own < local
