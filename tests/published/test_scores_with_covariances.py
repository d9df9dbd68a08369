"""Published and measured scores of filters with a covariance, and with noise in the model."""

import functools

import coupled
import mandel2016
import numpy as np
import pytest
import sakov2012

import daml
from daml.errors import DivergedError
from daml.schemes import ExtendedKalman, SigmaPoint


def cubes(every, seed, steps):
    """Give the time mean of the root mean square; infinite where the filter diverges.

    An ensemble that is lost may leave the finite numbers: cubes know of no attractor.
    """
    model = mandel2016.model(every, seed)
    rows = steps + mandel2016.SPINUP
    truth = daml.simulate(model, steps=rows, spinup=200, seed=seed)
    how = {"operator": mandel2016.operator}
    seen = daml.observe(truth, error_variance=mandel2016.ERROR_VARIANCE, seed=seed + 100, **how)
    try:
        found = daml.assimilate(model, seen, mandel2016.scheme(), segments=1, **how)
    except DivergedError:
        return np.inf
    errors = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable"))
    return float(errors[mandel2016.SPINUP :].mean())


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.filterwarnings("ignore:assimilate. EnKF has lost the observations")
@pytest.mark.parametrize("every", mandel2016.SCORES)
def test_cubes_are_filtered_as_published(every):
    """Runs of 35 steps are long enough to lose the truth in some: the median run is judged."""
    found = np.array([cubes(every, seed, mandel2016.STEPS) for seed in range(10)])
    assert np.isfinite(found).sum() >= 8
    error = 1.25 * found[np.isfinite(found)].std() / len(found) ** 0.5
    assert np.median(found) < mandel2016.SCORES[every] + 0.005 + 2 * error
    assert np.median(found) > 0.5 * mandel2016.SCORES[every]  # a bar that says something


@pytest.mark.statistical
def test_cubes_are_filtered_in_a_short_run():
    assert cubes(5, 0, 300) < 1.5 * mandel2016.SCORES[5]


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize(
    ("scheme", "least", "bar"),
    [
        # DAPPER multiplies the covariance by 180 in a time unit, with four analyses in one.
        (ExtendedKalman(inflation=180 ** (1 / 8)), 0.8, 0.92),
        # As good as ensembles that are tuned.
        (SigmaPoint(), 0.5, 0.60),
    ],
)
def test_filters_of_the_sparsely_observed_model(scheme, least, bar):
    truth = daml.simulate(sakov2012.MODEL, steps=20_000, spinup=200, seed=0)
    seen = daml.observe(truth, error_variance=sakov2012.ERROR_VARIANCE, seed=100)
    found = daml.assimilate(sakov2012.MODEL, seen, scheme, **sakov2012.HOW)
    errors = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable"))[200:]
    assert least < float(errors.mean()) < bar


@functools.cache
def twin(seed):
    """Give a truth and its observations."""
    steps = coupled.STEPS + coupled.SPINUP
    truth = daml.simulate(coupled.MODEL, steps=steps, spinup=2000, seed=seed)
    return truth, daml.observe(truth, variables=coupled.OBSERVED, seed=seed + 100)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("name", [*coupled.BARS, *coupled.MEASURED])
def test_the_perfect_model_reaches_its_floor(name):
    scheme, bar = {**coupled.BARS, **coupled.MEASURED}[name]
    squares = []
    for seed in coupled.SEEDS:
        truth, seen = twin(seed)
        found = daml.assimilate(coupled.MODEL, seen, scheme, **coupled.HOW)
        error = (found.analysis - truth.state).sel(variable=coupled.OBSERVED)
        squares.append(float((error[coupled.SPINUP :] ** 2).mean()))
        assert float(found.chi_square[coupled.SPINUP :].mean()) == pytest.approx(1, abs=0.03)
    rmse = np.sqrt(np.mean(squares))
    spread = np.std(np.sqrt(squares), ddof=1) / len(squares) ** 0.5
    assert rmse < bar + (0 if name in coupled.BARS else 0.0005 + 2 * spread)
    assert rmse > 0.9 * bar
