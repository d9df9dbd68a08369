"""Datasets on disk: written in chunks that suit a record, opened lazily."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from daml.errors import StoreError

CHUNK = 1 << 18
"""Values in a chunk: 2 MB of float64."""
SHARD = 16
"""Chunks in a file, where a record has more than so many."""


def cannot_write(path: Path, name: str, error: OSError) -> StoreError:
    """Give the error of a file that cannot be written."""
    return StoreError(
        f"{path}: cannot write {name!r} ({first_line(error)}); what was finished before is kept: "
        "free space, then go on with --resume (resume=True)"
    )


def first_line(error: Exception) -> str:
    """Give what another library's error says, in a line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def write(dataset: xr.Dataset, store: str | Path, group: str | None = None) -> None:
    """Write a Dataset as one group of a store (its root, unless named), over what was there.

    Chunks follow time: a chunk holds 2 MB, all variables of a stretch of time where they are few.

    Raises
    ------
    StoreError
        If the disk is full or cannot be written.
    """
    # Names of a fixed length have no place in Zarr's format 3, those of any length have.
    text = {k: v.astype(object) for k, v in dataset.coords.items() if v.dtype.kind == "U"}
    plain = dataset.assign_coords(text).drop_encoding()
    try:
        with _no_warnings():
            plain.to_zarr(
                store,
                group=group,
                mode="w",
                consolidated=group is None,
                zarr_format=3,
                encoding={str(name): _encoding(array) for name, array in plain.variables.items()},
            )
    except OSError as error:
        raise cannot_write(Path(store), group or "the root", error) from error


def _encoding(array: xr.Variable) -> dict[str, Any]:
    """Give chunks, shards and compression of a variable; and of dates a unit that is exact."""
    if array.dtype.kind == "O" or array.size == 0 or array.ndim == 0:
        return {}
    found: dict[str, Any] = {"compressors": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")}
    if "time" in array.dims:
        sizes = dict(zip(array.dims, array.shape, strict=True))
        chunk = {d: min(n, 64) for d, n in sizes.items() if d != "time"}
        rows = CHUNK // max(math.prod(chunk.values()), 1)
        chunk["time"] = max(min(rows, sizes["time"]), 1)
        found["chunks"] = tuple(chunk[d] for d in sizes)
        if sizes["time"] > SHARD * chunk["time"]:
            found["shards"] = tuple(chunk[d] * (SHARD if d == "time" else 1) for d in sizes)
    if array.dtype.kind == "M":
        first = str(array.values[0].astype("datetime64[ns]")).replace("T", " ")
        found |= {"units": f"nanoseconds since {first}", "dtype": "int64"}
    return found


@contextmanager
def _no_warnings() -> Iterator[None]:
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
    if not Path(store).exists():
        raise StoreError(f"{store}: no such store; check the path")
    try:
        with _no_warnings():
            return xr.open_datatree(store, engine="zarr", consolidated=True, chunks={})
    except Exception as error:
        raise StoreError(
            f"{store}: not a readable Zarr store ({first_line(error)}); check the path"
        ) from error


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
