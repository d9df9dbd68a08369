"""How the run of a published experiment begins and ends: its settings, and its store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels.ranges import seed as whole_seed
from daml.stores.keeper import Keeper, keeper


class Experiment(Protocol):
    """An experiment with its settings and its seed."""

    def __init__(self, settings: Any, seed: int) -> None: ...

    def run(self, keep: Keeper) -> None:
        """Make what the store lacks; keep each part as it is done."""
        ...


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
    told = asdict(settings).items()
    attrs = {
        "experiment": name,
        "daml_version": __version__,
        "preset": preset if isinstance(preset, str) else "given",
        "seed": seed,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in told},
    }
    keep = keeper(store, attrs, overwrite=overwrite, resume=resume)
    with keep.open():
        experiment(settings, seed).run(keep)
    return keep.tree()
