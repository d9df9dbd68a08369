"""Hybrids and optimal interpolation with a climatology that is given by its actions."""

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.covariance import Localised, Stationary, labelled
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.functions import Function
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.observing.places.interpolation import CHANGING, Interpolation
from daml.protocols import Forecast, Observed, Run, Setting
from daml.schemes import EnVar, ETKF4DVar, OptimalInterpolation

MODEL = daml.models.Lorenz96(n=8)
RING = {"positions": np.arange(8.0), "period": 8.0}
B = Localised(radius=1.5, variance=np.linspace(0.3, 0.9, 8))
MATRIX = labelled(Localised(1.5, B.variance, **RING).dense(), MODEL.variables)


def bent(x):
    return x[..., ::2] + x[..., 1::2] ** 2 / 10


def record(correlated=False, operator=None):
    """Give 9 times of Lorenz 96 with some values, and one time, missing."""
    truth = daml.simulate(MODEL, steps=9, spinup=100, seed=1)
    chosen = MODEL.variables[::2] if operator is None else None
    how = {"variables": chosen, "operator": operator, "error_variance": 0.5}
    seen = daml.observe(truth, seed=2, **how)
    there = np.random.default_rng(3).random(seen.observation.shape) > 0.2
    there[4] = False
    seen = seen.assign(observation=seen.observation.where(there))
    if not correlated:
        return seen
    R = xr.DataArray(0.25 * (np.eye(4) + 1), dims=("variable", "covariable"))
    labels = {"covariable": seen["variable"].values}
    return seen.drop_vars("error_variance").assign_coords(labels).assign(error_covariance=R)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("operator", [None, bent])
def test_the_mean_of_a_hybrid_is_that_with_the_matrix(operator, correlated):
    seen = record(correlated, operator)
    how = {"members": 5, "beta": 0.3, "error_factor": 1.2, "inflation": 1.1}
    found = [
        daml.assimilate(MODEL, seen, EnVar(background_covariance=C, **how), operator=operator)
        for C in (MATRIX, B)
    ]
    for name in ("analysis", "spread", "chi_square"):
        np.testing.assert_allclose(found[1][name], found[0][name], atol=1e-8)
    assert "log_likelihood" in found[0]
    assert "log_likelihood" not in found[1]


@pytest.mark.parametrize(
    ("scheme", "how"),
    [(EnVar, {"beta": 0.4, "radius": 3.0}), (ETKF4DVar, {"beta": 0.2, "window": 3})],
)
def test_hybrids_of_matrices_make_that_of_the_climatology(scheme, how):
    found = [
        daml.assimilate(
            MODEL, record(), scheme(members=5, background_covariance=C, **how), segments=1
        )
        for C in (MATRIX, B)
    ]
    np.testing.assert_allclose(found[1].analysis, found[0].analysis, atol=1e-8)
    np.testing.assert_allclose(found[1].log_likelihood, found[0].log_likelihood, atol=1e-8)


def of_torch(scheme, x, values, operator):
    """Give the analysis of one time by torch."""
    noise = TabledNoise(np.ones((1, 4), bool), np.full((1, 4), 0.5)).on("cpu")
    space = StateSpace(MODEL.variables, RING["positions"][:, None], np.array([8.0]))
    setting = Setting(MODEL.variables, tuple("abcd"), operator, noise, space)
    row = torch.zeros(1, dtype=int)
    memory = scheme.prepare(setting)
    run = Run(np.zeros(1, int), np.zeros(1, int), 1000, frozenset())
    return scheme.update(Forecast(x), Observed(values, row, noise, operator), run, memory)[0]


@pytest.mark.parametrize("operator", [Selection((0, 2, 4, 6), 8), Function(bent, tuple("abcd"), 8)])
def test_a_gradient_passes_through_the_weights_of_members_and_climatology(operator):
    random = np.random.default_rng(5)
    members, away = torch.from_numpy(random.standard_normal((2, 1, 5, 8)))
    values, weights = torch.from_numpy(random.standard_normal((1, 4))), random.standard_normal(8)
    scheme = EnVar(5, beta=0.3, background_covariance=B)

    def total(size):
        found = of_torch(scheme, members + size * away, values + size, operator)
        return (found.state * torch.from_numpy(weights)).sum() + found.extras["chi_square"].sum()

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total(size), size)
    with torch.no_grad():
        expected = (total(1e-5) - total(-1e-5)) / 2e-5
    assert float(slope) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("correlated", [False, True])
def test_interpolation_is_that_with_the_matrix(correlated):
    mean = xr.Dataset({"mean": ("variable", np.arange(8.0))}, {"variable": list(MODEL.variables)})
    found = [
        daml.assimilate(MODEL, record(correlated), scheme)
        for scheme in (
            OptimalInterpolation(mean.assign(covariance=MATRIX)),
            OptimalInterpolation(mean, covariance=B),
        )
    ]
    np.testing.assert_allclose(found[1].analysis, found[0].analysis, atol=1e-8)
    np.testing.assert_allclose(found[1].chi_square, found[0].chi_square, atol=1e-8)


def test_the_forecast_goes_on_where_places_that_change_see_nothing():
    """The mean of the climate is known without a matrix, of a run of any length."""
    run = daml.simulate(MODEL, steps=5, spinup=100)
    scheme = OptimalInterpolation(run, covariance=Stationary(8, variance=2.0))
    np.testing.assert_allclose(scheme.climatology["mean"], run.state.mean("time"))
    noise = TabledNoise(np.array([[1, 0], [0, 0]], bool), np.ones((2, 2)))
    setting = Setting(MODEL.variables, ("a", "b"), CHANGING, noise, StateSpace(MODEL.variables))
    places, weights = np.array(2 * [[[0, 1], [2, 3]]]), np.full((2, 2, 2), 0.5)
    weights[0, 1] = weights[1] = 0
    moving = Interpolation(places, weights, 8)
    x, values = np.zeros((2, 8)), np.array([[3.0, 0.0], [0.0, 0.0]])
    observed = Observed(values, np.arange(2), noise, moving, tabled=False)
    where = Run(np.arange(2), np.zeros(2, int), 0, frozenset())
    found = scheme.update(Forecast(x), observed, where, scheme.prepare(setting))[0].state
    H, mean, C = 0.5 * np.eye(8)[0] + 0.5 * np.eye(8)[1], scheme.climatology["mean"].values, 0
    C = Stationary(8, variance=2.0).dense()
    expected = mean + C @ H / (H @ C @ H + 1) * (3 - H @ mean)
    np.testing.assert_allclose(found, [expected, np.zeros(8)], atol=1e-8)


@pytest.mark.parametrize(
    "scheme",
    [
        EnVar(5, beta=0.3, background_covariance=B),
        ETKF4DVar(5, 3, beta=0.3, background_covariance=B),
        OptimalInterpolation(
            xr.Dataset({"mean": ("variable", [1.0])}, {"variable": ["u"]}), covariance=B
        ),
    ],
)
def test_a_store_keeps_the_climatology_by_its_actions(scheme):
    kept = scheme.to_dataset()
    name = "covariance" if hasattr(scheme, "covariance") else "background_covariance"
    plains = OptimalInterpolation(), EnVar(5), ETKF4DVar(5, 3)
    plain = next(other for other in plains if type(other) is type(scheme))
    back = plain.restored(kept)
    assert getattr(back, name) == B
    assert scheme.needs >= {"positions"}
    xr.testing.assert_identical(back.to_dataset(), kept)


NAMED = xr.Dataset({"mean": ("variable", [1.0])}, {"variable": ["u"]})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: EnVar(5, background_covariance=3), "an xarray.DataArray or a text or an object"),
        (
            lambda: EnVar(5, beta="innovations", background_covariance=B),
            "EnVar: 'beta' is to be estimated from the likelihood .* a Localised",
        ),
        (
            lambda: daml.assimilate(MODEL, record(), EnVar(5, background_covariance=Stationary(5))),
            "EnVar: 'background_covariance', a Stationary, is for 5 variables, and the model",
        ),
        (
            lambda: daml.assimilate(
                daml.Lorenz63(),
                daml.observe(daml.simulate(daml.Lorenz63(), steps=9)),
                EnVar(5, background_covariance=B),
            ),
            "Lorenz63 does not say where its variables lie",
        ),
        (
            lambda: OptimalInterpolation(covariance=3),
            "'covariance' is 3; give an object with",
        ),
        (
            lambda: OptimalInterpolation(NAMED.drop_vars("variable"), covariance=B),
            "the mean of 'climatology'. has no coordinate along 'variable'",
        ),
        (
            lambda: daml.assimilate(MODEL, record(), OptimalInterpolation(NAMED, covariance=B)),
            "the mean of 'climatology' lacks the variable 'x0' .it has .'u',.",
        ),
        (
            lambda: daml.assimilate(
                MODEL,
                record().assign_coords(variable=list("abcd")),
                OptimalInterpolation(NAMED, covariance=B),
                operator=bent,
            ),
            "'operator' is not linear, and a matrix H is needed here",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()
