"""A lean start: nothing heavy is loaded before it is needed."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "xarray", "numpy", "pandas", "dask", "matplotlib", "zarr", "distributed")


@pytest.mark.parametrize("words", [["-c", "import daml"], ["-m", "daml", "--help"]])
def test_nothing_heavy_is_loaded(words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "daml" in loaded
    assert not loaded & set(HEAVY)
