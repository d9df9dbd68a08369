"""The experiments of `daml run`, by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import xarray as xr

from daml.errors import InputError

EXPERIMENTS = {
    "amemiya2023": "amemiya2023",
    "bocquet_brajard": "bocquet_brajard",
    "brajard2020": "brajard2020",
    "lorenz96": "lorenz96_loop",
}
"""The module beside this one of each, with ``run``, ``table`` and ``draw``."""


def experiment(name: str) -> Any:
    """Give the module of a published experiment.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"experiment {name!r} is unknown; give one of {', '.join(EXPERIMENTS)}")
    return import_module(f"daml.experiments.{EXPERIMENTS[name]}")


def experiment_of(tree: xr.DataTree) -> Any:
    """Give the module of the published experiment that a tree holds; None if it holds another."""
    name = tree.attrs.get("experiment")
    return experiment(str(name)) if name in EXPERIMENTS else None
