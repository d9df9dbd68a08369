"""The members of an ensemble, kept with its analysis."""

import tracemalloc

import numpy as np
import pytest
import roster
import xarray as xr

import daml
from daml.errors import InputError

BOTH = ["background_members", "analysis_members"]


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.Lorenz63(), steps=350, spinup=500, seed=1)
    return daml.observe(truth, missing=0.2, seed=2)


def kept(seen, scheme=None, **how):
    scheme = scheme or daml.schemes.ETKF(6, inflation=1.05)
    return daml.assimilate(daml.Lorenz63(), seen, scheme, keep_members=True, **how)


@pytest.mark.parametrize("segments", [1, 3])
def test_mean_and_spread_are_those_of_the_members(seen, segments):
    found = kept(seen, segments=segments)
    plain = daml.assimilate(
        daml.Lorenz63(), seen, daml.schemes.ETKF(6, inflation=1.05), segments=segments
    )
    assert found.analysis_members.dims == ("time", "member", "variable")
    xr.testing.assert_identical(found.drop_vars([*BOTH, "member"]), plain)
    for mean, spread in (("background", "background_spread"), ("analysis", "spread")):
        members = found[f"{mean}_members"]
        np.testing.assert_allclose(members.mean("member"), found[mean], rtol=1e-12)
        np.testing.assert_allclose(members.std("member", ddof=1), found[spread], rtol=1e-9)


def test_the_model_moves_each_member_on(seen):
    found = kept(seen, segments=1)
    moved, _ = daml.Lorenz63().step(found.analysis_members.values[:-1], None)
    np.testing.assert_allclose(found.background_members[1:], moved, rtol=1e-12)


def test_a_store_and_dask_keep_the_same_members(seen, tmp_path):
    plain = kept(seen)
    xr.testing.assert_identical(kept(seen, store=tmp_path / "analysis").load(), plain)
    lazy = kept(seen.chunk(time=37))
    assert lazy.analysis_members.chunks is not None
    xr.testing.assert_equal(lazy.compute(), plain)


@pytest.mark.parametrize("name", ["ThreeDVar", "OptimalInterpolation", "a scheme of the tests"])
def test_a_scheme_of_one_state_has_no_members(seen, name):
    with pytest.raises(InputError, match=r"keep_members=True: .* has one state and no members"):
        kept(seen, roster.SCHEMES[name]())


def test_keeping_members_does_not_keep_what_they_carry(seen):
    """An LSTM's memory of 800 numbers a member would be 100 times as large as the members."""
    part = seen.isel(time=slice(60))
    emulator = daml.LSTM(hidden=200, epochs=1, sequence_length=20, base=daml.Lorenz63())
    emulator = emulator.fit(daml.simulate(daml.Lorenz63(), steps=30, spinup=500))
    kept(part, segments=1)  # what is loaded at a first use counts for nothing
    tracemalloc.start()
    try:
        daml.assimilate(emulator, part, daml.schemes.ETKF(20), segments=1, keep_members=True)
        assert tracemalloc.get_traced_memory()[1] < 4e6  # 60 steps of memories are 7.7 MB
    finally:
        tracemalloc.stop()
