"""How the run of a published experiment begins and ends: its settings, and its store."""

from __future__ import annotations

import time
from ast import literal_eval
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels.arguments import check_fields, fitting
from daml.labels.ranges import seed as whole_seed
from daml.schemes.by_name import nearest
from daml.stores.keeper import Keeper, keeper


class Experiment(Protocol):
    """An experiment with its settings and its seed."""

    def __init__(self, settings: Any, seed: int) -> None: ...

    def run(self, keep: Keeper) -> None:
        """Make what the store lacks; keep each part as it is done."""
        ...


def check_settings(settings: Any) -> None:
    """Compare the fields of settings with their annotations; one number is a tuple of one.

    Raises
    ------
    InputError
        If one is of another type.
    """
    check_fields(settings)
    for field in fields(settings):
        if str(field.type).startswith("tuple["):
            value, kind = getattr(settings, field.name), str(field.type)[6:].partition(",")[0]
            several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
            entries = value if several else [value]
            found = [fitting("Settings", field.name, entry, kind) for entry in entries]
            object.__setattr__(settings, field.name, tuple(found))


def changed(settings: Any, texts: Mapping[str, str]) -> Any:
    """Give settings with other values, which are written as text: "0.05", or "8, 12" for several.

    Settings that hold names take names: "LSTM, CNN".

    Raises
    ------
    InputError
        If there is no such setting, or a value is no number.
    """
    names, found = [field.name for field in fields(settings)], {}
    for name, text in texts.items():
        if name not in names:
            near = nearest(name, names)
            raise InputError(f"--set: {name!r} is unknown; {near}give one of {', '.join(names)}")
        now = getattr(settings, name)
        if isinstance(now, tuple) and all(isinstance(one, str) for one in now) and now:
            found[name] = tuple(part.strip() for part in text.split(",") if part.strip())
            continue
        try:
            found[name] = literal_eval(text)
        except (ValueError, SyntaxError):
            raise InputError(
                f"--set: {name!r} is {text!r}; give a number, or numbers with commas between them"
            ) from None
    return replace(settings, **found)


def groups_of(tree: xr.DataTree | None) -> set[str]:
    """Give the paths of the groups of a run that is resumed; none for a new run."""
    return set() if tree is None else {path.lstrip("/") for path in tree.groups}


def corrections_of(tree: xr.DataTree, name: str, what: str = "score") -> list[str]:
    """Give the names of the corrections that a run has kept.

    Raises
    ------
    InputError
        If there is none; it says that the experiment of this name holds none of ``what``.
    """
    found = list(tree["correction"].children) if "correction" in tree.children else []
    if not found:
        raise InputError(f"{name}: the experiment holds no {what}; give one that has run")
    return found


def timed(scores: xr.Dataset, start: float, long_name: str = "time") -> float:
    """Add the seconds since a start to scores, and give them."""
    seconds = time.perf_counter() - start
    scores["seconds"] = ((), seconds, {"long_name": long_name, "units": "s"})
    return seconds


def performed(
    experiment: type[Experiment],
    name: str,
    preset: Any,
    presets: Mapping[str, Any],
    *,
    store: str | Path | None,
    seed: int,
    overwrite: bool,
    resume: bool,
) -> xr.DataTree:
    """Run a published experiment in the size of a preset, or with settings of its class.

    Raises
    ------
    InputError, StoreError
        If the preset is unknown, or the store holds another run.
    """
    settings = presets.get(preset) if isinstance(preset, str) else preset
    if not isinstance(settings, type(next(iter(presets.values())))):
        raise InputError(f"preset {preset!r} is unknown; give one of {', '.join(presets)}")
    seed = whole_seed(seed, f"{name}: 'seed'")
    items = asdict(settings).items()
    attrs = {
        "experiment": name,
        "daml_version": __version__,
        "preset": preset if isinstance(preset, str) else "given",
        "seed": seed,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in items},
    }
    keep = keeper(store, attrs, overwrite=overwrite, resume=resume)
    with keep.open():
        experiment(settings, seed).run(keep)
    return keep.tree()
