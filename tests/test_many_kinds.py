"""Records whose rows all miss other values: no table of patterns, the same analyses."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import daml
from daml import segments
from daml.observing.records import read
from daml.schemes.variational import gains


def record(rows, size, seed, missing=0.5, correlated=False):
    """Give observations of a random state, each row with a pattern of its own."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((rows, size))
    values[random.random(values.shape) < missing] = np.nan
    names = [f"x{n}" for n in range(size)]
    made = xr.Dataset(
        {"observation": (("time", "variable"), values)},
        {"time": np.arange(rows) * 1.0, "variable": names},
    )
    if not correlated:
        return made.assign(error_variance=("variable", random.uniform(0.5, 2, size)))
    root = random.standard_normal((size, size))
    matrix = root @ root.T + np.eye(size)
    return made.assign(error_covariance=(("variable", "covariable"), matrix)).assign_coords(
        covariable=names
    )


def covariance(seen):
    size = seen.sizes["variable"]
    root = np.random.default_rng(9).standard_normal((size, size))
    return daml.covariance.labelled(root @ root.T + np.eye(size), seen["variable"].values.tolist())


@pytest.mark.parametrize("method", ["exact", "cg"])
@pytest.mark.parametrize("correlated", [False, True])
def test_gains_a_batch_at_a_time_are_those_of_a_table(method, correlated, monkeypatch):
    seen = record(60, 5, 1, correlated=correlated)
    background = seen.assign(background=xr.zeros_like(seen.observation) + 0.3)[["background"]]
    scheme = daml.ThreeDVar(covariance(seen), method=method)
    table = scheme.analyse(background, seen)
    monkeypatch.setattr(gains, "TABLE", 0)
    xr.testing.assert_allclose(scheme.analyse(background, seen), table, rtol=1e-12)


def test_a_record_is_read_without_a_table_of_patterns():
    seen = record(1000, 200, 2, missing=0.3)
    tracemalloc.start()
    found = read(seen, tuple(seen["variable"].values.tolist()), 1.0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.kind_present) == 1000
    assert most < 5e6  # the values are 1.6 MB; a table of R would be 320 MB
    there = np.flatnonzero(found.kind_present[found.kind[7]])
    np.testing.assert_array_equal(
        found.error_covariances([found.kind[7]])[0][np.ix_(there, there)],
        np.diag(seen.error_variance.values[there]),
    )


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("at_once", [7, 1 << 18])
def test_the_nearest_value_in_time_is_that_of_each_variable(lazy, at_once, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", at_once)
    random = np.random.default_rng(5)
    seen = record(50, 4, 3, missing=0.8).isel(time=np.sort(random.choice(50, 30, replace=False)))
    seen.observation[:, 2] = np.nan
    found = read(seen.chunk(time=11) if lazy else seen, ("x0", "x1", "x2", "x3"), 1.0)
    steps, values = np.arange(len(found.kind)), seen.observation.values
    expected = np.zeros((len(steps), 4))
    for variable in (0, 1, 3):
        there = np.isfinite(values[:, variable])
        apart = np.abs(found.axis.index[there] - steps[:, None])
        expected[:, variable] = values[there, variable][apart.argmin(axis=1)]
    np.testing.assert_array_equal(found.nearest(steps), expected)


def test_the_nearest_values_are_loaded_for_all_variables_together():
    """A record of many variables, opened lazily, is not read once for each of them."""
    loads = []

    def loaded(block, block_info=None):
        loads.append(block.shape)
        return block

    seen = record(20, 500, 4, missing=0.3).chunk(time=20)
    found = read(seen, tuple(seen["variable"].values.tolist()), 1.0)
    source = xr.Variable(
        found.source.dims, found.source.data.map_blocks(loaded, dtype=float, meta=np.empty((0, 0)))
    )
    replace(found, source=source).nearest(np.arange(3))
    assert len(loads) <= 2
