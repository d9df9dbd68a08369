"""Published tables: each scheme reaches its score, in long runs within their standard error."""

import functools

import numpy as np
import pytest
import sakov2008
import sakov2012

import daml

SOURCES = {"sakov2012": sakov2012, "sakov2008": sakov2008}
CASES = [(source, name) for source, module in SOURCES.items() for name in module.SCORES]
cases = pytest.mark.parametrize(("source", "name"), CASES)
SPINUP, BLOCKS, ROUNDING = 200, 20, 0.005


@functools.cache
def twin(source, steps, seed):
    """Give a truth and its observations."""
    module = SOURCES[source]
    truth = daml.simulate(module.MODEL, steps=steps + SPINUP, spinup=SPINUP, seed=seed)
    return truth, daml.observe(truth, error_variance=module.ERROR_VARIANCE, seed=seed + 100)


def three_d_var(source):
    """Give 3DVar with a part of the climatology as B."""
    module = SOURCES[source]
    climate = daml.simulate(module.MODEL, steps=2000, spinup=SPINUP, seed=200)
    return daml.ThreeDVar(daml.climatological(climate, scale=module.CLIMATE))


def rmse(source, name, steps, seed=0, **how):
    """Give the time mean of the root mean square over variables, and its standard error.

    That is of the means of blocks that are long enough to be independent.
    """
    truth, seen = twin(source, steps, seed)
    make, _ = SOURCES[source].SCORES[name]
    scheme = three_d_var(source) if make is daml.ThreeDVar else make()
    analysis = daml.assimilate(SOURCES[source].MODEL, seen, scheme, **how).analysis
    errors = np.sqrt(((analysis - truth.state) ** 2).mean("variable")).values[SPINUP:]
    means = errors.reshape(BLOCKS, -1).mean(axis=1)
    return errors.mean(), means.std(ddof=1) / BLOCKS**0.5


@pytest.mark.slow
@pytest.mark.statistical
@cases
def test_a_scheme_reaches_its_published_score(source, name):
    module = SOURCES[source]
    found, error = rmse(source, name, module.LONG, spinup=200)
    assert error < 0.02 * found
    assert found < module.SCORES[name][1] + ROUNDING + 2 * error


@pytest.mark.statistical
@cases
def test_a_scheme_comes_near_its_published_score_in_a_short_run(source, name):
    module = SOURCES[source]
    found, _ = rmse(source, name, module.SHORT)
    assert found < 1.5 * module.SCORES[name][1]
