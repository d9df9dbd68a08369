"""Schemes by their names: which there are, what they take, and one that is made from names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import xarray as xr

from daml import schemes
from daml.errors import InputError
from daml.pairing import NEEDS
from daml.stores.opening import open_record

NUMBERS = {"int": 2, "float": 1.0}
"""A value of each type that an argument without a default may have, to look at an instance."""
CLOSE = 0.5
"""How alike a name must be to be suggested."""
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Needs(NamedTuple):
    """What is said of a scheme.

    Attributes
    ----------
    arguments : tuple of str
        Those that must be given.
    asks : tuple of str
        What it needs of the model.
    summary : str
        The first line of its docstring.
    """

    arguments: tuple[str, ...]
    asks: tuple[str, ...]
    summary: str


def known() -> dict[str, type]:
    """Give the classes of daml's schemes by their names in lower case.

    Examples
    --------
    >>> known()["etkf"].__name__
    'ETKF'
    """
    public: dict[str, Any] = {name.lower(): getattr(schemes, name) for name in schemes.__all__}
    return {n: public[n] for n in sorted(public) if is_scheme(public[n])}


def is_scheme(thing: Any) -> bool:
    """Whether something is a class of schemes with fields."""
    return isinstance(thing, type) and is_dataclass(thing) and hasattr(thing, "update")


def found(name: str, what: str) -> type:
    """Give the class of a name, in upper or lower case, with hyphens or without.

    Raises
    ------
    InputError
        If there is none; it begins with ``what`` and suggests a name.

    Examples
    --------
    >>> found("En-KF", "scheme").__name__
    'EnKF'
    """
    classes = known()
    plain = re.sub(r"[-_ ]", "", name).lower()
    if plain not in classes:
        spelt = plain.replace("3d", "threed").replace("4d", "fourd")
        near = nearest(spelt, classes)
        raise InputError(f"{what} {name!r} is unknown; {near}give one of {', '.join(classes)}")
    return classes[plain]


def nearest(name: str, names: Iterable[str]) -> str:
    """Give a question that suggests the nearest name; nothing where none is near.

    Examples
    --------
    >>> nearest("radios", ["members", "radius"])
    "did you mean 'radius'? "
    """
    near = get_close_matches(name, list(names), 1, CLOSE)
    return f"did you mean {near[0]!r}? " if near else ""


def arguments(kind: type) -> dict[str, Field[Any]]:
    """Give the arguments of a scheme that is a dataclass, by name; of another one none.

    Examples
    --------
    >>> "radius" in arguments(known()["letkf"])
    True
    """
    given = fields(cast("Any", kind)) if is_dataclass(kind) else ()
    return {field.name: field for field in given if field.init and not field.name.startswith("_")}


def needed(field: Field[Any]) -> bool:
    """Whether an argument must be given."""
    lacks = field.default is MISSING and field.default_factory is MISSING
    return lacks or bool(field.metadata.get("needed"))


def kinds_of(field: Field[Any]) -> list[str]:
    """Give the types that an argument may have, as its annotation says it."""
    text = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
    return (text or str(field.type)).split(" | ")


def needs_of(kind: type) -> Needs:
    """Give what a scheme needs.

    Examples
    --------
    >>> needs_of(known()["letkf"])[:2]
    (('members', 'radius'), ('positions',))
    """
    must = {name: field for name, field in arguments(kind).items() if needed(field)}
    needs: Any = getattr(kind, "needs", frozenset())
    if isinstance(needs, property):  # an instance says it
        kinds = {name: kinds_of(field)[0] for name, field in must.items()}
        plain = {name: NUMBERS[first] for name, first in kinds.items() if first in NUMBERS}
        needs = kind(**plain).needs
    summary = (inspect.getdoc(kind) or "").partition("\n")[0]
    return Needs(tuple(must), tuple(sorted(needs)), summary)


def made(kind: type, given: Mapping[str, Any], what: str) -> Any:
    """Give a scheme, or another object of a dataclass, with arguments.

    Raises
    ------
    InputError
        If it has no such argument, one is missing, or a value is wrong; it begins with ``what``.

    Examples
    --------
    >>> made(known()["etkf"], {"members": 20}, "--scheme").members
    20
    """
    takes = arguments(kind)
    for name in given:
        if name not in takes:
            has = ", ".join(takes) or "none"
            raise InputError(
                f"{what}: {kind.__name__} has no argument {name!r}; {nearest(name, takes)}it has "
                f"{has}"
            )
    lacking = [name for name, field in takes.items() if needed(field) and name not in given]
    if lacking:
        raise InputError(
            f"{what}: {kind.__name__} needs {' and '.join(map(repr, lacking))}; give a value for "
            f"each, as daml.schemes.{kind.__name__} describes them"
        )
    return kind(**given)


def from_text(kind: type, name: str, text: str, what: str) -> Any:
    """Give the value of an argument that was written as text.

    A number, true or false, "none", or the text itself, as the argument's annotation allows; where
    it may be labelled data, the path of a NetCDF file or a Zarr store; where it may be an object of
    ``daml.schemes``, its class with its arguments: "RTPS(0.9)".

    Raises
    ------
    InputError
        If it is of another type; it begins with ``what``. Names that the scheme does not have pass:
        :func:`made` refuses them.
    StoreError
        If a file cannot be read.

    Examples
    --------
    >>> etkf = known()["etkf"]
    >>> from_text(etkf, "inflation", "1.02", "--set"), from_text(etkf, "rotate", "yes", "--set")
    (1.02, True)
    >>> from_text(etkf, "inflation", "rtps(0.9)", "--set")
    RTPS(weight=0.9)
    """
    field = arguments(kind).get(name)
    kinds = kinds_of(field) if field is not None else ["str"]
    if {"None", "Any"} & set(kinds) and text.lower() == "none":
        return None
    call = re.fullmatch(r"(\w+)\((.*)\)", text)
    classes = {k.lower(): getattr(schemes, k) for k in kinds if is_dataclass(vars(schemes).get(k))}
    if call and call[1].lower() in classes:
        return _called(classes[call[1].lower()], call[2], what)
    for allowed in kinds:
        value = _read(allowed, text, alone="str" not in kinds)
        if value is not None:
            return value
    if "str" in kinds or not set(kinds) <= {"int", "float", "bool", "None"}:
        return text
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "None": "none"}
    raise InputError(f"{what}: {name!r} is {text!r}; give {' or '.join(words[k] for k in kinds)}")


def _called(kind: type, inside: str, what: str) -> Any:
    """Give an object of a class from its arguments as text: "0.9", "covariance=b.nc, scale=2"."""
    names, given = list(arguments(kind)), {}
    for place, part in enumerate(inside.split(",") if inside.strip() else ()):
        name, sign, text = (word.strip() for word in part.partition("="))
        if not sign:
            name, text = names[min(place, len(names) - 1)], name
        given[name] = from_text(kind, name, text, what)
    return made(kind, given, what)


def _read(kind: str, text: str, alone: bool) -> Any:
    """Give a text as one kind; None where it is none. ``alone`` data are always in a file."""
    try:
        if kind == "int":
            return int(text)
        if kind in ("float", "Any"):
            return float(text)
    except ValueError:
        if kind != "Any":
            return None
    if kind == "bool":
        return WORDS.get(text.lower())
    data = kind in ("xr.Dataset", "xr.DataArray")
    if (alone and data) or ((data or kind == "Any") and text.endswith((".nc", ".zarr"))):
        dataset = open_record(text)
        return dataset if kind == "xr.Dataset" else _only(dataset, text)
    return None


def _only(dataset: xr.Dataset, path: str) -> xr.DataArray:
    if len(dataset.data_vars) != 1:
        raise InputError(
            f"{path}: it has {len(dataset.data_vars)} data variables; give a file with one"
        )
    return dataset[next(iter(dataset.data_vars))]


def table() -> str:
    """Give a line for each scheme: its name, the arguments and the model it needs, what it is."""
    rows = [("scheme", "arguments", "model", "")]
    for name, kind in known().items():
        about = needs_of(kind)
        rows.append((name, ", ".join(about.arguments) or "-", _asked(about), about.summary))
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    return "\n".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    )


def _asked(about: Needs) -> str:
    return ", ".join(NEEDS.get(what, what) for what in about.asks) or "any"


def described(kind: type) -> str:
    """Give what a scheme is, with its arguments, their defaults and what they mean."""
    about, text = needs_of(kind), inspect.getdoc(kind) or ""
    lines = [f"{kind.__name__}: {about.summary}", ""]
    lines += [f"needs of the model: {_asked(about)}", ""] if about.asks else []
    for name, field in sorted(arguments(kind).items(), key=lambda pair: not needed(pair[1])):
        default = "required" if needed(field) else f"default: {field.default!r}"
        lines.append(f"{name}: {' or '.join(kinds_of(field))} ({default})")
    parts = re.split(r"\n(\w[\w ]*)\n-{3,}\n", text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    lines += ["", *(sections[n].rstrip() for n in ("Parameters",) if n in sections)]
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", "\n".join(lines)).replace("``", "")
