"""Sweeps: a member's numbers are its own, whatever runs it; what is done stays done."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import LocalCluster

import daml
from daml import figures
from daml.cli import main
from daml.errors import InputError, StoreError
from daml.stores.store import Store
from daml.sweeps import workers
from daml.sweeps.grid import planned, read_config

SHORT = {"steps": 500, "passes": 1, "epochs": 1, "cycle_epochs": 1, "hidden": 4, "skip": 50}
GRID = {"max_variance": [1.0, 2.0]}
ETKF = {"scheme": "ETKF", "members": 5}

CONFIG = """
[sweep]
preset = "smoke"
seeds = 1
[grid]
max_variance = [2.0]
[fixed]
steps = 500
passes = 1
epochs = 1
cycle_epochs = 1
hidden = 4
skip = 50
"""


def sweep(grid=GRID, seeds=2, more=None, **options):
    fixed = {k: v for k, v in (SHORT | (more or {})).items() if k not in grid}
    return daml.sweep(grid, seeds=seeds, fixed=fixed, **options)


def timeless(result):
    return result.drop_vars([name for name in result if str(name).endswith("seconds")])


def same(one, two):
    xr.testing.assert_identical(timeless(one), timeless(two))


@pytest.fixture(scope="module")
def straight():
    """One member after another, in this process."""
    return sweep(workers=0)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


def members(store):
    """Give the members that a reader sees."""
    if not Store(store).made():
        return []
    return [g for g in Store(store).groups() if g.startswith("member/")]


def test_one_dataset_with_a_dim_per_parameter(straight):
    sizes = {"max_variance": 2, "seed": 2, "iteration": 1, "record": 2}
    assert dict(straight.analysis_rmse.sizes) == sizes
    assert straight.mfe_reduction.dims == ("max_variance", "seed", "iteration", "lead")
    assert straight.imperfect_analysis_rmse.dims == ("max_variance", "seed", "record")
    assert straight.perfect_background_rmse.dims == ("max_variance", "seed", "record")
    assert (straight.error == "").all()
    assert straight.analysis_rmse.notnull().all()
    assert len(np.unique(straight.experiment_seed)) == 4
    assert straight.attrs["hidden"] == 4


@pytest.mark.slow
def test_two_workers_change_no_number(straight, tmp_path, capsys):
    store = tmp_path / "sweep.zarr"
    same(sweep(workers=2, store=store), straight)
    assert capsys.readouterr().out.startswith("dashboard: http://")
    kept = xr.open_zarr(store, group="result").load()
    same(kept, straight)
    assert len(members(store)) == 4


def test_order_and_the_rest_of_the_grid_change_no_number(straight):
    turned = sweep({"max_variance": [2, 1]}, seeds=[1, 0], workers=0)
    back = turned.isel(max_variance=[1, 0], seed=[1, 0])
    same(back.assign_attrs(straight.attrs), straight)
    alone = sweep({"hidden": [4], "layers": [2]}, [1], {"max_variance": 2}, workers=0)
    picked = straight.sel(max_variance=2.0, seed=1)
    for name in ("analysis_rmse", "mfe", "experiment_seed"):
        np.testing.assert_array_equal(alone[name].squeeze(), picked[name].squeeze())


def test_a_worker_killed_in_the_middle_changes_no_number(straight, cluster, tmp_path):
    store = tmp_path / "sweep.zarr"
    killed = []

    def kill():
        while not members(store):
            time.sleep(0.01)
        killed.append(cluster.workers[0].pid)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    same(sweep(store=store, scheduler=cluster.scheduler_address), straight)
    killer.join()
    assert killed


def test_a_failing_member_is_told_and_the_rest_goes_on(cluster, tmp_path):
    store = tmp_path / "sweep.zarr"
    grid = {"sequence_length": [600, 100], "passes": [1, 2]}
    result = sweep(grid, seeds=1, store=store, scheduler=cluster.scheduler_address)
    bad, good = result.sel(sequence_length=600), result.sel(sequence_length=100)
    assert all("InputError: improve: a record of 500 steps" in e for e in bad.error.values.flat)
    assert (good.error == "").all()
    assert bad.analysis_rmse.isnull().all()
    assert bad.seconds.notnull().all()
    finite = good.analysis_rmse.notnull().all("record").squeeze("seed")
    np.testing.assert_array_equal(finite, [[True, False], [True, True]])
    same(xr.open_zarr(store, group="result").load(), result)


def test_a_sweep_goes_on_where_it_was_interrupted(straight, tmp_path, monkeypatch):
    store, begun = tmp_path / "sweep.zarr", []

    def interrupted(member, device):
        begun.append(member.key)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return run(member, device)

    run = workers.run
    monkeypatch.setattr(workers, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(store=store, workers=0)
    assert sorted(members(store)) == sorted(f"member/{key}" for key in begun[:2])
    with pytest.raises(InputError, match=r"seeds: \[0, 1\] there, \[0, 1, 2\] now"):
        sweep(store=store, workers=0, seeds=3, resume=True)
    with pytest.raises(InputError, match=r"--resume \(resume=True\)"):
        sweep(store=store, workers=0)
    same(sweep(store=store, workers=0, resume=True), straight)
    assert len(begun) == 5
    same(sweep(store=store, workers=0, resume=True), straight)
    assert len(begun) == 5


def test_a_member_lost_by_the_cluster_is_run_again(straight, tmp_path, monkeypatch):
    def lose(given, device, scheduler, count):
        for member, result, _ in finished(given, device, scheduler, count):
            lost = member.seed == 1
            yield member, member.outcome("KilledWorker") if lost else result, lost

    finished = workers.finished
    with monkeypatch.context() as patched:
        patched.setattr("daml.sweeps.sweeping.finished", lose)
        result = sweep({"max_variance": [2]}, store=tmp_path / "sweep.zarr", workers=0)
    np.testing.assert_array_equal(result.error.values, [["", "KilledWorker"]])
    assert len(members(tmp_path / "sweep.zarr")) == 1
    again = sweep({"max_variance": [2]}, store=tmp_path / "sweep.zarr", workers=0, resume=True)
    same(again.assign_attrs(straight.attrs), straight.isel(max_variance=[1]))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"grid": {"hidden_units": [4]}},
            "'hidden_units' is unknown; did you mean 'hidden'. give one of steps, passes",
        ),
        ({"grid": {"hidden": [4, "8"]}}, r"grid: 'hidden' is '8' \(str\); give a whole number"),
        ({"grid": {"hidden": [True]}}, r"'hidden' is True \(bool\); give a whole number"),
        ({"grid": {"hidden": 4}}, r"grid: 'hidden' is 4, which is not a list; give \[4\]"),
        ({"grid": {"hidden": []}}, "grid: 'hidden' is empty"),
        ({"grid": {"max_variance": [1, 1.0]}}, "'max_variance' is .* with a value twice"),
        ({"grid": {"max_variance": [np.nan]}}, "'max_variance' is nan .* give a number"),
        ({"grid": {"hidden": [4, 0]}}, "LSTM: 'hidden' is 0; give 1 or more"),
        ({"grid": {"passes": [0, 1]}}, "'passes' is 0; give 1 or more"),
        ({"grid": ["hidden"]}, "grid is a list; give a mapping"),
        ({"fixed": {"warm_start": 1}}, r"fixed: 'warm_start' is 1 \(int\); give true or false"),
        ({"fixed": {"steps": 100, "skip": 100}}, "'skip' is 100; give 0 or more, and less than"),
        ({"grid": {"epochs": [1]}, "fixed": {"epochs": 1}}, "'epochs' is in grid and in fixed"),
        ({"seeds": 0}, r"seeds is 0; give a number of 1 or more"),
        ({"seeds": [1, 1]}, "a list of different whole numbers"),
        ({"seeds": ["a"]}, "a list of different whole numbers"),
        ({"preset": "slow"}, "'slow' is unknown; give one of smoke, fast, literal"),
        ({"workers": -1}, "workers is -1; give 1 or more"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:9"}, "a scheduler has its own workers"),
        ({"scheduler": "nowhere"}, "scheduler 'nowhere': no answer .* start one with"),
        ({"resume": True}, "give the store of the run to resume"),
        ({"grid": {"scheme": ["ETKF", "etfk"]}}, "grid: scheme 'etfk' is unknown; did you mean"),
        ({"grid": {"scheme": ["etkf", "ETKF"]}}, "'scheme' is .* with a value twice"),
        ({"grid": {"scheme": ["ETKF"]}}, "scheme: ETKF needs 'members'; give a value for each"),
        ({"grid": {"members": [4]}}, r"no scheme of the sweep has it \(3DVar with the preset's B"),
        ({"grid": {"radius": [4]}, "fixed": ETKF}, r"no scheme of the sweep has it \(ETKF\)"),
        ({"grid": {"inflation": [-1, -2]}, "fixed": ETKF}, "ETKF: 'inflation' is -1"),
        ({"fixed": {"scheme": "LETKF", "members": 4, "radius": 2}}, "where its variables lie"),
        ({"fixed": {"scheme": "SigmaPoint"}}, "SigmaPoint: LSTM has a memory of the states"),
        ({"fixed": ETKF | {"background": "innovations"}}, "the B of the default scheme, and 'sch"),
        ({"fixed": {"system": "lorenz69"}}, "'lorenz69' is unknown; did you mean 'lorenz"),
        ({"fixed": ETKF | {"members": 4.5}}, r"'members' is 4.5 \(float\); give a whole number"),
    ],
)
def test_what_cannot_be_run_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        daml.sweep(**({"grid": GRID, "preset": "smoke"} | given))


def test_a_corner_of_the_grid_may_be_out_of_range():
    grid = {"sequence_length": [20, 100], "burn_in": [10, 50]}
    assert len(planned(grid, 1, "smoke", {}).members) == 4


def test_a_key_follows_from_what_is_no_default():
    (one,) = planned({"hidden": [100]}, [7], "fast", {}).members
    (two,) = planned({"max_variance": [2]}, [7], "fast", {"epochs": 16}).members
    assert (
        (one.key, one.drawn)
        == (two.key, two.drawn)
        == (
            "aaa62de6f748",
            int("aaa62de6f748", 16),
        )
    )


SCHEMES = """
[sweep]
preset = "smoke"
seeds = 1
[grid]
scheme = ["etkf"]
inflation = [1.05, 1.5]
[fixed]
members = 8
correction = true
steps = 300
passes = 1
epochs = 1
hidden = 4
skip = 100
"""


@pytest.mark.filterwarnings("ignore:assimilate. .* has lost:UserWarning")  # by its short LSTM
def test_a_sweep_over_schemes_and_inflation(tmp_path):
    (tmp_path / "sweep.toml").write_text(SCHEMES)
    result = daml.sweep(**read_config(tmp_path / "sweep.toml"), workers=0)
    assert (result.error == "").all(), result.error.values
    assert result.scheme.values.tolist() == ["ETKF"]
    assert result.perfect_analysis_rmse.dims == ("scheme", "inflation", "seed", "record")
    one, two = result.perfect_analysis_rmse.sel(record="test").squeeze().values
    assert one < two
    assert (result.chi_square > 0).all()


@pytest.mark.filterwarnings("ignore:assimilate. .* has lost:UserWarning")  # by its short LSTM
@pytest.mark.slow
def test_a_scheme_without_an_argument_runs_once_for_its_values(tmp_path):
    text = SCHEMES.replace('["etkf"]', '["etkf", "ThreeDVar"]').replace("300", "1000")
    (tmp_path / "sweep.toml").write_text(text)
    result = daml.sweep(**read_config(tmp_path / "sweep.toml"), workers=0)
    assert (result.error == "").all(), result.error.values
    etkf, var = result.perfect_analysis_rmse.sel(record="test", seed=0).values
    assert etkf[0] < var[0]
    assert var[0] == var[1]
    etkf, var = result.experiment_seed.squeeze().values
    assert (etkf[0] != etkf[1], var[0] == var[1]) == (True, True)


def test_what_a_scheme_lacks_makes_no_new_member():
    plan = planned({"scheme": ["ETKF", "EnKFN", "LETKF"], "radius": [2, 4]}, 1, "smoke",
                   {"members": 8, "system": "lorenz96"})  # fmt: skip
    assert len({member.key for member in plan.members}) == 4
    alone = planned({"members": [8]}, 1, "smoke", {"scheme": "etkf", "system": "lorenz96"})
    assert alone.members[0].key == plan.members[0].key
    scheme = plan.members[-1].scheme
    assert scheme == daml.schemes.LETKF(8, radius=4.0, seed=plan.members[-1].drawn)
    assert "system" in plan.attrs("cpu")
    (relaxed,) = planned({"inflation": ["RTPS(0.5)"]}, 1, "smoke", ETKF).members
    assert relaxed.scheme.inflation == daml.schemes.RTPS(0.5)


def test_a_store_from_before_schemes_could_vary_goes_on():
    attrs = planned(GRID, 1, "smoke", {}).attrs("cpu")
    assert not {"scheme", "system", "members", "inflation", "radius"} & set(attrs)


def call(*words):
    return CliRunner().invoke(main, ["sweep", *(str(w) for w in words)])


def test_the_command_line_tells_scores_and_failures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(
        CONFIG.replace("max_variance", "sequence_length").replace("[2.0]", "[100, 600]")
    )
    done = call("two.toml", "--workers", 0)
    assert done.exit_code == 0, done.output
    assert "failed: 1 of 2 members" in done.output
    assert "store: results/sweep.zarr" in done.output
    (tmp_path / "bad.toml").write_text(
        CONFIG.replace("max_variance", "sequence_length").replace("[2.0]", "[600]")
    )
    done = call("bad.toml", "--workers", 0, "--store", "bad.zarr")
    assert done.exit_code == 2
    assert "Error: all members failed, the first with InputError: improve: a record" in done.output


@pytest.mark.slow
def test_one_worker_of_the_command_line_changes_no_number(straight, tmp_path):
    (tmp_path / "sweep.toml").write_text(CONFIG.replace("[2.0]", "[1, 2]"))
    words = [sys.executable, "-m", "daml", "sweep", "sweep.toml", "--workers", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(" sweep: " in line for line in done.stderr.splitlines())
    assert "seed 0, member 2 of 2, failed 0" in done.stderr
    assert done.stdout.startswith("dashboard: http")
    assert "failed: 0 of 2 members" in done.stdout
    kept = xr.open_zarr(tmp_path / "results/sweep.zarr", group="result").load()
    same(kept.assign_attrs(straight.attrs), straight.isel(seed=[0]))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[grid]", "[grid", "not valid TOML (Expected ']'"),
        ("[grid]", "[grids]", "'grids' is unknown there; give [sweep], [grid], [fixed]"),
        ("[sweep]", "hidden = 4\n[sweep]", "'hidden' is unknown there"),
        ("seeds", "seed", "[sweep] 'seed' is unknown; did you mean 'seeds'? give one of preset,"),
        (
            "hidden",
            "hidden_units",
            "'hidden_units' is unknown; did you mean 'hidden'? give one of steps",
        ),
        ("hidden = 4", "hidden = 4.5", "fixed: 'hidden' is 4.5 (float); give a whole number"),
        ('"smoke"', "3", "[sweep] 'preset' is 3; give a text in quotes"),
        ("seeds = 1", "seeds = 1.5", "seeds is 1.5; give a number"),
    ],
)
def test_a_bad_config_ends_with_one_line_and_code_2(old, new, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.toml").write_text(CONFIG.replace(old, new))
    done = call("sweep.toml")
    assert (done.exit_code, text in done.output) == (2, True), done.output
    assert done.output.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.toml"]


def test_no_config_and_no_scheduler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "PATIENCE", 1)
    with pytest.raises(StoreError, match=r"gone.toml: cannot be read .* check the path"):
        read_config("gone.toml")
    (tmp_path / "sweep.toml").write_text(CONFIG)
    for words in (["gone.toml"], ["sweep.toml", "--scheduler", "tcp://127.0.0.1:9"]):
        done = call(*words, "--store", "out.zarr")
        assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert "scheduler 'tcp://127.0.0.1:9': no answer" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.toml"]


@pytest.mark.filterwarnings("ignore:assimilate. .* has lost:UserWarning")  # by its short LSTM
@pytest.mark.slow
def test_a_sweep_over_a_radius():
    fixed = {"scheme": "LETKF", "members": 6, "system": "lorenz96", "inflation": 1.05}
    short = {"steps": 300, "passes": 1, "epochs": 1, "hidden": 4, "skip": 100}
    result = daml.sweep({"radius": [3.0, 7.0]}, seeds=1, fixed=fixed | short, workers=0)
    assert (result.error == "").all(), result.error.values
    assert (result.perfect_analysis_rmse < 0.6).all()


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_how_to_mend_it(tmp_path):
    script = f"import daml\ndaml.sweep({GRID}, seeds=1, fixed={SHORT}, workers=1)\n"
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, "script.py"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "must call daml.sweep under: if __name__ == '__main__':" in done.stderr


def test_scores_are_drawn_with_their_spread_over_the_seeds():
    values = np.array([[[3.0, 2.0], [5.0, 4.0]], [[1.0, np.nan], [1.0, 1.0]]])
    result = xr.Dataset(
        {"mfe": (("hidden", "seed", "iteration"), values)},
        coords={"hidden": [50, 100], "seed": [0, 1], "iteration": [0, 1]},
    )
    (axes,) = figures.sweep_scores(result, "mfe").axes
    first, second = (line.get_children() for line in axes.containers)
    np.testing.assert_allclose(first[0].get_ydata(orig=False), [4, 3])
    np.testing.assert_allclose(second[0].get_ydata(orig=False), [1, 1])
    low, high = first[-1].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((4 - np.sqrt(2), 4 + np.sqrt(2)))
    wide = result.expand_dims(layers=[1, 2])
    with pytest.raises(InputError, match=r"2 values of 'hidden' beside 'layers'; give result.isel"):
        figures.sweep_scores(wide, "mfe", over="layers")
    with pytest.raises(InputError, match="no parameter 'size' in 'mfe'"):
        figures.sweep_scores(result, "mfe", over="size")


@pytest.mark.slow
def test_what_was_held_out_is_kept_where_something_was():
    grid = {"background": ["climatological", "innovations"], "correction": [False, True]}
    result = sweep(grid, seeds=1, more={"steps": 1200}, workers=0)
    assert (result["error"] == "").all()
    errors = result["held_out_square_error"].isel(seed=0, iteration=0)
    assert errors.sel(background="climatological").isnull().all()
    assert errors.sel(background="innovations").notnull().all()
    assert (result["pass_seconds"] > 0).all()
    last = result["analysis_rmse"].isel(iteration=-1, seed=0, record=0)
    assert len(set(last.values.ravel())) == 4


def test_the_results_kept_for_the_docs_can_be_drawn():
    result = daml.reports.published("paper")
    assert (result["error"] == "").all()
    assert result.sizes["seed"] == 5
    drawn = figures.sweep_scores(result, "mfe_reduction", over="lead")
    assert len(drawn.axes[0].get_legend().texts) == 4


def test_info_tells_how_far_a_sweep_is(tmp_path):
    store = str(tmp_path / "sweep.zarr")
    daml.sweep(GRID, seeds=1, fixed=SHORT, workers=0, store=store)
    shown = CliRunner().invoke(main, ["info", store]).output
    assert "2 done, 0 of them failed: finished" in shown
    assert "max_variance 2, seed 1" in shown
