"""Parameters of a model as a part of the state that an ensemble analyses."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import roster
import xarray as xr

import daml
from daml.errors import DivergedError, InputError
from daml.schemes import ETKF, LETKF, EnKF, SigmaPoint
from daml.training.joint_state import Augmented

NAMES = ["sigma", "rho", "beta"]
WRONG = daml.Lorenz63(sigma=8.5, rho=25.0, beta=2.3)
STEPS = 700


@dataclass(frozen=True)
class Mixed(daml.models.ODE):
    """A parameter that meets states and single variables."""

    rate: float = 0.5
    turn: float = 1.0
    variables = ("u", "v")

    def tendency(self, x):
        u, v = x[..., 0], x[..., 1]
        return np.stack([self.rate * v, -u], axis=-1) - self.rate * x + 0.1 * self.turn * x


@dataclass(frozen=True)
class Branching(Mixed):
    """A parameter of which single numbers are needed."""

    def tendency(self, x):
        return -x if self.rate > 0.5 else 2.0 * x


def twin(model, steps=STEPS, seed=3, **how):
    truth = daml.simulate(model, steps=steps, spinup=500, seed=seed)
    return daml.observe(truth, seed=seed + 1, **how)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (daml.Lorenz63(), tuple(NAMES)),
        (daml.models.Lorenz96(n=5), ("forcing",)),
        (Mixed(), ("turn",)),
        (Mixed(), ("rate", "turn")),
        (Branching(), ("rate",)),
    ],
)
def test_each_member_steps_with_parameters_of_its_own(model, names):
    augmented = Augmented(model, names, np.linspace(0.1, 0.2, len(names)))
    draws = np.random.default_rng(0)
    size = len(model.variables)
    states = draws.standard_normal((2, 3, size + len(names)))
    moved, memory = augmented.step(states, augmented.start(states))
    assert memory is None
    np.testing.assert_array_equal(moved[..., size:], states[..., size:])
    for at in np.ndindex(2, 3):
        own = augmented.values + augmented.width * states[at][size:]
        alone = replace(model, **dict(zip(names, own.tolist(), strict=True)))
        right, _ = alone.step(states[at][:size])
        np.testing.assert_allclose(moved[at][:size], right, rtol=1e-12)


@pytest.mark.statistical
@pytest.mark.parametrize(
    "scheme",
    [ETKF(16, inflation=1.02, rotate=True), EnKF(24, inflation=1.02)],
    ids=["ETKF", "EnKF"],
)
def test_an_ensemble_finds_the_parameters_of_lorenz_63(scheme):
    found, same = daml.fit_parameters(WRONG, NAMES, twin(daml.Lorenz63()), scheme)
    assert found.sigma == pytest.approx(10, rel=0.04)
    assert found.rho == pytest.approx(28, rel=0.02)
    assert found.beta == pytest.approx(8 / 3, rel=0.02)
    assert same is scheme


@pytest.mark.statistical
def test_an_ensemble_finds_the_forcing_of_lorenz_96():
    seen = twin(daml.models.Lorenz96(n=20), steps=250)
    wrong = daml.models.Lorenz96(n=20, forcing=10.0)
    found, _ = daml.fit_parameters(
        wrong, ["forcing"], seen, ETKF(16, inflation=1.04, rotate=True), epochs=1
    )
    assert found.forcing == pytest.approx(8, rel=0.05)


@pytest.mark.statistical
def test_what_a_scheme_leaves_open_is_tuned_for_the_model_of_each_pass():
    given = ETKF(16, inflation="innovations", rotate=True)
    found, scheme = daml.fit_parameters(
        daml.Lorenz63(rho=26.0), ["rho"], twin(daml.Lorenz63(), steps=500), given, epochs=2
    )
    assert found.rho == pytest.approx(28, rel=0.02)
    assert scheme.open == ()
    assert scheme.inflation < 1.15


@pytest.mark.statistical
@pytest.mark.parametrize("scheme", [SigmaPoint(1e-4), ETKF(16, inflation=1.02, model_error=1e-4)])
def test_a_model_error_is_one_of_the_variables_alone(scheme):
    found, _ = daml.fit_parameters(
        daml.Lorenz63(rho=26.0, beta=2.5), ["rho", "beta"], twin(daml.Lorenz63()), scheme
    )
    assert found.rho == pytest.approx(28, rel=0.02)
    assert found.beta == pytest.approx(8 / 3, rel=0.02)


@pytest.mark.statistical
def test_the_operator_of_observations_sees_no_parameters():
    rows = xr.DataArray(
        [[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]],
        dims=("variable", "model_variable"),
        coords={"variable": ["a", "b"], "model_variable": list(WRONG.variables)},
    )
    seen = twin(daml.Lorenz63(), operator=rows)
    found, _ = daml.fit_parameters(
        daml.Lorenz63(rho=26.0), ["rho"], seen, ETKF(16, inflation=1.02), epochs=1
    )
    assert found.rho == pytest.approx(28, rel=0.02)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(5))
def test_one_variable_is_enough(seed):
    seen = twin(daml.Lorenz63(), steps=3000, seed=seed, variables=["x0"])
    wrong = daml.Lorenz63(sigma=9.0, rho=26.0, beta=2.5)
    found, _ = daml.fit_parameters(wrong, NAMES, seen, ETKF(20, inflation=1.02, rotate=True))
    for name in NAMES:
        assert getattr(found, name) == pytest.approx(getattr(daml.Lorenz63(), name), rel=0.05)


@dataclass(frozen=True)
class Remembering(daml.Lorenz63):
    def start(self, x, time=None):
        return x

    def step(self, x, memory):
        return super().step(x)[0], x


@pytest.mark.parametrize(
    ("model", "names", "scheme", "how", "match"),
    [
        (WRONG, ["gamma"], ETKF(5), {}, "'gamma' is not a parameter of Lorenz63 with a float"),
        (WRONG, ["rho", "rho"], ETKF(5), {}, "give each name once"),
        (
            WRONG,
            ["rho"],
            LETKF(5, radius=1.0),
            {},
            "a parameter has no position; give a scheme without",
        ),
        (WRONG, ["rho"], roster.Nudging(), {}, "Nudging has no B and carries no ensemble; give a"),
        (Remembering(), ["rho"], ETKF(5), {}, "Remembering has a memory or a device"),
        (WRONG, ["rho"], ETKF(5), {"uncertainty": 0}, "'uncertainty' is 0.0; give a fraction in"),
        (WRONG, ["rho"], ETKF(5), {"uncertainty": 2.0}, "'uncertainty' is 2.0; give a fraction in"),
        (WRONG, ["rho"], ETKF(5), {"epochs": 0}, "'epochs' is 0; give 1 or more"),
    ],
)
def test_what_cannot_be_augmented_is_refused(model, names, scheme, how, match):
    with pytest.raises(InputError, match=match):
        daml.fit_parameters(model, names, twin(daml.Lorenz63(), steps=30), scheme, **how)


def test_an_ensemble_that_loses_the_observations_says_so():
    seen = twin(daml.models.Lorenz96(n=20), steps=150)
    wrong = daml.models.Lorenz96(n=20, forcing=4.0)
    with pytest.raises(DivergedError, match="fit_parameters: ETKF lost the observations with"):
        daml.fit_parameters(wrong, ["forcing"], seen, ETKF(3), epochs=1)
