"""Experiments in Zarr: made once, filled pass by pass, opened lazily."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import xarray as xr
import zarr

from daml.errors import InputError, StoreError

GROUPS = ("observations", "imperfect", "iteration", "truth", "perfect", "test", "scores")


def check_free(store: str | Path, overwrite: bool = False) -> Path:
    """Refuse a store that exists or that cannot be written; change nothing.

    Raises
    ------
    InputError
        If something is there already that may not be overwritten.
    StoreError
        If the folder cannot be written.
    """
    path = Path(store)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; give another path, or --overwrite (overwrite=True)")
    if path.exists() and not (path.is_dir() and (_is_ours(path) or not any(path.iterdir()))):
        raise InputError(f"{path} is no store that daml wrote, and stays; give another path")
    parent = path if path.exists() else path.parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise StoreError(
            f"{path}: cannot write there ({error.strerror}); give another path"
        ) from error
    return path


def _is_ours(path: Path) -> bool:
    try:
        return "daml_version" in zarr.open_group(path, mode="r").attrs
    except (OSError, ValueError, KeyError):
        return False


def create(store: str | Path, attrs: dict[str, Any], overwrite: bool = False) -> None:
    """Make an empty experiment; of one that is overwritten only what daml wrote is removed."""
    path = check_free(store, overwrite)
    for name in GROUPS:
        shutil.rmtree(path / name, ignore_errors=True)
    (path / "zarr.json").unlink(missing_ok=True)
    zarr.open_group(path, mode="a", zarr_format=3, attributes=attrs)


def write(dataset: xr.Dataset, store: str | Path, group: str | None = None) -> None:
    """Write a Dataset as one group of a store (its root, unless named), over what was there.

    Raises
    ------
    StoreError
        If the disk is full or cannot be written.
    """
    # Names of a fixed length have no place in Zarr's format 3, those of any length have.
    text = {k: v.astype(object) for k, v in dataset.coords.items() if v.dtype.kind == "U"}
    try:
        dataset.assign_coords(text).drop_encoding().to_zarr(
            store, group=group, mode="w", consolidated=False, zarr_format=3
        )
    except OSError as error:
        raise StoreError(
            f"{store}: cannot write {group!r} ({error}); free space, run again"
        ) from error


def commit(store: str | Path) -> None:
    """Make what was written visible to a reader who opens the store with default arguments."""
    with warnings.catch_warnings():
        # Consolidated metadata is an addition to Zarr's format 3 that xarray looks for.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        zarr.consolidate_metadata(store, zarr_format=3)


def open_tree(store: str | Path) -> xr.DataTree:
    """Open an experiment lazily.

    Raises
    ------
    StoreError
        If it is not there or cannot be read.
    """
    if not Path(store).exists():
        raise StoreError(f"{store}: no such store; check the path")
    try:
        with warnings.catch_warnings():
            # A user's own file beside the groups is no fault of the store.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            return xr.open_datatree(store, engine="zarr", consolidated=False, chunks={})
    except Exception as error:
        raise StoreError(f"{store}: not a readable Zarr store ({error}); check the path") from error


def open_record(path: str | Path) -> xr.Dataset:
    """Open a user's record, NetCDF or Zarr.

    Raises
    ------
    StoreError
        If it is not there, truncated, or neither.
    """
    if not Path(path).exists():
        raise StoreError(f"{path}: no such file; check the path")
    try:
        if Path(path).is_dir():
            return cast("xr.Dataset", xr.open_zarr(path, chunks={}))
        return xr.open_dataset(path, engine="h5netcdf", chunks={})
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            f"{path}: neither NetCDF nor Zarr, or truncated ({reason}); write it again with "
            "ds.to_netcdf or ds.to_zarr"
        ) from error
