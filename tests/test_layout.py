"""The house: who may import whom, and how long a file is."""

import ast
import doctest
import importlib
import io
import tokenize
from pathlib import Path
from tokenize import generate_tokens

import pytest

import daml

PACKAGE = Path(daml.__file__).parent
LEVELS = [
    {"errors", "distribution", "randomness", "protocols"},
    {"labels"},
    {"arrays", "progress", "segments"},
    {"stores"},
    {"covariances"},
    {"observing"},
    {"models"},
    {"verification"},
    {"schemes"},
    {"running"},
    {"training"},
    {"emulators"},
    {"pairing"},
    {"figures"},
    {"loop"},
    {"experiments"},
    {"sweeps"},
    {"covariance", "diagnosis", "innovations", "paper", "reports"},
    {"commands", "scripts"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
SPACE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, 0}
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
    """At most 250 lines of code; docstrings, comments and blank lines do not count."""
    text = path.read_text()
    code = {
        line
        for t in generate_tokens(io.StringIO(text).readline)
        if t.type not in SPACE
        for line in range(t.start[0], t.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= set(range(node.lineno, node.end_lineno + 1))
    assert len(code) <= 250


def test_public_names_exist():
    for name in daml.__all__:
        assert getattr(daml, name) is not None
