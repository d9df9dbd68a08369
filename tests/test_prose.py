"""The rules of the page on how we write find what they name, and nothing in what is right."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "docs" / "prose.py"


@pytest.fixture(scope="module")
def prose():
    spec = importlib.util.spec_from_file_location("prose", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("All is fine.\nIt is told in the log.", 1),
        ("One line with the mend.", 0),
        ("A column a quantity.", 0),
        ("The the model.", 0),
        ("As of :class:`Loop`.", 0),
        ("\n\n" + "alpha beta " * 31 + ".", 2),
    ],
)
def test_a_rule_finds_what_breaks_it(prose, text, line):
    assert [where for where, _ in prose.faults(text)] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "Eye and histogram tell the models apart.",
        "`told` is code, and ``tell`` is, too.",
        "```python\ntold = told\n```",
        "One value per quantity; B follows the model. " * 20,
    ],
)
def test_what_is_right_has_no_fault(prose, text):
    assert not list(prose.faults(text))


def test_messages_and_help_are_read(prose, tmp_path):
    path = tmp_path / "a.py"
    path.write_text('raise InputError(f"{x}: mend it")\noption(name="told", help="Very big.")\n')
    texts = [text for _, text in prose.sources(path)]
    assert [fault.partition(":")[0] for text in texts for _, fault in prose.faults(text)] == [
        "'mend'",
        "'Very'",
    ]


def test_a_file_of_python_has_docstrings_and_an_example_also_comments(prose, tmp_path):
    (tmp_path / "examples").mkdir()
    for folder, found in (("", [1]), ("examples", [1, 3])):
        path = tmp_path / folder / "a.py"
        path.write_text('"""A text."""\nx = 1\n# A comment.\n')
        assert [line for line, _ in prose.sources(path)] == found
