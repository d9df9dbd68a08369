"""3DVar: closed forms, and the laws of an analysis."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from strategies import cases

import daml
from daml.covariance import labelled
from daml.errors import InputError
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Forecast, Run


def test_scalar_case_by_hand():
    coords = {"time": [0.0], "variable": ["u"]}
    background = xr.Dataset({"background": (("time", "variable"), [[1.0]])}, coords)
    observations = xr.Dataset(
        {"observation": (("time", "variable"), [[5.0]]), "error_variance": ("variable", [1.0])},
        coords,
    )
    result = daml.ThreeDVar(labelled(np.array([[3.0]]), ["u"])).analyse(background, observations)
    assert result.analysis.item() == pytest.approx(1 + 3 / 4 * 4)
    assert result.innovation.item() == 4


@given(cases())
def test_gradient_of_the_cost_vanishes_at_the_analysis(case):
    B, background, observations = case
    x = daml.ThreeDVar(B).analyse(background, observations)
    variance = observations.error_variance.values
    gradient = (x.analysis - x.background).values @ np.linalg.inv(B.values)
    gradient += np.nan_to_num((x.analysis.values - observations.observation.values) / variance)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


@given(cases())
def test_conjugate_gradients_agree_with_the_closed_form(case):
    B, background, observations = case
    exact = daml.ThreeDVar(B).analyse(background, observations)
    cg = daml.ThreeDVar(B, method="cg").analyse(background, observations)
    np.testing.assert_allclose(cg.analysis, exact.analysis, atol=1e-9)


@given(cases())
def test_permuting_and_renaming_variables_commutes(case):
    B, background, observations = case
    names = {n: f"new_{n}" for n in B["variable"].values}
    expected = daml.ThreeDVar(B).analyse(background, observations).analysis

    def turned(data):
        data = data.isel(variable=slice(None, None, -1))
        return data.assign_coords(variable=[names[n] for n in data["variable"].values])

    B2 = B.assign_coords({d: [names[n] for n in B[d].values] for d in B.dims})
    result = daml.ThreeDVar(B2).analyse(turned(background), turned(observations)).analysis
    np.testing.assert_allclose(result, turned(expected), atol=1e-9)


@given(cases())
def test_rescaling_units_commutes(case):
    B, background, observations = case
    factor = xr.DataArray(10.0 ** np.arange(B.sizes["variable"]), B["variable"].coords)
    expected = daml.ThreeDVar(B).analyse(background, observations).analysis * factor
    scaled = observations.copy()
    scaled["observation"] = observations.observation * factor
    scaled["error_variance"] = observations.error_variance * factor**2
    B2 = B * factor * factor.rename(variable="covariable")
    result = daml.ThreeDVar(B2).analyse(background * factor, scaled).analysis
    np.testing.assert_allclose(result, expected.transpose("time", "variable"), rtol=1e-8, atol=1e-8)


@given(cases())
def test_missing_equals_infinite_variance(case):
    B, background, observations = case
    absent = observations.observation.isnull()
    variance = observations.error_variance.where(~absent, np.inf).transpose("time", "variable")
    filled = observations.assign(
        observation=observations.observation.fillna(7.0), error_variance=variance
    )
    scheme = daml.ThreeDVar(B)
    xr.testing.assert_equal(
        scheme.analyse(background, observations), scheme.analyse(background, filled)
    )


@given(cases(diagonal=True))
def test_analysis_lies_between_background_and_observation(case):
    B, background, observations = case
    result = daml.ThreeDVar(B).analyse(background, observations)
    y = observations.observation.fillna(result.background)
    low, high = np.minimum(y, result.background), np.maximum(y, result.background)
    assert ((result.analysis >= low - 1e-12) & (result.analysis <= high + 1e-12)).all()


@given(cases(missing=False))
def test_full_error_covariance_that_is_diagonal_equals_variances(case):
    B, background, observations = case
    names = list(B["variable"].values)
    full = observations.drop_vars("error_variance")
    full["error_covariance"] = labelled(np.diag(observations.error_variance.values), names)
    scheme = daml.ThreeDVar(B)
    xr.testing.assert_allclose(
        scheme.analyse(background, observations), scheme.analyse(background, full)
    )


@pytest.mark.parametrize("method", ["exact", "cg"])
def test_gradients_pass_through_the_analysis(method, scheme, observations):
    scheme = daml.ThreeDVar(scheme.background_covariance, method=method)
    record = read(observations.isel(time=slice(4)), ("x0", "x1", "x2"), 0.05)
    steps, setting = np.arange(4), record.setting("cpu")
    seen = placed(record.seen(steps), setting, "cpu")
    prepared, run = scheme.prepare(setting), Run(steps, 0 * steps, 0, frozenset())
    x = torch.ones((4, 3), dtype=torch.float64, requires_grad=True)

    def analysis(x):
        return scheme.update(Forecast(x), seen, run, prepared)[0].state

    assert torch.autograd.gradcheck(analysis, (x,))


@pytest.mark.parametrize(
    ("matrix", "names", "text"),
    [
        (np.array([[1.0, 2.0], [2.0, 1.0]]), ["u", "v"], "not positive definite"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), ["u", "v"], "not symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), ["u", "v"], "not finite"),
        (np.eye(2), ["u", "u"], "more than once"),
    ],
)
def test_wrong_background_covariance_is_refused(matrix, names, text):
    with pytest.raises(InputError, match=text):
        daml.ThreeDVar(labelled(matrix, names))


def test_covariance_that_lacks_a_variable_is_refused(observations):
    with pytest.raises(InputError, match="lacks 'x0'"):
        daml.assimilate(
            daml.Lorenz63(), observations, daml.ThreeDVar(labelled(np.eye(2), ["u", "v"]))
        )


def test_unknown_method_is_refused(scheme):
    with pytest.raises(InputError, match="method 'newton' is unknown"):
        daml.ThreeDVar(scheme.background_covariance, method="newton")


def test_a_time_that_the_background_lacks_is_refused(truth, observations):
    coupled = daml.ThreeDVar(daml.climatological(truth))
    late = observations.assign_coords(time=observations.time + 0.01)
    with pytest.raises(InputError, match="is not a time of the background"):
        coupled.analyse(truth, late)
    dates = np.datetime64("2026-01-01", "s") + np.arange(observations.sizes["time"])
    dated = observations.assign_coords(time=dates)
    with pytest.raises(InputError, match=r"'time' is datetime64.* and float64 in the background"):
        coupled.analyse(truth, dated)
