"""A lean start: nothing heavy is loaded before it is needed."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import daml
from daml import distribution

HEAVY = ("torch", "xarray", "numpy", "pandas", "dask", "matplotlib", "zarr", "distributed")


@pytest.mark.parametrize("words", [["-c", "import daml"], ["-m", "daml", "--help"]])
def test_nothing_heavy_is_loaded(words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "daml" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("words", [["-c", "import daml"], ["-m", "daml", "info", "gone.zarr"]])
@pytest.mark.parametrize("beside", ["daml-0.56.0.dist-info", "daml_xarray-0.1.0.dist-info"])
def test_the_other_project_of_that_name_in_the_same_folder_is_warned_of(tmp_path, words, beside):
    (tmp_path / "daml").symlink_to(Path(daml.__file__).parent)
    (tmp_path / beside).mkdir()
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    warned = done.stderr.count("uninstall both (pip uninstall daml daml-xarray)")
    assert warned == beside.startswith("daml-")


def test_the_distribution_has_the_name_that_daml_speaks_of():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["name"] == distribution.NAME
    printed = subprocess.run(
        [sys.executable, "-m", "daml", "--version"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"{distribution.NAME}, version {daml.__version__}\n"
