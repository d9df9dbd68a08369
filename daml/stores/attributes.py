"""What the attributes of a store say, as values: the one place that reads them.

They may have been damaged or edited by hand: whatever is not as daml wrote it raises an error that
names the group, the attribute, what was found and what is needed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.errors import DamlError, InputError, StoreError, first_line
from daml.labels.ranges import whole

GIVEN = "given"
"""The choice of a loop that found no pass better than the model that it was given."""
MEND = "restore it from a copy, or run again with --overwrite (overwrite=True)"


@dataclass(frozen=True)
class Attributes:
    """Attributes of a group."""

    values: Mapping[Any, Any]
    group: str
    """What an error calls it."""

    def wrong(self, name: str, needed: str) -> InputError:
        """Give the error of an attribute that is not as it was written."""
        found = f"is {shown(self.values[name])}" if name in self.values else "is missing"
        return InputError(
            f"{self.group}: the attributes are not those that daml wrote: {name!r} {found}, "
            f"{needed} is needed; {MEND}"
        )

    def text(self, name: str) -> str:
        """Give an attribute that is text."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "text")
        return value

    def whole(self, name: str, least: int = 0) -> int:
        """Give an attribute that is a whole number."""
        value: Any = self.values.get(name)
        if not is_whole(value) or value < least:
            raise self.wrong(name, f"a whole number from {least}")
        return int(value)

    def number(self, name: str, above: float = -math.inf) -> float:
        """Give an attribute that is a number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > above:
            raise self.wrong(name, "a number" if math.isinf(above) else f"a number > {above:g}")
        return float(value)

    def settings(self, name: str) -> dict[str, Any] | None:
        """Give an attribute that is settings in JSON, or null."""
        needed = "the settings of an object as JSON"
        try:
            found = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise self.wrong(name, needed) from error
        if found is not None and not isinstance(found, dict):
            raise self.wrong(name, needed)
        return found


def passes(tree: xr.DataTree) -> list[str]:
    """Give the groups of the passes that an experiment holds, in order.

    Raises
    ------
    InputError
        If one is none, or one is missing.
    """
    names = sorted(tree["iteration"].children) if "iteration" in tree.children else []
    for number, name in enumerate(sorted(names, key=lambda n: (len(n), n))):
        if not re.fullmatch(r"\d{4,}", name) or int(name) != number:
            raise InputError(
                f"'iteration/{shown(name)[1:-1]}': no pass that daml wrote; "
                f"'iteration/{number:04d}' is needed: remove or restore it"
            )
    return [f"iteration/{name}" for name in sorted(names, key=int)]


def chosen(tree: xr.DataTree) -> int | str | None:
    """Give the number of the pass that a loop chose, or "given"; None before its end.

    Raises
    ------
    InputError
        If it is neither.
    """
    if "chosen" not in tree.attrs:
        return None
    found, count = tree.attrs["chosen"], len(passes(tree))
    if found == GIVEN or (is_whole(found) and 0 <= found < count):
        return cast("int | str", found)
    raise Attributes(tree.attrs, "/").wrong("chosen", f"a pass below {count}, or {GIVEN!r},")


def pass_of(tree: xr.DataTree, iteration: int | None, what: str) -> str | None:
    """Give the group of a pass of an experiment; None where there is none.

    Parameters
    ----------
    tree : xarray.DataTree
    iteration : int, optional
        Its number; negative ones count from the end. Unless given, the pass that was chosen, or
        else the last; "imperfect" where the model given was chosen.
    what : str
        Who asks, for errors.

    Raises
    ------
    InputError
        If the experiment has no such pass.
    """
    groups = passes(tree)
    if not groups:
        return None
    if iteration is None:
        choice = chosen(tree)
        if choice == GIVEN:
            return "imperfect"
        iteration = -1 if choice is None else int(choice)
    iteration = whole(iteration, f"{what}: 'iteration'", least=-len(groups))
    if iteration >= len(groups):
        raise InputError(
            f"{what}: iteration {iteration} is not there; the experiment has {len(groups)}"
        )
    return groups[iteration]


def asked(tree: xr.DataTree) -> int | str:
    """Give how many passes an experiment was to have, or "auto".

    Raises
    ------
    InputError
        If it is neither.
    """
    if tree.attrs.get("passes") == "auto":
        return "auto"
    return Attributes(tree.attrs, "/").whole("passes", 1)


def class_of_emulator(tree: xr.DataTree) -> str | None:
    """Give the class of the emulators that an experiment has trained; None where it is unknown."""
    try:
        found = (Attributes(tree.attrs, "/").settings("emulator") or {}).get("class")
    except InputError:
        return None
    return found if isinstance(found, str) else None


@contextmanager
def reading(store: str | Path) -> Iterator[None]:
    """Turn what breaks where a damaged store is read into one error."""
    try:
        yield
    except DamlError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise StoreError(
            f"{store}: it is damaged ({type(e).__name__}: {first_line(e)[:200]}); restore it from "
            "a copy, or run again with --overwrite (overwrite=True)"
        ) from e


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and no truth value; of NumPy, as netCDF gives it, too."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Give a value in a few characters and one line."""
    try:
        text = " ".join(repr(value).split())
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
