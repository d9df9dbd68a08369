"""States of many variables: what lies in memory, and in a file, is counted in values."""

import numpy as np
import pytest
import xarray as xr
import zarr

import daml
from daml import randomness, segments
from daml.protocols import Update
from daml.stores.filling import packed


class Ring:
    """A model of many variables: each takes on a tenth of the one before it."""

    dt = 1.0

    def __init__(self, size):
        self.variables = tuple(f"x{n}" for n in range(size))
        self.climate = np.zeros(size)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x + 0.1 * np.roll(x, 1, axis=-1), memory


class Halfway:
    """A scheme: what is observed moves half the way to its observation; no matrix is made."""

    def prepare(self, setting):
        return setting.operator

    def update(self, forecast, observed, run, operator):
        analysis = forecast.state.copy()
        distance = observed.values - operator.apply(forecast.state)
        analysis[..., list(operator.places)] += 0.5 * np.where(observed.present, distance, 0.0)
        return Update(analysis), operator


def files(folder):
    return sum(path.is_file() for path in folder.rglob("*"))


def test_a_time_step_of_many_variables_is_a_few_files(tmp_path):
    model = Ring(100_000)
    truth = daml.simulate(model, steps=3, store=tmp_path / "truth")
    seen = daml.observe(truth, variables=model.variables[::2], store=tmp_path / "seen")
    found = daml.assimilate(model, seen, Halfway(), store=tmp_path / "found")
    for store, names in {
        "truth": ["state"],
        "seen": ["observation"],
        "found": ["background", "analysis", "innovation"],
    }.items():
        for name in names:
            assert files(tmp_path / store / name) == 2  # all values, and what they are
    here, step = daml.observe(truth, variables=model.variables[::2]), 2
    xr.testing.assert_identical(here, seen.load().assign_attrs(here.attrs))
    assert found.innovation[step].std() < 2


def chunks(folder, name):
    return zarr.open_array(folder / name, mode="r").chunks


@pytest.mark.parametrize("size", [3, 5])
def test_few_variables_lie_in_long_chunks(size, tmp_path):
    model = Ring(size)
    truth = daml.simulate(model, steps=12_000, store=tmp_path / "truth")
    seen = daml.observe(truth, store=tmp_path / "seen")
    daml.assimilate(model, seen, Halfway(), store=tmp_path / "found")
    assert chunks(tmp_path / "truth", "state") == (12_000, size)
    assert chunks(tmp_path / "seen", "observation") == (12_000, size)
    assert chunks(tmp_path / "found", "analysis") == (32 * 109, size)


@pytest.mark.parametrize(
    ("size", "rows", "together", "drawn"),
    [
        (3, 1 << 18, 1024, 4096),
        (5, 1 << 18, 1024, 4096),
        (40, 52_428, 838, 4096),
        (100_000, 20, 1, 20),
        (10_000_000, 1, 1, 1),
    ],
)
def test_budgets_count_values(size, rows, together, drawn):
    """For few variables they are what they were in rows."""
    assert segments.rows_at_once(size) == rows
    assert randomness.block(size) == drawn
    cut = segments.Cut(2_000_000, 500, 100)
    model = type("Sized", (), {"variables": range(size)})()
    with segments.side_by_side(model, cut) as (groups, _):
        assert len(groups[0]) == together
    assert cut.blocks(groups[0], size)[0].stop == max(min(rows // together, 600), 1)


@pytest.mark.parametrize(("size", "length"), [(5, 52_428), (100_000, 2)])
def test_what_is_written_whole_has_chunks_of_two_megabytes(size, length):
    """Sixteen of them are a file."""
    whole = xr.Dataset({"state": (("time", "variable"), np.zeros((40 * length, size), "f4"))})
    content = packed(whole.chunk(time=length), compute=False)
    store = zarr.storage.MemoryStore(
        {
            name: zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(part)
            for name, part in content.items()
        }
    )
    array = zarr.open_array(store, path="state", mode="r")
    assert (array.chunks, array.shards) == ((length, size), (16 * length, size))


def test_a_record_of_many_variables_does_not_depend_on_how_it_is_cut(tmp_path, monkeypatch):
    model = Ring(50)
    truth = daml.simulate(model, steps=1500, seed=1)
    seen = daml.observe(truth, missing=0.3, seed=2)
    found = daml.assimilate(model, seen, Halfway(), spinup=50)
    monkeypatch.setattr(segments, "VALUES", 2000)
    monkeypatch.setattr(segments, "ROOM", 10_000)
    xr.testing.assert_identical(daml.observe(truth, missing=0.3, seed=2), seen)
    again = daml.assimilate(model, seen, Halfway(), spinup=50, store=tmp_path / "found")
    xr.testing.assert_equal(again.load(), found)
    assert again.attrs["segments"] == found.attrs["segments"]
