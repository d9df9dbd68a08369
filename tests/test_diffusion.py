"""The covariance of a grid with land: the diffusion equation without flux through the coast."""

import numpy as np
import pytest
import scipy.linalg
import torch
import xarray as xr

import daml
from daml.covariance import Diffusion, Stationary, labelled
from daml.errors import InputError
from daml.schemes import FourDVar, OptimalInterpolation


def walled():
    """A grid with a wall that has a gap at its end, and a point of water alone."""
    mask = np.ones((6, 9), bool)
    mask[:5, 4] = False
    mask[2:5, 0], mask[3, 1] = False, False
    mask[3, 0] = True
    return mask


def solved(mask, length, periodic):
    """Solve the diffusion equation without flux into land: by a matrix, and one loop over pairs."""
    points = np.argwhere(mask)
    D = np.zeros((len(points), len(points)))
    for i, one in enumerate(points):
        for dim in range(mask.ndim):
            ahead = one.copy()
            ahead[dim] += 1
            if periodic[dim]:
                ahead[dim] %= mask.shape[dim]
            for j in np.flatnonzero((points == ahead).all(axis=1)):
                if i != j:
                    D[[i, j], [j, i]] += length[dim] ** 2 / 2
                    D[[i, j], [i, j]] -= length[dim] ** 2 / 2
    return scipy.linalg.expm(D)


CASES = {
    "a wall": (walled(), (1.5, 1.5), (False, False)),
    "round": (walled(), (2.5, 0.7), (False, True)),
    "a ring": (np.ones(23, bool), (0.8,), (True,)),
    "two points": (np.ones(2, bool), (0.5,), (True,)),
    "three dimensions": (np.random.default_rng(0).random((3, 4, 5)) > 0.3, (1, 0, 2), (0, 1, 1)),
}


@pytest.mark.parametrize(("mask", "length", "periodic"), CASES.values(), ids=CASES)
def test_it_is_the_solution_of_the_diffusion_equation(mask, length, periodic):
    periodic = tuple(map(bool, periodic))
    variance = np.linspace(1, 3, mask.sum())
    B = Diffusion(mask, variance, length, periodic)
    C = solved(mask, length, periodic)
    own = np.sqrt(variance / C.diagonal())
    expected = own[:, None] * C * own
    np.testing.assert_allclose(B.dense(), expected, atol=1e-7)
    np.testing.assert_allclose(B.dense().diagonal(), variance, rtol=1e-8)
    np.testing.assert_array_equal(B.variances(), variance)
    np.testing.assert_allclose(B.dense(), B.dense().T, atol=1e-13)
    assert np.linalg.eigvalsh(B.dense())[0] > -1e-13
    v, x = np.random.default_rng(1).standard_normal((2, 3, B.size))
    np.testing.assert_allclose(B.root(B.root_adjoint(x)), B.times(x), atol=1e-12)
    assert np.vecdot(B.root(v), x) == pytest.approx(np.vecdot(v, B.root_adjoint(x)))
    for action in (B.times, B.root, B.root_adjoint):
        np.testing.assert_allclose(action(torch.from_numpy(x)).numpy(), action(x), atol=1e-13)


def test_nothing_is_correlated_through_land():
    mask = np.ones((7, 11), bool)
    mask[:, 5] = False
    apart = Diffusion(mask, length=3.0)
    left = np.argwhere(mask)[:, 1] < 5
    assert (apart.dense()[np.ix_(left, ~left)] == 0).all()
    mask[6, 5] = True  # a strait
    joined = Diffusion(mask, length=3.0)
    places = {tuple(place): number for number, place in enumerate(np.argwhere(mask).tolist())}
    near, far = (joined.dense()[places[row, 4], places[row, 6]] for row in (6, 0))
    open_water = Diffusion(np.ones((7, 11), bool), length=3.0).dense()[4, 6]
    assert 0 < far < 0.1 * near < 0.1 * open_water


def test_the_same_points_are_found_where_classes_do_not_fit_the_grid():
    """Diagonals are found of many points at once: also on rings that are no multiple of classes."""
    for count in range(1, 34):
        for periodic in (True, False):
            B = Diffusion(np.ones(count, bool), length=0.6, periodic=periodic)
            np.testing.assert_allclose(B.dense().diagonal(), 1, rtol=1e-8)


@pytest.mark.parametrize("length", [2.0, 4.0])
def test_far_from_land_it_is_that_of_distances(length):
    """Differences of neighbours are those of a derivative but for a part of 1 / length^2."""
    shape = (4, 40)
    found = Diffusion(np.ones(shape, bool), length=(0.0, length), periodic=True).dense()[0, :40]
    expected = Stationary(40, length=length).dense()[0]
    np.testing.assert_allclose(found, expected, atol=0.25 / length**2)


def test_along_a_dimension_without_a_length_are_fields_of_their_own():
    two = Diffusion(np.stack([walled(), walled()]), length=(0.0, 1.5, 1.5)).dense()
    one = Diffusion(walled(), length=1.5).dense()
    np.testing.assert_allclose(two, scipy.linalg.block_diag(one, one), atol=1e-12)


def test_a_diagonal_that_is_estimated_is_near_the_exact_one():
    found = Diffusion(walled(), variance=2.0, length=1.5, samples=800).dense().diagonal()
    error = np.sqrt(((found / 2 - 1) ** 2).mean())
    assert 0.3 < error / np.sqrt(2 / 800) < 2


def test_a_store_keeps_it():
    for B in (
        Diffusion(walled(), np.linspace(1, 2, walled().sum()), (1.0, 2.0), (True, False)),
        Diffusion(np.ones(4, bool), samples=50),
    ):
        back = daml.ThreeDVar().restored(daml.ThreeDVar(B).to_dataset()).background_covariance
        assert back == B
        assert back != Diffusion(walled(), length=1.1)
        np.testing.assert_array_equal(back.dense(), B.dense())


MODEL = daml.models.Lorenz96(n=8)
SEA = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 0, 0, 1]], bool)


@pytest.mark.parametrize(
    "made",
    [
        daml.ThreeDVar,
        lambda B: FourDVar(B, window=3, tolerance=1e-7),
        lambda B: FourDVar(B, window=3, tolerance=1e-7, method="cg"),
    ],
)
def test_schemes_take_it_as_its_matrix(made):
    B = Diffusion(SEA, variance=0.5, length=0.8)
    truth = daml.simulate(MODEL, steps=7, spinup=100, seed=1)
    seen = daml.observe(truth, variables=MODEL.variables[::2], every=2, seed=2)
    schemes = (made(labelled(B.dense(), MODEL.variables)), made(B))
    found = [daml.assimilate(MODEL, seen, scheme).analysis for scheme in schemes]
    np.testing.assert_allclose(*found, atol=1e-8)


def test_a_mask_of_another_number_of_points_is_refused():
    seen = daml.observe(daml.simulate(MODEL, steps=5, spinup=100))
    B = Diffusion(SEA[:2])
    mean = xr.Dataset({"mean": ("variable", np.zeros(8))}, {"variable": list(MODEL.variables)})
    for scheme in (daml.ThreeDVar(B), OptimalInterpolation(mean, covariance=B)):
        with pytest.raises(InputError, match="a Diffusion, is for 6 variables, and the model"):
            daml.assimilate(MODEL, seen, scheme)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"mask": np.ones((3, 3))}, "'mask' is .*; give an array that is True at points"),
        ({"mask": np.zeros((3, 3), bool)}, "'mask' is "),
        ({"mask": [[True, False], [True]]}, "'mask' is a list; give an array"),
        ({"variance": [1.0, [2.0]]}, "'variance' is a list; give a number > 0"),
        ({"mask": True}, "'mask' is True; give an array"),
        ({"length": 0}, "'length' is 0; give a number > 0"),
        ({"length": (1.0, -1.0)}, "give a number > 0, or one >= 0 for each dimension"),
        ({"length": (0.0, 0.0)}, "'length' is "),
        ({"length": (1.0, 1.0, 1.0)}, "'length' has 3 values, and the mask 2 dimensions"),
        ({"length": np.inf}, "'length' is inf"),
        ({"periodic": "x"}, "'periodic' is 'x'; give True or False"),
        ({"periodic": (True,)}, "'periodic' has 1 values"),
        ({"variance": 0.0}, "'variance' is 0.0; give a number > 0, or one for each of the 8"),
        ({"variance": np.ones(3)}, "or one for each of the 8 points that are True"),
        ({"variance": "big"}, "'variance' is 'big'"),
        ({"samples": 1}, "'samples' is 1; give 2 or more"),
        ({"samples": 2.5}, "'samples' is 2.5; give a whole number"),
    ],
)
def test_wrong_arguments_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        Diffusion(**{"mask": SEA} | given)
