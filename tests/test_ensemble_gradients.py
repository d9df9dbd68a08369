"""Gradients through ensemble schemes, and training through their cycles."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.observing.records import read
from daml.protocols import Forecast, Run
from daml.schemes import ETKF, LETKF, DEnKF, EnKF, SerialEnSRF

NAMES = ("x0", "x1", "x2")


@dataclass(frozen=True)
class Still(daml.Lorenz63):
    """Three variables that lie somewhere."""

    positions = (0.0, 1.0, 2.0)


SCHEMES = {
    "ETKF": lambda: ETKF(5, inflation=1.1),
    "ETKF, turned": lambda: ETKF(5, inflation=1.1, rotate=True),
    "EnKF": lambda: EnKF(5, inflation=1.1),
    "DEnKF": lambda: DEnKF(5),
    "SerialEnSRF": lambda: SerialEnSRF(5),
    "LETKF": lambda: LETKF(5, radius=2.0),
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
    memory = scheme.prepare(found.setting("cpu"))
    steps = np.array([0, 0])
    values, pattern, _ = found.seen(steps)
    noise = found.setting("cpu").noise
    given = type(found.seen(steps))(torch.as_tensor(values), torch.as_tensor(pattern.copy()), noise)
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
