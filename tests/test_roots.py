"""Inverse roots of many small matrices: equal to those by eigenvectors, with finite gradients."""

import numpy as np
import pytest
import torch

from daml.schemes.ensembles.parts import Seen
from daml.schemes.ensembles.roots import root_and_inverse_times, root_times
from daml.schemes.ensembles.rotation import turns
from daml.schemes.ensembles.transforms import symmetric, triangular


def squares(spread, count=30, observations=5, members=6):
    s = np.random.default_rng(0).standard_normal((count, observations, members)) * spread
    return s.swapaxes(1, 2) @ s


def by_eigenvectors(matrices, vectors):
    values, own = np.linalg.eigh(matrices)
    return own @ ((own.swapaxes(1, 2) @ vectors) / np.sqrt(1 + np.maximum(values, 0))[..., None])


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.1, 0.5, 1.0, 3.0, 30.0, 1000.0])
def test_the_root_is_that_by_eigenvectors(spread):
    vectors = np.random.default_rng(1).standard_normal((30, 6, 2))
    matrices = squares(spread)
    found, expected = root_times(matrices, vectors), by_eigenvectors(matrices, vectors)
    np.testing.assert_allclose(found, expected, atol=1e-10 if spread < 100 else 1e-8)


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.1, 0.5, 1.0, 3.0, 30.0, 1000.0])
def test_with_places_last_the_root_is_the_same_and_the_inverse_that_of_a_solution(spread):
    vectors = np.random.default_rng(1).standard_normal((30, 6))
    matrices = squares(spread)
    root, inverse = root_and_inverse_times(np.moveaxis(matrices, 0, -1), vectors.T)
    expected = root_times(matrices, vectors[..., None])[..., 0]
    accuracy = 1e-10 if spread < 100 else 1e-8
    np.testing.assert_allclose(root.T, expected, atol=accuracy)
    solved = np.linalg.solve(np.eye(6) + matrices, vectors[..., None])[..., 0]
    np.testing.assert_allclose(inverse.T, solved, atol=accuracy)


def test_matrices_side_by_side_may_differ_by_any_factor():
    matrices = np.concatenate([squares(spread, count=2) for spread in (0, 0.1, 10, 1000)])
    vectors = np.random.default_rng(1).standard_normal((8, 6, 1))
    found, expected = root_times(matrices, vectors), by_eigenvectors(matrices, vectors)
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("spread", [1e9, 1e30, 1e100])
def test_the_root_of_a_filter_that_diverges_is_finite(spread):
    with np.errstate(all="ignore"):  # as in a cycle
        assert np.isfinite(root_times(squares(spread), np.ones((30, 6, 1)))).all()
        last = np.moveaxis(squares(spread), 0, -1)
        assert np.isfinite(root_and_inverse_times(last, np.ones((6, 30)))).all()


def test_what_is_not_finite_gives_nan():
    matrices = squares(1.0)
    matrices[3] = np.inf
    assert np.isnan(root_times(matrices, np.ones((30, 6, 1)))).all()
    last = np.moveaxis(matrices, 0, -1)
    found = np.array(root_and_inverse_times(last, np.ones((6, 30))))
    assert np.isnan(found[..., 3]).all()  # and those beside it stay as they are
    assert np.isfinite(np.delete(found, 3, axis=-1)).all()


def test_what_lies_beside_a_matrix_changes_no_bit():
    matrices = np.concatenate([squares(spread, count=40) for spread in (0.1, 1.0, 30.0)])
    last, vectors = np.moveaxis(matrices, 0, -1), np.random.default_rng(1).standard_normal((6, 120))
    whole = root_and_inverse_times(last, vectors)
    for part in (slice(7, 8), slice(30, 90)):
        for all_of_them, alone in zip(
            whole, root_and_inverse_times(last[..., part], vectors[:, part]), strict=True
        ):
            np.testing.assert_array_equal(all_of_them[:, part], alone)


@pytest.mark.parametrize("observations", [0, 1, 2, 7])
@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_the_gradient_is_that_of_differences(observations, spread):
    generator = torch.Generator().manual_seed(0)
    shape = (3, observations, 4)
    seen = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    vectors = torch.randn((3, 4, 2), generator=generator, dtype=torch.float64)

    def function(seen, vectors):
        squares = seen.mT @ seen
        last = squares.permute(1, 2, 0), vectors[..., 0].T
        return root_times(squares, vectors), *root_and_inverse_times(*last)

    given = seen.requires_grad_(), vectors.requires_grad_()
    assert torch.autograd.gradcheck(function, given)


def test_the_gradient_is_finite_where_all_eigenvalues_meet():
    seen = torch.zeros((2, 3, 4), dtype=torch.float64, requires_grad=True)
    root_times(seen.mT @ seen, torch.ones((2, 4, 1), dtype=torch.float64)).sum().backward()
    np.testing.assert_array_equal(seen.grad, 0.0)


def part_of(members, observed, spread=1.0, count=4):
    drawn = np.random.default_rng(members + observed)
    anomalies = drawn.standard_normal((count, members, 5)) * spread
    seen = drawn.standard_normal((count, members, observed)) * spread
    for array in (anomalies, seen):
        array -= array.mean(axis=1, keepdims=True)
    innovation = drawn.standard_normal((count, observed))
    return Seen(np.zeros((count, 5)), anomalies, seen, innovation, np.zeros(count))


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1.0, 100.0])
@pytest.mark.parametrize(("members", "observed"), [(2, 1), (2, 3), (6, 2), (6, 6), (6, 9), (20, 3)])
def test_a_triangular_root_gives_the_moments_of_the_symmetric_one(members, observed, spread):
    part = part_of(members, observed, spread)
    one, two = (
        triangular(part, turns(0, np.arange(4), part.seen, np.ones(4, bool))),
        symmetric(part),
    )
    scale = max(spread, 1e-30)
    covariances = [found.anomalies.mT @ found.anomalies / scale**2 for found in (one, two)]
    np.testing.assert_allclose(*covariances, atol=1e-8)
    np.testing.assert_allclose(one.anomalies.sum(axis=1) / scale, 0, atol=1e-8)
    np.testing.assert_allclose(one.increment / scale, two.increment / scale, atol=1e-8)
    for name in ("square", "log_determinant"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [1e12, 1e30, np.inf])
@pytest.mark.parametrize("observed", [3, 9])
def test_a_triangular_root_of_a_filter_that_diverges_raises_nothing(observed, spread):
    with np.errstate(all="ignore"):
        part = part_of(6, observed, spread)
        found = triangular(part, turns(0, np.arange(4), part.seen, np.ones(4, bool)))
    assert np.isfinite(found.anomalies).all() == np.isfinite(spread)


@pytest.mark.parametrize("observed", [0, 1, 2, 9])
def test_gradients_through_a_triangular_root_are_right(observed):
    """Also where nothing is seen, and where eigenvalues meet."""
    part = part_of(4, max(observed, 1), count=2)
    arrays = [torch.tensor(array, requires_grad=True) for array in part]
    blank = 1.0 if observed else 0.0

    def moments(mean, anomalies, seen, innovation, width):
        part = Seen(mean, anomalies, seen * blank, innovation, width)
        found = triangular(part, turns(0, np.arange(2), seen, torch.ones(2, dtype=torch.bool)))
        return found.increment, found.anomalies, found.square, found.log_determinant

    assert torch.autograd.gradcheck(moments, arrays)
