"""The command line as a user meets it: real files, real processes, exit codes."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import daml
from daml import paper
from daml.cli import main
from daml.emulators.hidden import learning, lessons
from daml.errors import InputError
from daml.loop import defaults
from daml.loop.passes import TRAININGS
from daml.loop.preconditions import TARGETS
from daml.schemes.gaussian import open_error
from daml.scripts import load_model
from daml.training import error_size

MODEL = """
import numpy as np


class Convection:
    variables = ("u", "v", "w")
    dt = 0.05

    def start(self, x, time=None):
        return None

    def tendency(self, x):
        u, v, w = x[..., 0], x[..., 1], x[..., 2]
        return np.stack((10 * (v - u), u * (28 - w) - v, u * v - 8 / 3 * w), axis=-1)

    def step(self, x, memory):
        h = self.dt
        a = self.tendency(x)
        b = self.tendency(x + h / 2 * a)
        c = self.tendency(x + h / 2 * b)
        d = self.tendency(x + h * c)
        return x + h / 6 * (a + 2 * b + 2 * c + d), memory


class OneState(Convection):
    def step(self, x, memory):
        return np.array([x[0], x[1], x[2]]), memory


class NoModel:
    pass


class Leaves(Convection):
    def __init__(self):
        raise SystemExit(0)
"""


@pytest.fixture
def folder(tmp_path, truth, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    record = daml.observe(truth, variables=["x0", "x1", "x2"], missing=0.1, seed=3)
    times = np.datetime64("2020-01-01", "ns") + np.arange(3000) * np.timedelta64(50, "ms")
    record = record.assign_coords(variable=["u", "v", "w"], time=("time", times))
    record.to_netcdf(tmp_path / "record.nc")
    return tmp_path


def call(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


def improve(*more, record="record.nc", model="model.py:Convection", store="out.zarr"):
    return call("improve", record, "--model", model, "--store", store, "--epochs", 2, *more)


def test_a_strangers_record(folder):
    result = improve("--passes", 2)
    assert result.exit_code == 0, result.output
    assert "LSTM-1" in result.output
    tree = xr.open_datatree(folder / "out.zarr", engine="zarr")
    record = xr.open_dataset(folder / "record.nc")
    analysis = tree["iteration/0001"].to_dataset()
    assert list(analysis.variable.values) == ["u", "v", "w"]
    np.testing.assert_array_equal(analysis.time, record.time)
    with pytest.raises(InputError, match="give it as 'base'"):
        daml.load_emulator(folder / "out.zarr")
    emulator = daml.load_emulator(folder / "out.zarr", 0, base=load_model("model.py:Convection"))
    assert emulator.variables == ("u", "v", "w")


def test_a_store_that_exists_is_kept_unless_overwritten(folder):
    (folder / "out.zarr").mkdir()
    (folder / "out.zarr" / "mine.txt").write_text("dear")
    for more in ((), ("--overwrite",)):
        result = improve("--passes", 1, *more)
        assert result.exit_code == 2
    assert (folder / "out.zarr" / "mine.txt").read_text() == "dear"
    assert improve("--passes", 1, store="own.zarr").exit_code == 0
    (folder / "own.zarr" / "mine.txt").write_text("dear")
    again = improve("--passes", 1, "--overwrite", store="own.zarr")
    assert (again.exit_code, again.output.count("\n")) == (2, 1)
    assert "it holds 'mine.txt'" in again.output
    (folder / "own.zarr" / "mine.txt").unlink()
    again = improve("--passes", 1, "--overwrite", store="own.zarr")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"record": "gone.nc"}, "no such file"),
        ({"record": "model.py"}, "neither NetCDF nor Zarr"),
        ({"record": "cut.nc"}, "neither NetCDF nor Zarr, or truncated"),
        ({"record": "dates.nc"}, "its times cannot be read (unable to decode"),
        ({"model": "lorenz"}, "is unknown; give lorenz63"),
        ({"model": "gone.py:Model"}, "does not exist; check its path"),
        ({"model": "model.py:Other"}, "has no class 'Other'"),
        ({"model": "model.py:NoModel"}, "NoModel is not a model: it has no 'variables'"),
        ({"model": "model.py:OneState"}, "of shape (4, 3)"),
        ({"model": "model.py:Leaves"}, "Leaves() failed with SystemExit: 0"),
        ({"model": "lorenz63"}, "the model has no variable 'u'"),
        ({"store": "model.py/out.zarr"}, "cannot write"),
        ({"passes": 0}, "'passes' is 0; give 1 or more"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(folder, given, text):
    whole = (folder / "record.nc").read_bytes()
    (folder / "cut.nc").write_bytes(whole[: len(whole) // 2])
    times = ("time", [0, 1], {"units": "days since then"})
    xr.Dataset(coords={"time": times}).to_netcdf(folder / "dates.nc", engine="h5netcdf")
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    words = {k: v for k, v in given.items() if k != "passes"}
    result = improve("--passes", given.get("passes", 1), **words)
    assert result.exit_code == 2
    assert text in result.output
    assert result.output.count("\n") == 1
    after = {p: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != "__pycache__"}
    assert after == before


def test_unknown_preset_is_refused_and_debug_shows_the_traceback(folder):
    result = call("paper", "--preset", "slow")
    assert (result.exit_code, "give one of smoke, fast, literal" in result.output) == (2, True)
    assert call("paper", "--preset", "slow", "--debug").exception.__class__.__name__ == "InputError"


def test_the_smoke_experiment_end_to_end(folder):
    words = ["-m", "daml", "paper", "--preset", "smoke", "--passes", "2", "--figures", "figures"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "LSTM-1" in done.stdout
    assert re.search(r"paper: LSTM-0, pass 1 of 2, .* about \d+ s left\n", done.stderr)
    assert len(list((folder / "figures").glob("figure_*.png"))) == 4
    assert len(list((folder / "figures").glob("figure_*.svg"))) == 4
    tree = xr.open_datatree(folder / "results/paper.zarr", engine="zarr")
    scores = daml.reports.collect(tree)
    assert float(scores.analysis_rmse.max()) < 2.5
    assert scores.sizes["iteration"] == 2
    assert call(*words[2:]).stdout == done.stdout


@pytest.mark.slow
def test_a_finished_experiment_is_gone_beyond(folder, monkeypatch):
    small = replace(paper.PRESETS["smoke"], steps=1200, passes=1, epochs=1, cycle_epochs=2)
    monkeypatch.setitem(paper.PRESETS, "smoke", small)
    monkeypatch.setattr(error_size, "TRIALS", 2)
    done = call("paper", "--preset", "smoke")
    assert "cycle, LSTM" not in done.stdout
    beyond = call("paper", "--preset", "smoke", "--beyond")
    assert beyond.exit_code == 0, beyond.output
    assert "cycle, LSTM" in beyond.stdout
    assert set(done.stdout.splitlines()) < set(beyond.stdout.splitlines())
    scores = daml.reports.collect(xr.open_datatree(folder / "results/paper.zarr", engine="zarr"))
    assert set(scores["beyond"].values) == {"LSTM", "correction", "hidden"}
    assert (scores["beyond_seconds"] > 0).all()
    assert "cycle, hidden" in beyond.stdout
    assert set(scores["filter"].values) == {"ETKF", "sigma points"}
    assert (scores["floor_analysis_rmse"] < 0.3).all()
    assert (scores["floor_mfe_reduction"] > 99).all()
    again = call("paper", "--preset", "smoke", "--beyond")
    assert again.stdout == beyond.stdout  # nothing is trained anew


def test_info_and_figures_tell_of_a_store_and_run_nothing(folder):
    assert improve("--passes", 2).exit_code == 0
    result = call("info", "out.zarr")
    assert result.exit_code == 0, result.output
    assert "2 of 2: finished" in result.output
    assert "LSTM-1" in result.output
    drawn = call("figures", "out.zarr", "--figures", "drawn")
    assert drawn.exit_code == 0, drawn.output
    names = {p.name for p in (folder / "drawn").iterdir()}
    assert names == {f"figure_{n}.{e}" for n in ("1_loop", "2_innovations") for e in ("png", "svg")}


def test_an_analysis_is_no_experiment(folder):
    words = "--model", "model.py:Convection", "--scheme", "ETKF", "--members", 10
    words = *words, "--inflation", 1.5
    made = call("assimilate", "record.nc", *words, "--store", "analysis.zarr")
    assert made.exit_code == 0, made.output
    for command in ("info", "figures"):
        refused = call(command, "analysis.zarr")
        assert refused.exit_code == 2
        assert "no experiment is there; give the store of" in refused.output


def test_a_model_of_numpy_is_improved_through_the_cycle(folder):
    result = improve("--training", "cycle", "--emulator", "lstm")
    assert result.exit_code == 0, result.output
    assert "LSTM-0" in result.output
    assert "consistency" in result.output
    scheme = daml.ThreeDVar("model")
    base = load_model("model.py:Convection")
    emulator = daml.load_emulator(folder / "out.zarr", 0, base=base)
    record = xr.load_dataset(folder / "record.nc")
    assert daml.assimilate(emulator, record, scheme).background_spread.min() > 0
    refused = improve("--training", "truth")
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    refused = improve("--training", "cycle", "--emulator", "lstn", store="other.zarr")
    assert refused.output == "Error: --emulator is 'lstn'; give one of lstm, augmented\n"
    refused = improve("--emulator", "augmented", store="other.zarr")
    assert refused.output.startswith("Error: Loop: Augmented cannot be trained on analyses; give")


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_hidden_variables_are_the_default_of_a_training_through_the_cycle(folder, monkeypatch):
    short = tuple(stage._replace(length=6) for stage in learning.STAGES)
    monkeypatch.setattr(learning, "STAGES", short)
    monkeypatch.setattr(lessons, "JUDGED", 60)
    monkeypatch.setattr(error_size, "TRIALS", 1)
    monkeypatch.setattr(defaults, "JUDGED", 2)
    monkeypatch.setattr(open_error, "FACTORS", (1e-4, 1e-2, 1.0))
    result = improve("--training", "cycle", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "Augmented-0" in result.output
    assert "consistency" in result.output
    emulator = daml.load_emulator(folder / "out.zarr", 0, base=load_model("model.py:Convection"))
    assert emulator.variables[:3] == ("u", "v", "w")
    scheme, record = daml.load_scheme(folder / "out.zarr", 0), xr.load_dataset(folder / "record.nc")
    assert daml.assimilate(emulator, record, scheme).spread.min() > 0


@pytest.mark.parametrize("command", ["info", "figures"])
@pytest.mark.parametrize("store", ["gone.zarr", "model.py", "saved.zarr"])
def test_what_is_no_experiment_is_told_in_one_line(folder, command, store):
    run = daml.simulate(daml.Lorenz63(), steps=200)
    daml.LSTM(hidden=4, epochs=1).fit(run).save(folder / "saved.zarr")
    result = call(command, store)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)


def test_a_run_is_resumed_from_the_command_line(folder):
    assert improve("--passes", 1).exit_code == 0
    again = improve("--passes", 1, "--resume")
    assert again.exit_code == 0, again.output
    more = improve("--passes", 2, "--resume")
    assert more.exit_code == 0, more.output
    assert "LSTM-1" in more.output
    fewer = improve("--passes", 1, "--resume")
    assert (fewer.exit_code, fewer.output.count("\n")) == (2, 1)
    assert "the store holds 2 passes, and passes=1 ends after 1" in fewer.output
    other = improve("--passes", 2, "--resume", "--seed", 1)
    assert (other.exit_code, other.output.count("\n")) == (2, 1)
    assert "cannot be resumed with another configuration (emulator.seed: " in other.output


CHOICES = {
    ("paper", "preset"): paper.PRESETS,
    ("improve", "emulator"): defaults.NAMES,
    ("improve", "training"): TRAININGS,
    ("improve", "targets"): TARGETS,
}


@pytest.mark.parametrize(("command", "option"), CHOICES)
def test_the_help_names_every_choice(command, option):
    shown = " ".join(call(command, "--help").output.split())
    assert f"--{option} [{'|'.join(CHOICES[command, option])}] " in shown


@pytest.mark.parametrize("command", main.commands)
def test_an_example_of_the_help_is_a_command(command):
    examples = (main.commands[command].epilog or "").replace("\\\n", "").splitlines()
    lines = [line.split() for line in examples if line.lstrip().startswith("daml ")]
    assert lines or not main.commands[command].params[0].required
    for _, name, *words in lines:
        main.commands[name].make_context(name, words)
