"""How a record is observed: variances go by name, and what cannot be is refused."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError

TRUTH = daml.simulate(daml.Lorenz63(), steps=50)
NAMES = ["x0", "x2"]


@pytest.mark.parametrize(
    "given",
    [
        {"x2": 4.0, "x0": 0.01},
        {"x2": 4, "x0": np.float32(0.01), "x1": 7.0, "more": -1},
        pd.Series({"x2": 4.0, "x0": 0.01}),
        pd.Series({"more": np.nan, "x2": 4.0, "x0": 0.01}),
        xr.DataArray([4.0, 0.01], {"variable": ["x2", "x0"]}, ["variable"]),
        xr.DataArray([4.0, 0.01], {"name": ["x2", "x0"]}, ["name"]),
        xr.DataArray([0.01, 9.0, 4.0], {"variable": ["x0", "x1", "x2"]}, ["variable"]),
        xr.Dataset({"x2": 4.0, "x0": 0.01}),
        xr.DataArray([0.01, 4.0], dims="variable"),  # no names to go by
        [0.01, 4.0],
        (0.01, 4),
        np.array([0.01, 4.0]),
    ],
)
def test_error_variances_go_by_name_where_they_have_names(given):
    seen = daml.observe(TRUTH, variables=NAMES, error_variance=given, seed=3)
    np.testing.assert_allclose(seen.error_variance, [0.01, 4.0], rtol=1e-6)
    apart = (seen.observation - TRUTH.state.sel(variable=NAMES)).std("time")
    assert apart[0] < 0.2 < 1 < apart[1]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"x0": 1.0}, r"'error_variance' lacks 'x2' \(it has \('x0',\)\)"),
        (pd.Series([0.01, 4.0]), r"lacks 'x0' \(it has \('0', '1'\)\)"),
        (xr.DataArray([1.0], {"variable": ["x0"]}, ["variable"]), "lacks 'x2'"),
        (pd.Series([1.0, 2.0, 3.0], ["x0", "x2", "x0"]), "has a name twice"),
        ([1.0], r"has the shape \(1,\); give a number, or one for each of \('x0', 'x2'\)"),
        (np.ones((2, 2)), r"has the shape \(2, 2\)"),
        (xr.DataArray(np.ones((2, 2)), dims=("a", "b")), r"has the shape \(2, 2\)"),
        ("much", "'error_variance' is 'much'; give a number"),
        (None, "'error_variance' is nan for variable 'x0'|'error_variance' is None"),
        (object(), "'error_variance' is an object; give a number"),
        ({"x0": "a", "x2": 1.0}, "'error_variance' is a list; give a number"),
        (0.0, "'error_variance' is 0 for variable 'x0'"),
        ({"x0": 1.0, "x2": -1.0}, "'error_variance' is -1 for variable 'x2'"),
        ([1.0, np.inf], "'error_variance' is inf for variable 'x2'"),
    ],
)
def test_error_variances_that_are_none_are_refused(given, match):
    with pytest.raises(InputError, match=match):
        daml.observe(TRUTH, variables=NAMES, error_variance=given)


def test_names_that_are_numbers_are_names():
    given = TRUTH.assign_coords(variable=[0, 1, 2])
    seen = daml.observe(given, variables=["0", "2"], seed=1)
    assert seen["variable"].values.tolist() == ["0", "2"]
    named = daml.observe(given, seed=1)
    model = type("Named", (daml.Lorenz63,), {"variables": ("0", "1", "2")})()
    B = daml.climatological(given, max_variance=1)
    found = daml.assimilate(model, named.assign_coords(variable=[0, 1, 2]), daml.ThreeDVar(B))
    labels = {"variable": [0, 1, 2], "covariable": [0, 1, 2]}
    again = daml.assimilate(model, named, daml.ThreeDVar(B.assign_coords(labels)))
    np.testing.assert_array_equal(found.analysis, again.analysis)
    score = daml.verification.analysis_error(found, given, skip=0)
    assert np.isfinite(score.analysis_rmse)
