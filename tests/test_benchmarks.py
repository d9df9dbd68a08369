"""The benchmarks run, each at its smallest size: one that is broken measures nothing."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "asv_bench"
TOPICS = sorted(p.stem for p in (FOLDER / "benchmarks").glob("[a-z]*.py"))


def smallest(params):
    nested = params if isinstance(params[0], list) else [params]
    return [values[0] for values in nested]


@pytest.mark.parametrize("topic", TOPICS)
def test_benchmarks_run(topic, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(f"benchmarks.{topic}")
    for kind in vars(module).values():
        if isinstance(kind, type) and kind.__module__ == module.__name__:
            for name in dir(kind):
                if name.startswith(("time_", "peakmem_")):
                    benchmark, values = kind(), smallest(kind.params)
                    getattr(benchmark, "setup", lambda *values: None)(*values)
                    getattr(benchmark, name)(*values)
    sys.modules.pop("benchmarks", None)


def test_the_share_of_steps_and_analyses_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    growth = importlib.import_module("growth")
    found = growth.bare_share(1_000, rounds=1)
    assert all(alone > 0 for alone in found["alone"])
    sys.modules.pop("benchmarks", None)
    sys.modules.pop("growth", None)
