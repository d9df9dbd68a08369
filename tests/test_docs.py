"""The code on the pages runs, and prints what the pages say."""

import io
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from click.testing import CliRunner

import daml
from daml.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").glob("**/*.md")) if "_build" not in p.parts),
]
FENCE = re.compile(
    r"^```(python|text|console|\{code-block\} console|\{code-block\} python\n"
    r":caption: (?P<file>\S+))\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]\d+)?")
LONG = {"README.md", "cycle.md", "hidden_variables.md", "own_fields.md"}
COMMANDS_RUN = {"command_line.md", "own_data.md", "own_fields.md"}
"""Pages whose commands run in seconds, in a folder that holds what the page has made by then, and
print what the page says; those in a code-block do not run."""


def words_and_numbers(text):
    """Give the words of an output, and its decimal numbers."""
    text = re.sub(r"(?<=[\[(])\s+", "", text)  # where no number has a sign there is no space
    return NUMBER.sub("#", text).split(), [float(n) for n in NUMBER.findall(text)]


@pytest.mark.statistical
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=pytest.mark.slow if p.name in LONG else ())
        for p in PAGES
        if "```python" in p.read_text()
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_the_code_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space, printed = {"__name__": "page"}, ""
    monkeypatch.syspath_prepend(tmp_path)
    for kind, file, body in FENCE.findall(page.read_text()):
        if file:
            (tmp_path / file).write_text(body)
            monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
        elif kind == "python":
            with redirect_stdout(io.StringIO()) as out:
                exec(compile(body, str(page), "exec"), space)
            printed = out.getvalue()
        elif kind == "text":
            words, numbers = words_and_numbers(body)
            found_words, found_numbers = words_and_numbers(printed)
            assert found_words == words, printed
            assert found_numbers == pytest.approx(numbers, rel=0.2, abs=0.05), printed
        elif kind == "console" and page.name in COMMANDS_RUN:
            for line in body.splitlines():
                done = CliRunner().invoke(main, shlex.split(line.removeprefix("$ daml ")))
                assert done.exit_code == 0, done.output
                printed = done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_commands_of_a_page_have_such_options(page):
    for kind, _, body in FENCE.findall(page.read_text()):
        for line in body.splitlines() if kind.endswith("console") else ():
            words = shlex.split(line.removeprefix("$ "))
            if words[0] == "daml":
                command = main.commands[words[1]]
                command.make_context(words[1], words[2:])


def test_every_public_name_has_its_place_and_an_example():
    page = (ROOT / "docs" / "api" / "index.rst").read_text()
    for name in daml.__all__:
        thing = getattr(daml, name)
        if callable(thing):
            assert f"   {name}\n" in page, name
            assert ">>> " in thing.__doc__, name
        else:
            assert f"automodule:: daml.{name}\n" in page, name
    for module in (daml.emulators, daml.figures, daml.models, daml.schemes):
        for name in module.__all__:
            if callable(getattr(module, name)):
                assert f"   {name}\n" in page, f"{module.__name__}.{name}"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_a_figure_of_an_example_is_finished_in_the_block_that_makes_it(example):
    for block in re.split(r"^# %%.*$", example.read_text(), flags=re.MULTILINE):
        made = block.rfind("plt.subplots(")
        shown = max(block.rfind("plt.show()"), block.rfind("Moving("))
        assert made <= shown, block  # a notebook and the gallery show and close it there


def test_every_example_is_shown_and_listed_in_the_gallery():
    index = (ROOT / "examples" / "index.rst").read_text()
    names = sorted(path.stem for path in (ROOT / "examples").glob("plot_*.py"))
    assert sorted(re.findall(r"^    \.\./examples/(\w+)\.py$", index, re.MULTILINE)) == names
    assert sorted(re.findall(r"^    (plot_\w+)$", index, re.MULTILINE)) == names
