"""Training through the assimilation cycle: its gradients, its limits, its bookkeeping."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import xarray as xr
from array_api_compat import array_namespace
from scipy.linalg import solve_discrete_are

import daml
from daml.errors import DivergedError, InputError
from daml.protocols import Run, Update
from daml.running.cycling.cycle import cycle
from daml.training.bases import base_step, differentiable
from daml.training.engine import Blocks, SquareError, train
from daml.training.held_out import HeldOut
from daml.training.plan import Plan
from daml.training.stopping import Watch
from daml.training.through_cycle import Course, Innovations

SEEN = ["x0", "x1", "x2"]
B = xr.DataArray(
    [[0.6, 0.3, 0.1], [0.3, 0.9, 0.2], [0.1, 0.2, 0.8]],
    dims=("variable", "covariable"),
    coords={"variable": SEEN, "covariable": SEEN},
)
SCHEME = daml.ThreeDVar(B)


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=1200, spinup=1000, seed=1)
    return daml.observe(truth, variables=SEEN, seed=2)


@pytest.fixture(scope="module")
def fitted(seen):
    analysis = daml.assimilate(daml.Lorenz63(), seen, SCHEME)
    emulator = daml.LSTM(hidden=6, epochs=2, base=daml.Lorenz63(), covariance="predicted")
    return emulator.fit(analysis)


def missing(observations, part):
    """Take away single values and whole times."""
    gone = np.random.default_rng(0).random(observations.observation.shape) < part
    gone[100:110] = True
    return observations.assign(observation=observations.observation.where(~gone))


class Halfway:
    """A scheme of the array API: half of the way to what is observed."""

    def prepare(self, setting):
        return None

    def update(self, forecast, observed, run, memory):
        distance = (observed.values - forecast.state) * observed.present
        return Update(forecast.state + 0.5 * distance), memory


def opened(emulator):
    """Give a fitted emulator in float64, its weights free."""
    network = emulator.network(3).double()
    network.load_state_dict(emulator.fitted.network.state_dict())
    return replace(emulator, fitted=replace(emulator.fitted, network=network)), network


@pytest.mark.parametrize("part", [0.0, 0.3])
@pytest.mark.parametrize("covariance", ["predicted", "constant", None])
def test_gradients_agree_with_finite_differences(seen, covariance, part):
    observations = missing(seen.isel(time=slice(0, 300)), part)
    analysis = daml.assimilate(daml.Lorenz63(), observations, SCHEME)
    emulator = daml.LSTM(
        hidden=3, layers=1, epochs=1, base=daml.Lorenz63(), covariance=covariance
    ).fit(analysis)
    if covariance is not None:
        emulator = replace(emulator, fitted=emulator.fitted.starting(B.values))
    emulator, network = opened(emulator)
    with torch.no_grad():  # away from the zeros that a training starts from
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.manual_seed(0)).double()
    like = torch.zeros((), dtype=torch.float64)
    course = Course(emulator, observations, 0.0, like)
    scheme = SCHEME if covariance is None else SCHEME.by_model
    objective = Innovations(lambda: emulator, scheme, course.record, like, burn_in=3)
    sequences = [tensor[90:130].reshape(2, 20, *tensor.shape[1:]) for tensor in course.tensors]
    weights = list(network.parameters())
    found = torch.autograd.grad(objective.total(sequences), weights)
    step = 1e-6
    for weight, gradient in zip(weights, found, strict=True):
        place = tuple(int(n) for n in np.unravel_index(weight.numel() // 2, weight.shape))
        sides = []
        with torch.no_grad():
            for sign in (1, -2):
                weight[place] += sign * step
                sides.append(float(objective.total(sequences)))
            weight[place] += step
        assert float(gradient[place]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)


def test_the_likelihood_is_that_of_a_gaussian(fitted, seen):
    emulator, _ = opened(replace(fitted, fitted=fitted.fitted.starting(B.values)))
    observations = missing(seen, 0.3)
    like = torch.zeros((), dtype=torch.float64)
    course = Course(emulator, observations, 0.0, like)
    objective = Innovations(lambda: emulator, SCHEME.by_model, course.record, like, 0)
    sequences = [tensor[None, 95:115] for tensor in course.tensors]
    with torch.no_grad():
        found = float(objective.total(sequences))
    model = replace(fitted, fitted=fitted.fitted.starting(B.values))
    x, memory = course.tensors[2][95:96].numpy(), model.start(None)
    record, scheme = course.record, daml.ThreeDVar("model")
    prepared = scheme.prepare(record.setting())
    run = Run(np.zeros(1, int), np.zeros(1, int), 0, frozenset(scheme.outputs))
    pairs = [(record.seen(np.array([n])), run) for n in range(95, 115)]
    expected = 0.0
    steps = cycle(model, scheme, prepared, x, memory, pairs)
    for (values, _), (background, update) in zip(pairs, steps, strict=True):
        there, normal = values.present[0], update.extras["normalized_innovation"]
        gap = (values.values - background)[0, there]
        covariance = (B.values + np.eye(3))[np.ix_(there, there)]  # the head's first factor is one
        if there.any():
            assert gap @ np.linalg.solve(covariance, gap) == pytest.approx((normal**2).sum())
            expected += gap @ np.linalg.solve(covariance, gap) / 2
            expected += np.linalg.slogdet(covariance)[1] / 2
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_b_that_the_model_knows_and_never_changes_is_a_b_that_is_given(fitted, seen):
    emulator = replace(fitted, fitted=fitted.fitted.starting(B.values))  # its head still gives one
    observations = missing(seen, 0.3)
    given = daml.assimilate(emulator, observations, SCHEME)
    asked = daml.assimilate(emulator, observations, daml.ThreeDVar("model"))
    for name in ("background", "analysis", "innovation"):
        np.testing.assert_allclose(asked[name], given[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(asked.background_spread[50], np.sqrt(np.diag(B)), rtol=1e-6)
    expected = np.sqrt(np.diag(B) + 1)
    there = asked.innovation.notnull().values
    assert (asked.innovation_spread.notnull() == there).all()
    assert (asked.normalized_innovation.notnull() == there).all()
    np.testing.assert_allclose(
        np.where(there, asked.innovation_spread, expected), np.broadcast_to(expected, there.shape)
    )


@dataclass(frozen=True)
class Turning:
    """A damped rotation, stepped by NumPy and torch."""

    variables = ("u", "v")
    dt = 1.0
    matrix = ((0.9, 0.35), (-0.35, 0.9))

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        turn = np.array(self.matrix) if isinstance(x, np.ndarray) else x.new_tensor(self.matrix)
        return x @ turn.T, None


@pytest.mark.statistical
def test_of_a_linear_model_the_learned_filter_is_the_kalman_filter():
    turn, noise, error = np.array(Turning.matrix), np.diag([0.2, 0.5]), np.diag([0.2, 0.5])
    random = np.random.default_rng(3)
    states = np.zeros((20_000, 2))
    for step in range(1, len(states)):
        states[step] = turn @ states[step - 1] + np.sqrt(np.diag(noise)) * random.standard_normal(2)
    truth = xr.Dataset(
        {"state": (("time", "variable"), states)},
        coords={"time": np.arange(len(states)) * 1.0, "variable": ["u", "v"]},
    )
    seen = daml.observe(truth, error_variance=xr.DataArray([0.2, 0.5], dims="variable"), seed=4)
    stationary = solve_discrete_are(turn.T, np.eye(2), noise, error)  # B of the best filter
    labels = {"variable": ["u", "v"], "covariable": ["u", "v"]}
    best = daml.ThreeDVar(xr.DataArray(stationary, labels, ("variable", "covariable")))
    model, test = Turning(), seen.isel(time=slice(10_000, None))
    train = seen.isel(time=slice(0, 10_000))
    start = daml.ThreeDVar(xr.DataArray(5 * np.eye(2), labels, ("variable", "covariable")))
    emulator = daml.LSTM(
        hidden=4, layers=1, epochs=1, cycle_epochs=40, base=model, covariance="predicted"
    ).fit(daml.assimilate(model, train, start))
    how = {"sequence_length": 40, "burn_in": 15, "batch_size": 50, "learning_rate": 0.05}
    emulator = emulator.fit_cycle(train, start, **how)
    learned = daml.assimilate(emulator, test, daml.ThreeDVar("model"))
    kalman = daml.assimilate(model, test, best)

    def rmse(analysis):
        return float(np.sqrt(((analysis.analysis - truth.state) ** 2).mean()))

    assert rmse(learned) < 1.03 * rmse(kalman)
    assert rmse(daml.assimilate(model, test, start)) > 1.03 * rmse(kalman)  # there was a way to go
    variance = (learned.background_spread**2).mean("time")
    np.testing.assert_allclose(variance, np.diag(stationary), rtol=0.1)


def test_a_training_goes_on_to_the_same_bits(fitted, seen):
    class Stopped(Exception):
        pass

    class Memory:
        def __init__(self, stop=None):
            self.kept, self.stop, self.saves = None, stop, 0

        def load(self):
            return self.kept

        def due(self):
            return True

        def save(self, arrays):
            self.kept, self.saves = arrays, self.saves + 1
            if self.saves == self.stop:
                raise Stopped

    def train(checkpoint):
        return replace(fitted, cycle_epochs=6).fit_cycle(seen, SCHEME, checkpoint=checkpoint)

    kept = Memory(stop=3)
    with pytest.raises(Stopped):
        train(kept)
    kept.stop = None
    xr.testing.assert_identical(train(kept).to_dataset(), train(Memory()).to_dataset())
    assert kept.saves == 6


def test_a_training_ends_where_the_held_out_no_longer_gain_and_keeps_its_best():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    targets = torch.ones(40, 1), torch.ones(40, 1), torch.ones(40)  # on its way to 1
    blocks = Blocks(40, 1, lambda number: targets)
    plan = Plan(100, length=2, batch=20, updates=0, most=100, shard=20, rate=0.05)
    watch = Watch(network, lambda: {"held_out_loss": (network.weight[0, 0] - 0.5) ** 2})
    history = train(network, SquareError(network, 0), blocks, plan, (0,), watch=watch)
    assert len(history["loss"]) < 100
    assert np.isfinite(history["held_out_loss"]).all()
    assert float(network.weight.detach()) == pytest.approx(0.5, abs=0.06)
    assert history["held_out_loss"][-1] > 0.1  # it went on to 1


def test_a_training_that_only_makes_worse_gives_what_it_started_from():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    blocks = Blocks(40, 1, lambda number: (torch.ones(40, 1), torch.ones(40, 1), torch.ones(40)))
    plan = Plan(5, length=2, batch=20, updates=0, most=5, shard=20, rate=0.05)
    watch = Watch(network, lambda: {"held_out_loss": network.weight[0, 0] ** 2})
    train(network, SquareError(network, 0), blocks, plan, (0,), watch=watch)
    assert float(network.weight.detach()) == 0


def test_what_judges_a_training_is_held_out_of_it(fitted, seen):
    emulator = replace(fitted, fitted=fitted.fitted.starting(B.values))
    held_out, like = HeldOut(1200, 0.1), torch.zeros((), dtype=torch.float64)

    def judged(rows):
        wild = seen.observation + xr.DataArray(50.0 * rows, dims="time")
        course = Course(emulator, seen.assign(observation=wild), 0.1, like)
        assert (course.tensors[3].numpy() == ~held_out.untrained).all()  # what is trained on
        objective = Innovations(lambda: emulator, SCHEME.by_model, course.record, like, 5)
        return float(course.watch(emulator.fitted.network, objective, 25).judge()["held_out_rmse"])

    plain = judged(np.zeros(1200))
    assert judged(~held_out.untrained) == pytest.approx(plain)
    assert judged(held_out.judged) > 2 * plain


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_a_training_that_diverges_names_epoch_and_update(fitted, seen, held_out):
    wild = replace(fitted.fitted, increment_spread=np.full(3, np.inf))
    wild = replace(fitted, fitted=wild, cycle_epochs=3)
    with pytest.raises(DivergedError, match="epoch 0 of 3, update 0"):
        wild.fit_cycle(seen, SCHEME, held_out=held_out)


def test_the_loop_trains_through_the_cycle(seen, tmp_path):
    base = daml.Lorenz63()
    network = daml.LSTM(hidden=4, epochs=1, cycle_epochs=2, base=base, covariance="predicted")
    settings = {"emulator": network, "training": "cycle", "passes": 2}
    tree = daml.improve(daml.Lorenz63(), seen, store=tmp_path / "o.zarr", **settings)
    assert "background_covariance" in tree["imperfect/scheme"]
    assert "background_covariance" not in tree["iteration/0001/scheme"]
    assert (tree["iteration/0001"].background_spread > 0).all()
    # With a base it starts from the mean increment, not from a training on analyses.
    assert tree["iteration/0000/emulator"].attrs["trainings"] == 1
    assert tree["iteration/0001/emulator"].attrs["trainings"] == 2
    again = daml.load_emulator(tree, iteration=1)
    found = daml.assimilate(again, seen, daml.ThreeDVar("model"))
    np.testing.assert_allclose(found.analysis, tree["iteration/0001"].analysis, rtol=1e-6)


def test_by_itself_the_cycle_needs_one_pass(seen):
    network = daml.LSTM(hidden=4, epochs=1, covariance="predicted")
    loop = daml.Loop(daml.Lorenz63(), daml.ThreeDVar("model"), network, "auto", training="cycle")
    assert loop.most == 1


@pytest.mark.statistical
@pytest.mark.slow
def test_parameters_are_found_from_one_variable():
    truth = daml.simulate(daml.Lorenz63(), steps=4000, spinup=1000, seed=5)
    seen = daml.observe(truth, variables=["x0"], seed=6)
    wrong = daml.Lorenz63(sigma=9.0, rho=26.0, beta=2.5)
    scheme, _ = daml.tuned(daml.ThreeDVar(), wrong, seen)
    found, known = daml.fit_parameters(wrong, ["sigma", "rho", "beta"], seen, scheme)
    assert found.sigma == pytest.approx(10, rel=0.05)
    assert found.rho == pytest.approx(28, rel=0.04)
    assert found.beta == pytest.approx(8 / 3, rel=0.04)
    rmse = [
        daml.verification.analysis_error(daml.assimilate(m, seen, k), truth).analysis_rmse
        for m, k in ((wrong, scheme), (found, known))
    ]
    assert rmse[1] < 0.9 * rmse[0]


class ByNumPy:
    """Lorenz 63 that takes NumPy arrays only."""

    variables, dt = ("x0", "x1", "x2"), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        assert isinstance(x, np.ndarray)
        return daml.Lorenz63().step(x)


def test_a_base_of_numpy_is_trained_through_by_differences(fitted, seen):
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.manual_seed(1), requires_grad=True)
    back = torch.arange(15.0, dtype=torch.float64).reshape(5, 3)
    moved, found = [], []
    for model in (daml.Lorenz63(), ByNumPy()):
        base = differentiable(model, x.detach().numpy())
        moved.append(base_step(base, x, None, "cpu")[0])
        found += torch.autograd.grad(moved[-1], x, back)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-7)
    plain = replace(fitted, cycle_epochs=2)
    one, two = (replace(plain, base=b).fit_cycle(seen, SCHEME) for b in (plain.base, ByNumPy()))
    np.testing.assert_allclose(one.history.loss, two.history.loss, rtol=1e-4)


class Ring(daml.models.ODE):
    """Lorenz 96 with few variables, by a function of NumPy's that torch does not differentiate."""

    variables = tuple(f"x{i}" for i in range(12))
    roll = staticmethod(np.roll)

    def tendency(self, x):
        return (self.roll(x, -1, -1) - self.roll(x, 2, -1)) * self.roll(x, 1, -1) - x + 8.0


class TorchRing(Ring):
    @staticmethod
    def roll(x, shift, axis):
        return array_namespace(x).roll(x, shift, axis=axis)


class HalfRing(TorchRing):
    """It leaves torch in one of its terms: a gradient passes, and lacks a part."""

    def tendency(self, x):
        rest = TorchRing.tendency(self, x)
        return rest - (x.detach().clone() if isinstance(x, torch.Tensor) else x)


@pytest.mark.parametrize(("right", "made"), [(TorchRing, Ring), (None, HalfRing)])
def test_an_ode_that_torch_does_not_differentiate_rightly_is_differentiated_by_differences(
    right, made
):
    x = 8 + 3 * torch.randn(5, 12, dtype=torch.float64, generator=torch.manual_seed(1))
    back = torch.randn(x.shape, dtype=torch.float64, generator=torch.manual_seed(2))
    x.requires_grad_()
    base = differentiable(made(), x.detach().numpy())
    found = torch.autograd.grad(base_step(base, x, None, "cpu")[0], x, back)[0]
    if right is None:
        model, rows = made(), [x.detach().numpy() + 1e-5 * s * np.eye(12)[3] for s in (1, -1)]
        up, down = (torch.as_tensor(model.step(row)[0]) for row in rows)
        torch.testing.assert_close(found[:, 3], (back * (up - down)).sum(-1) / 2e-5)
        return
    assert differentiable(right(), x.detach().numpy()) == right()  # torch's own gradient
    expected = torch.autograd.grad(base_step(right(), x, None, "cpu")[0], x, back)[0]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_a_loop_through_the_cycle_takes_an_ode_written_with_numpy():
    truth = daml.simulate(TorchRing(), steps=1100, spinup=300)
    seen = daml.observe(truth, seed=3)
    losses = []
    for base in (Ring(), TorchRing()):
        network = daml.LSTM(base=base, hidden=4, epochs=1, cycle_epochs=2)
        tree = daml.improve(base, seen, emulator=network, training="cycle", passes=1)
        losses.append(tree["iteration/0000/training"].loss.values)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


class Uptake:
    """Uptake x / (K + x) of amounts of 1e-9."""

    variables, dt = ("c",), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x + 0.5e-9 * x / (1e-9 + np.abs(x)), None


class Far(Uptake):
    """A coordinate of 5e6 m that something of 1 m acts on."""

    def step(self, x, memory):
        return x + np.sin(x - 5e6), None


class Single(Uptake):
    """Computes in single precision, and says nothing of it."""

    def step(self, x, memory):
        return np.sin(x.astype(np.float32)).astype(np.float64), None


class Rooted(Uptake):
    """Not defined below 0."""

    def step(self, x, memory):
        return np.sqrt(x), None


@pytest.mark.parametrize(
    ("model", "at", "exact"),
    [
        (Uptake(), 1e-9, 1.125),
        (Uptake(), 0.0, 1.5),
        (Far(), 5e6, 2.0),
        (Far(), 5e6 + np.pi, 0.0),
        (Rooted(), 1e-12, 5e5),
        pytest.param(Single(), 0.7, np.cos(0.7), id="single"),
    ],
)
def test_differences_are_right_on_any_scale(model, at, exact):
    near = 1e-3 if isinstance(model, Single) else 1e-5
    x = torch.tensor([[at]], dtype=torch.float64, requires_grad=True)
    base = differentiable(model, x.detach().numpy())
    base_step(base, x, None, "cpu")[0].sum().backward()
    assert x.grad.item() == pytest.approx(exact, rel=near, abs=near)


class Detached(ByNumPy):
    """It says that it steps torch tensors, and takes their gradient away."""

    device = "cpu:0"

    def step(self, x, memory):
        return x.detach() + 0.0, None


class Random(ByNumPy):
    def step(self, x, memory):
        return x + np.random.default_rng().normal(size=x.shape), None


@dataclass(frozen=True)
class Scaled(daml.models.ODE):
    """A parameter that goes through NumPy."""

    rate: float = 0.1
    variables = ("x0", "x1", "x2")

    def tendency(self, x):
        return -float(self.rate) * np.roll(x, 1, -1)


class Remembering(ByNumPy):
    def start(self, x, time=None):
        return x


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda e, s: daml.LSTM(covariance="guessed"), "'covariance' is 'guessed'; give one of"),
        (lambda e, s: daml.LSTM(covariance="predicted", window=3), "needs a memory"),
        (lambda e, s: daml.LSTM(covariance="predicted").fit_cycle(s, SCHEME), "not fitted yet"),
        (lambda e, s: e.fit_cycle(s, daml.ThreeDVar()), "B is still 'innovations'"),
        (
            lambda e, s: replace(e, base=Detached()).fit_cycle(s, SCHEME),
            "no gradient passes through the step of Detached",
        ),
        (
            lambda e, s: replace(e, base=Random()).fit_cycle(s, SCHEME),
            "the step of Random is random",
        ),
        (
            lambda e, s: daml.Loop(
                e.base, daml.ThreeDVar(), daml.LSTM(base=Remembering()), training="cycle"
            ),
            "Remembering steps NumPy arrays and has a memory",
        ),
        (
            lambda e, s: daml.fit_parameters(Scaled(), ["rate"], s, SCHEME),
            "fit_parameters: no gradient passes through the step of Scaled",
        ),
        (
            lambda e, s: replace(e, base=Remembering()).fit_cycle(s, SCHEME),
            "Remembering steps NumPy arrays and has a memory",
        ),
        (lambda e, s: e.fit_cycle(s, SCHEME, burn_in=100), "fit_cycle: 'burn_in' is 100"),
        (lambda e, s: e.fit_cycle(s, SCHEME, learning_rate=0), "'learning_rate' is 0"),
        (
            lambda e, s: e.fit_cycle(s, daml.schemes.ETKF(5)),
            "fit_cycle: the covariance that the emulator learns.*but ETKF has none",
        ),
        (lambda e, s: e.fit_cycle(s, Halfway()), "but Halfway has none; give a daml.ThreeDVar"),
        (
            lambda e, s: e.fit_cycle(s.isel(time=slice(50)), SCHEME, held_out=0),
            "a record of 50 steps is too short",
        ),
        (
            lambda e, s: e.fit_cycle(s.assign(observation=s.observation.where(s.time < 1)), SCHEME),
            "nothing was observed in the blocks that are held out",
        ),
        (
            lambda e, s: daml.assimilate(e, s, daml.ThreeDVar("model")),
            "has no background covariance",
        ),
        (
            lambda e, s: daml.assimilate(daml.Lorenz63(), s, daml.ThreeDVar("model")),
            "Lorenz63 has no background covariance of its forecasts",
        ),
        (
            lambda e, s: daml.ThreeDVar("model").analyse(
                daml.simulate(daml.Lorenz63(), steps=9), s
            ),
            "'analyse' has no model that could",
        ),
        (
            lambda e, s: daml.improve(daml.Lorenz63(), s, daml.ThreeDVar("model")),
            "asks the model for B, but the emulator learns none",
        ),
        (lambda e, s: daml.improve(daml.Lorenz63(), s, training="truth"), "'training' is 'truth'"),
        (
            lambda e, s: daml.fit_parameters(daml.Lorenz63(), ["gamma"], s, SCHEME),
            "'gamma' is not a parameter of Lorenz63",
        ),
    ],
)
def test_what_cannot_be_is_told(fitted, seen, make, match):
    with pytest.raises(InputError, match=match):
        make(fitted, seen)


def test_any_scheme_that_torch_differentiates_trains(seen):
    analysis = daml.assimilate(daml.Lorenz63(), seen, SCHEME)
    emulator = daml.LSTM(hidden=6, epochs=2, cycle_epochs=40, base=daml.Lorenz63()).fit(analysis)
    trained = emulator.fit_cycle(seen, Halfway(), held_out=0, learning_rate=1e-2)
    assert trained.history.loss[-1] < 0.98 * trained.history.loss[0]


@pytest.mark.parametrize("name", ["fit_cycle", "fit_parameters"])
def test_a_record_that_is_too_short_is_said_of_the_function_that_was_called(name):
    model = daml.Lorenz63()
    run = daml.simulate(model, steps=60)
    seen, scheme = daml.observe(run), daml.ThreeDVar(daml.climatological(run, max_variance=2))
    emulator = daml.LSTM(hidden=2, layers=1, epochs=1, sequence_length=20, burn_in=2).fit(run)
    calls = {
        "fit_cycle": lambda: emulator.fit_cycle(seen, scheme, held_out=0),
        "fit_parameters": lambda: daml.fit_parameters(model, ["rho"], seen, scheme),
    }
    with pytest.raises(InputError, match=f"{name}: a record of 60 steps is too short"):
        calls[name]()
