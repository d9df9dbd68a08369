"""Emulators and schemes of users in a loop: their errors are one line that names the class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import xarray as xr

from daml.errors import DamlError, InputError, first_line
from daml.labels.definitions import is_users
from daml.stores import filling

if TYPE_CHECKING:
    from daml.protocols import Emulator
    from daml.stores.store import Store

FITTED = ("variables", "dt", "start", "step", "to_dataset")
"""What a loop uses of a fitted emulator."""


def called(owner: Any, method: str, *args: Any, **how: Any) -> Any:
    """Call a method of an emulator or a scheme.

    Raises
    ------
    InputError
        If the method of a user's class raises; the cause is chained. Interruptions are not caught.
    """
    if not is_users(owner):
        return getattr(owner, method)(*args, **how)
    try:
        return getattr(owner, method)(*args, **how)
    except DamlError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{type(owner).__name__}: {method!r} failed ({type(error).__name__}: "
            f"{first_line(error)})"
        ) from error


def dataset_of(owner: Any) -> xr.Dataset:
    """Give the ``to_dataset`` of an emulator or a scheme.

    Raises
    ------
    InputError
        If it raises, or does not return a Dataset.
    """
    found = called(owner, "to_dataset")
    if not isinstance(found, xr.Dataset):
        raise InputError(
            f"{type(owner).__name__}: 'to_dataset' gave a {type(found).__name__}; return an "
            "xarray.Dataset"
        )
    return found


def trained(emulator: Emulator, method: str, *args: Any, **how: Any) -> Emulator:
    """Call a method of an emulator that returns the fitted one.

    Raises
    ------
    InputError
        If it raises, or does not return an emulator.
    """
    found = called(emulator, method, *args, **how)
    lacking = [name for name in FITTED if is_users(emulator) and not _has(found, name)]
    if lacking:
        raise InputError(
            f"{type(emulator).__name__}: {method!r} gave a {type(found).__name__}, which has no "
            f"{lacking[0]!r}; return the fitted emulator"
        )
    return cast("Emulator", found)


def check_kept(emulator: Emulator, analysis: xr.Dataset, store: Store | str | Path | None) -> None:
    """Refuse a user's emulator whose ``to_dataset`` or ``history`` cannot be stored.

    Parameters
    ----------
    emulator : Emulator
    analysis : xarray.Dataset
        The analysis of the pass, whose group in the experiment is their parent.
    store : Store, str or path, optional
        Where they are stored; default: in memory.

    Raises
    ------
    InputError
        If ``to_dataset`` raises or does not return a Dataset, or a store cannot hold the result.
    """
    if not is_users(emulator):
        return
    name, weights = type(emulator).__name__, dataset_of(emulator)
    above = {"variable": pd.Index(list(emulator.variables))}
    above |= {dim: analysis.indexes[dim] for dim in ("time", "observed")}
    kept = {"to_dataset": weights, "history": history(emulator)}
    for method, dataset in kept.items():
        if dataset is None:
            continue
        for dim, labels in above.items():
            there = dataset.indexes.get(dim, labels)
            if dataset.sizes.get(dim, len(labels)) != len(labels) or not labels.equals(there):
                raise InputError(
                    f"{name}: the Dataset of {method!r} has a dimension {dim!r} that differs from "
                    "that of the analysis, with which it is stored; give it another name"
                )
        if store is not None:
            filling.check(dataset, f"{name}: {method!r}")


def history(emulator: Any) -> xr.Dataset | None:
    """Give the ``history`` of an emulator; None if it has none."""
    found = emulator.history if _has(emulator, "history") else None
    return found if isinstance(found, xr.Dataset) else None


def _has(thing: Any, name: str) -> bool:
    """Whether an object has an attribute; one that raises (not fitted) counts as missing."""
    try:
        getattr(thing, name)
    except Exception:
        return False
    return True
