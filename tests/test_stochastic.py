"""A model to whose steps random errors are added."""

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.errors import InputError
from daml.models import Stochastic
from daml.schemes import ETKF, SigmaPoint

Q = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, -0.05], [0.0, -0.05, 0.1]])


class Still:
    """A state that stays."""

    variables, dt, climate = ("x0", "x1", "x2"), 0.25, (1.0, 2.0, 3.0)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x, memory


class Dated(Still):
    dt, time_unit = 6.0, "h"


@pytest.mark.parametrize("given", [0.2, np.array([0.1, 0.2, 0.3]), Q])
def test_the_errors_have_the_covariance_given(given):
    run = daml.simulate(Stochastic(Still(), given), steps=8_000)
    errors = np.diff(run.state.values, axis=0)
    expected = given if np.ndim(given) == 2 else np.diag(given * np.ones(3))
    np.testing.assert_allclose(np.cov(errors.T), expected, atol=0.03)
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.03)
    late, early = errors[1:] - errors.mean(axis=0), errors[:-1] - errors.mean(axis=0)
    np.testing.assert_allclose(late.T @ early / len(late), 0, atol=0.03)


@pytest.mark.parametrize("spinup", [0, 7])
@pytest.mark.parametrize("inner", [Still(), Dated(), daml.Lorenz63()])
def test_a_run_that_goes_on_is_the_rest_of_a_longer_one(inner, spinup):
    model, start = Stochastic(inner, Q, seed=3), xr.Dataset({"state": ("variable", np.ones(3))})
    start = start.assign_coords(variable=list(inner.variables))
    if isinstance(inner, Dated):
        start = start.assign_coords(time=np.datetime64("1950-03-01T03:00", "ns"))
    whole = daml.simulate(model, steps=20, spinup=spinup, initial=start)
    for cut in (1, 12):
        rest = daml.simulate(model, steps=20 - cut, initial=whole.isel(time=cut))
        np.testing.assert_array_equal(rest.state, whole.state[cut:])
    other = daml.simulate(Stochastic(inner, Q, seed=4), steps=20, spinup=spinup, initial=start)
    assert (np.diff(other.state, axis=0) != np.diff(whole.state, axis=0)).all()


def test_a_forecast_from_a_state_of_a_run_is_the_run():
    model = Stochastic(daml.Lorenz63(), 0.5)
    run = daml.simulate(model, steps=30, spinup=4)
    found = daml.forecast(model, run, leads=2, warmup=0).forecast
    np.testing.assert_allclose(found[:-2, 1], run.state[2:], rtol=1e-12)


def test_members_get_their_own_draws_and_the_first_that_of_a_state_alone():
    model, x, times = Stochastic(Still(), Q), np.zeros((2, 5, 3)), np.array([[1.0], [2.5]])
    times = np.broadcast_to(times, (2, 5))
    together = model.step(x, model.start(x, times))[0]
    assert len(np.unique(together)) == together.size
    alone = model.step(x[:, 0], model.start(x[:, 0], times[:, 0]))[0]
    np.testing.assert_allclose(together[:, 0], alone, rtol=1e-12)
    tensors = torch.zeros(2, 5, 3, dtype=torch.float64, requires_grad=True)
    moved = model.step(tensors, model.start(tensors, times))[0]
    np.testing.assert_allclose(moved.detach().numpy(), together)
    assert moved.requires_grad


def test_the_order_of_the_variables_does_not_matter():
    class Turned(Still):
        variables = Still.variables[::-1]

    labelled = daml.covariance.labelled(Q, Still.variables)
    one, two = (daml.simulate(Stochastic(m, labelled), steps=5) for m in (Still(), Turned()))
    drawn, other = (run.state.diff("time") for run in (one, two))
    np.testing.assert_allclose(other.sel(variable=list(Still.variables)), drawn, atol=1e-12)


@pytest.mark.filterwarnings("ignore:assimilate. .* has lost the observations")
@pytest.mark.parametrize("scheme", [SigmaPoint(inflation=1.04), ETKF(20, inflation=1.04)])
def test_a_scheme_accounts_for_the_error_of_a_stochastic_model(scheme):
    """As for the same model that says how large its error is; its noise is not counted twice."""

    class Erring(daml.Lorenz63):
        model_error = 0.05

    model = Stochastic(daml.Lorenz63(), 0.05, seed=1)
    truth = daml.simulate(model, steps=400, spinup=200)
    seen = daml.observe(truth, seed=2)
    found = daml.assimilate(model, seen, scheme, segments=1, spinup=0)
    informed = daml.assimilate(Erring(), seen, scheme, segments=1, spinup=0)
    sure = daml.assimilate(daml.Lorenz63(), seen, scheme, segments=1, spinup=0)

    def rmse(analysis):
        return float(np.sqrt(((analysis.analysis - truth.state)[50:] ** 2).mean()))

    assert rmse(found) == pytest.approx(rmse(informed), rel=0.1)
    assert rmse(found) < 0.9 * rmse(sure)
    assert float(found.chi_square[50:].mean()) == pytest.approx(1, abs=0.15)
    assert float(sure.chi_square[50:].mean()) > float(found.chi_square[50:].mean()) + 0.1


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"model_error": None}, "Stochastic: 'model_error' is None; give a variance"),
        ({"model_error": -1.0}, "Stochastic: 'model_error' holds a variance below 0"),
        ({"model_error": np.ones(2)}, r"Stochastic: 'model_error' has the shape \(2,\)"),
        ({"model_error": 1.0, "seed": -1}, "Stochastic: 'seed' is -1; give 0 or more"),
        ({"model_error": 1.0, "seed": "a"}, "Stochastic: 'seed' is 'a'; give a whole number"),
    ],
)
def test_wrong_arguments_are_refused(how, text):
    with pytest.raises(InputError, match=text):
        Stochastic(daml.Lorenz63(), **how)
