"""What a user's class or function computes: fingerprints of its code, and what it uses outside it.

A function has a fingerprint of its bytecode, which is known everywhere (files, notebooks, ``exec``)
and holds neither comments nor docstrings. Bytecode depends on the version of Python, which is in
the fingerprint's name; under another version the source is compared, where it is known: its syntax
tree without comments, docstrings and annotations.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import json
import linecache
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

CODE, OUTER = "code (sha256)", "used from outside"
"""What a description calls these; no names of a user's settings."""
BYTECODE = f"bytecode of Python {sys.version_info.major}.{sys.version_info.minor}"
BYTECODE += " -O" * (sys.flags.optimize > 0)
SOURCE = "source"
INSTALLED = {"site-packages", "dist-packages"}
SHOWN = {"__repr__", "__str__", "_repr_html_", "__annotate__", "__annotate_func__"}
"""Functions of a class that change no result."""
NO_CODE = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
"""Fields of a syntax tree that change no result, or that not every version of Python has."""
CHANGING = {
    *("append", "extend", "insert", "pop", "remove", "clear", "setdefault", "popitem", "add"),
    *("discard", "appendleft", "fill", "put"),
}
"""Methods that change what they are called on."""


def is_users(owner: object) -> bool:
    """Whether an object is of a class that is not daml's; errors in daml's keep their traceback."""
    return type(owner).__module__.partition(".")[0] != "daml"


def is_own(thing: Any) -> bool:
    """Whether a class, function or module is a user's: neither daml's, Python's nor installed."""
    name = getattr(thing, "__module__", None) if not isinstance(thing, ModuleType) else None
    name = str(name or getattr(thing, "__name__", ""))
    top = name.partition(".")[0]
    if top == "daml":
        return False
    if top == "builtins":  # what is run by exec without a name says so, too
        return isinstance(thing, FunctionType) or type(vars(thing).get("__module__")) is str
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return top not in sys.stdlib_module_names
    path = Path(file).resolve()
    python = Path(sysconfig.get_path("stdlib")).resolve()
    return not (INSTALLED & set(path.parts) or path.is_relative_to(python))


def own_classes(kind: type) -> list[type]:
    """Give the user's own classes that a class is made of, itself first."""
    return [k for k in kind.__mro__ if is_own(k)]


def function_of(value: Any) -> FunctionType | None:
    """Give the Python function in what a class or a module holds; None where it holds none."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, cached_property):
        value = value.func
    elif isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if not isinstance(value, FunctionType) and callable(value) and not isinstance(value, type):
        try:
            value = inspect.unwrap(value)  # compiled by another package, say
        except ValueError:
            return None
    return value if isinstance(value, FunctionType) else None


def class_attributes(kind: type) -> dict[str, Any]:
    """Give the public attributes of a user's class that hold data, those it inherits included."""
    found: dict[str, Any] = {}
    for name, value in [pair for k in own_classes(kind) for pair in vars(k).items()]:
        method = function_of(value) is not None or inspect.isdatadescriptor(value)
        method = method or (callable(value) and hasattr(type(value), "__get__"))
        if not name.startswith("_") and not method and not isinstance(value, cached_property):
            found.setdefault(name, value)
    return found


def definition(thing: type | FunctionType) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """Give what a class or a function computes.

    Parameters
    ----------
    thing : type or function
        A user's.

    Returns
    -------
    code : dict
        The fingerprint of each function of the class, and of the user's functions that these call,
        by name.
    outer : dict
        What these functions use that is defined outside them, by name: variables of their module,
        of the function in which they are defined, of the user's other modules, and defaults.
    """
    todo = [(thing.__qualname__, thing)] if isinstance(thing, FunctionType) else _functions(thing)
    code: dict[str, dict[str, str]] = {}
    outer: dict[str, Any] = {}
    seen: set[Any] = {thing}
    visited: set[FunctionType] = set()
    while todo:
        name, function = todo.pop(0)
        if function in visited or _is_generated(function):
            continue
        visited.add(function)
        code[_free(name, code)] = fingerprint(function.__code__)
        for key, place, value in _used(function):
            called = function_of(value)
            if called is not None:
                todo += [(called.__qualname__, called)] if is_own(called) else []
            elif isinstance(value, type):
                if value not in seen:
                    seen.add(value)
                    todo += _functions(value)
                    more = class_attributes(value)
                    outer |= {_free(f"{value.__name__}.{n}", outer): v for n, v in more.items()}
            elif (key, place) not in seen:
                seen.add((key, place))
                outer[_free(key, outer)] = value
    return code, outer


def _is_generated(function: FunctionType) -> bool:
    """Whether dataclass or the like has made a function, from fields that are described."""
    renamed = function.__code__.co_qualname != function.__qualname__
    return renamed and not hasattr(function, "__wrapped__") and not _block(function.__code__)


def _free(name: str, taken: Iterable[str]) -> str:
    """Give a name that is not taken yet."""
    while name in taken:
        name += "'"
    return name


def _functions(kind: type) -> list[tuple[str, FunctionType]]:
    """Give the functions of a class by name, with those of the user's classes it inherits from."""
    found = [
        (f"{k.__name__}.{name}", function_of(value))
        for k in own_classes(kind)
        for name, value in vars(k).items()
        if name not in SHOWN
    ]
    return [(name, f) for name, f in found if f is not None and is_own(f)]


@lru_cache(maxsize=10_000)
def fingerprint(code: CodeType) -> dict[str, str]:
    """Give checksums of what a function does, by what they are made from."""
    found, tree = {BYTECODE: _sum(_operations(code))}, _tree(code)
    try:
        return found if tree is None else found | {SOURCE: _sum(_plain(tree))}
    except RecursionError:
        return found


def same(one: dict[str, str], two: dict[str, str]) -> bool:
    """Whether two fingerprints are those of one function, as far as they are comparable."""
    name = BYTECODE if BYTECODE in one and BYTECODE in two else SOURCE
    return name not in one or name not in two or one[name] == two[name]


def _sum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _block(code: CodeType) -> str:
    """Give the source text of a function; nothing where it is not known."""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    try:
        return "".join(inspect.getblock(lines)) if lines else ""
    except SyntaxError:
        return ""


def _tree(code: CodeType) -> ast.AST | None:
    """Give the syntax tree of a function's source; None where that is not known."""
    text = _block(code)
    try:  # indented as it is: to remove the indentation could change a text in it
        found = ast.parse(f"if 1:\n{text}" if text[:1].isspace() else text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    first = next((node for node in ast.walk(found) if isinstance(node, kinds)), None)
    # Another name where a file has changed since it was imported.
    return first if first is not None and first.name == code.co_name else None


def _plain(node: Any) -> Any:
    """Give a syntax tree as lists, without what changes no result."""
    if isinstance(node, list):
        return [_plain(n) for n in node if not _is_text(n)]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        parts = {name: value for name, value in ast.iter_fields(node) if name not in NO_CODE}
        return [
            type(node).__name__,
            {k: _plain(v) for k, v in parts.items() if v not in (None, [])},
        ]
    return str(node)


def _is_text(node: Any) -> bool:
    """Whether a statement is a text that nothing uses, as a docstring is, or nothing at all."""
    if isinstance(node, ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _operations(code: CodeType) -> list[Any]:
    """Give the operations of a function and of those in it, without their lines."""
    found: list[Any] = [code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    for operation in dis.get_instructions(code):
        value = operation.argval
        if isinstance(value, CodeType):
            found.append(_operations(value))
        elif isinstance(value, frozenset):
            found.append([operation.opname, sorted(map(repr, value))])
        elif operation.opname not in ("RESUME", "NOP"):
            found.append([operation.opname, repr(value)])
    return found


class _Names:
    """The names of other places that a function, and those in it, load and change."""

    def __init__(self, code: CodeType) -> None:
        self.loaded: list[str] = []
        self.attributes: list[str] = []
        self.changed: set[str] = set()
        self._read(code)
        for node in ast.walk(_tree(code) or ast.Pass()):
            self._change(node)

    def _read(self, code: CodeType) -> None:
        before: Any = None
        for operation in dis.get_instructions(code):
            name, value = operation.opname, operation.argval
            if name.startswith(("LOAD_ATTR", "LOAD_METHOD")) and value in CHANGING:
                self.changed.add(before)
            before = value
            if name.startswith(("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")):
                self.loaded.append(value)
            elif name.startswith(("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")):
                self.attributes.append(value)
            elif name in ("STORE_GLOBAL", "STORE_DEREF"):
                self.changed.add(value)
            elif isinstance(value, CodeType):
                self._read(value)

    def _change(self, node: ast.AST) -> None:
        """Take the name of what a function writes into: what it finds there is not a setting."""
        if not isinstance(node, (ast.Subscript, ast.Attribute)) or isinstance(node.ctx, ast.Load):
            return
        base: ast.AST = node
        while isinstance(base, (ast.Subscript, ast.Attribute)):
            base = base.value
        if isinstance(base, ast.Name):
            self.changed.add(base.id)


def _used(function: FunctionType) -> Iterator[tuple[str, int, Any]]:
    """Yield name, place and value of what a function uses from outside and does not change."""
    names = _Names(function.__code__)
    defaults = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    for name, value in defaults.items():
        yield f"{function.__qualname__}({name})", id(function), value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__" and name not in names.changed:
            try:
                yield name, id(cell), cell.cell_contents
            except ValueError:  # not defined yet
                continue
    for name in dict.fromkeys(names.loaded):
        value = function.__globals__.get(name, sys.modules.get(name))
        if isinstance(value, ModuleType):
            yield from _of_module(name, value, names.attributes)
        elif name in function.__globals__ and name not in names.changed:
            yield name, id(function.__globals__), value


def _of_module(path: str, module: ModuleType, names: list[str]) -> Iterator[tuple[str, int, Any]]:
    """Yield what a function may use of a user's module."""
    for name in dict.fromkeys(names) if is_own(module) else ():
        value = vars(module).get(name)
        if isinstance(value, ModuleType):
            yield from _of_module(f"{path}.{name}", value, [n for n in names if n != name])
        elif value is not None:
            yield f"{path}.{name}", id(module), value
