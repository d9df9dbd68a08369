"""A store that 0.1.0 wrote opens and goes on; `tests/stores` keeps one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import daml

STORE = Path(__file__).parent / "stores" / "loop_0.1.0.zip"
"""Two passes of a small correction of Lorenz 63, on 600 steps, a fifth of them held out."""


@pytest.fixture
def store(tmp_path):
    shutil.unpack_archive(STORE, tmp_path / "loop.zarr")
    return tmp_path / "loop.zarr"


def test_its_scheme_and_emulator_give_its_analysis(store):
    tree = xr.open_datatree(store, engine="zarr")
    seen = tree["observations"].to_dataset().load()
    found = daml.assimilate(daml.load_emulator(store, 1), seen, daml.load_scheme(store, 1))
    np.testing.assert_allclose(found.analysis, tree["iteration/0001"].analysis, atol=1e-3)


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_it_goes_on(store):
    seen = xr.open_datatree(store, engine="zarr")["observations"].to_dataset().load()
    emulator = daml.LSTM(hidden=3, layers=1, epochs=2, base=daml.Lorenz63())
    tree = daml.improve(
        *(daml.Lorenz63(), seen, daml.ThreeDVar("innovations"), emulator),
        passes=3,
        held_out=0.2,
        store=store,
        resume=True,
    )
    assert list(tree["iteration"].children) == ["0000", "0001", "0002"]
    assert tree["iteration/0002/emulator"].attrs["trainings"] == 3
    assert np.isfinite(tree["iteration/0002"].analysis).all()
