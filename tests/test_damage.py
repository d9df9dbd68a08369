"""Stores that are damaged, foreign or of another time: one clear error, and nothing is lost."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from test_resume import improve, observations, scheme  # noqa: F401

import daml
from daml.cli import main
from daml.errors import InputError, StoreError
from daml.stores.store import Store


@pytest.fixture(scope="module")
def whole(observations, scheme, tmp_path_factory):  # noqa: F811
    store = tmp_path_factory.mktemp("whole") / "store.zarr"
    improve(observations, scheme, store, passes=2)
    return store


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store.zarr")


def truncated(chunk):
    chunk.write_bytes(chunk.read_bytes()[:30])


def gone(chunk):
    chunk.unlink()


@pytest.mark.parametrize("spoil", [truncated, gone])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iteration/0000/analysis/c/0/0", "iteration/0000"),
        ("iteration/0000/emulator/mean/c/0", "'mean'|iteration/0000/emulator"),
    ],
)
def test_a_chunk_that_is_broken_or_gone(store, spoil, name, text, observations, scheme):  # noqa: F811
    shutil.rmtree(store / "iteration/0001")
    root = json.loads((store / "zarr.json").read_text())
    visible = root["consolidated_metadata"]["metadata"]
    root["consolidated_metadata"]["metadata"] = {
        k: v for k, v in visible.items() if not k.startswith("iteration/0001")
    }
    (store / "zarr.json").write_text(json.dumps(root))
    spoil(store / name)
    with pytest.raises((StoreError, InputError), match=text) as caught:
        improve(observations, scheme, store, passes=2, resume=True)
    assert "\n" not in str(caught.value)
    assert xr.open_datatree(store, engine="zarr")["imperfect"].analysis.notnull().all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda root: root["attributes"].update(warm_start=5), "warm_start: 5 there, 1 now"),
        (lambda root: root["attributes"].pop("daml_version"), "not an experiment that daml wrote"),
        (lambda root: root["attributes"].update(store_version=9), "written by a newer daml"),
        (lambda root: root.pop("consolidated_metadata"), "not an experiment that daml wrote"),
    ],
)
def test_a_root_that_was_edited(store, change, text, observations, scheme):  # noqa: F811
    root = json.loads((store / "zarr.json").read_text())
    change(root)
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.raises((StoreError, InputError), match=text):
        improve(observations, scheme, store, passes=2, resume=True)


def test_attributes_of_an_emulator_that_were_edited(store):
    with xr.open_dataset(store, engine="zarr", group="iteration/0001/emulator") as kept:
        saved = kept.load()
    for name, value in {"settings": '{"hidden": 8, "colour": 1}', "base": "{"}.items():
        with pytest.raises(InputError, match="not those that daml wrote"):
            daml.load_emulator(saved.assign_attrs({name: value}))
    with pytest.raises(InputError, match="do not fit a network"):
        daml.load_emulator(
            saved.assign_attrs(
                settings=saved.attrs["settings"].replace('"hidden": 8', '"hidden": 9')
            )
        )


@pytest.mark.parametrize("words", [["info"], ["figures"], ["paper", "--resume", "--store"]])
@pytest.mark.parametrize("kind", ["text", "zarr2", "other"])
def test_what_daml_did_not_write_is_told_in_one_line(tmp_path, words, kind, truth):
    path = tmp_path / "given.zarr"
    if kind == "text":
        path.mkdir()
        (path / "zarr.json").write_text("{")
    else:
        plain = truth.drop_vars("variable")
        plain.to_zarr(path, zarr_format=2 if kind == "zarr2" else 3, consolidated=kind == "zarr2")
    result = CliRunner().invoke(main, [*words, str(path)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:300] + b"?" + b[301:]])
def test_what_is_damaged_of_a_checkpoint_is_not_read(store, damage):
    """A training then starts afresh, as if nothing had been saved."""
    kept, file = Store(store), store / "checkpoint.npz"
    kept.save(file.name, {"weights": np.arange(40.0)})
    assert kept.load(file.name).keys() == {"weights"}
    file.write_bytes(damage(file.read_bytes()))
    assert kept.load(file.name) is None
