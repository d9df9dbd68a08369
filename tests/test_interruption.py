"""Runs without a terminal, and runs that Ctrl-C or a batch system ends."""

import io
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

import daml
from daml.commands import resuming
from daml.progress import Progress, lines_without_terminal

MODEL = """
import sys, time
import daml


class Given(daml.Lorenz63):
    pass


class Slow(daml.Lorenz63):
    def __init__(self):
        print("made", file=sys.stderr, flush=True)
        time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = daml.simulate(daml.Lorenz63(), steps=1200, spinup=500, seed=1)
    daml.observe(truth, seed=2).to_netcdf(tmp_path / "my record.nc")
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def improve(*more, model="Given"):
    given = ["my record.nc", "--model", f"model.py:{model}", "--store", "my store.zarr"]
    return [sys.executable, "-m", "daml", "improve", *given, "--epochs", "1", *more]


def passes():
    """Give the number of passes that are visible in the store."""
    store = Path("my store.zarr")
    if not (store / "zarr.json").exists():
        return 0
    return len(xr.open_datatree(store, engine="zarr").get("iteration", xr.DataTree()).children)


def stopped(words, number, when):
    """Start a command and send it a signal; give its exit status and its last words."""
    with subprocess.Popen(words, stdout=-1, stderr=-1, text=True) as running:
        when(running)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err
    return running.returncode, err.splitlines()[-1]


def after_a_pass(running):
    while not passes() and running.poll() is None:
        time.sleep(0.05)


def after_the_model_was_made(running):
    assert running.stderr.readline() == "made\n"


def test_ctrl_c_prints_the_command_that_resumes(folder):
    words = improve("--passes", "200", "--overwrite", "--seed", "3")
    code, line = stopped(words, signal.SIGINT, after_a_pass)
    assert code == 130
    command = shlex.split(line.removeprefix("Interrupted. To resume: "))
    assert command == [*(word for word in words if word != "--overwrite"), "--resume"]
    command = improve("--resume", model="Slow")
    message = f"Interrupted. To resume: {shlex.join(command)}"
    assert stopped(command, signal.SIGTERM, after_the_model_was_made) == (143, message)


def test_nothing_to_resume_is_said_so(folder):
    code, line = stopped(improve(model="Slow"), signal.SIGINT, after_the_model_was_made)
    assert code == 130
    assert line == "Interrupted before the first result: there is nothing to resume."
    assert not (folder / "my store.zarr").exists()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["paper"], "daml paper --resume"),
        (["paper", "--resume"], "daml paper --resume"),
        (["paper", "--overwrite", "--store", "a b"], "daml paper --store 'a b' --resume"),
        (["improve", "--model", "m", "--", "-r.nc"], "daml improve --model m --resume -- -r.nc"),
    ],
)
def test_the_command_that_resumes(words, command):
    assert resuming(words) == command


class Terminal(io.StringIO):
    def isatty(self):
        return True


def reported(stderr, monkeypatch):
    """Report a run of four passes; give what was printed."""
    monkeypatch.setattr(sys, "stderr", stderr)
    with lines_without_terminal(), Progress("improve", "pass", 4) as progress:
        progress.say("begins")
        for at in range(4):
            progress.advance({"loss": "0.5"}, f"LSTM-{at}")
    return stderr.getvalue()


def test_lines_without_a_terminal(monkeypatch):
    printed = reported(io.StringIO(), monkeypatch).splitlines()
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in printed]
    assert lines == [
        "improve: begins",
        "improve: LSTM-0, pass 1 of 4, loss 0.5, about 0 s left",
        "improve: LSTM-1, pass 2 of 4, loss 0.5, about 0 s left",
        "improve: LSTM-2, pass 3 of 4, loss 0.5, about 0 s left",
        "improve: LSTM-3, pass 4 of 4, loss 0.5",
    ]
    assert not logging.getLogger("daml").handlers


def test_a_bar_and_no_lines_on_a_terminal(monkeypatch):
    printed = reported(Terminal(), monkeypatch)
    assert "loss=0.5" in printed
    assert "LSTM-0" not in printed


def test_python_prints_nothing_unless_logging_is_configured(capsys, caplog):
    Progress("improve", "pass", 30, at_most=True).advance({}, "LSTM-0")
    assert capsys.readouterr() == ("", "")
    with caplog.at_level(logging.INFO, logger="daml"):
        Progress("improve", "pass", 30, at_most=True).advance({}, "LSTM-0")
    assert caplog.messages == ["improve: LSTM-0, pass 1 of at most 30, at most 0 s left"]


def test_the_time_left_is_that_of_the_mean_pass_after_the_first_stage(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO, logger="daml"):
        progress = Progress("improve", "pass", 12, done=2)
        clock[0] = 500.0
        progress.say("model given")
        for seconds in (60.0, 100.0):
            clock[0] += seconds
            progress.advance({})
    assert caplog.messages[1:] == [
        "improve: pass 3 of 12, about 9 min 00 s left",
        "improve: pass 4 of 12, about 10 min 40 s left",
    ]


def test_an_early_error_is_the_only_line(capsys):
    @lines_without_terminal()
    def failing():
        logging.getLogger("daml").info("begins")
        raise ValueError("no such variable")

    with pytest.raises(ValueError, match="no such"):
        failing()
    assert capsys.readouterr().err == ""


def test_lines_come_while_a_run_is_going_on(monkeypatch, capsys):
    monkeypatch.setattr("daml.progress.PATIENCE", 0.01)
    with lines_without_terminal():
        logging.getLogger("daml").info("begins")
        time.sleep(0.5)
        assert capsys.readouterr().err.endswith("begins\n")
        logging.getLogger("daml").info("ends")
        assert capsys.readouterr().err.endswith("ends\n")


@pytest.mark.slow
def test_the_workers_of_a_sweep_end_in_silence(folder):
    short = "steps = 400\npasses = 1\nepochs = 1\nhidden = 4\nskip = 10"
    grid = "[sweep]\nseeds = 20\n[grid]\nmax_variance = [1.0, 2.0]\n"
    Path("sweep.toml").write_text(f"{grid}[fixed]\n{short}")
    words = [sys.executable, "-m", "daml", "sweep", "sweep.toml", "--workers", "2"]
    # A terminal sends Ctrl-C to all processes, those of the workers among them.
    running = subprocess.Popen(words, stdout=-1, stderr=-1, text=True, start_new_session=True)
    with running:
        lines = iter(running.stderr.readline, "")
        next(line for line in lines if "member 1 of 40" in line)
        os.killpg(running.pid, signal.SIGINT)
        *reported, last = lines
        assert (running.wait(60), all(" sweep: " in line for line in reported)) == (130, True)
    assert last == f"Interrupted. To resume: {shlex.join(words)} --resume\n"
