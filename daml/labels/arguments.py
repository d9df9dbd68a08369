"""Arguments of public functions and settings, compared with their annotations before any work.

What is meant clearly is accepted and given on in its plain type: NumPy's numbers, whole numbers
written as floats, arrays of names, a node of a DataTree. Everything else is one error that names
the argument.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import xarray as xr

from daml.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
MODEL = ("variables", "dt", "start", "step")
METHODS = {
    "Model": MODEL,
    "Scheme": ("update",),
    "ThreeDVar": ("given", "by_model"),
    "Emulator": ("fit", "to_dataset"),
    "Checkpoint": ("load", "due", "save"),
    "Covariance": ("control", "root", "root_adjoint"),
    "CovarianceProduct": ("times",),
}
"""What an object of a seam must have."""
GIVE = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "Path": "a path",
    "None": "None",
    "Seed": "a whole number >= 0 or a numpy.random.Generator",
    "Sequence[str]": "a list of one or more names",
    "Sequence[int]": "a list of whole numbers",
    "tuple[str, np.ndarray]": "a pair of a name and the edges of its bins",
    "xr.Dataset": "an xarray.Dataset",
    "xr.DataArray": "an xarray.DataArray",
    "xr.DataTree": "an xarray.DataTree",
    "np.ndarray": "an array of numbers",
    "Model": "a model: an object with variables, dt, start(x, time) and step(x, memory)",
    "Scheme": "a scheme, e.g. daml.ThreeDVar(B)",
    "ThreeDVar": "a daml.ThreeDVar",
    "Emulator": "an emulator, e.g. daml.LSTM()",
    "Checkpoint": "an object with load, due and save",
    "Covariance": "an object with control, root(v) and root_adjoint(x)",
    "CovarianceProduct": "an object with times(x)",
}
"""What each annotation asks for. Others are not compared."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Compare the arguments of a function with its annotations at every call."""
    signature = inspect.signature(function)
    name = function.__qualname__
    if name in ("run", "draw"):  # of daml.paper; they say nothing without their module
        name = f"paper.{name}"

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        owner = name
        if "self" in bound.arguments:  # the class that a user has named, not one it inherits from
            owner = f"{type(bound.arguments['self']).__name__}.{function.__name__}"
        for argument, value in bound.arguments.items():
            annotation = signature.parameters[argument].annotation
            bound.arguments[argument] = fitting(owner, argument, value, annotation)
        return function(*bound.args, **bound.kwargs)

    return called


def check_fields(settings: Any) -> None:
    """Compare the fields of a frozen dataclass with their annotations; keep the plain values."""
    for field in fields(settings):
        _check_default(type(settings), field)
        value = getattr(settings, field.name)
        if not hasattr(value, "requires_grad"):  # a parameter that is being fitted
            plain = fitting(type(settings).__name__, field.name, value, field.type)
            object.__setattr__(settings, field.name, plain)


def _check_default(owner: type, field: Field[Any]) -> None:
    """Refuse a default in the body of a subclass that Python ignores: its field has another."""
    bodies = (vars(one) for one in owner.__mro__)
    given = next((body[field.name] for body in bodies if field.name in body), field.default)
    if given is field.default or hasattr(given, "__get__"):  # a property may stand for a field
        return
    if hasattr(given, "shape") or given != field.default:
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "...")
        raise InputError(
            f"{owner.__name__}: '{field.name} = {shown(given)}' in the class has no effect, "
            f"because {field.name!r} is a field of a dataclass; write '{field.name}: {kind} = "
            f"{shown(given)}' and @dataclass(frozen=True) above the class, or give {field.name!r} "
            "where the object is made"
        )


def fitting(owner: str, name: str, value: Any, annotation: Any) -> Any:
    """Give a value in a type that an annotation allows.

    Parameters
    ----------
    owner, name : str
        Whose argument it is, for the error.
    value : object
    annotation : str or type
        Alternatives are separated by " | ".

    Raises
    ------
    InputError
        If it has none of these types.

    Examples
    --------
    >>> fitting("simulate", "steps", np.int64(3), "int | None")
    3
    """
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kinds = text.split(" | ")
    if not all(kind in GIVE for kind in kinds):
        return value
    for kind in kinds:
        found = _as(kind, value)
        if found is not _NOTHING:
            return found
    needed = " or ".join(GIVE[kind] for kind in kinds)
    raise InputError(f"{owner}: {name!r} is {shown(value)}; give {needed}{_advice(value, kinds)}")


_NOTHING = object()


def plain(kind: str, value: Any) -> Any:
    """Give a value in the type of a kind (a key of `GIVE`); None where it is of another.

    Examples
    --------
    >>> plain("int", np.int64(3)), plain("int", True), plain("int", "3")
    (3, None, None)
    """
    found = _as(kind, value)
    return None if found is _NOTHING else found


def _as(kind: str, value: Any) -> Any:
    """Give a value as one kind, or nothing where it is none."""
    if kind in METHODS:
        fits = all(hasattr(value, m) for m in METHODS[kind]) and not isinstance(value, type)
        return value if fits else _NOTHING
    if kind.startswith("xr."):
        if kind == "xr.Dataset" and isinstance(value, xr.DataTree):
            return value.to_dataset()
        return value if isinstance(value, getattr(xr, kind[3:])) else _NOTHING
    return _PLAIN[kind](value)


def _number(value: Any) -> Any:
    """Give a plain int or float; neither a truth value, not-a-number nor a span is one."""
    if isinstance(value, np.timedelta64):  # a span in nanoseconds would turn into an int
        return _NOTHING
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    return value if right else _NOTHING


def _float(value: Any) -> Any:
    number = _number(value)
    return number if number is _NOTHING else float(number)


def _whole(value: Any) -> Any:
    number = _number(value)
    if number is _NOTHING or not abs(number) < 2**63:
        return _NOTHING
    return int(number) if int(number) == number else _NOTHING


def _seed(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value
    number = _whole(value)
    return number if number is not _NOTHING and number >= 0 else _NOTHING


def _all(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give what turns an ordered collection into a list of one kind."""

    def every(value: Any) -> Any:
        unordered = isinstance(value, (str, bytes, Mapping, set, frozenset))
        if unordered or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
            return _NOTHING
        found = [one(entry) for entry in cast("Any", value)]
        return _NOTHING if any(entry is _NOTHING for entry in found) else found

    return every


def _text(value: Any) -> Any:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    return str(value) if isinstance(value, str) else _NOTHING


def _bins(value: Any) -> Any:
    """Give a name and increasing edges."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return _NOTHING
    name, edges = _text(value[0]), _array(value[1])
    wrong = name is _NOTHING or edges is _NOTHING or edges.ndim != 1 or len(edges) < 2
    return _NOTHING if wrong or not (np.diff(edges) > 0).all() else (name, edges)


def _array(value: Any) -> Any:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return _NOTHING
    return array if array.dtype.kind in "fiub" and array.ndim else _NOTHING


def _like(kind: Any) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) else _NOTHING


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": _float,
    "bool": lambda value: bool(value) if isinstance(value, (bool, np.bool_)) else _NOTHING,
    "str": _text,
    "Path": _like(os.PathLike),
    "None": lambda value: None if value is None else _NOTHING,
    "Seed": _seed,
    "Sequence[str]": lambda value: _all(_text)(value) or _NOTHING,
    "Sequence[int]": _all(_whole),
    "tuple[str, np.ndarray]": _bins,
    "np.ndarray": _array,
}


def shown(value: Any) -> str:
    """Say in a few words what was given: a plain value as it is, anything else by its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (bool, int, float, np.generic, type(None))):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) < 60 else value[:57] + "...")
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _advice(value: Any, kinds: list[str]) -> str:
    """Say how to get from what was given to what is needed, where that is usual."""
    if kinds[0] in METHODS and not isinstance(value, type):
        lacking = [m for m in METHODS[kinds[0]] if not hasattr(value, m)]
        return f" (it has no {lacking[0]!r})" if lacking else ""
    if isinstance(value, type):
        return f"; make one with {value.__name__}(...)"
    if "int" in kinds and isinstance(value, int) and not isinstance(value, bool):
        return " below 2**63"
    if "xr.Dataset" in kinds and isinstance(value, xr.DataArray):
        return ", made with array.to_dataset(name=...)"
    if "xr.Dataset" in kinds and isinstance(value, (str, os.PathLike)):
        return ", opened with xarray.open_dataset or xarray.open_zarr"
    return ""
