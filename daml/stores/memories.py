"""A memory, of a model or a scheme, as named arrays, and back.

A memory is None, a number, a text, an array (NumPy's or torch's), or a tuple, a named tuple, a list
or a dict of these. Its plan says what it is made of, as JSON has it: an array by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from daml.arrays import fetch
from daml.errors import InputError

SAME = "as prepared"
"""The plan of what did not change, which is prepared anew."""
NUMBERS = {int: "int", float: "float"}
KINDS = "fiubcMm"
"""Kinds of arrays: numbers, dates and spans of time."""


class NoArrays(InputError):
    """A memory that is made of something else; its text says of what."""


def apart(
    memory: Any, name: str, before: Any = None, pick: Callable[[np.ndarray], np.ndarray] = np.array
) -> tuple[Any, dict[str, np.ndarray]]:
    """Give the plan of a memory, and its arrays by name.

    Parameters
    ----------
    memory : memory
    name : str
        Begins the names of the arrays: those within are called ``name_0_covariance``.
    before : memory
        What was prepared: what is equal to it is no part of the arrays.
    pick : callable
        Gives what is kept of an array.

    Raises
    ------
    NoArrays
        If something in it is no array.

    Examples
    --------
    >>> plan, arrays = apart((np.zeros(2), {"age": 3, "table": None}), "memory")
    >>> list(arrays), together(plan, arrays)
    (['memory_0', 'memory_1_age'], (array([0., 0.]), {'age': 3, 'table': None}))
    """
    arrays: dict[str, np.ndarray] = {}

    def of(part: Any, before: Any, name: str) -> Any:
        if before is not None and _same(part, before):
            return SAME
        if part is None or isinstance(part, (bool, str)):
            return {"value": part}
        if type(part) in NUMBERS:
            arrays[name] = np.asarray(part)
            return {type(part).__name__: [name, arrays[name].dtype.str]}
        if isinstance(part, (np.ndarray, np.generic)) or hasattr(part, "detach"):
            found = np.asarray(part if isinstance(part, np.generic) else fetch(_plain(part)))
            if found.dtype.kind not in KINDS:
                raise NoArrays(f"an array of the type {found.dtype}")
            arrays[name] = pick(found)
            kind = "array" if isinstance(part, np.ndarray) else "number"
            kind = "torch" if hasattr(part, "detach") else kind
            return {kind: [name, found.dtype.str]}
        kind, parts = _parts(part)
        earlier = _parts(before)[1] if type(before) is type(part) else {}
        inner = {k: of(v, earlier.get(k), f"{name}_{k}") for k, v in parts.items()}
        return {kind: inner if kind in ("fields", "dict") else list(inner.values())}

    return of(memory, before, name), arrays


def together(
    plan: Any, arrays: Mapping[str, np.ndarray], before: Any = None, device: str | None = None
) -> Any:
    """Give the memory of a plan and its arrays again.

    What did not change is taken from ``before``, and named tuples are of the classes there. What is
    torch's goes to ``device``.

    Raises
    ------
    InputError
        If an array is missing, or ``before`` is made of other parts.
    """
    if plan == SAME:
        return before
    ((kind, content),) = plan.items()
    if kind == "value":
        return content
    if kind in ("array", "number", "torch", *NUMBERS.values()):
        name, dtype = content
        if name not in arrays:
            raise InputError(f"the array {name!r} is missing")
        found = np.array(arrays[name], dtype=dtype)  # a file may hold another type
        return _made(found, kind, device)
    earlier = _parts(before)[1] if isinstance(before, (tuple, list, dict)) else {}
    inner = (
        content if isinstance(content, dict) else {str(at): part for at, part in enumerate(content)}
    )
    parts = {k: together(part, arrays, earlier.get(k), device) for k, part in inner.items()}
    if kind == "dict":
        return parts
    if kind == "fields":
        if tuple(parts) != getattr(before, "_fields", ()):
            raise InputError(f"it has the fields {', '.join(parts)}, and is prepared without them")
        return type(before)(**parts)
    return tuple(parts.values()) if kind == "tuple" else list(parts.values())


def _parts(memory: Any) -> tuple[str, dict[str, Any]]:
    """Give the kind of a container, and its parts by name."""
    if isinstance(memory, tuple) and hasattr(memory, "_fields"):
        return "fields", dict(zip(memory._fields, memory, strict=True))
    if type(memory) in (tuple, list):
        return type(memory).__name__, {str(at): part for at, part in enumerate(memory)}
    if type(memory) is dict and all(isinstance(key, str) for key in memory):
        return "dict", memory
    what = "a dict whose keys are no text" if type(memory) is dict else type(memory).__name__
    raise NoArrays(f"{what}")


def _same(part: Any, before: Any) -> bool:
    """Whether a part is what was prepared: the same object, or an equal number or array."""
    if part is before:
        return True
    if type(part) is not type(before):
        return False
    if isinstance(part, np.ndarray):
        kinds = part.dtype == before.dtype and part.shape == before.shape
        return bool(kinds and part.tobytes() == before.tobytes())
    return isinstance(part, (bool, int, float, str)) and part == before


def _plain(array: Any) -> Any:
    return array.detach() if hasattr(array, "detach") else array


def _made(array: np.ndarray, kind: str, device: str | None) -> Any:
    """Give an array or a number of a kind; a tensor on a device."""
    if kind == "array":
        return array
    if kind == "torch":
        import torch

        return torch.as_tensor(array, device=device or "cpu")
    return array[()] if kind == "number" else array.item()
