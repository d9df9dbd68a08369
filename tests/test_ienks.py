"""The iterative ensemble Kalman smoother."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.linalg import sqrtm

import daml
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Run
from daml.running.cycling.cycle import cycle
from daml.schemes import ETKF, RTPP, EnKFN, IEnKS

NAMES, STEPS = ("x0", "x1", "x2"), 25
MATRIX = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.1, 0.0, 0.95]])
FIRST = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])
ERROR, START = np.array([0.5, 0.8]), np.array([1.0, -1.0, 0.5])
H = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]])


@dataclass(frozen=True)
class Linear:
    """x -> M x."""

    variables, dt = NAMES, 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ MATRIX.T, memory


def record():
    """Give observations of x0 and of 2 x1 - x2, a fifth of them missing."""
    random = np.random.default_rng(0)
    values = random.standard_normal((STEPS, 2)) * 2
    values[random.random(values.shape) < 0.2] = np.nan
    values[7] = np.nan
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "operator": (("variable", "model_variable"), H),
            "error_variance": ("variable", ERROR),
        },
        {"time": np.arange(STEPS) * 1.0, "variable": ["a", "b"], "model_variable": list(NAMES)},
    )


def exact(members):
    """Give an ensemble (1, member, variable) whose mean and covariance are those of the start."""
    drawn = np.random.default_rng(1).standard_normal((members, 3))
    drawn -= drawn.mean(axis=0)
    drawn = np.linalg.qr(drawn)[0] * (members - 1) ** 0.5
    return (START + drawn @ np.linalg.cholesky(FIRST).T)[None]


@dataclass(frozen=True)
class Watched:
    """A scheme that notes its windows and what it made of them."""

    scheme: IEnKS
    noted: list = field(default_factory=list)
    members = property(lambda self: self.scheme.members)
    window = property(lambda self: self.scheme.window)
    shift = property(lambda self: self.scheme.shift)
    carries = True

    def update(self, window, observed, run, memory):
        update, memory = self.scheme.update(window, observed, run, memory)
        self.noted.append((window, update))
        return update, memory


def cycled(scheme, seen, model=None, first=None, memory=None):
    """Give the updates of a cycle, old enough that no start-up inflation acts; and its windows."""
    found = read(seen, NAMES, 1.0)
    first = exact(scheme.members) if first is None else first
    rows = np.zeros(len(first), int)
    at = [
        (found.seen(rows + step), Run(rows + step, rows, 1000 + step, frozenset(scheme.outputs)))
        for step in range(int(seen.time[-1]) + 1)
    ]
    prepared, watched = scheme.prepare(found.setting()), scheme
    if getattr(scheme, "window", None) is not None:
        watched = Watched(scheme)
    pairs = list(cycle(model or Linear(), watched, prepared, first, memory, at))
    return pairs, getattr(watched, "noted", [])


def information(upto, at):
    """Give mean and covariance of the state at a step, of all observations until another."""
    precision = np.linalg.inv(FIRST)
    vector, moved = precision @ START, np.eye(3)
    for row in record().observation.values[: upto + 1]:
        there = np.isfinite(row)
        G = H[there] @ moved
        precision = precision + G.T / ERROR[there] @ G
        vector = vector + G.T / ERROR[there] @ row[there]
        moved = MATRIX @ moved
    covariance, there = np.linalg.inv(precision), np.linalg.matrix_power(MATRIX, at)
    return there @ covariance @ vector, there @ covariance @ there.T


WINDOWS = [(1, 1), (4, 4), (4, 2), (5, 2), (7, 3)]
windows = pytest.mark.parametrize(("window", "shift"), WINDOWS)
multiple = pytest.mark.parametrize("multiple", [False, True])


def close(members, expected):
    """Compare mean and covariance of members (member, variable)."""
    np.testing.assert_allclose(members.mean(axis=0), expected[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.cov(members.T), expected[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rotate", [False, True])
@multiple
@windows
def test_a_linear_model_gives_the_kalman_smoother_at_the_start_and_the_filter_at_the_end(
    window, shift, multiple, rotate
):
    scheme = IEnKS(8, window, shift, multiple=multiple, rotate=rotate)
    pairs, noted = cycled(scheme, record())
    stop = 0
    for part, update in noted:
        stop += part.fresh if part.steps else 0
        close(update.state[0], information(stop, stop - part.steps))
        close(pairs[stop][1].state[0], information(stop, stop))
        for place in range(part.fresh if part.steps else 0):
            time = stop - place
            close(pairs[time][0][0], information(stop - part.fresh, time))
            close(pairs[time][1].state[0], information(stop, time))
    assert stop == STEPS - 1


@multiple
@windows
def test_innovations_are_judged_by_the_forecast_from_the_window_before(window, shift, multiple):
    seen = record()
    pairs, noted = cycled(IEnKS(8, window, shift, multiple=multiple), seen)
    time = 0
    for part, _ in noted:
        times = range(time, time + part.fresh)
        before = time - 1 if part.steps else -1
        rows, gaps, squares = [], [], []
        mean, covariance = information(before, 0)
        for t in times:
            values = seen.observation.values[t]
            there = np.isfinite(values)
            G = H[there] @ np.linalg.matrix_power(MATRIX, t) / ERROR[there, None] ** 0.5
            gap = values[there] / ERROR[there] ** 0.5 - G @ mean
            expected = G @ covariance @ G.T + np.eye(len(gap))
            squares.append(gap @ np.linalg.solve(expected, gap) / len(gap) if len(gap) else np.nan)
            rows.append(G)
            gaps.append(gap)
        found = [pairs[t][1].extras["chi_square"][0] for t in times]
        np.testing.assert_allclose(found, squares, rtol=1e-8)
        G, gap = np.concatenate(rows), np.concatenate(gaps)
        expected = G @ covariance @ G.T + np.eye(len(gap))
        counts = np.isfinite(seen.observation.values[times.start : times.stop])
        likelihood = -(gap @ np.linalg.solve(expected, gap) + np.linalg.slogdet(expected)[1]) / 2
        likelihood -= np.sum(counts * np.log(ERROR)) / 2
        found = [pairs[t][1].extras["log_likelihood"][0] for t in times]
        np.testing.assert_allclose(found[-1], likelihood, rtol=1e-8, atol=1e-8)
        assert not np.any(found[:-1])
        time += part.fresh


@pytest.mark.parametrize("how", [{}, {"rotate": True}, {"inflation": RTPP(0.3)}])
@pytest.mark.parametrize(("iterations", "finite_size"), [(1, 0), (10, 0), (1, 1), (10, 1), (1, 2)])
def test_a_window_of_no_step_is_the_analysis_of_the_filter(iterations, finite_size, how):
    """The first time of a cycle is one: the model plays no part, and H is linear."""
    seen = record().isel(time=slice(1))
    scheme = IEnKS(8, 1, iterations=iterations, finite_size=finite_size, **how)
    other = EnKFN(8, certainty=finite_size, **how) if finite_size else ETKF(8, **how)
    own, expected = (cycled(one, seen)[0][0][1] for one in (scheme, other))
    np.testing.assert_allclose(own.state, expected.state, rtol=1e-10, atol=1e-10)
    for name in ("chi_square", "log_likelihood"):
        np.testing.assert_allclose(own.extras[name], expected.extras[name], rtol=1e-10)


def test_the_certainty_of_a_finite_ensemble_tempers_what_innovations_say():
    run, spectrum = Run(0, 0, 1000, frozenset()), np.full((2, 1, 8), 3.0)
    factors = [EnKFN(8, certainty=c).factor(run, *spectrum).item() for c in (0.5, 1.0, 2.0, 1e9)]
    assert factors == sorted(factors, reverse=True)
    # The mode of the prior alone: e / c, both corrected by the root of their ratio to the power m.
    e, c, m = 9 / 8, 8 / 7, 1 / 4
    assert factors[-1] == pytest.approx((e / c) ** (1 - m), rel=1e-6)


class Oscillator:
    """A nonlinear model: Lorenz 63."""

    variables, dt = NAMES, 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return daml.Lorenz63(dt=0.05).step(x)


def nonlinear(steps=61, every=10):
    truth = daml.simulate(daml.Lorenz63(dt=0.05), steps=steps, spinup=200, seed=3)
    seen = daml.observe(truth, every=every, seed=4)
    return seen.assign_coords(time=np.round(seen.time / 0.05))


def by_hand(ensemble, seen, window, shift, tolerance=0.05, most=10):
    """Give the ensembles at the starts of the windows: the transform variant for one state."""
    model, size = daml.Lorenz63(dt=0.05), ensemble.shape[0]
    values = {int(t): row for t, row in zip(seen.time.values, seen.observation.values, strict=True)}

    def through(members, steps):
        path = [members]
        for _ in range(steps):
            path.append(model.step(path[-1])[0])
        return path

    def analysed(members, start, new):
        mean, A = members.mean(axis=0), members - members.mean(axis=0)
        w, T, before = np.zeros(size), np.eye(size), None
        times = [t for t in new if t in values]
        for _ in range(most if times else 0):
            path = through(mean + (w / (size - 1) ** 0.5 + T) @ A, max(new) - start)
            S, d = [], []
            for t in times:
                x = path[t - start]
                S.append(np.linalg.solve(T, x - x.mean(axis=0)) / (size - 1) ** 0.5)
                d.append(values[t] - x.mean(axis=0))
            S, d = np.concatenate(S, axis=1), np.concatenate(d)
            step = np.linalg.solve(np.eye(size) + S @ S.T, S @ d - w)
            if before is not None and np.linalg.norm(np.linalg.solve(before.T, step)) < tolerance:
                w, before = w + step, None
                T = np.linalg.inv(np.real(sqrtm(np.eye(size) + S @ S.T)))
                break
            w = w + step
            before = T = np.linalg.inv(np.real(sqrtm(np.eye(size) + S @ S.T)))
        return mean + (w / (size - 1) ** 0.5 + T) @ A

    found, start, stop, last = [], 0, 0, int(seen.time[-1])
    ensemble = analysed(ensemble, 0, [0])
    while stop < last:
        begun, new = stop, range(stop + 1, min(stop + shift, last) + 1)
        stop = new[-1]
        ahead = max(stop - window, 0) - start
        ensemble, start = through(ensemble, ahead)[-1], start + ahead
        ensemble = analysed(ensemble, start, list(new))
        assert begun < stop
        found.append(ensemble)
    return found


def beginning(count):
    """Give ensembles (count, 6, variable) near the attractor."""
    drawn = np.random.default_rng(5).standard_normal((count, 6, 3))
    truth = daml.simulate(daml.Lorenz63(dt=0.05), steps=1, spinup=200, seed=3)
    return truth.state.values[0] + drawn * np.arange(0.5, 0.5 + count)[:, None, None]


@pytest.mark.parametrize(("window", "shift"), [(10, 10), (20, 10), (7, 3)])
def test_a_nonlinear_model_is_analysed_as_by_a_loop_for_one_state(window, shift):
    seen = nonlinear()
    _, noted = cycled(IEnKS(6, window, shift), seen, Oscillator(), beginning(2))
    assert len({int(n) for _, u in noted for n in u.extras["iterations"][0]}) > 1
    for row, ensemble in enumerate(beginning(2)):
        expected = by_hand(ensemble, seen, window, shift)
        for (_, update), one in zip(noted[1:], expected, strict=True):
            np.testing.assert_allclose(update.state[row], one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", [{}, {"multiple": True, "finite_size": True, "rotate": True}])
def test_states_side_by_side_do_not_change_each_other(how):
    seen, first = nonlinear(), beginning(4)
    scheme = IEnKS(6, 20, 10, inflation=1.1, **how)
    together = cycled(scheme, seen, Oscillator(), first)[0]
    for row in range(4):
        alone = cycled(scheme, seen, Oscillator(), first[row : row + 1])[0]
        for (_, one), (_, many) in zip(alone, together, strict=True):
            np.testing.assert_allclose(many.state[row], one.state[0], rtol=1e-9, atol=1e-9)
            assert many.extras["iterations"][row] == one.extras["iterations"][0]


HIDDEN = np.array([[0.2, 0.0], [0.1, -0.1], [0.0, 0.3]])
DECAY, PULL = np.diag([0.8, 0.5]), np.array([[0.3, 0.0, 0.1], [0.0, 0.2, 0.0]])


class Remembering(Linear):
    """x -> M x + G h with a memory h -> D h + P x, which moves with the members."""

    def step(self, x, memory):
        inner, rest = memory
        return x @ MATRIX.T + inner @ HIDDEN.T, (inner @ DECAY + x @ PULL.T, rest)

    def packed(self, memory, x):
        return memory[0]

    def unpacked(self, memory, carried):
        return carried, memory[1]


@multiple
@pytest.mark.parametrize(("window", "shift"), [(1, 1), (4, 2)])
def test_what_members_carry_is_analysed_as_their_states_are(window, shift, multiple):
    """States and memories are one state of a linear model: the Kalman filter's."""
    random = np.random.default_rng(6)
    inner, first = random.standard_normal((1, 8, 2)), random.standard_normal((1, 8, 3))
    scheme = IEnKS(8, window, shift, multiple=multiple)
    pairs, _ = cycled(scheme, record(), Remembering(), first, (inner, None))
    both = np.concatenate((first, inner), axis=-1)[0]
    mean, covariance = both.mean(axis=0), np.cov(both.T)
    whole, seen = np.block([[MATRIX, HIDDEN], [PULL, DECAY]]), np.pad(H, ((0, 0), (0, 2)))
    for time, row in enumerate(record().observation.values):
        there = np.isfinite(row)
        expected = seen[there] @ covariance @ seen[there].T + np.diag(ERROR[there])
        gain = covariance @ seen[there].T @ np.linalg.inv(expected)
        mean = mean + gain @ (row[there] - seen[there] @ mean)
        covariance = covariance - gain @ seen[there] @ covariance
        if time % shift == 0:
            close(pairs[time][1].state[0], (mean[:3], covariance[:3, :3]))
        mean, covariance = whole @ mean, whole @ covariance @ whole.T


def test_some_members_of_a_batch_are_moved_with_their_own_memory():
    random = np.random.default_rng(7)
    first, inner = random.standard_normal((3, 6, 3)), random.standard_normal((3, 6, 2))
    scheme, seen = IEnKS(6, 3), record().isel(time=slice(4))
    _, noted = cycled(scheme, seen, Remembering(), first, (inner, (None, inner[..., 0])))
    window, rows = noted[1][0], np.array([True, False, True])
    whole, some = window.moved(window.state), window.moved(window.state[rows], rows=rows)
    other = window.moved(window.state[rows], rows=rows, carried=window.carried[rows] + 1)
    for one, part, changed in zip(whole, some, other, strict=True):
        np.testing.assert_array_equal(one[rows], part)
        assert (changed != part).any()
    drawn = daml.schemes.IEnKS(6, 3, model_error=0.1)
    _, noted = cycled(drawn, seen, Remembering(), first, (inner, (None, inner[..., 0])))
    window = noted[1][0]
    whole, some = window.moved(window.state), window.moved(window.state[rows], rows=rows)
    np.testing.assert_array_equal(whole[-1][rows], some[-1])


@pytest.mark.parametrize("how", [{}, {"rotate": True}, {"multiple": True}])
def test_gradients_pass_through_the_last_iteration(how):
    """Members lie close together: there the derivative of the iterations hardly depends on them."""
    seen = nonlinear(steps=5, every=2)
    found = read(seen, NAMES, 1.0)
    scheme = IEnKS(6, 2, 1, **how)
    first = torch.as_tensor(0.1 * (beginning(2) - beginning(2).mean(axis=1, keepdims=True)))
    first = first + torch.as_tensor(beginning(2).mean(axis=1, keepdims=True))
    setting, rows = found.setting("cpu"), np.zeros(2, int)
    at = []
    for step in range(int(seen.time[-1]) + 1):
        given = placed(found.seen(rows + step), setting, "cpu")
        at.append((given, Run(rows + step, rows, 1000 + step, frozenset(scheme.outputs))))

    def total(x):
        pairs = cycle(Oscillator(), scheme, scheme.prepare(setting), x, None, at)
        updates = [update for _, update in pairs]
        likelihood = sum(u.extras["log_likelihood"].sum() for u in updates)
        return likelihood + updates[-1].state[..., 0].sum()

    x = first.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(x), x)
    for place in ((0, 1, 0), (1, 3, 2), (1, 5, 1)):
        sides = []
        for sign in (1, -1):
            moved = first.clone()
            moved[place] += sign * 1e-5
            sides.append(float(total(moved)))
        assert float(gradient[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3)


def test_no_gradient_passes_through_a_prior_of_finite_size():
    seen = record().isel(time=slice(1))
    found = read(seen, NAMES, 1.0)
    setting, rows = found.setting("cpu"), np.zeros(1, int)
    given = placed(found.seen(rows), setting, "cpu")
    scheme = IEnKS(8, 2, finite_size=True)
    at = [(given, Run(rows, rows, 1000, frozenset(scheme.outputs)))]
    x = torch.as_tensor(exact(8)).requires_grad_()
    with pytest.raises(InputError, match="no gradient passes through the search for the inflation"):
        list(cycle(Oscillator(), scheme, scheme.prepare(setting), x, None, at))


def test_an_emulator_is_trained_through_its_windows():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=120, spinup=500, seed=1)
    seen = daml.observe(truth, variables=list(NAMES), every=2, seed=2)
    emulator = daml.LSTM(hidden=3, layers=1, epochs=1, cycle_epochs=3, base=daml.Lorenz63())
    emulator = emulator.fit(daml.assimilate(daml.Lorenz63(), seen, ETKF(6, inflation=1.4)))
    how = {"sequence_length": 20, "burn_in": 4, "held_out": 0.0, "learning_rate": 0.02}
    trained = emulator.fit_cycle(seen, IEnKS(6, 4, 2, inflation=1.3), **how)
    scores = [
        float(daml.assimilate(one, seen, IEnKS(6, 4, 2, inflation=1.3)).log_likelihood.mean())
        for one in (emulator, trained)
    ]
    assert scores[1] > scores[0]


def watched(window, every=5, **how):
    truth = daml.simulate(daml.Lorenz63(), steps=301, spinup=200, seed=1)
    seen = daml.observe(truth, every=every, seed=2)
    scheme = IEnKS(6, window, inflation=1.05, **how)
    return daml.assimilate(daml.Lorenz63(), seen, scheme, segments=1)


@pytest.mark.filterwarnings("ignore:assimilate. IEnKS has lost the observations")
def test_windows_beyond_the_predictability_of_the_model_are_marked_and_warned_of():
    with pytest.warns(UserWarning, match=r"IEnKS did not converge in [\d.]+ % of the record .*win"):
        found = watched(40, every=10, iterations=3)
    assert 0.05 < float((found.converged == 0).mean()) <= 1
    assert (found.iterations.where(found.converged == 0, drop=True) == 3).all()


def test_one_iteration_has_nothing_to_converge():
    found = watched(5, iterations=1)
    assert (found.converged == 1).all()
    assert (found.iterations == 1).all()


def test_a_window_without_observations_moves_on_as_it_is():
    found = watched(2, every=10)
    empty = np.arange(300) % 10 < 8  # of the times after the first
    assert (found.iterations[1:][empty] == 1).all()
    assert (found.iterations[1:][~empty] > 1).all()
    assert (found.converged == 1).all()
    np.testing.assert_allclose(found.analysis[1:][empty], found.background[1:][empty], rtol=1e-12)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"members": 1}, "IEnKS: 'members' is 1; give 2 or more"),
        ({"window": 2.5}, "IEnKS: 'window' is 2.5; give a whole number"),
        ({"window": 0}, "IEnKS: 'window' is 0; give 1 model step or more"),
        ({"shift": 9}, "IEnKS: 'shift' is 9 model steps, and 'window' 4"),
        ({"shift": 0}, "IEnKS: 'shift' is 0; give 1 model step or more"),
        ({"iterations": 0}, "IEnKS: 'iterations' is 0; give 1 or more"),
        ({"finite_size": -1.0}, "IEnKS: 'finite_size' is -1; give True, or a certainty > 0"),
        ({"finite_size": np.inf}, "IEnKS: 'finite_size' is inf; give True, or a certainty > 0"),
        ({"multiple": "yes"}, "IEnKS: 'multiple' is 'yes'; give True or False"),
    ],
)
def test_arguments_out_of_range_are_refused(how, text):
    with pytest.raises(InputError, match=text):
        daml.assimilate(Linear(), record(), IEnKS(**{"members": 5, "window": 4} | how))
    with pytest.raises(InputError, match="EnKFN: 'certainty' is 0; give a factor > 0"):
        EnKFN(5, certainty=0)
