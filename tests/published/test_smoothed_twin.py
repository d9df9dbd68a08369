"""Smoothers of the perfect model in the experiment of the paper (Goodliff and Miyoshi 2025).

Coupled Lorenz 63, dt 0.05, x0 to x2 observed at every step with errors of variance 1. The values
are those of an independent fixed-lag smoother by sigma points; RMSE is the root of the mean over
time and x0 to x2.
"""

import numpy as np
import pytest

import daml

STEPS, SKIPPED, SEEDS = 20_000, 1_000, range(5)
HOW = {"segments": 8, "spinup": 2000}
"""What is not observed is forgotten slowly."""
VALUES = {5: 0.127, 10: 0.119, 20: 0.103, 40: 0.084}
"""RMSE by lag."""


def rmse(scheme, seed, lag):
    """Give the RMSE of a smoother, or of the filter where the lag is 0."""
    model, names = daml.CoupledLorenz63(), ["x0", "x1", "x2"]
    truth = daml.simulate(model, steps=STEPS, spinup=2000, seed=seed)
    seen = daml.observe(truth, variables=names, seed=seed + 100)
    if lag:
        found = daml.smooth(model, seen, scheme, lag=lag, **HOW)
    else:
        found = daml.assimilate(model, seen, scheme, **HOW)
    error = (found.analysis - truth.state).sel(variable=names).isel(time=slice(SKIPPED, None))
    return float((error**2).mean() ** 0.5)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("lag", VALUES)
def test_sigma_points_reach_the_published_error_of_each_lag(lag):
    found = [rmse(daml.schemes.SigmaPoint(), seed, lag) for seed in SEEDS]
    assert np.mean(found) < 1.03 * VALUES[lag]
    assert np.mean(found) > 0.95 * VALUES[lag]


@pytest.mark.slow
@pytest.mark.statistical
def test_an_ensemble_gains_with_the_lag_as_sigma_points_do():
    scheme = daml.schemes.ETKF(20, inflation=1.01, rotate=True)
    found = [np.mean([rmse(scheme, seed, lag) for seed in SEEDS[:2]]) for lag in (0, 5, 20)]
    assert found[0] < 0.22
    assert found[1] < 0.72 * found[0]
    assert found[2] < 0.6 * found[0]
