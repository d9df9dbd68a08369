"""Opens stores and records lazily; an error in one line says what cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr

from daml.errors import StoreError, first_line
from daml.stores.folder import Folder
from daml.stores.places import place
from daml.stores.storable import restored

VERSION = 1
"""Of the layout of an experiment's store."""


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keep zarr from warning of consolidated metadata, an addition to Zarr's format 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        yield


def open_tree(store: str | Path) -> xr.DataTree:
    """Open an experiment lazily.

    Raises
    ------
    StoreError
        If it is not there or cannot be read.
    """
    where = place(store)
    if not where.exists():
        raise StoreError(f"{store}: no such store; check the path")
    try:
        with no_warnings():
            tree = xr.open_datatree(where.address, engine="zarr", consolidated=True, chunks={})
    except Exception as error:
        raise StoreError(
            f"{store}: not a readable Zarr store ({first_line(error)}); check the path"
        ) from error
    check_version(tree.attrs, store)
    for node in tree.subtree:
        node.dataset = restored(node.to_dataset(inherit=False))
    return tree


def check_version(attrs: Mapping[Any, Any], store: str | Path) -> None:
    """Refuse a store whose layout is newer than what is known here."""
    if attrs.get("store_version", VERSION) != VERSION:
        raise StoreError(
            f"{store}: written by a newer daml (its layout is {attrs['store_version']}, {VERSION} "
            "is known here); update daml"
        )


def loaded(
    tree: xr.DataTree,
    group: str,
    whole: Sequence[str] = (),
    *,
    needed: Sequence[str] = (),
    inherit: bool = False,
) -> xr.Dataset:
    """Give a group of an experiment in memory.

    Parameters
    ----------
    tree : xarray.DataTree
    group : str
    whole : sequence of str
        Variables that never lack a value; one that does has lost a file.
    needed : sequence of str
        Variables that are there, and may lack values.
    inherit : bool
        With the coordinates of the groups above.

    Raises
    ------
    StoreError
        If it is not there, or a file of it is damaged or gone.
    """
    mend = "restore it from a copy, or run again with --overwrite (overwrite=True)"
    if group not in {name.lstrip("/") or "/" for name in tree.groups}:
        raise StoreError(f"the experiment lacks the group {group!r}; {mend}")
    try:
        node = tree if group == "/" else cast("xr.DataTree", tree[group])
        found = node.to_dataset(inherit=inherit).load()
    except Exception as error:
        raise StoreError(
            f"{group!r} cannot be read: a file of it is damaged ({first_line(error)}); {mend}"
        ) from error
    for name in needed:
        if name not in found:
            raise StoreError(f"{group!r} lacks the variable {name!r}; {mend}")
    check_whole(found, whole, repr(group))
    return found


def check_whole(dataset: xr.Dataset, names: Sequence[str], where: str) -> None:
    """Refuse variables that are missing, or lack values; text cannot.

    Raises
    ------
    StoreError
        It begins with ``where`` and names the variable.
    """
    for name in names:
        there = name in dataset.variables
        kind = dataset[name].dtype.kind if there else ""
        text = kind in "OUT" and name in dataset.coords
        if not there or not (text or (kind in "fiub" and bool(np.isfinite(dataset[name]).all()))):
            raise StoreError(
                f"{where} has lost values of {name!r}: a file is gone, or was changed; restore it "
                "from a copy, or run again with --overwrite (overwrite=True)"
            )


def open_record(path: str | Path) -> xr.Dataset:
    """Open a user's record, NetCDF or Zarr; from a URL Zarr.

    Raises
    ------
    StoreError
        If it is not there, truncated, or neither.
    """
    where = place(path)
    if not where.exists():
        raise StoreError(f"{path}: no such file; check the path")
    try:
        if not isinstance(where, Folder) or where.path.is_dir():
            return restored(xr.open_zarr(where.address, chunks={}))
        return xr.open_dataset(where.path, engine="h5netcdf", chunks={})
    except Exception as error:
        reason = first_line(error)
        if "decode time" in reason:
            raise StoreError(
                f"{path}: its times cannot be read ({reason}); for a calendar such as 'noleap' "
                "install cftime, or correct the attributes 'units' and 'calendar' of its times"
            ) from error
        raise StoreError(
            f"{path}: neither NetCDF nor Zarr, or truncated ({reason}); write it "
            "again with ds.to_netcdf or ds.to_zarr"
        ) from error
