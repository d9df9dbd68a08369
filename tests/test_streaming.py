"""Records worked through block by block equal those in memory, to the bit, seams and all."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml import forecasting, observations, records, segments
from daml.errors import DivergedError, InputError, StoreError


@pytest.fixture
def small_blocks(monkeypatch):
    """Cut a record of some thousand steps into many blocks; 4,096 rows share a generator."""
    for module in (forecasting, observations):
        monkeypatch.setattr(module, "ROWS", 4096)
    monkeypatch.setattr(records, "ROWS", 1000)
    monkeypatch.setattr(segments, "ROWS", 3000)
    monkeypatch.setattr(segments, "WIDTH", 32)


def dated(record):
    steps = np.arange(record.sizes["time"]) * np.timedelta64(20, "ms")
    return record.assign_coords(time=np.datetime64("2020-01-01T00:00:00.013", "ns") + steps)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("count", [None, 1])
def test_a_streamed_chain_equals_the_one_in_memory(small_blocks, scheme, tmp_path, every, count):
    model = daml.Lorenz63(dt=0.02)
    truth = daml.simulate(model, steps=10_000, spinup=10, seed=4)
    streamed = daml.simulate(model, steps=10_000, spinup=10, seed=4, store=tmp_path / "truth")
    xr.testing.assert_identical(streamed.load(), truth)
    seen = daml.observe(truth, missing=0.2, every=every, seed=5)
    kept = daml.observe(
        xr.open_zarr(tmp_path / "truth"), missing=0.2, every=every, seed=5, store=tmp_path / "seen"
    )
    xr.testing.assert_identical(kept.load(), seen)
    analysis = daml.assimilate(model, seen, scheme, segments=count)
    stored = daml.assimilate(
        model, xr.open_zarr(tmp_path / "seen"), scheme, segments=count, store=tmp_path / "analysis"
    )
    assert stored.analysis.chunks is not None
    xr.testing.assert_identical(stored.load(), analysis)
    again = xr.open_dataset(tmp_path / "analysis", engine="zarr")
    xr.testing.assert_identical(again.load(), analysis)


def test_an_emulators_groups_are_written_side_by_side(scheme, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "NETWORK_WIDTH", 32)
    run = daml.simulate(daml.Lorenz63(), steps=12_000, spinup=100)
    model = daml.LSTM(hidden=8, epochs=2).fit(run)
    seen = daml.observe(run)
    stored = daml.assimilate(model, seen, scheme, store=tmp_path / "analysis")
    xr.testing.assert_identical(stored.load(), daml.assimilate(model, seen, scheme))


def test_dates_keep_their_nanoseconds(small_blocks, scheme, tmp_path):
    model = daml.Lorenz63(dt=0.02)
    seen = dated(daml.observe(daml.simulate(model, steps=5000, spinup=10)))
    stored = daml.assimilate(model, seen, scheme, store=tmp_path / "analysis")
    np.testing.assert_array_equal(stored.time, seen.time)
    assert stored.time.dtype == seen.time.dtype


@settings(max_examples=15)
@given(st.integers(40, 4000), st.integers(1, 3), st.booleans())
def test_any_chunking_gives_the_same_scores(truth, chunk, width, sides):
    estimate = truth.state + np.sin(np.arange(truth.sizes["time"]))[:, None]
    analysis = xr.Dataset({"analysis": estimate, "background": 2 * estimate})
    score = daml.verification.analysis_error
    plain = score(analysis, truth)
    chunks = {"time": chunk, "variable": width}
    lazy = score(analysis.chunk(chunks), truth.chunk(chunks) if sides else truth)
    assert lazy.analysis_rmse.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), plain, rtol=1e-12)


@settings(max_examples=5)
@given(st.integers(40, 4000), st.integers(1, 3))
def test_any_chunking_gives_the_same_forecasts_and_maps(truth, chunk, width):
    part = truth.sel(variable=["x0", "x1", "x2"])
    lazy = part.chunk(time=chunk, variable=width)
    made = daml.forecast(daml.Lorenz63(), part, leads=2)
    later = daml.forecast(daml.Lorenz63(), lazy, leads=2)
    assert later.forecast.chunks is not None
    xr.testing.assert_equal(later.compute(), made)
    scores = daml.verification
    errors = scores.forecast_error(made, part)
    again = scores.forecast_error(later.chunk(start=chunk), lazy)
    assert again.squared_error.chunks is not None
    xr.testing.assert_allclose(scores.mfe(again).compute(), scores.mfe(errors), rtol=1e-12)
    edges = (("x0", np.linspace(-20, 20, 9)), ("x2", np.linspace(0, 50, 9)))
    lazily = scores.error_map(again, *edges)
    assert lazily.chunks is not None
    xr.testing.assert_allclose(lazily.compute(), scores.error_map(errors, *edges), rtol=1e-12)


def test_a_store_that_exists_or_cannot_be_written_is_refused(truth, tmp_path):
    (tmp_path / "mine").write_text("dear")
    with pytest.raises(InputError, match="exists; give another path"):
        daml.observe(truth, store=tmp_path / "mine")
    with pytest.raises(StoreError, match="cannot write"):
        daml.observe(truth, store=tmp_path / "mine" / "out.zarr")
    assert (tmp_path / "mine").read_text() == "dear"


def test_a_run_that_breaks_leaves_no_half_record(tmp_path):
    class Explosive(daml.Lorenz63):
        def tendency(self, x):
            return 1e3 * x

    with pytest.raises(DivergedError, match="left the finite numbers"):
        daml.simulate(Explosive(), steps=2000, store=tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []
