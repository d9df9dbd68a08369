"""Check the words of pages, docstrings, messages and examples: python docs/prose.py [FILE ...].

The rules are those of docs/writing.md that a program can check. Code, formulas, links' addresses
and quotations are left out. A line with a fault is printed with the rule that it breaks.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 60
"""Words of a sentence."""
RULES = {
    r"\b(told|tells?|telling)\b(?!( [\w']+){0,4} (apart|from)\b)": "write reports, says or shows",
    r"\bmend(s|ed)?\b": "write fix",
    r"\b(there|where)(of|by|upon|in|from)\b": "name the thing",
    r"\b(simply|obviously|of course|in order to|very|utilize[sd]?)\b": "leave it out",
    r"\b(a|an) \w+ (a|an) (time|variable|member|pass|step|seed|row|field|quantity|task)\b": (
        "write 'one X per Y'"
    ),
    r"\b([a-z]{4,}|the|an|and|of|to|is|it|in|for|by) \1\b": "a word stands twice",
    r"\bone that is none\b": "say what is missing",
    r"\bAs of :": "describe the parameter here, or write See",
    r"\bwhat is not, is\b": "name the thing",
}
DROPPED = re.compile(
    r"^```.*?^```$|^    (daml|make) .*?$|^:alt:|^\|[-| :]+\|$|`[^`]*`|\$[^$]+\$|\]\([^)]*\)|\{[\w:]+\}|https?://\S+",
    re.MULTILINE | re.DOTALL,
)
SKIPPED = {"changelog.md", "writing.md", "CHANGELOG.md"}


def sources(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with their first lines: a page, or docstrings and messages."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        value = getattr(node.value, "value", None) if isinstance(node, ast.Expr) else None
        if isinstance(value, str):
            yield node.lineno, value
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, words) for words in said(node))
    if "examples" in path.parts:
        lines = [t for t in tokenize.generate_tokens(io.StringIO(text).readline)]
        for token in lines:
            if token.type == tokenize.COMMENT and not token.string.startswith("# %%"):
                yield token.start[0], token.string.lstrip("# ")


def said(call: ast.Call) -> Iterator[str]:
    """Yield what a call says to a user: the message of an error or a warning, a text of help."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    texts = call.args if name == "warn" or name.endswith("Error") else []
    for text in [*texts, *(word.value for word in call.keywords if word.arg == "help")]:
        parts = [p.value for p in ast.walk(text) if isinstance(p, ast.Constant)]
        yield " _ ".join(part for part in parts if isinstance(part, str))


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and fault for each rule that a text breaks."""
    plain = DROPPED.sub(lambda found: re.sub(r"[^\n]", "_", found[0]), text)
    plain = re.sub(r"^ *(>>>|\.\.\.).*$", "", plain, flags=re.MULTILINE)
    for pattern, advice in RULES.items():
        for found in re.finditer(pattern, plain, re.IGNORECASE):
            yield plain.count("\n", 0, found.start()), f"{found[0]!r}: {advice}"
    for part in re.split(r"\n\s*\n|\n(?=[-*|#] ?)", plain):
        for sentence in re.split(r"(?<=[.:;?!])\s", part):
            words = [w for w in re.findall(r"[A-Za-z]{2,}", sentence)]
            if len(words) > LONGEST and "|" not in sentence:
                line = plain.count("\n", 0, plain.find(sentence))
                yield line, f"a sentence of {len(words)} words: {' '.join(words[:6])} ..."


def files() -> list[Path]:
    """Give the files that a user reads."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "index.rst"]
    pages += ROOT.glob("examples/*.py")
    pages += [p for p in ROOT.glob("docs/**/*.md") if not {"_build", "gallery"} & {*p.parts}]
    return sorted([*pages, *ROOT.glob("daml/**/*.py")])


def main() -> None:
    """Print all faults, and fail if there are any."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or files()
    count = 0
    for path in chosen:
        for first, text in sources(path) if path.name not in SKIPPED else ():
            for line, fault in faults(text):
                count += 1
                print(f"{path.relative_to(ROOT)}:{first + line}: {fault}")
    sys.exit(f"{count} faults" if count else 0)


if __name__ == "__main__":
    main()
