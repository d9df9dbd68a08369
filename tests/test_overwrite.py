"""Yesterday's result stays until today's is worth as much, and nothing else is touched."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_resume import equal, opened, read_all
from test_storable import Damped, covariance, record

import daml
from daml.errors import DamlError, DivergedError, InputError, StoreError
from daml.stores import filling
from daml.stores import folder as folders

RECORD = record(1200)


class Stopping(daml.LSTM):
    """An emulator whose training of one pass is stopped from outside."""

    _stopped = None

    def fit(self, analysis, *, checkpoint=None, **how):
        done = 0 if self.fitted is None else self.fitted.trainings
        if done == Stopping._stopped:
            raise KeyboardInterrupt
        return super().fit(analysis, checkpoint=checkpoint, **how)


@pytest.fixture(autouse=True)
def nothing_stops(monkeypatch):
    monkeypatch.setattr(Stopping, "_stopped", None)


def improve(store, observations=RECORD, stopped=None, hidden=2, **more):
    """Run two short passes; ``hidden`` tells runs apart."""
    Stopping._stopped = stopped
    emulator = Stopping(base=Damped(), hidden=hidden, epochs=1)
    scheme = daml.ThreeDVar(covariance())
    how = {"passes": 2, "store": store} | more
    return daml.improve(Damped(), observations, scheme, emulator, **how)


def content(folder):
    """Give each file's checksum by path, and each folder's name, but for the lock."""
    return {
        str(path.relative_to(folder)): path.is_file()
        and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.name != ".lock"
    }


@pytest.fixture(scope="module")
def yesterdays(tmp_path_factory):
    store = tmp_path_factory.mktemp("yesterday") / "store.zarr"
    improve(store, hidden=3)
    return store


@pytest.fixture
def folder(yesterdays, tmp_path):
    subprocess.run(["cp", "-r", yesterdays, tmp_path / "store.zarr"], check=True)
    return tmp_path


def test_a_result_is_replaced_whole(folder):
    store = folder / "store.zarr"
    equal(improve(store, overwrite=True), improve(folder / "other.zarr"))
    assert sorted(p.name for p in folder.iterdir()) == ["other.zarr", "store.zarr"]
    assert content(store).keys() == content(folder / "other.zarr").keys()


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"observations": RECORD.isel(time=slice(40))}, InputError, "held-out rows"),
        ({"observations": RECORD.isel(time=slice(0))}, InputError, "is empty"),
        ({"observations": RECORD.assign_coords(variable=["b"])}, InputError, "no variable 'b'"),
        ({"held_out": 0.5}, InputError, "'held_out' is 0.5"),
        ({"passes": 0}, InputError, "'passes' is 0"),
        ({"stopped": 0}, KeyboardInterrupt, "^$"),
    ],
)
def test_what_fails_before_the_first_pass_is_whole_changes_nothing(folder, how, error, text):
    before = content(folder)
    with pytest.raises(error, match=text):
        improve(folder / "store.zarr", overwrite=True, **how)
    assert content(folder) == before
    read_all(opened(folder / "store.zarr"))


@pytest.mark.slow
def test_a_run_that_stops_later_is_resumed(folder):
    store = folder / "store.zarr"
    with pytest.raises(KeyboardInterrupt):
        improve(store, stopped=1, overwrite=True)
    assert list(opened(store)["iteration"].children) == ["0000"]
    assert [p.name for p in folder.iterdir()] == ["store.zarr"]
    equal(improve(store, resume=True), improve(folder / "other.zarr"))


def test_before_the_first_pass_a_resume_finds_yesterdays(folder):
    with pytest.raises(KeyboardInterrupt):
        improve(folder / "store.zarr", stopped=0, overwrite=True)
    with pytest.raises(InputError, match="another configuration"):
        improve(folder / "store.zarr", resume=True)
    assert len(improve(folder / "store.zarr", hidden=3, resume=True)["iteration"].children) == 2


KILLED = """
import os, signal, sys, time
import test_overwrite as t

class Killed(t.Stopping):
    def fit(self, analysis, *, checkpoint=None, **how):
        print("training", flush=True)
        time.sleep(60)

t.Stopping = Killed
t.improve(sys.argv[1], overwrite=True)
"""


@pytest.mark.slow
def test_what_a_killed_run_leaves_is_removed_by_the_next(folder):
    before = content(folder / "store.zarr")
    words = [sys.executable, "-c", KILLED, str(folder / "store.zarr")]
    here = Path(__file__).parent
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=here) as run:
        assert run.stdout.readline() == "training\n"
        with pytest.raises(StoreError, match="another run is writing to it"):
            improve(folder / "store.zarr", overwrite=True)
        run.send_signal(signal.SIGKILL)
    assert content(folder / "store.zarr") == before
    assert len(list(folder.iterdir())) == 2
    improve(folder / "store.zarr", hidden=3, resume=True)
    assert [p.name for p in folder.iterdir()] == ["store.zarr"]
    assert content(folder / "store.zarr") == before


def test_a_run_killed_between_two_renames_is_put_back(folder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder / "store.zarr").rename(folder / f".store.zarr.{dead.pid}.old")
    (folder / f".store.zarr.{dead.pid}.part").mkdir()
    assert len(improve(folder / "store.zarr", hidden=3, resume=True)["iteration"].children) == 2
    assert [p.name for p in folder.iterdir()] == ["store.zarr"]


@pytest.mark.parametrize("atomic", [True, False])
def test_folders_change_places(tmp_path, atomic, monkeypatch):
    if not atomic:  # as where the system has no such call
        monkeypatch.setattr(folders, "_exchanged", lambda one, two: False)
    one, two = folders.Folder(tmp_path / "one"), folders.Folder(tmp_path / "two")
    one.put("name", b"one")
    two.put("name", b"two")
    one.exchange(two)
    assert (one.read("name"), two.read("name")) == (b"two", b"one")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_a_reader_finds_a_whole_result_before_and_after_the_exchange(folder):
    store, found, ended = folder / "store.zarr", set(), threading.Event()

    def read():
        while not ended.is_set():
            before = store.stat().st_ino
            try:
                tree = opened(store)
                tree["imperfect"].to_dataset().load()
                whole = len(tree["iteration"].children)
            except Exception as error:
                whole = repr(error)
            if store.stat().st_ino == before:  # else the result changed places while it was read
                found.add(whole)

    reader = threading.Thread(target=read)
    reader.start()
    improve(store, overwrite=True)
    ended.set()
    reader.join()
    assert found <= {1, 2}
    assert 2 in found


def foreign_file(store):
    (store / "mine.txt").write_text("dear")


def foreign_file_in_a_group(store):
    (store / "iteration/0000/mine.txt").write_text("dear")


def foreign_group(store):
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(store, group="mine", consolidated=False)


def foreign_group_of_a_like_name(store):
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(store, group="iteration/foo", consolidated=False)


def foreign_group_in_a_group(store):
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(store, group="observations/mine", consolidated=False)


def foreign_array_in_a_group(store):
    more = xr.Dataset({"a": ("x", [1.0])})
    more.to_zarr(store, group="observations", mode="a", consolidated=False)


@pytest.mark.parametrize(
    "add",
    [
        foreign_file,
        foreign_file_in_a_group,
        foreign_group,
        foreign_group_of_a_like_name,
        foreign_group_in_a_group,
        foreign_array_in_a_group,
    ],
)
def test_a_store_that_holds_something_else_is_refused(folder, add):
    add(folder / "store.zarr")
    before = content(folder)
    with pytest.raises(InputError, match=r"that daml wrote completely \(it holds ") as caught:
        improve(folder / "store.zarr", overwrite=True)
    assert "\n" not in str(caught.value)
    assert content(folder) == before


def own_zarr(store):
    tree = {n: xr.Dataset({"a": ("x", [1.0])}) for n in ("observations", "test/truth", "result")}
    xr.DataTree.from_dict(tree).to_zarr(store, zarr_format=3)


def own_record(store):
    daml.simulate(daml.Lorenz63(), steps=5, store=store)


def own_file(store):
    store.write_text("dear")


def own_emulator(store):
    daml.LSTM(hidden=2, epochs=1).fit(daml.simulate(daml.Lorenz63(), steps=200)).save(store)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("make", [own_zarr, own_record, own_file, own_emulator])
def test_what_is_no_experiment_is_refused(tmp_path, make):
    make(tmp_path / "mine")
    before = content(tmp_path)
    with pytest.raises(InputError, match="not a store that daml wrote completely"):
        improve(tmp_path / "mine", overwrite=True)
    with pytest.raises(DamlError, match="mine"):
        improve(tmp_path / "mine", resume=True)
    assert content(tmp_path) == before
    assert not list(tmp_path.rglob("mine/.lock"))


@pytest.mark.parametrize("kind", ["zarr", "nc"])
@pytest.mark.parametrize("name", ["{}", "./x/../{}", "{}/", "link", "{}/inside", "."])
def test_the_records_own_path_is_refused(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    file = f"seen.{kind}"
    filling.write(RECORD, file) if kind == "zarr" else RECORD.to_netcdf(file)
    Path("link").symlink_to(file)
    before = content(tmp_path)
    with daml.stores.opening.open_record(file) as seen:
        for how in ({"overwrite": True}, {}):
            with pytest.raises(InputError, match="the record lies at"):
                improve(name.format(file), seen, **how)
    assert content(tmp_path) == before


def test_a_record_of_the_stores_own_resumes_and_replaces_it(folder):
    seen = daml.stores.opening.open_tree(folder / "store.zarr")["observations"].to_dataset()
    assert len(improve(folder / "store.zarr", seen, hidden=3, resume=True)["iteration"]) == 2
    replaced = improve(folder / "store.zarr", seen, overwrite=True)
    xr.testing.assert_identical(replaced["observations"].to_dataset().load(), RECORD)


def test_a_failed_run_leaves_the_folders_that_it_did_not_make(tmp_path):
    (tmp_path / "empty").mkdir()
    for store in ("empty", "empty/new/store.zarr", "new/store.zarr"):
        with pytest.raises(InputError, match="held-out rows"):
            improve(tmp_path / store, RECORD.isel(time=slice(40)))
        with pytest.raises(DivergedError, match=r"diverged: .* not finite"):
            daml.simulate(Growing(), steps=5000, store=tmp_path / store)
        assert content(tmp_path) == {"empty": False}
        assert not list(tmp_path.rglob(".lock"))


class Growing(Damped):
    def step(self, x, memory):
        return 2 * x, None


def test_a_store_behind_a_link_is_replaced_where_it_lies(folder):
    (folder / "link.zarr").symlink_to("store.zarr")
    improve(folder / "link.zarr", overwrite=True)
    assert (folder / "link.zarr").is_symlink()
    own = Stopping(base=Damped())
    assert daml.load_emulator(folder / "store.zarr", 0, emulator=own).hidden == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(folder):
    folder.chmod(0o500)
    with pytest.raises(StoreError, match="cannot write there"):
        improve(folder / "store.zarr", overwrite=True)
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("zip://store.zarr", "cannot be a store"),
        ("nothing://store.zarr", "check the URL"),
        ("a" * 300, "too long"),
        ("x/" * 3000, "too long"),
        ("a" * 250, "cannot write there"),
        ("a\0b", "embedded null"),
        ("", "give a (path or a URL|text or a path)"),
        (3, "give a (path or a URL|text or a path)"),
        ("file/store.zarr", "cannot write there"),
    ],
)
def test_a_store_that_cannot_be(tmp_path, monkeypatch, store, text):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("dear")
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(DamlError, match=text) as caught:
            improve(store, **how)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_saved_emulator_is_whole_or_not_there(tmp_path):
    run = daml.simulate(daml.Lorenz63(), steps=200)
    emulator = daml.LSTM(hidden=2, epochs=1).fit(run)
    emulator.save(tmp_path / "deep/saved.zarr")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["saved.zarr"]
    found = daml.load_emulator(tmp_path / "deep/saved.zarr")
    x = np.ones((1, 3))
    np.testing.assert_array_equal(found.step(x)[0], emulator.step(x)[0])
    with pytest.raises(InputError, match="exists"):
        emulator.save(tmp_path / "deep/saved.zarr")
