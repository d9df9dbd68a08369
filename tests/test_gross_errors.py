"""Observations far from what is forecast are no part of an estimate of B."""

import warnings

import numpy as np
import pytest
import xarray as xr

import daml
from daml.schemes.gross_errors import AFTER, gross_errors, without

TRUTH = daml.simulate(daml.Lorenz63(), steps=3000, spinup=500)
SEEN = daml.observe(TRUTH, seed=1)


def variances(observations):
    scheme, _ = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), observations)
    return np.diagonal(scheme.background_covariance)


@pytest.mark.parametrize("size", [60.0, -25.0])
def test_one_gross_error_among_9000_values_does_not_change_b(size):
    wrong = SEEN.copy(deep=True)
    wrong["observation"][1500, 0] += size
    with pytest.warns(
        UserWarning, match=r"1 of the observations .*, the first of them 'x0' at time 75;"
    ):
        found = variances(wrong)
    np.testing.assert_allclose(found, variances(SEEN), rtol=0.02)


def test_where_errors_are_large_as_b_is_wrong_none_is_gross():
    analysis = xr.Dataset({"innovation": (("time", "observed"), np.full((40, 1), 50.0))})
    analysis["innovation"][4:] = 0.5
    record = xr.Dataset(
        {
            "observation": (("time", "variable"), np.zeros((40, 1))),
            "error_variance": ("variable", [1.0]),
        },
        {"variable": ["x"]},
    )
    B = daml.covariance.labelled(np.array([[3.0]]), ["x"])
    assert not gross_errors(analysis, record, B).any()  # a tenth of the times
    analysis["innovation"][2:] = 0.5
    found = gross_errors(analysis, record, B)
    assert np.flatnonzero(found.any("observed")).tolist() == [0, 1]
    assert not gross_errors(analysis, record, B, error_factor=9.0).any()
    assert without(analysis, found).sizes["time"] == 40 - 2 - AFTER
    assert without(analysis, gross_errors(analysis, record, 4 * B)) is analysis


def test_a_chaotic_model_with_rare_observations_has_no_gross_errors():
    run = daml.simulate(daml.Lorenz63(), steps=8000, spinup=500, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        variances(daml.observe(run, every=8, seed=1))
