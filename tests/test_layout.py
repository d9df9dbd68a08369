"""The house: who may import whom, and how long a file is."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import daml

PACKAGE = Path(daml.__file__).parent
LEVELS = [
    {
        "errors",
        "protocols",
        "dates",
        "descriptions",
        "devices",
        "checks",
        "labels",
        "randomness",
        "ranges",
        "segments",
        "moments",
        "files",
        "opening",
        "folders",
        "places",
        "remote",
        "storable",
        "targets",
        "html",
    },
    {
        "models",
        "operators",
        "observations",
        "records",
        "store",
        "stored",
        "covariance",
        "verification",
        "innovations",
        "heldout",
        "diagnosis",
        "lyapunov",
    },
    {"schemes", "first_guess"},
    {"assimilation", "forecasting"},
    {"emulators", "keeping", "tuning", "judging"},
    {"cycle", "passes", "figures"},
    {"experiment", "reports", "paper", "members", "grids", "workers", "sweeps"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def topic(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    tree = ast.parse(path.read_text())
    lazy = {n for t in ast.walk(tree) if isinstance(t, ast.If) for n in ast.walk(t)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in lazy and node.module:
            parts = node.module.split(".")
            if parts[0] == "daml" and len(parts) > 1:
                assert LEVEL[parts[1]] <= LEVEL[topic(path)], node.module


MODULES = [
    ".".join(("daml", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for p in FILES
    if p.name != "__main__.py"
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_holds_one_idea(path):
    assert len(path.read_text().splitlines()) <= 300


def test_public_names_exist():
    for name in daml.__all__:
        assert getattr(daml, name) is not None
