"""Published tables: each scheme reaches its score, in long runs within their standard error."""

import functools
import warnings

import bocquet2010
import bocquet2012
import bocquet2012_often
import bocquet2013
import bocquet2019
import numpy as np
import pytest
import sakov2008
import sakov2012

import daml

SOURCES = {
    "sakov2012": sakov2012,
    "sakov2008": sakov2008,
    "bocquet2010": bocquet2010,
    "bocquet2012": bocquet2012,
    "bocquet2012, often": bocquet2012_often,
    "bocquet2013": bocquet2013,
    "bocquet2019": bocquet2019,
}
CASES = [(source, name) for source, module in SOURCES.items() for name in module.SCORES]
cases = pytest.mark.parametrize(("source", "name"), CASES)
SPINUP, BLOCKS, ROUNDING = 200, 20, 0.005


@functools.cache
def twin(source, steps, seed):
    """Give a truth and its observations."""
    module = SOURCES[source]
    truth = daml.simulate(module.MODEL, steps=steps + SPINUP, spinup=SPINUP, seed=seed)
    seen = daml.observe(truth, error_variance=module.ERROR_VARIANCE, seed=seed + 100)
    return truth, seen.isel(variable=slice(None, None, module.EVERY))


def three_d_var(source):
    """Give 3DVar with a part of the climatology as B."""
    model, (steps, scale) = SOURCES[source].MODEL, SOURCES[source].CLIMATE
    climate = daml.simulate(model, steps=steps, spinup=SPINUP, seed=200)
    return daml.ThreeDVar(daml.climatological(climate, scale=scale))


def rmse(source, name, steps, seed=0, **how):
    """Give the time mean of the root mean square over variables, and how sure it is.

    Four numbers: the mean without what the analysis, or its error, says is lost; its standard
    error, which is that of the means of blocks that are long enough to be independent; the part
    that is lost; and the mean with it.
    """
    truth, seen = twin(source, steps, seed)
    make, _ = SOURCES[source].SCORES[name]
    scheme = three_d_var(source) if make is daml.ThreeDVar else make()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "assimilate: .* has lost the observations", UserWarning)
        found = daml.assimilate(SOURCES[source].MODEL, seen, scheme, **how)
    errors = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable")).values[SPINUP:]
    lost = found.lost.values[SPINUP:] == 1 if "lost" in found else np.zeros(len(errors), bool)
    lost = lost | (errors > getattr(SOURCES[source], "LOST_ABOVE", np.inf))
    whole, errors = errors.mean(), np.where(lost, np.nan, errors)
    means = np.nanmean(errors.reshape(BLOCKS, -1), axis=1)
    return np.nanmean(errors), means.std(ddof=1) / BLOCKS**0.5, lost.mean(), whole


def long(module, name):
    """Give the steps of a long run of a scheme."""
    return getattr(module, "LONG_BY", {}).get(name, module.LONG)


def how(module, name):
    """Give the settings of a long run of a scheme."""
    return getattr(module, "HOW_BY", {}).get(name, module.HOW)


@pytest.mark.slow
@pytest.mark.statistical
@cases
def test_a_scheme_reaches_its_published_score(source, name):
    module = SOURCES[source]
    found, error, lost, _ = rmse(source, name, long(module, name), **how(module, name))
    assert lost <= getattr(module, "LOST_BY", {}).get(name, module.LOST)
    assert error < 0.02 * found
    expected, its_error = module.MEASURED.get(name, (module.SCORES[name][1], 0.0))
    assert found < expected + ROUNDING + 2 * np.hypot(error, its_error)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("source", "name"),
    [case for case in CASES if case[1] not in getattr(SOURCES[case[0]], "LONG_ONLY", ())],
)
def test_a_scheme_comes_near_its_published_score_in_a_short_run(source, name):
    module = SOURCES[source]
    found, _, lost, _ = rmse(source, name, module.SHORT, segments=1)
    assert lost == 0
    assert found < 1.5 * module.SCORES[name][1]
