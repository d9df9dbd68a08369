"""Runs that are interrupted: nothing is lost, and the result is that of a run in one go."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from killed import PASSES, SETTINGS

import daml
from daml.errors import InputError, StoreError
from daml.experiments.twin import Preset
from daml.loop.assimilator import Assimilator
from daml.stores import keeper
from daml.stores.store import Store


def equal(one, two):
    """Hold two experiments to the same bits, but for how long they took."""
    assert set(one.groups) == set(two.groups)
    for group in one.groups:
        first, second = (t[group].to_dataset(inherit=False).load() for t in (one, two))
        dropped = [name for name in ("seconds",) if name in first]
        xr.testing.assert_identical(first.drop_vars(dropped), second.drop_vars(dropped))


def opened(store):
    return xr.open_datatree(store, engine="zarr")


def read_all(tree):
    for group in tree.groups:
        tree[group].to_dataset(inherit=False).load()


@pytest.fixture(scope="module")
def observations():
    truth = daml.simulate(daml.Lorenz63(), steps=1000, spinup=500, seed=1)
    return daml.observe(truth, missing=0.1, seed=2)


@pytest.fixture(scope="module")
def scheme():
    return daml.ThreeDVar(daml.climatological(daml.simulate(daml.Lorenz63(), steps=500)))


def improve(observations, scheme, store, **settings):
    given = {"passes": PASSES, "store": store} | settings
    return daml.improve(daml.Lorenz63(), observations, scheme, daml.LSTM(**SETTINGS), **given)


@pytest.fixture(scope="module")
def straight(observations, scheme, tmp_path_factory):
    return improve(observations, scheme, tmp_path_factory.mktemp("straight") / "store.zarr")


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_it_ends_the_same_and_is_readable_at_any_moment(
    kills, observations, straight, tmp_path
):
    observations.to_netcdf(tmp_path / "record.nc")
    script = Path(__file__).with_name("killed.py")
    words = [sys.executable, script, tmp_path / "record.nc", tmp_path, kills, 7]
    running = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, text=True)
    seen = 0
    while running.poll() is None:
        for store in sorted(p.parent for p in tmp_path.glob("*.zarr/zarr.json"))[-1:]:
            tree = opened(store)
            read_all(tree)
            seen += "iteration" in tree.children
        time.sleep(0.05)
    word, number = running.stdout.read().split()
    running.stdout.close()
    assert word == "finished"
    assert seen > 3
    for count in range(int(number) + 1):
        equal(opened(tmp_path / f"{count}.zarr"), straight)


def test_a_training_goes_on_from_its_last_epoch(
    observations, scheme, straight, tmp_path, monkeypatch
):
    class Interrupted(Exception):
        pass

    saved = []

    def stop_at_the_ninth(self, arrays):
        saved.append(len(arrays["history loss"]))
        kept(self, arrays)
        if len(saved) == 9:
            raise Interrupted

    kept = keeper.TrainingCheckpoint.save
    monkeypatch.setattr(keeper, "PAUSE", 0.0)
    monkeypatch.setattr(keeper.TrainingCheckpoint, "save", stop_at_the_ninth)
    with pytest.raises(Interrupted):
        improve(observations, scheme, tmp_path / "store.zarr")
    assert saved == [1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert list(opened(tmp_path / "store.zarr")["iteration"].children) == ["0000"]
    equal(improve(observations, scheme, tmp_path / "store.zarr", resume=True), straight)
    assert saved[9:] == [4, 5, 6, 1, 2, 3, 4, 5, 6]


def test_a_training_through_the_cycle_goes_on_from_its_last_epoch(
    observations, tmp_path, monkeypatch
):
    class Interrupted(Exception):
        pass

    def run(name):
        network = daml.LSTM(hidden=4, epochs=2, cycle_epochs=4, covariance="predicted")
        how = {"training": "cycle", "passes": 2, "resume": True}
        return daml.improve(
            daml.Lorenz63(), observations, emulator=network, store=tmp_path / name, **how
        )

    def stop_at_the_ninth(self, arrays):
        saved.append((self.name, len(arrays["history loss"])))
        kept(self, arrays)
        if len(saved) == 9:
            raise Interrupted

    saved, kept = [], keeper.TrainingCheckpoint.save
    monkeypatch.setattr(keeper, "PAUSE", 0.0)
    straight = run("straight.zarr")
    monkeypatch.setattr(keeper.TrainingCheckpoint, "save", stop_at_the_ninth)
    with pytest.raises(Interrupted):
        run("store.zarr")
    assert saved[-3:] == [("checkpoint-cycle.npz", n) for n in (1, 2, 3)]  # of the second pass
    equal(run("store.zarr"), straight)
    assert saved[9:] == [("checkpoint-cycle.npz", 4)]
    assert not list((tmp_path / "store.zarr").glob("*.npz"))


def test_resume_without_a_whole_pass_starts_afresh(observations, scheme, straight, tmp_path):
    equal(improve(observations, scheme, tmp_path / "store.zarr", resume=True), straight)
    again = improve(observations, scheme, tmp_path / "store.zarr", resume=True)
    equal(again, straight)


def test_another_configuration_or_record_is_refused(observations, scheme, tmp_path):
    store = tmp_path / "store.zarr"
    improve(observations, scheme, store, passes=1)
    with pytest.raises(InputError, match=r"another configuration \(warm_start: 1 there, 0 now\)"):
        improve(observations, scheme, store, passes=1, warm_start=False, resume=True)
    other = observations.copy(deep=True)
    other["observation"][3, 1] += 1e-9
    with pytest.raises(InputError, match=r"observations_sha256: .* there"):
        improve(other, scheme, store, passes=1, resume=True)
    with pytest.raises(InputError, match=r"--resume \(resume=True\)"):
        improve(observations, scheme, store, passes=1)


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_to_more_passes(first, observations, scheme, straight, tmp_path):
    store = tmp_path / "store.zarr"
    improve(observations, scheme, store, passes=first)
    equal(improve(observations, scheme, store, resume=True), straight)


def test_an_interrupted_run_may_end_earlier(observations, scheme, tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    def stop(self, done, emulator):
        if done.iteration == 1:
            raise Interrupted
        return after(self, done, emulator)

    store, after = tmp_path / "store.zarr", Assimilator.after
    monkeypatch.setattr(Assimilator, "after", stop)
    with pytest.raises(Interrupted):
        improve(observations, scheme, store, passes=9)
    fewer = r"holds 2 passes, and passes=1 ends after 1; give passes=2 or more"
    with pytest.raises(InputError, match=fewer):
        improve(observations, scheme, store, passes=1, resume=True)
    assert opened(store).attrs["passes"] == 9
    ended = improve(observations, scheme, store, passes=2, resume=True)
    monkeypatch.undo()
    equal(ended, improve(observations, scheme, tmp_path / "two.zarr", passes=2))


@pytest.mark.slow
def test_passes_may_change_between_a_number_and_auto(observations, scheme, tmp_path, monkeypatch):
    monkeypatch.setattr("daml.loop.loop.MOST", 3)
    auto = improve(observations, scheme, tmp_path / "auto.zarr", passes="auto")
    ends = len(auto["iteration"].children)
    store = tmp_path / "store.zarr"
    improve(observations, scheme, store, passes=1)
    equal(improve(observations, scheme, store, passes="auto", resume=True), auto)
    improve(observations, scheme, store, passes=ends + 1, resume=True)
    ended = f"passes='auto' ends after {ends}; give passes={ends + 1} or more"
    with pytest.raises(InputError, match=ended):
        improve(observations, scheme, store, passes="auto", resume=True)


def test_auto_does_not_go_on_from_passes_that_it_would_not_have_made(
    observations, scheme, tmp_path, monkeypatch
):
    monkeypatch.setattr("daml.loop.passes.settled", lambda errors: errors.sizes["iteration"] >= 2)
    store = tmp_path / "store.zarr"
    improve(observations, scheme, store, passes=3)
    with pytest.raises(InputError, match="holds 3 passes, and passes='auto' ends after 2"):
        improve(observations, scheme, store, passes="auto", resume=True)


def test_the_papers_experiment_goes_on_to_more_passes(tmp_path, monkeypatch):
    short = Preset(steps=400, epochs=1, skip=10)
    monkeypatch.setitem(daml.paper.PRESETS, "smoke", short)
    monkeypatch.setattr("daml.experiments.twin.SENSITIVITY", (1.0,))
    monkeypatch.setattr("daml.experiments.twin.SPINUP", 100)
    straight = daml.paper.run("smoke", passes=2, store=tmp_path / "straight.zarr")
    store = tmp_path / "store.zarr"
    daml.paper.run("smoke", passes=1, store=store)
    with pytest.raises(InputError, match=r"exists; give another path, --resume"):
        daml.paper.run("smoke", passes=2, store=store)
    more = daml.paper.run("smoke", passes=2, store=store, resume=True)
    equal(more, straight)
    equal(daml.paper.run("smoke", passes=2, store=store), straight)
    with pytest.raises(InputError, match="holds 2 passes, and passes=1 ends after 1"):
        daml.paper.run("smoke", passes=1, store=store, resume=True)


def test_a_second_run_on_one_store_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    held = (
        "from daml.stores.store import Store; import sys, time\n"
        f"with Store({str(tmp_path / 'store.zarr')!r}).lock():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", held]
    lock = Store(tmp_path / "store.zarr").lock()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another run is writing to it"), lock:
            pass
        other.kill()
    with Store(tmp_path / "store.zarr").lock():
        pass
    assert not (tmp_path / "store.zarr").exists()


FULL = """
import resource, signal, sys
import xarray as xr
import daml, killed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
killed.PASSES = 1
killed.run(sys.argv[1], sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
killed.PASSES = 1
try:
    from daml.stores.store import Store
    Store(sys.argv[2]).write(xr.load_dataset(sys.argv[1], engine="h5netcdf"), "iteration/0001")
except daml.errors.StoreError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_leaves_the_finished_passes(observations, tmp_path):
    observations.to_netcdf(tmp_path / "record.nc")
    words = [sys.executable, "-c", FULL, str(tmp_path / "record.nc"), str(tmp_path / "store.zarr")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert "cannot write 'iteration/0001'" in done.stdout
    assert "then continue with --resume" in done.stdout
    assert done.stdout.count("\n") == 1
    tree = opened(tmp_path / "store.zarr")
    assert list(tree["iteration"].children) == ["0000"]
    read_all(tree)


def test_what_is_kept_opens_lazily(observations, scheme, tmp_path):
    tree = improve(observations, scheme, tmp_path / "store.zarr", passes=1)
    analysis = tree["iteration/0000"].analysis
    assert analysis.chunks == ((1000,), (3,))
