"""Models: the integrator's order, and the two systems against their equations."""

from functools import partial

import numpy as np
import pytest
import torch

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.models import CoupledLorenz63, Lorenz63, Lorenz96


@pytest.mark.parametrize("model", [Lorenz63, CoupledLorenz63, partial(Lorenz96, n=5)])
def test_halving_dt_divides_the_error_by_sixteen(model):
    x = np.array([1.0, 2.0, 20.0, 3.0, -1.0])[: len(model().variables)]
    ends = [model(dt=0.02, substeps=n).step(x)[0] for n in (1, 2, 64)]
    ratio = np.linalg.norm(ends[0] - ends[2]) / np.linalg.norm(ends[1] - ends[2])
    assert 13 < ratio < 19


def test_tendency_of_lorenz63_by_hand():
    tendency = Lorenz63().tendency(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(tendency, [10.0, 28 - 2 - 3, 2 - 8.0])


def test_tendency_of_coupled_lorenz63_by_hand():
    tendency = CoupledLorenz63().tendency(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    expected = [15.0, 28 - 2 - 3 + 4, -6.0, -1.5 * 5 - 0.4 - 2, 1.5 * 4 - 0.5 - 1]
    np.testing.assert_allclose(tendency, expected)


def test_tendency_of_lorenz96_by_hand():
    tendency = Lorenz96(n=4, forcing=2).tendency(np.array([1.0, 2.0, 3.0, 5.0]))
    expected = [(2 - 3) * 5 - 1 + 2, (3 - 5) * 1 - 2 + 2, (5 - 1) * 2 - 3 + 2, (1 - 2) * 3 - 5 + 2]
    np.testing.assert_allclose(tendency, expected)


def test_lorenz96_is_a_ring_of_any_size_in_numpy_and_torch():
    model = Lorenz96(n=12)
    x = np.random.default_rng(0).standard_normal((2, 3, 12)) + 3
    moved, _ = model.step(x)
    np.testing.assert_allclose(model.step(np.roll(x, 5, -1))[0], np.roll(moved, 5, -1), rtol=1e-14)
    np.testing.assert_allclose(model.step(torch.as_tensor(x))[0].numpy(), moved, rtol=1e-14)
    assert model.variables == tuple(sorted(model.variables))
    assert StateSpace.of(model).distance([0], [11, 6]).tolist() == [[1, 6]]


def test_a_ring_of_three_is_refused():
    with pytest.raises(InputError, match="Lorenz96: 'n' is 3; give 4 or more variables"):
        Lorenz96(n=3)


def test_a_step_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="dt is 0; give a step > 0"):
        Lorenz63(dt=0)


def two_scale_by_a_loop(model, x):
    """Give dx/dt of one state (variable,), index by index."""
    K, J, h, b, c = model.sectors, model.fast, model.coupling, model.amplitude, model.speed
    X, Y = x[:K], x[K:]
    slow = [
        (X[(k + 1) % K] - X[k - 2]) * X[k - 1]
        - X[k]
        + model.forcing
        - h * c / b * sum(Y[k * J + j] for j in range(J))
        for k in range(K)
    ]
    n = K * J
    fast = [
        c * b * (Y[j - 1] - Y[(j + 2) % n]) * Y[(j + 1) % n] - c * Y[j] + h * c / b * X[j // J]
        for j in range(n)
    ]
    return np.array(slow + fast)


@pytest.mark.parametrize("sizes", [(8, 32), (4, 1), (5, 3)])
def test_the_tendency_of_two_scales_is_that_of_a_loop(sizes):
    model = daml.models.TwoScaleLorenz96(
        sectors=sizes[0], fast=sizes[1], coupling=0.7, amplitude=9.0, speed=3.0
    )
    states = np.random.default_rng(0).standard_normal((2, 3, len(model.variables)))
    found = model.tendency(states)
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(found[place], two_scale_by_a_loop(model, states[place]))
    tensors = model.tendency(torch.as_tensor(states))
    np.testing.assert_allclose(tensors.numpy(), found, rtol=1e-13, atol=1e-13)


def test_two_scales_that_are_not_coupled_are_two_models():
    model = daml.models.TwoScaleLorenz96(sectors=8, fast=4, coupling=0.0, forcing=9.0)
    alone = Lorenz96(dt=0.05, substeps=model.substeps, n=8, forcing=9.0)
    state = np.random.default_rng(0).standard_normal(40)
    moved, _ = model.step(state)
    np.testing.assert_allclose(moved[:8], alone.step(state[:8])[0], rtol=1e-12)
    # Advection keeps the energy of the fast ones, so that they decay by exp(-c t).
    energy = (moved[8:] ** 2).sum() / (state[8:] ** 2).sum()
    assert energy == pytest.approx(np.exp(-2 * model.speed * model.dt), rel=1e-4)


def test_fast_variables_lie_around_their_slow_one():
    model = daml.models.TwoScaleLorenz96(sectors=4, fast=3)
    assert model.variables[3:6] == ("x3", "y0_0", "y0_1")
    space = StateSpace.of(model)
    apart = space.distance(np.arange(4), np.arange(4, 16))
    np.testing.assert_array_equal(apart.argmin(axis=0), np.repeat(np.arange(4), 3))
    assert space.distance([0], [4 + 9])[0, 0] == pytest.approx(4 / 3)  # around the ring


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"sectors": 3}, "'sectors' is 3; give 4 or more"),
        ({"fast": 0}, "'fast' is 0; give 1 or more"),
        ({"amplitude": 0.0}, "'amplitude' is 0; give a factor"),
    ],
)
def test_a_two_scale_model_that_cannot_be_is_refused(given, text):
    with pytest.raises(InputError, match=f"TwoScaleLorenz96: {text}"):
        daml.models.TwoScaleLorenz96(**given)
