"""Whatever an argument can break is found before any work: one line, and nothing is touched."""

import numpy as np
import pytest
from click.testing import CliRunner
from test_storable import Damped, covariance, record

import daml
from daml.cli import main
from daml.errors import InputError
from daml.experiments import twin
from daml.labels.ranges import whole
from daml.running import forecasting

SEEDS = [-1, 2**63, 2**70, 1.5, "1", None, True, np.nan, [1]]
DEVICES = ["gpu", "", "meta", "mps", "cpu:x", "cuda:x", "cuda:99", "CPU", None, 1, "a\nb"]
COUNTS = [0, -1, 1.5, np.nan, "1", True, [1], "²"]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch, tmp_path):
    """Let any work fail."""
    monkeypatch.chdir(tmp_path)

    def run(*given, **more):
        raise AssertionError("work was begun")

    monkeypatch.setattr(twin, "simulate", run)
    monkeypatch.setattr(forecasting, "simulate", run)
    monkeypatch.setattr(Damped, "step", run)
    yield
    assert not [p for p in tmp_path.iterdir() if p.name not in ("record.nc", "model.py", "c.toml")]


def in_one_line(text):
    return pytest.raises(InputError, match=rf"\A[^\n]*{text}[^\n]*; (give|an?) [^\n]*\Z")


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds(seed):
    with in_one_line("LSTM: 'seed' is"):
        daml.LSTM(seed=seed)
    with in_one_line(r"paper(\.run)?: 'seed' is"):
        daml.paper.run("smoke", seed=seed, store="store.zarr", overwrite=True)


@pytest.mark.parametrize("device", DEVICES)
def test_devices(device):
    for name, call in [
        ("LSTM", lambda: daml.LSTM(device=device)),
        ("paper", lambda: daml.paper.run("smoke", device=device, store="store.zarr")),
        ("sweep", lambda: daml.sweep({"hidden": [2]}, device=device, store="store.zarr")),
    ]:
        with in_one_line(rf"{name}(\.run)?: '?device"):
            call()


@pytest.mark.parametrize("count", COUNTS)
def test_counts(count):
    for name in ("hidden", "layers", "epochs", "window", "batch_size", "sequence_length"):
        with in_one_line(f"LSTM: '{name}' is"):
            daml.LSTM(**{name: count})
    if count != 0:
        with in_one_line("LSTM: 'burn_in' is"):
            daml.LSTM(burn_in=-1 if isinstance(count, int) else count)
    for name in ("steps", "passes", "epochs", "cycle_epochs"):
        with in_one_line(f"'{name}' is"):
            twin.Preset(**{name: count})
    with in_one_line("(Loop|improve): 'passes' is"):
        daml.improve(Damped(), record(1200), passes=count, store="store.zarr", overwrite=True)
    with in_one_line("'passes' is"):
        daml.paper.run("smoke", passes=count, store="store.zarr")


@pytest.mark.parametrize("value", [0, -1.0, np.nan, "1", None, True, [1.0], 2e400])
def test_rates(value):
    with in_one_line("LSTM: 'learning_rate' is"):
        daml.LSTM(learning_rate=value)
    if value is not True:
        with in_one_line("LSTM: 'rate_decay' is"):
            daml.LSTM(rate_decay=value)


@pytest.mark.parametrize("part", [np.nan, -0.1, 0.5, 1, "0.1", None, True, np.inf])
def test_parts_that_are_held_out(part):
    with in_one_line("'held_out' is"):
        daml.improve(Damped(), record(1200), held_out=part, store="store.zarr")


def test_numpys_numbers_become_pythons():
    lstm = daml.LSTM(hidden=np.int64(3), seed=np.uint8(4), learning_rate=np.float32(0.5))
    assert [type(v) for v in (lstm.hidden, lstm.seed, lstm.learning_rate)] == [int, int, float]
    loop = daml.Loop(Damped(), daml.ThreeDVar(covariance()), lstm, np.int32(2), held_out=0)
    assert (type(loop.passes), loop.passes, loop.held_out) == (int, 2, 0.0)
    assert whole(np.int16(2), "it") == 2


IMPROVE = ["improve", "record.nc", "--model", "lorenz63", "--store", "store.zarr"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["paper", "--seed", "-1"], "'seed' is -1"),
        (["paper", "--seed", str(2**70)], "'seed' is"),
        *((["paper", "--device", name], "device") for name in DEVICES[:6]),
        (["paper", "--passes", "0"], "'passes' is 0"),
        (["paper", "--preset", ""], "preset '' is unknown"),
        (["paper", "--figures", "record.nc"], "a file is there"),
        ([*IMPROVE, "--seed", "-1"], "'seed' is -1"),
        ([*IMPROVE, "--seed", str(2**70)], "'seed' is"),
        *(([*IMPROVE, "--device", name], "device") for name in DEVICES[:6]),
        *(([*IMPROVE, "--passes", name], "is") for name in ("²", "0", "-1", "1.5", "", "nan")),
        *(([*IMPROVE, "--epochs", name], "'epochs' is") for name in ("0", "-1")),
        *(([*IMPROVE, "--held-out", name], "'held_out'") for name in ("nan", "-1", "1", "inf")),
        ([*IMPROVE, "--background", "mine"], "'background_covariance' is 'mine'"),
        ([*IMPROVE, "--training", ""], "'training' is ''"),
        (["sweep", "c.toml", "--workers", "-1"], "workers is -1"),
        (["sweep", "gone.toml"], "cannot be read"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_the_command_line_ends_with_one_line(words, text, more):
    record(1200).assign_coords(variable=["x0"]).to_netcdf("record.nc")
    with open("c.toml", "w") as file:
        file.write("[grid]\nhidden = [2]\n")
    result = CliRunner().invoke(main, [*words, *more])
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert text in result.output
