"""The Kuramoto-Sivashinsky equation against analytic rates and an independent integration."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.models import KuramotoSivashinsky
from daml.running.cycling.tangents import no_gradient

SMALL = {"length": 22.0, "n": 32}


def attractor(model, steps=1, seed=0):
    return daml.simulate(model, steps=steps, spinup=200, seed=seed).state.values


def derivatives(model):
    """Give the matrices of d/dx and d2/dx2 + d4/dx4, from the waves one by one."""
    x, n = model.positions[:, 0], model.n
    first, linear = np.zeros((n, n)), np.zeros((n, n))
    for number in range(n // 2 + 1):
        k = 2 * np.pi * number / model.length
        alone = 2 * number in (0, n)  # of these there is no sine
        apart = k * (x[:, None] - x)
        weight = (1 if alone else 2) / n
        first -= 0 if alone else weight * k * np.sin(apart)
        linear += weight * (k**4 - k**2) * np.cos(apart)
    return first, linear


@pytest.mark.parametrize("n", [32, 33])
def test_a_step_is_that_of_an_implicit_integration(n):
    model = KuramotoSivashinsky(dt=0.5, substeps=64, length=22.0, n=n)
    first, linear = derivatives(model)
    u = attractor(model)[0]
    found = solve_ivp(
        lambda t, u: -first @ u**2 / 2 - linear @ u,
        *((0, 0.5), u, "Radau"),
        jac=lambda t, u: -first * u - linear,
        rtol=1e-8,
        atol=1e-10,
    )
    np.testing.assert_allclose(model.step(u, None)[0], found.y[:, -1], atol=1e-7)


def test_halving_dt_divides_the_error_by_sixteen():
    """Where it resolves the fastest wave: of stiff problems it has a lower order."""
    ring = {"length": 44.0, "n": 32}
    u = attractor(KuramotoSivashinsky(**ring))
    make = (KuramotoSivashinsky(dt=0.2, substeps=n, **ring) for n in (8, 16, 128))
    ends = [model.step(u, None)[0] for model in make]
    ratio = np.linalg.norm(ends[0] - ends[2]) / np.linalg.norm(ends[1] - ends[2])
    assert 13 < ratio < 19


@pytest.mark.parametrize("number", [1, 3, 16])
def test_a_small_wave_grows_or_decays_at_its_rate(number):
    model = KuramotoSivashinsky(dt=0.7, **SMALL)
    k = 2 * np.pi * number / model.length
    wave = 1e-9 * np.cos(k * model.positions[:, 0])
    expected = wave * np.exp(0.7 * (k**2 - k**4))
    np.testing.assert_allclose(model.step(wave, None)[0], expected, atol=1e-17)


def test_a_moving_frame_adds_a_wind():
    """If u(x, t) is a solution, so is c + u(x - c t, t): here it moves by three points."""
    model = KuramotoSivashinsky(dt=0.5, substeps=32, length=22.0, n=40)
    u, c = attractor(model), 3 * model.length / model.n / model.dt
    moved = model.step(u + c, None)[0]
    np.testing.assert_allclose(moved, np.roll(model.step(u, None)[0], 3, -1) + c, atol=1e-5)


def test_the_field_lies_on_a_ring():
    model = KuramotoSivashinsky(**SMALL)
    u = np.random.default_rng(0).standard_normal((2, 3, 32))
    moved = model.step(u, None)[0]
    np.testing.assert_allclose(
        model.step(np.roll(u, 5, -1), None)[0], np.roll(moved, 5, -1), atol=1e-13
    )
    np.testing.assert_allclose(moved.mean(-1), u.mean(-1), atol=1e-14)
    space, spacing = StateSpace.of(model), 22.0 / 32
    np.testing.assert_allclose(space.distance([0], [1, 16, 31])[0] / spacing, [1, 16, 1])


def test_torch_steps_and_differentiates_it():
    model, states = KuramotoSivashinsky(**SMALL), attractor(KuramotoSivashinsky(**SMALL), 3)
    moved = model.step(torch.as_tensor(states), None)[0].numpy()
    np.testing.assert_allclose(moved, model.step(states, None)[0], atol=1e-13)
    assert no_gradient(model, states) == ""


@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(2))
def test_the_climate_is_that_of_a_free_run(seed):
    model = KuramotoSivashinsky()
    states = attractor(model, 1000, seed)
    anomalies = states - states.mean(-1, keepdims=True)  # its mean does not change
    assert anomalies.std() == pytest.approx(model.climate_spread[0], rel=0.05)
    assert (model.climate == 0).all()


def test_results_are_fields():
    model = KuramotoSivashinsky(n=16, length=12.0)
    u = daml.unflatten(daml.simulate(model, steps=3)).u
    assert (u.dims, u.shape) == (("time", "x"), (3, 16))
    np.testing.assert_allclose(u.x, 0.75 * np.arange(16))
    assert u.attrs["units"] == "1"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"dt": 0.0}, "'dt' is 0; give a number > 0"),
        ({"length": -1.0}, "'length' is -1; give a number > 0"),
        ({"length": np.inf}, "'length' is inf; give a number > 0"),
        ({"substeps": 0}, "'substeps' is 0; give 1 or more"),
        ({"n": 4}, "'n' is 4; give 8 or more points"),
        ({"n": 62}, "'n' is 62 for a 'length' of 100.531, where runs diverge; give at least 63"),
        ({"n": "many"}, "'n' is 'many'; give a whole number"),
    ],
)
def test_an_equation_that_cannot_be_is_refused(given, text):
    with pytest.raises(InputError, match=f"KuramotoSivashinsky: {text}"):
        KuramotoSivashinsky(**given)
