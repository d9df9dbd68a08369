"""What a model, a scheme or an emulator is, as text: settings that differ read differently."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import numbers
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import Field, fields, is_dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, GenericAlias, SimpleNamespace, UnionType
from typing import Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.definitions import (
    CODE,
    OUTER,
    class_attributes,
    definition,
    is_own,
    is_users,
    own_classes,
)

DEEPEST, LONGEST = 20, 100
"""Settings that lie in one another, and values in a list, that are described one by one."""
BY_TEXT = (
    *(numbers.Number, date, timedelta, PurePath, enum.Enum, bytes, range, np.dtype),
    *(GenericAlias, UnionType),
)
TYPES = ("dtype", "device")
"""Types whose text says all, torch's by name."""
NAMED = (FunctionType, BuiltinFunctionType, type, np.ufunc)
"""What a name says all of, unless it was made inside a function."""
QUIET = ("logging", "threading", "_thread", "typing")
"""Modules whose objects change no result."""


def description(settings: object, what: str, *, exact: bool = True) -> str:
    """Give the class and all settings of an object as JSON, sorted by name.

    Numbers are Python's; of an array and of what is made of arrays a checksum stands for the
    values. A dataclass gives its fields, another object its public attributes. An object of a
    user's class also gives the class's attributes and properties, fingerprints of the code of its
    methods, and the values that these use from outside the class (:mod:`daml.labels.definitions`).

    Parameters
    ----------
    settings : object
        A model, a scheme or an emulator.
    what : str
        What an error calls it.
    exact : bool
        Whether what cannot be described is an error; if not, its type stands for it.

    Raises
    ------
    InputError
        It names the setting.

    Examples
    --------
    >>> import daml
    >>> description(daml.Lorenz63(rho=np.int64(20)), "model")[:40]
    '{"beta": 2.6666666666666665, "class": "L'
    """
    describing = _Describing(exact)
    found = describing.object(settings, what, 0)
    if describing.code:
        found[CODE] = describing.code
    return json.dumps(found, sort_keys=True, ensure_ascii=False)


class _Describing:
    """Turns objects into what JSON has, with the path to them for errors."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.path: list[int] = []
        self.defined: set[Any] = set()
        self.code: dict[str, dict[str, str]] = {}
        self.derived = False

    def object(self, value: Any, where: str, depth: int) -> dict[str, Any]:
        """Describe an object by its class and its settings."""
        kind = type(value)
        described: dict[str, Any] = {"class": kind.__name__}
        if is_users(value):
            described["defined_by"] = "user"
        if id(value) in self.path:
            found = f"{where} refers to an object that holds it"
            return described | {"itself": self.refused(value, found, "leave the reference out")}
        self.path.append(id(value))
        for name, setting in _settings(value).items():
            described[name] = self.value(setting, f"{where}: {name!r}", depth + 1)
        if hasattr(value, "state_dict"):  # a network of torch's
            described["layers"] = repr(value)
            described["weights"] = self.value(
                dict(value.state_dict()), f"{where}: weights", depth + 1
            )
        if is_own(kind):
            for name, setting in class_attributes(kind).items():
                if name not in described:
                    described[name] = self.value(setting, f"{where}: {name!r}", depth + 1)
            described |= self.outer(kind, where, depth)
            if not self.derived:
                described |= self.known(_derived(value, described), where, depth, derived=True)
        self.path.pop()
        return described

    def outer(self, thing: Any, where: str, depth: int) -> dict[str, Any]:
        """Describe what a class or a function uses from outside; keep fingerprints of its code.

        Only once: objects may share a class, and classes may refer to each other.
        """
        if thing in self.defined:
            return {}
        self.defined.add(thing)
        code, outer = definition(thing)
        for function, checksums in code.items():
            while self.code.setdefault(function, checksums) != checksums:
                function += "'"  # of another class of the same name
        found = self.known(outer, where, depth)
        return {OUTER: found} if found else {}

    def known(
        self, values: Mapping[str, Any], where: str, depth: int, derived: bool = False
    ) -> dict[str, Any]:
        """Describe those values that can be described, of which an error would be no help.

        Within what is ``derived`` no property is read: one may give an object that has it, too.
        """
        found, inside = {}, _Describing(exact=True)
        inside.path, inside.defined, inside.code = self.path[:], self.defined, self.code
        inside.derived = derived or self.derived
        for name, value in values.items():
            try:
                found[name] = inside.value(value, where, depth + 1)
            except InputError:
                inside.path = self.path[:]
        return found

    def value(self, value: Any, where: str, depth: int) -> Any:
        """Describe a setting."""
        if depth > DEEPEST:
            return self.refused(
                value, f"{where} is nested more than {DEEPEST} deep", "make it flat"
            )
        if value is None or isinstance(value, (bool, str, int)):
            return value if not isinstance(value, enum.Enum) else str(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, np.generic):
            if value.dtype.kind in "biufU":
                return self.value(value.item(), where, depth + 1)
            return {str(value.dtype): str(value)}
        if isinstance(value, BY_TEXT) or type(value).__qualname__ in TYPES:
            return {type(value).__name__: str(value)}
        if isinstance(value, (xr.DataArray, xr.Dataset, xr.Variable)):
            return _labelled(value)
        if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
            return self.array(value, where)
        if isinstance(value, Mapping):
            pairs = {str(k): self.value(v, f"{where}[{k!r}]", depth + 1) for k, v in value.items()}
            return pairs if all(isinstance(k, str) for k in value) else {"mapping": pairs}
        if isinstance(value, Set):
            return {"set": sorted(_sum(self.value(v, where, depth + 1)) for v in value)}
        if isinstance(value, Sequence) and not hasattr(value, "_fields"):
            parts = [self.value(v, f"{where}[{at}]", depth + 1) for at, v in enumerate(value)]
            return parts if len(parts) <= LONGEST else {"length": len(parts), "sha256": _sum(parts)}
        return self.other(value, where, depth)

    def array(self, value: Any, where: str) -> Any:
        """Describe an array, torch's or another library's, by a checksum."""
        try:
            plain = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        except Exception as error:
            return self.refused(value, f"{where} is no array ({error})", "give NumPy's")
        if plain.dtype.kind == "O":
            return [self.value(v, where, 1) for v in plain.ravel().tolist()]
        return _checksum(plain)

    def other(self, value: Any, where: str, depth: int) -> Any:
        """Describe a function by its name, and an object by its settings."""
        kind = type(value)
        name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
        own = is_own(kind)
        if isinstance(value, NAMED) and "<" not in name:
            described = {"name": f"{getattr(value, '__module__', '')}.{name}"}
            if not isinstance(value, (type, FunctionType)) or not is_own(value):
                return described
            return described | self.outer(value, where, depth)
        top = kind.__module__.partition(".")[0]
        if top in QUIET:
            return {"type": kind.__name__}
        if (own or top not in sys.stdlib_module_names or kind is SimpleNamespace) and (
            hasattr(value, "__dict__") or hasattr(kind, "__slots__")
        ):
            return self.object(value, where, depth)
        fix = "make it a number, a dataclass, or a function that is defined in a module"
        return self.refused(value, f"{where} is a {kind.__name__}", fix)

    def refused(self, value: Any, found: str, fix: str) -> Any:
        """Refuse what cannot be described, or give its type."""
        if self.exact:
            raise InputError(
                f"{found}, which a store cannot describe: a resumed run could not tell it from "
                f"another; {fix}; or, if it changes no result, begin its name with an underscore"
            )
        return {"type": type(value).__qualname__}


def _settings(value: Any) -> dict[str, Any]:
    """Give the settings of an object by name."""
    kind = type(value)
    if not is_own(kind) and hasattr(value, "get_params") and not isinstance(value, type):
        return dict(value.get_params(deep=False))  # scikit-learn's: what it was fitted to is none
    if is_dataclass(value):
        names = [f.name for f in fields(value) if not _is_unknown(f, value)]
    elif hasattr(value, "_fields"):
        names = list(value._fields)
    else:
        slots = [n for k in kind.__mro__ for n in _as_tuple(getattr(k, "__slots__", ()))]
        names = [*getattr(value, "__dict__", ()), *slots]
    given = (n for n in names if not _is_cached(kind, n))
    return {n: getattr(value, n) for n in given if not n.startswith("_") and hasattr(value, n)}


def _is_unknown(field: Field[Any], value: Any) -> bool:
    """Whether a store of before the field does not know it, and nothing else was meant then."""
    if not field.metadata.get("later"):
        return False
    now = getattr(value, field.name)
    return type(now) is type(field.default) and now == field.default


def _derived(value: Any, described: Mapping[str, Any]) -> dict[str, Any]:
    """Give the properties of an object, and what a dataclass has beyond its fields."""
    kind = type(value)
    names = [n for k in own_classes(kind) for n, v in vars(k).items() if isinstance(v, property)]
    names += [n for n in getattr(value, "__dict__", ()) if not _is_cached(kind, n)]
    found = {}
    for name in names:
        if name not in described and not name.startswith("_"):
            try:
                found[name] = getattr(value, name)
            except (Exception, SystemExit):  # not known yet, of an emulator not fitted say
                continue
    return found


def _is_cached(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), cached_property)


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _sum(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _checksum(array: np.ndarray) -> dict[str, Any]:
    """Give type, shape and a checksum of an array's values."""
    plain = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    text = plain.dtype.kind in "OUST"
    form = f"{plain.dtype.kind if text else plain.dtype.str} {plain.shape}".encode()
    checksum = hashlib.sha256(form)
    if text:
        checksum.update(json.dumps(plain.tolist(), default=str).encode())
    else:
        checksum.update(plain.reshape(-1).view(np.uint8).data)  # large arrays are not copied
    return {"dtype": str(plain.dtype), "shape": list(plain.shape), "sha256": checksum.hexdigest()}


def _labelled(value: xr.DataArray | xr.Dataset | xr.Variable) -> dict[str, Any]:
    """Give dimensions and a checksum of what xarray has labelled; attributes do not count."""
    if isinstance(value, xr.Variable):
        return {"dims": [str(d) for d in value.dims]} | _checksum(np.asarray(value.values))
    whole = value.to_dataset(name="array") if isinstance(value, xr.DataArray) else value
    variables = {
        str(name): {"dims": [str(d) for d in v.dims]} | _checksum(_plain_text(v.values))
        for name, v in whole.variables.items()
    }
    return {"class": type(value).__name__, "variables": variables}


def _plain_text(values: np.ndarray) -> np.ndarray:
    """Give names as NumPy's text, whichever kind they are of."""
    return np.array(values.tolist()).astype(str) if values.dtype.kind in ("O", "T") else values
