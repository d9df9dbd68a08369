"""Gradients through ensemble schemes, and training through their cycles."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Forecast, Run
from daml.schemes import ETKF, LETKF, DEnKF, EnKF, EnKFN, EnVar, ParticleFilter, SerialEnSRF
from daml.training.through_cycle import Course

NAMES = ("x0", "x1", "x2")


@dataclass(frozen=True)
class Still(daml.Lorenz63):
    """Three variables that lie somewhere."""

    positions = (0.0, 1.0, 2.0)


CLIMATE = daml.covariance.labelled(np.eye(3) + 0.5, NAMES)
SCHEMES = {
    "ETKF": lambda: ETKF(5, inflation=1.1),
    "ETKF, turned": lambda: ETKF(5, inflation=1.1, rotate=True),
    "EnKF": lambda: EnKF(5, inflation=1.1),
    "DEnKF": lambda: DEnKF(5),
    "SerialEnSRF": lambda: SerialEnSRF(5),
    "LETKF": lambda: LETKF(5, radius=2.0),
    "EnVar": lambda: EnVar(5, background_covariance=CLIMATE, inflation=1.1),
    "EnVar, local": lambda: EnVar(5, beta=0.2, background_covariance=CLIMATE, radius=2.0),
}


def record(observed, missing=0):
    """Give two times of observations of so many variables, the first of which are missing."""
    random = np.random.default_rng(observed)
    values = random.standard_normal((2, observed))
    values[0, :missing] = np.nan
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", np.linspace(0.5, 1.0, observed)),
        },
        {"time": [0.0, 1.0], "variable": list(NAMES[:observed])},
    )


def through(scheme, seen):
    """Give a function of members (row, member, variable): the analysis, and the likelihood."""
    found = read(seen, NAMES, 1.0, space=daml.labels.space.StateSpace.of(Still()))
    setting, steps = found.setting("cpu"), np.array([0, 0])
    memory, given = scheme.prepare(setting), placed(found.seen(steps), setting, "cpu")
    run = Run(steps, steps, 3, frozenset({"log_likelihood"}))

    def function(x):
        update = scheme.update(Forecast(x), given, run, memory)[0]
        return update.state, update.extras.get("log_likelihood", update.state.sum() * 0)

    return function


@pytest.mark.parametrize(("observed", "missing"), [(3, 0), (3, 1), (2, 0), (1, 0), (3, 2), (2, 2)])
@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES.keys())
def test_the_gradient_is_that_of_differences(make, observed, missing):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 5, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    function = through(make(), record(observed, missing))
    assert torch.autograd.gradcheck(function, (x,), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES.keys())
def test_the_gradient_is_finite_where_all_members_are_equal(make):
    x = torch.ones((2, 5, 3), dtype=torch.float64, requires_grad=True)
    state, likelihood = through(make(), record(3))(x)
    (state.sum() + likelihood.sum()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("rotate", [False, True])
def test_the_analysis_with_a_gradient_is_the_one_without(rotate):
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 5, 3)))
    function = through(ETKF(5, inflation=1.1, rotate=rotate), record(2))
    for own, other in zip(function(x), function(x.clone().requires_grad_()), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (EnKFN(5), "EnKFN: no gradient passes through the search for its inflation"),
        (ParticleFilter(50), "ParticleFilter: no gradient passes through the choice of members"),
    ],
)
def test_a_scheme_without_a_gradient_is_refused(scheme, text):
    x = torch.ones((2, scheme.members, 3), dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match=text):
        through(scheme, record(3))(x)


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=300, spinup=500, seed=1)
    found = daml.observe(truth, variables=list(NAMES), seed=2)
    gone = np.random.default_rng(3).random(found.observation.shape) < 0.2
    return found.assign(observation=found.observation.where(~gone))


@pytest.fixture(scope="module")
def fitted(seen):
    analysis = daml.assimilate(daml.Lorenz63(), seen, ETKF(6, inflation=1.4))
    return daml.LSTM(hidden=3, layers=1, epochs=1, base=daml.Lorenz63()).fit(analysis)


def opened(emulator):
    """Give a fitted emulator in float64, its weights free and away from zero."""
    network = emulator.network(3).double()
    network.load_state_dict(emulator.fitted.network.state_dict())
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.manual_seed(0)).double()
    return replace(emulator, fitted=replace(emulator.fitted, network=network)), network


def objective(emulator, seen, scheme, burn_in=3):
    like = torch.zeros((), dtype=torch.float64)
    course = Course(emulator, seen, 0.0, like)
    return course, course.objective(lambda: emulator, scheme, like, burn_in)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ETKF(6, inflation=1.2),
        lambda: EnKF(6, rotate=True),
        lambda: LETKF(6, radius=2.0, inflation=1.2),
    ],
)
def test_gradients_through_a_cycle_agree_with_differences(fitted, seen, make):
    emulator, network = opened(replace(fitted, base=Still()))
    course, found = objective(emulator, seen, make())
    sequences = [tensor[90:110].reshape(2, 10, *tensor.shape[1:]) for tensor in course.tensors]
    weights = list(network.parameters())
    gradients = torch.autograd.grad(found.total(sequences), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        place = tuple(int(n) for n in np.unravel_index(weight.numel() // 2, weight.shape))
        sides = []
        with torch.no_grad():
            for sign in (1, -2):
                weight[place] += sign * 1e-5
                sides.append(float(found.total(sequences)))
            weight[place] += 1e-5
        assert float(gradient[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4)


def test_the_likelihood_is_that_of_the_ensemble_whose_memory_moves_along(fitted, seen):
    emulator, _ = opened(fitted)
    scheme = ETKF(6, inflation=1.3)  # no more than that while it is young
    course, found = objective(emulator, seen, scheme, burn_in=0)
    at, count = 95, 6
    with torch.no_grad():
        total = float(found.total([tensor[None, at : at + count] for tensor in course.tensors]))
    x, memory, expected = found.first(np.array([at])), emulator.start(None), 0.0
    values = seen.observation.values[at : at + count]
    for row in values:
        there = np.isfinite(row)
        X, H = x[0], np.eye(3)[there]
        A = (X - X.mean(axis=0)) / 5**0.5
        S = H @ A.T @ A @ H.T + np.eye(there.sum())
        gap = row[there] - H @ X.mean(axis=0)
        expected += (gap @ np.linalg.solve(S, gap) + np.linalg.slogdet(S)[1]) / 2
        # The same weights move the states and the memories of the members.
        Y = A @ H.T
        values_, vectors = np.linalg.eigh(np.eye(6) + Y @ Y.T)
        root = (vectors / np.sqrt(values_)) @ vectors.T
        pull = np.linalg.solve(np.eye(6) + Y @ Y.T, Y @ gap) / 5**0.5
        inflation = 1.3 if there.any() else 1.0
        centre = np.full((6, 6), 1 / 6)
        weights = centre + pull @ (np.eye(6) - centre) + inflation * root @ (np.eye(6) - centre)
        inner, base = memory
        if inner is not None:
            inner = tuple(
                tuple(torch.as_tensor(weights) @ part.detach() for part in cell) for cell in inner
            )
        x, memory = emulator.step((weights @ X)[None], (inner, base))
    assert total == pytest.approx(expected, rel=1e-5)


def test_a_training_through_an_ensemble_lowers_the_loss_and_can_be_repeated(fitted, seen):
    how = {"sequence_length": 20, "burn_in": 5, "held_out": 0.0, "learning_rate": 0.02}
    scheme, given = ETKF(5, inflation=1.3, rotate=True), replace(fitted, cycle_epochs=12)
    one, two = (given.fit_cycle(seen, scheme, **how) for _ in range(2))
    xr.testing.assert_equal(one.to_dataset(), two.to_dataset())
    losses = []
    for emulator in (given, one):
        course, found = objective(emulator, seen, scheme, burn_in=5)
        sequences = [part.reshape(15, 20, *part.shape[1:]) for part in course.tensors]
        with torch.no_grad():
            losses.append(float(found.total(sequences) / found.count(sequences)))
    assert losses[1] < losses[0] - 0.004, losses


def test_a_loop_trains_through_the_cycle_of_an_ensemble(seen):
    how = {"training": "cycle", "passes": 1, "held_out": 0}
    emulator = daml.LSTM(hidden=3, epochs=1, cycle_epochs=1, base=daml.Lorenz63())
    tree = daml.improve(daml.Lorenz63(), seen, ETKF(5, inflation=1.3), emulator, **how)
    assert np.isfinite(tree["iteration/0000"].analysis).all()
    text = "Loop: the covariance that the emulator learns replaces the B of the scheme, but ETKF"
    with pytest.raises(InputError, match=text):
        daml.improve(
            daml.Lorenz63(), seen, ETKF(5), replace(emulator, covariance="constant"), **how
        )


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seed", [1, 2])
def test_a_training_through_an_ensemble_improves_its_analyses(seed):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=2000, spinup=1000, seed=seed)
    test = daml.simulate(daml.CoupledLorenz63(), steps=3000, spinup=1000, seed=seed + 10)
    seen, unseen = (
        daml.observe(run, variables=list(NAMES), seed=seed + 100 * n)
        for n, run in enumerate((truth, test), 1)
    )
    base, scheme = daml.Lorenz63(), ETKF(10, inflation=1.4, rotate=True)

    def rmse(model):
        found = daml.assimilate(model, unseen, scheme)
        error = (found.analysis - test.state.sel(variable=list(NAMES)))[100:]
        return float(np.sqrt((error**2).mean()))

    emulator = daml.LSTM(hidden=16, layers=1, base=base, cycle_epochs=20)
    emulator = emulator.fit(daml.assimilate(base, seen, scheme), held_out=0.1)
    how = {"sequence_length": 50, "burn_in": 15, "batch_size": 10, "learning_rate": 1e-2}
    trained = emulator.fit_cycle(seen, scheme, held_out=0.0, **how)
    assert rmse(trained) < 0.95 * rmse(emulator)


@dataclass(frozen=True)
class Pushed(daml.Lorenz63):
    """Lorenz 63 with a constant tendency that the truth lacks."""

    def tendency(self, x):
        return super().tendency(x) + 10.0


@pytest.mark.statistical
def test_an_emulator_without_memory_trains_through_sigma_points():
    truth = daml.simulate(daml.Lorenz63(), steps=400, spinup=1000, seed=0)
    seen = daml.observe(truth, seed=10)
    scheme = daml.schemes.SigmaPoint(model_error=0.1)
    emulator = daml.emulators.Module(
        torch.nn.Linear(3, 3),
        base=Pushed(),
        epochs=1,
        cycle_epochs=8,
        batch_size=4,
        sequence_length=40,
        learning_rate=0.02,
    )
    fitted = emulator.fit(daml.assimilate(Pushed(), seen, scheme))
    trained = fitted.fit_cycle(seen, scheme, held_out=0)
    found = [daml.assimilate(m, seen, scheme).log_likelihood for m in (Pushed(), fitted, trained)]
    given, by_analyses, by_cycle = (float(likelihood.mean()) for likelihood in found)
    assert given < by_analyses < by_cycle
