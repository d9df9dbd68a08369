"""The grid of a sweep: which members there are, read from a mapping or a TOML file."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from daml import __version__
from daml.errors import InputError, StoreError, first_line
from daml.experiments.goodliff2025 import PRESETS
from daml.labels.arguments import plain, shown
from daml.schemes.by_name import nearest
from daml.stores.opening import loaded
from daml.sweeps.member import DEFAULTS, LATER, Member, checked

SETTINGS = ("preset", "seeds", "device")
TABLES = {"sweep": SETTINGS, "grid": tuple(DEFAULTS), "fixed": tuple(DEFAULTS)}
"""What a configuration may hold."""
MOST = 100_000
"""Largest number of seeds."""


@dataclass(frozen=True)
class Plan:
    """All members of a sweep.

    Attributes
    ----------
    grid : mapping
        Values by parameter.
    seeds : tuple of int
    base : mapping
        A value for each parameter, for those that do not vary.
    members : tuple of Member
        The last dim, ``seed``, varies first.
    """

    grid: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    base: Mapping[str, Any]
    members: tuple[Member, ...]

    def attrs(self, device: str) -> dict[str, Any]:
        """Give the whole configuration; what varies as text."""
        shown = {k: v for k, v in self.base.items() if k not in LATER or v != DEFAULTS[k]}
        settings = {k: int(v) if type(v) is bool else v for k, v in shown.items()}
        settings = {k: "none" if v is None else v for k, v in settings.items()}
        settings |= {name: json.dumps(values) for name, values in self.grid.items()}
        return {"daml_version": __version__, "device": device, "grid": ", ".join(self.grid)} | {
            **settings,
            "seeds": json.dumps(self.seeds),
        }

    def begun(self, tree: xr.DataTree | None) -> list[tuple[Member, xr.Dataset]]:
        """Give the members that a store holds."""
        if tree is None or "member" not in tree.children:
            return []
        there = tree["member"].children
        return [
            (m, loaded(tree, f"member/{m.key}", needed=("error",)))
            for m in self.members
            if m.key in there
        ]

    def assembled(self, done: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Put the members' results (by key) into one Dataset; the longest has all iterations."""
        results = [done[member.key] for member in self.members]
        fine = [r for r in results if "analysis_rmse" in r]
        if fine:
            longest = max(fine, key=lambda r: r.sizes["iteration"])
            outcome = list(self.members[0].outcome().data_vars)
            scores = [r.drop_vars(outcome).reindex(iteration=longest.iteration) for r in fine]
            whole = xr.merge(scores, compat="override", combine_attrs="override")
            blank = xr.full_like(whole, np.nan)
            results = [
                r.reindex_like(blank).assign(
                    {n: v for n, v in blank.data_vars.items() if n not in r}
                )
                for r in results
            ]
        dims = (*self.grid, "seed")
        values = [*self.grid.values(), self.seeds]
        content = {
            name: _gathered([r[name] for r in results], dims, [len(v) for v in values])
            for name in results[0].data_vars
        }
        labels = {
            dim: (dim, [np.nan if v is None else v for v in of_dim], _label(dim))
            for dim, of_dim in zip(dims, values, strict=True)
        }
        return xr.Dataset(content, coords={**labels, **results[0].coords})


def _gathered(arrays: list[xr.DataArray], dims: Sequence[str], sizes: list[int]) -> xr.Variable:
    """Stack arrays, given in order, along new dims."""
    values = np.stack([array.values for array in arrays])
    if values.dtype.kind == "T":  # text that a store gave back
        values = values.astype(object)
    shape = (*sizes, *arrays[0].shape)
    return xr.Variable((*dims, *arrays[0].dims), values.reshape(shape), arrays[0].attrs)


def _label(name: str) -> dict[str, str]:
    return {"long_name": name.replace("_", " "), "units": "1"}


def planned(
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Iterable[int],
    preset: str,
    fixed: Mapping[str, Any],
) -> Plan:
    """Give the members of a sweep, in order; refuse what cannot be run.

    Raises
    ------
    InputError
        As :func:`daml.sweep`.

    Examples
    --------
    >>> [m.seed for m in planned({"hidden": [50, 100]}, 2, "smoke", {}).members]
    [0, 1, 0, 1]
    """
    for name, given in (("grid", grid), ("fixed", fixed)):
        if not isinstance(given, Mapping):
            kind = type(given).__name__
            raise InputError(f"{name} is a {kind}; give a mapping, as {{'hidden': ...}}")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; give one of {', '.join(PRESETS)}")
    base = DEFAULTS | asdict(PRESETS[preset])
    base |= {name: checked(name, value, "fixed") for name, value in fixed.items()}
    values = {name: _values(name, given) for name, given in grid.items()}
    twice = [name for name in values if name in fixed]
    if twice:
        raise InputError(f"{twice[0]!r} is in grid and in fixed; take it out of one")
    numbers = _seeds(seeds)
    members = tuple(
        Member(base | dict(zip(values, point, strict=True)), seed)
        for point in itertools.product(*values.values())
        for seed in numbers
    )
    _check_used(members, [*values, *fixed])
    _check_ranges(members, values)
    return Plan(values, numbers, {k: v for k, v in base.items() if k not in values}, members)


def _check_used(members: Sequence[Member], names: Iterable[str]) -> None:
    """Refuse an argument of a scheme that no scheme of the sweep has."""
    for name in names:
        if not any(member.applies(name) for member in members):
            kinds = {member.kind.__name__ for member in members if member.kind is not None}
            schemes = ", ".join(sorted(kinds)) or "3DVar with the preset's B"
            raise InputError(
                f"sweep: {name!r} is an argument of a scheme, and no scheme of the sweep has it "
                f"({schemes}); give 'scheme' in grid or fixed, or leave {name!r} out"
            )


def _values(name: str, given: Any) -> tuple[Any, ...]:
    """Give the values of a parameter of the grid, each in its type."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        checked(name, given, "grid")
        raise InputError(
            f"grid: {name!r} is {given!r}, which is not a list; give [{given!r}], or put it "
            "into fixed"
        )
    values = tuple(checked(name, value, "grid") for value in given)
    if not values or len(set(values)) < len(values):
        found = "empty" if not values else f"{list(values)}, with a value twice"
        raise InputError(f"grid: {name!r} is {found}; give one or more different values")
    return values


def _seeds(given: Any) -> tuple[int, ...]:
    """Give the seeds of a number or of a list."""
    count, found = plain("int", given), plain("Sequence[int]", given) or []
    if count is not None and count > MOST:
        raise InputError(f"seeds is {count}; give {MOST} or less, or a list of different ones")
    if count is not None:
        found = list(range(count))
    if not found or min(found) < 0 or len(set(found)) < len(found):
        what = found or shown(given)
        raise InputError(
            f"seeds is {what}; give a number of 1 or more, or a list of different whole numbers"
        )
    return tuple(found)


def _check_ranges(members: Sequence[Member], values: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a value that no member can be run with; a corner of the grid may be out of range."""
    refusals = [_refusal(member) for member in members]
    chosen = [(name, value) for name, those in values.items() for value in those]
    for name, value in chosen or [("", None)]:
        errors = [
            refusal
            for member, refusal in zip(members, refusals, strict=True)
            if not name or member.parameters[name] == value
        ]
        if all(errors):
            raise InputError(f"sweep: {errors[0]}")


def _refusal(member: Member) -> InputError | None:
    """Give why a member cannot be run."""
    try:
        member.check()
    except InputError as error:
        return error
    return None


def read_config(path: str | Path) -> dict[str, Any]:
    """Give the arguments of :func:`daml.sweep` that a TOML file holds.

    Raises
    ------
    StoreError
        If it cannot be read.
    InputError
        If it is no TOML, or holds a table or a key that is unknown.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(
            f"{path}: not valid TOML ({first_line(error)}); correct that line"
        ) from error
    for table, inside in content.items():
        if table not in TABLES or not isinstance(inside, dict):
            raise InputError(f"{path}: {table!r} is unknown there; give [sweep], [grid], [fixed]")
        for key in inside:
            if key not in TABLES[table]:
                raise InputError(
                    f"{path}: [{table}] {key!r} is unknown; {nearest(key, TABLES[table])}give one "
                    f"of {', '.join(TABLES[table])}"
                )
    settings = content.get("sweep", {})
    for key in ("preset", "device"):
        if not isinstance(settings.get(key, ""), str):
            raise InputError(f"{path}: [sweep] {key!r} is {settings[key]!r}; give a text in quotes")
    if "grid" not in content:
        raise InputError(f"{path}: no [grid]; give one, with a list of values for each parameter")
    return {"grid": content["grid"], "fixed": content.get("fixed", {}), **settings}
