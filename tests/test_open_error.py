"""A model error that is found from innovations."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize_scalar

import daml
from daml.errors import InputError
from daml.schemes import ETKF, ExtendedKalman, SigmaPoint
from daml.schemes.ensembles.open_inflation import YOUNG

KINDS = SigmaPoint, ExtendedKalman
VARIANCE, NOISE, DAMPING = 0.5, 1.0, 0.9


@dataclass(frozen=True)
class Damped:
    """x -> 0.9 x."""

    variables, dt = ("x",), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return DAMPING * x, memory


def wandering(steps, seed):
    """Give observations of a damped walk, whose model error is known."""
    random = np.random.default_rng(seed)
    state = np.zeros(steps)
    for step in range(1, steps):
        state[step] = DAMPING * state[step - 1] + VARIANCE**0.5 * random.standard_normal()
    seen = state + NOISE**0.5 * random.standard_normal(steps)
    return xr.Dataset(
        {
            "observation": (("time", "variable"), seen[:, None]),
            "error_variance": ("variable", [NOISE]),
        },
        {"time": np.arange(steps) * 1.0, "variable": ["x"]},
    )


def most_likely(seen):
    """Give the Q of the largest likelihood, by a scalar Kalman filter.

    The first rows are not counted, as a search of daml's does not count them.
    """
    values = seen.observation.values[:, 0]

    def loss(logarithm):
        mean, variance, total = values[0], NOISE, 0.0
        for row, value in enumerate(values[1:], 1):
            mean, variance = DAMPING * mean, DAMPING**2 * variance + np.exp(logarithm)
            expected = variance + NOISE
            if row >= YOUNG:
                total += (value - mean) ** 2 / expected + np.log(expected)
            gain = variance / expected
            mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        return total

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 3), method="bounded").x))


@pytest.mark.statistical
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))]
)
def test_the_model_error_of_a_linear_model_is_the_most_likely_one(seed):
    seen = wandering(600, seed)
    scheme, _ = daml.tuned(SigmaPoint("innovations"), Damped(), seen)
    assert scheme.open == ()
    assert float(scheme.model_error.item()) == pytest.approx(most_likely(seen), rel=0.15)
    assert float(scheme.model_error.item()) == pytest.approx(VARIANCE, rel=0.5)


def imperfect(steps=1000, seed=0):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=steps, spinup=500, seed=seed)
    seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=seed + 100)
    return daml.Lorenz63(), seen, truth.state[:, :3]


@pytest.mark.statistical
@pytest.mark.parametrize("kind", [SigmaPoint, pytest.param(ExtendedKalman, marks=pytest.mark.slow)])
def test_an_imperfect_model_is_given_a_model_error_near_the_best_of_a_scan(kind):
    model, seen, truth = imperfect(500)
    scheme, found = daml.tuned(kind("innovations"), model, seen)

    def error(analysis):
        return float(((analysis.analysis - truth)[100:] ** 2).mean()) ** 0.5

    scan = [
        error(daml.assimilate(model, seen, kind(scheme.model_error * factor)))
        for factor in (1 / 3, 3)
    ]
    assert error(found) < 1.01 * min(scan)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_its_error_leaves_nothing_to_find(kind):
    model, seen, _ = imperfect(120)
    knowing = daml.models.Stochastic(model, model_error=0.1)
    scheme, analysis = daml.tuned(kind("innovations"), knowing, seen)
    assert scheme == kind()
    given = daml.assimilate(knowing, seen, kind())
    np.testing.assert_array_equal(analysis.analysis, given.analysis)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_open_must_be_found_before_a_cycle(kind):
    model, seen, _ = imperfect(60)
    assert kind("innovations").open == ("model_error",)
    name = kind.__name__
    with pytest.raises(InputError, match=f"{name}: 'model_error' is not estimated yet.*daml.tuned"):
        daml.assimilate(model, seen, kind("innovations"))
    with pytest.raises(InputError, match=f"{name}: 'model_error' is 'large'.* or 'innovations'"):
        kind("large")
    with pytest.raises(InputError, match="20 times with observations are too few to find 'model_"):
        daml.tuned(kind("innovations"), model, seen.isel(time=slice(0, 20)))
    with pytest.raises(InputError, match="ETKF: 'model_error' is 'innovations'; give a variance"):
        daml.assimilate(model, seen, ETKF(4, model_error="innovations"))


@pytest.mark.slow
def test_a_model_error_is_found_through_an_operator_that_is_not_linear():
    model, _, truth = imperfect(150)

    def squared(x):
        return x[..., :2] ** 2 / 10

    seen = daml.observe(truth.to_dataset(name="state"), operator=squared, error_variance=1.0)
    tree = daml.improve(
        *(model, seen, SigmaPoint("innovations"), Still()), operator=squared, passes=1, held_out=0
    )
    found = daml.load_scheme(tree, -1, SigmaPoint("innovations"))
    assert (found.model_error > 0).all()


class Still(daml.Lorenz63):
    """An emulator that learns nothing."""

    def fit(self, analysis):
        return self

    def to_dataset(self):
        return xr.Dataset()

    def restored(self, dataset):
        return self


class Knowing(Still):
    """One that knows its model error."""

    model_error = 0.05


@pytest.mark.parametrize("emulator", [pytest.param(Still(), marks=pytest.mark.slow), Knowing()])
def test_a_loop_keeps_the_model_error_of_each_pass(emulator, tmp_path):
    model, seen, _ = imperfect(150)
    how = {"passes": 1, "held_out": 0, "store": tmp_path / "loop.zarr"}
    tree = daml.improve(model, seen, SigmaPoint("innovations"), emulator, **how)
    found = daml.load_scheme(tree, 0)
    assert found.open == ()
    assert (found.model_error is None) == (type(emulator) is Knowing)
    analysis = daml.assimilate(emulator, seen, found)
    np.testing.assert_array_equal(analysis.analysis, tree["iteration/0000"].analysis)
