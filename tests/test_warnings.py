"""Warnings point at the user's line, however daml's functions call one another."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_innovations import NAMES, C, drawn
from test_users_models import Damped, record

import daml
from daml.covariance import labelled
from daml.innovations import from_innovations


class Opposite(Damped):
    """Forecasts that are worse than the mean of the record."""

    def step(self, x, memory):
        return -0.9 * x, None


MODEL, SEEN = Opposite(), record(steps=400)
SEEN["observation"] += 5 * np.sin(SEEN.time / 10)
UNSEEN = drawn(5000, NAMES)
EMULATOR = daml.LSTM(hidden=2, layers=1, epochs=1, sequence_length=20, burn_in=2, base=MODEL)


def tuned():
    return daml.tuned(daml.ThreeDVar(), MODEL, SEEN), sys._getframe().f_lineno


def improved():
    how = {"emulator": EMULATOR, "passes": 1, "held_out": 0.3}
    return daml.improve(MODEL, SEEN, **how), sys._getframe().f_lineno


def run():
    loop = daml.Loop(MODEL, daml.ThreeDVar(), EMULATOR, passes=1, held_out=0.3)
    return loop.run(SEEN), sys._getframe().f_lineno


def estimated():
    return from_innovations(*UNSEEN, labelled(C, NAMES), 2.0), sys._getframe().f_lineno


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (tuned, ["tuned: forecasts of Opposite"]),
        (improved, ["tuned: forecasts of Opposite", "improve: no pass"]),
        (run, ["tuned: forecasts of Opposite", "improve: no pass"]),
        (estimated, ["from_innovations: the innovations' variance"]),
    ],
)
def test_a_warning_shows_the_line_that_called_daml(call, texts):
    with pytest.warns(UserWarning) as warned:  # noqa: PT030 (the texts are compared below)
        _, line = call()
    found = [str(w.message) for w in warned]
    assert all(one.startswith(text) for one, text in zip(found, texts, strict=True)), found
    assert {(w.filename, w.lineno) for w in warned} == {(__file__, line)}


def test_a_warning_of_an_import_shows_the_line_of_the_import(tmp_path):
    (tmp_path / "daml").symlink_to(os.path.dirname(daml.__file__))
    (tmp_path / "daml-0.56.0.dist-info").mkdir()
    (tmp_path / "script.py").write_text("# A comment\nimport daml\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert "script.py:2: UserWarning: the distribution 'daml'" in done.stderr
