"""Modules that had another name before: the old names work for one release."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "arguments": "labels.arguments",
    "assimilation": "running.assimilation",
    "checks": "running.checks",
    "climatology": "running.climatology",
    "cycle": "loop.loop",
    "dates": "labels.dates",
    "descriptions": "labels.descriptions",
    "devices": "arrays",
    "emulators.bases": "training.bases",
    "emulators.cycling": "training.through_cycle",
    "emulators.differences": "training.differences",
    "emulators.examples": "training.examples",
    "emulators.factors": "training.factors",
    "emulators.parameters": "training.parameters",
    "emulators.stopping": "training.stopping",
    "emulators.training": "training.engine",
    "experiment": "experiments.twin",
    "figures.loop": "figures.diagram",
    "files": "stores.filling",
    "first_guess": "running.starts.first_guess",
    "folders": "stores.folder",
    "forecasting": "running.forecasting",
    "grids": "sweeps.grid",
    "heldout": "training.held_out",
    "html": "labels.html",
    "judging": "loop.judging",
    "keeping": "stores.keeper",
    "lyapunov": "verification.predictability",
    "members": "sweeps.member",
    "moments": "running.moments",
    "observations": "observing.simulated",
    "opening": "stores.opening",
    "operators": "observing.operators",
    "passes": "loop.passes",
    "places": "stores.places",
    "ranges": "labels.ranges",
    "records": "observing.records",
    "remote": "stores.remote",
    "stepping": "running.cycling.stepping",
    "storable": "stores.storable",
    "store": "stores.store",
    "stored": "stores.attributes",
    "targets": "running.targets",
    "tuning": "running.tuning",
    "workers": "sweeps.workers",
}
"""The new name of each, within daml."""


class Moved(MetaPathFinder, Loader):
    """Finds a module by its old name, and gives it the content of the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the spec of an old name; None of any other."""
        package, _, name = fullname.partition(".")
        known = package == "daml" and name in MOVED
        return ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module, with a warning."""
        new = f"daml.{MOVED[module.__name__.partition('.')[2]]}"
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        there = vars(importlib.import_module(new))
        vars(module).update({k: v for k, v in there.items() if not k.startswith("__")})


def follow() -> None:
    """Let imports by the old names work."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
