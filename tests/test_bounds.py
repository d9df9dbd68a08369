"""Analyses within the bounds of a model."""

from types import MappingProxyType

import numpy as np
import pytest
import xarray as xr
from roster import Fields
from sklearn.linear_model import LinearRegression

import daml
from daml.errors import InputError


class Bounded(daml.Lorenz63):
    """Lorenz 63, of which some values are said to be impossible."""

    bounds = MappingProxyType({"x0": (-8, 8), "x2": (22, None)})


def bounded(**bounds):
    """Give Lorenz 63 with bounds."""
    model = daml.Lorenz63()
    model.__dict__["bounds"] = bounds  # it is frozen
    return model


@pytest.fixture(scope="module")
def record():
    return daml.observe(daml.simulate(daml.Lorenz63(), steps=80, spinup=200), seed=1)


@pytest.fixture(scope="module")
def covariance():
    return daml.climatological(daml.simulate(daml.Lorenz63(), steps=200), max_variance=2)


@pytest.mark.parametrize(
    "made",
    [
        daml.ThreeDVar,
        lambda _: daml.schemes.ETKF(6, inflation=1.1),
        lambda _: daml.schemes.IEnKS(6, window=4, shift=2, inflation=1.1),
        lambda b: daml.schemes.FourDVar(b, window=3),
    ],
)
def test_analyses_and_members_are_truncated_to_the_bounds(made, record, covariance):
    scheme = made(covariance)
    many = getattr(scheme, "members", None) is not None
    found = daml.assimilate(Bounded(), record, scheme, keep_members=many)
    for name in ("analysis", "analysis_members") if many else ("analysis",):
        x0, x2 = (found[name].sel(variable=variable) for variable in ("x0", "x2"))
        assert float(x2.min()) == pytest.approx(22)
        assert float(abs(x0).max()) == pytest.approx(8)
    assert found.attrs["bounds"] == "truncated: x0 >= -8, x0 <= 8, x2 >= 22"


def test_a_free_run_starts_within_the_bounds():
    run = daml.simulate(Bounded(), steps=1, seed=3)
    assert float(run["state"].sel(variable="x2")[0]) == 22


def test_bounds_that_are_never_reached_change_nothing(record, covariance):
    scheme = daml.ThreeDVar(covariance)
    wide = daml.assimilate(bounded(x0=(-1e3, 1e3)), record, scheme)
    without = daml.assimilate(daml.Lorenz63(), record, scheme)
    np.testing.assert_array_equal(wide.analysis, without.analysis)
    assert "bounds" not in without.attrs


def test_bounds_of_a_field_are_those_of_all_its_points():
    class Positive(Fields):
        bounds = MappingProxyType({"h": (0, None)})

    truth = daml.simulate(Fields(), steps=60, seed=1)
    seen = daml.observe(truth, error_variance=0.5, seed=2)
    scheme = daml.schemes.ETKF(6, inflation=1.1)
    found = daml.unflatten(daml.assimilate(Positive(), seen, scheme))["analysis"]
    assert float(found.h.min()) >= 0
    assert float(found.u.min()) < 0


def test_a_model_that_learned_has_the_bounds_of_its_base(record, covariance):
    analysis = daml.assimilate(Bounded(), record, daml.ThreeDVar(covariance))
    learned = daml.emulators.Regression(LinearRegression(), base=Bounded()).fit(analysis)
    found = daml.assimilate(learned, record, daml.ThreeDVar(covariance))
    assert float(found.analysis.sel(variable="x2").min()) >= 22


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"q": (0, None)}, "names 'q', which is not a variable or field"),
        ({"x0": (3, 1)}, r"of 'x0' is \(3, 1\); give the smaller one first"),
        ({"x0": 3}, "give the smallest and the largest value"),
        ({"x0": ("a", 1)}, "give the smallest and the largest value"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds, text, record, covariance):
    with pytest.raises(InputError, match=text):
        daml.assimilate(bounded(**bounds), record, daml.ThreeDVar(covariance))


def test_bounds_are_a_mapping(record, covariance):
    model = daml.Lorenz63()
    model.__dict__["bounds"] = (0, 1)
    with pytest.raises(InputError, match=r"'bounds' is .*; give \{'q': \(0, None\)\}"):
        daml.assimilate(model, record, daml.ThreeDVar(covariance))


def test_a_training_through_the_cycle_has_bounds(record, covariance):
    """Gradients pass where a value is within its bounds."""
    analysis = daml.assimilate(Bounded(), record, daml.ThreeDVar(covariance))
    learned = daml.LSTM(base=Bounded(), hidden=4, epochs=1, cycle_epochs=1, sequence_length=20).fit(
        analysis
    )
    trained = learned.fit_cycle(record, daml.ThreeDVar(covariance), held_out=0, sequence_length=30)
    assert isinstance(trained.to_dataset(), xr.Dataset)


def test_bounds_that_the_record_breaks_are_refused(record, covariance):
    with pytest.raises(InputError, match=r"'bounds' keep 'x2' within \(-inf, 5\), and the mean"):
        daml.assimilate(bounded(x2=(None, 5)), record, daml.ThreeDVar(covariance))
