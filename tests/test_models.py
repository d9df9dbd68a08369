"""Models: the integrator's order, and the two systems against their equations."""

from functools import partial

import numpy as np
import pytest
import torch

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
