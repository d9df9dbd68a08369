"""Records worked through block by block equal those in memory, to the bit, seams and all."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml import segments
from daml.errors import DivergedError, InputError, StoreError
from daml.stores import filling
from daml.stores.opening import open_record
from daml.training import examples


@pytest.fixture
def small_blocks(monkeypatch):
    """Cut a record of some thousand steps into many blocks; 4,096 rows share a generator."""
    monkeypatch.setattr(segments, "ROWS", 3000)
    monkeypatch.setattr(segments, "WIDTH", 32)


STEPS = {"s": (72, "h"), "ms": (20, "s"), "us": (20, "ms"), "ns": (20, "us")}
"""By resolution: a step of dates, and the unit in which it is 0.02."""


def dated(record, unit="ns"):
    """Give a record with dates of a resolution."""
    steps = (STEPS[unit][0] * np.arange(record.sizes["time"])).astype(f"m8[{unit}]")
    return record.assign_coords(time=np.datetime64("2020-01-01T00:00:13", unit) + steps)


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


@pytest.mark.parametrize("unit", STEPS)
def test_dates_keep_their_resolution(small_blocks, scheme, tmp_path, unit):
    model = daml.Lorenz63(dt=0.02, time_unit=STEPS[unit][1])
    seen = dated(daml.observe(daml.simulate(model, steps=2500, spinup=10)), unit)
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

    with pytest.raises(DivergedError, match=r"diverged: .* not finite"):
        daml.simulate(Explosive(), steps=2000, store=tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def analysed(scheme):
    truth = daml.simulate(daml.Lorenz63(), steps=2000, spinup=100)
    return daml.assimilate(daml.Lorenz63(), daml.observe(truth, missing=0.1, seed=1), scheme)


@pytest.mark.parametrize("base", [None, daml.Lorenz63()])
def test_a_training_reads_a_record_block_by_block(analysed, base, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 700)
    emulator = daml.LSTM(hidden=4, epochs=2, base=base)
    here = emulator.fit(analysed).to_dataset()
    for chunks in ({"time": 333}, {"time": -1}, {"time": 50, "variable": 1}):
        xr.testing.assert_identical(emulator.fit(analysed.chunk(chunks)).to_dataset(), here)


def test_the_scaling_of_blocks_is_that_of_the_whole(analysed, monkeypatch):
    whole = daml.LSTM(hidden=4, epochs=1).fit(analysed).to_dataset()
    monkeypatch.setattr(segments, "ROWS", 450)
    parts = daml.LSTM(hidden=4, epochs=1).fit(analysed).to_dataset()
    for name in ("mean", "spread", "increment_mean", "increment_spread"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12)
    np.testing.assert_allclose(whole["mean"], analysed.analysis[:-1].mean("time"))


def test_a_training_never_holds_a_record_that_is_lazy(analysed, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 500)
    lengths = []
    values = examples.check_values
    monkeypatch.setattr(
        examples, "check_values", lambda v, *more: (lengths.append(len(v)), values(v, *more))
    )
    daml.LSTM(hidden=4, epochs=2).fit(analysed.chunk({"time": 100}))
    assert max(lengths) <= 501
    assert sum(lengths) >= 3 * (analysed.sizes["time"] - 1)  # the scaling, and two epochs


SPLITS = st.lists(st.integers(1, 59), max_size=5).map(lambda found: [0, *sorted(set(found)), 60])


@settings(max_examples=25, deadline=None)
@given(splits=SPLITS, rows=st.integers(1, 70))
def test_a_record_written_in_pieces_is_that_written_at_once(splits, rows, tmp_path_factory):
    record = dated(daml.simulate(daml.Lorenz63(dt=0.02), steps=60))
    folder = tmp_path_factory.mktemp("pieces")

    def fill(arrays):
        for first, stop in pairwise(splits):
            arrays["state"][first:stop] = record.state.values[first:stop]
        return {"filled": "in pieces"}

    variables = {"state": (("time", "variable"), record.state.attrs)}
    labels = record.drop_vars("state")
    found = filling.filled(labels, variables, fill, folder / "filled", rows)
    xr.testing.assert_identical(found.load(), record.assign_attrs(filled="in pieces"))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@settings(max_examples=15, deadline=None)
@given(splits=SPLITS, unit=st.sampled_from(tuple(STEPS)))
def test_a_record_that_a_user_appends_to_is_that_written_at_once(splits, unit, tmp_path_factory):
    record = dated(daml.simulate(daml.Lorenz63(dt=0.02), steps=60), unit)
    folder = tmp_path_factory.mktemp("appended")
    first, *rest = (record.isel(time=slice(*ends)) for ends in pairwise(splits))
    filling.write(first, str(folder / "record"))
    for piece in rest:
        piece.drop_vars("variable").to_zarr(folder / "record", append_dim="time")
    found = open_record(folder / "record").load()
    xr.testing.assert_identical(found, record)
    assert found.time.dtype == record.time.dtype


def test_a_client_of_one_thread_computes_what_is_lazy():
    """A task that read the record itself would wait for the only thread, which it holds."""
    base = daml.Lorenz63()
    truth = daml.simulate(base, steps=1500, spinup=100)
    seen = daml.observe(truth)
    emulator = daml.LSTM(base=base, hidden=4, epochs=1).fit(truth)
    scheme = daml.ThreeDVar(daml.climatological(truth, max_variance=1))
    how = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with Client(**how) as client:
        lazy = daml.assimilate(emulator, seen.chunk(time=300), scheme)
        ahead = daml.forecast(emulator, truth.chunk(time=300), warmup=20)
        found = [client.compute(part).result(timeout=60) for part in (lazy, ahead)]
    plain = daml.assimilate(emulator, seen, scheme), daml.forecast(emulator, truth, warmup=20)
    for one, two in zip(found, plain, strict=True):
        xr.testing.assert_equal(one, two)
