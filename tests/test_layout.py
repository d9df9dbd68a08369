"""The house: who may import whom, and how long a file is."""

import ast
import doctest
import importlib
import io
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path
from tokenize import generate_tokens

import pytest

import daml

PACKAGE = Path(daml.__file__).parent
LEVELS = [
    {"errors", "distribution", "moved", "randomness", "protocols"},
    {"labels"},
    {"arrays", "progress", "segments"},
    {"stores"},
    {"covariances"},
    {"observing"},
    {"models"},
    {"verification"},
    {"pairing"},
    {"schemes"},
    {"running"},
    {"training"},
    {"emulators"},
    {"figures"},
    {"loop"},
    {"experiments"},
    {"sweeps"},
    {"covariance", "diagnosis", "innovations", "networks", "paper", "reports"},
    {"commands", "options", "scripts", "analysing", "improving", "showing", "reproducing"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
SPACE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, 0}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def topic(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def name_of(path):
    return ".".join(("daml", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


def imported(path):
    """Give the modules of daml that a file imports, for types and within functions, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "daml":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in NAMES else node.module
                if found != "daml":
                    yield found


NAMES = {name_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    for module in imported(path):
        assert LEVEL[module.split(".")[1]] <= LEVEL[topic(path)], module


def test_there_is_no_circle():
    graph = {name_of(path): set(imported(path)) - {name_of(path)} for path in FILES}
    tuple(TopologicalSorter(graph).static_order())


def test_no_two_files_have_one_name():
    figures, kept = PACKAGE / "figures", {"__init__.py", "__main__.py"}
    others = [p.name for p in FILES if p.parent != figures and p.name not in kept]
    assert len(set(others)) == len(others)
    assert all(
        len(list(folder.glob("*.py"))) <= 15 for folder in {p.parent for p in FILES} - {PACKAGE}
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_function_fits_a_screen(path):
    """At most 60 lines without the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            documented = first.end_lineno - first.lineno + 1 if text else 0
            assert node.end_lineno - node.lineno + 1 - documented <= 60, node.name


MODULES = [name_of(p) for p in FILES if p.name != "__main__.py"]


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
