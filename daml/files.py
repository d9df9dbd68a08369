"""Datasets on disk: written in chunks that suit a record, whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr
from dask.array import from_delayed
from dask.delayed import delayed
from zarr.codecs import BloscCodec, Crc32cCodec

from daml.errors import InputError
from daml.folders import ROOT
from daml.opening import no_warnings, open_record
from daml.places import place

CHUNK = 1 << 18
"""Values in a chunk: 2 MB of float64."""
SHARD = 16
"""Chunks in a file, where a record has more than so many."""


Described = Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]]
"""Dimensions, the first of which is time, and attributes of float64 variables, by name."""


def filled(
    labels: xr.Dataset,
    variables: Described,
    fill: Callable[..., Mapping[str, Any]],
    store: str | Path | None = None,
    rows: int = CHUNK,
    source: xr.Dataset | None = None,
) -> xr.Dataset:
    """Give a record whose variables are filled row by row, in memory or in a new store.

    Parameters
    ----------
    labels : xarray.Dataset
        Coordinates and attributes.
    variables : mapping
        What to fill.
    fill : callable
        Puts rows into arrays by name, from the source where there is one; gives further
        attributes.
    store : str or path, optional
        A new Zarr store, opened lazily at the end; memory, unless given.
    rows : int
        Length of a chunk of the store in time.
    source : xarray.Dataset, optional
        A record that the arrays are filled from. Without a store, one that is Dask's is loaded,
        and the arrays are filled, only when the result is computed; the further attributes are not
        known then.

    Raises
    ------
    InputError, StoreError
        As of `new_record`.
    """
    given = () if source is None else (source,)
    if store is not None:
        with new_record(store, labels, variables, rows) as (rooms, told):
            told.update(fill(rooms, *given))
        return open_record(store)
    shapes = {name: tuple(labels.sizes[d] for d in dims) for name, (dims, _) in variables.items()}

    def whole(*given: xr.Dataset) -> tuple[dict[str, Any], Mapping[str, Any]]:
        arrays = {name: np.empty(shape) for name, shape in shapes.items()}
        return arrays, fill(arrays, *given)

    arrays: dict[str, Any] = {}
    attrs: Mapping[str, Any] = {}
    if source is not None and is_lazy(source):
        # As an argument the source is loaded before the task starts: one that reads within a task
        # waits for a worker that waits for it.
        task = delayed(whole, pure=False)(source)[0]
        for name, shape in shapes.items():
            arrays[name] = from_delayed(task[name], shape, np.float64)  # type: ignore[no-untyped-call]
    else:
        arrays, attrs = whole(*given)
    found = {name: (dims, arrays[name], told) for name, (dims, told) in variables.items()}
    return labels.assign(found).assign_attrs(attrs)


def is_lazy(dataset: xr.Dataset) -> bool:
    """Whether some of it is Dask's."""
    return any(variable.chunks is not None for variable in dataset.variables.values())


@contextmanager
def new_record(
    store: str | Path,
    labels: xr.Dataset,
    variables: Described,
    rows: int,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give Zarr arrays to fill block by block, and attrs; all appear at once when it is whole.

    Parameters
    ----------
    store : str or path
        Where nothing is yet.
    labels : xarray.Dataset
        Coordinates and attributes.
    variables : mapping
        By name: dimensions, which start with time, and attributes of a float64 variable.
    rows : int
        Length of a chunk in time. Blocks that start and end with a chunk can be written at once.

    Raises
    ------
    InputError
        If something is there.
    StoreError
        If it cannot be written; nothing is left then.
    """
    where = place(store)
    if where.exists():
        raise InputError(f"{store} exists; give another path, or remove it")
    empty = {
        name: (dims, dask.array.empty(tuple(labels.sizes[d] for d in dims)), attrs)
        for name, (dims, attrs) in variables.items()
    }
    content = packed(labels.assign(empty), rows=rows, compute=False)
    root = json.loads(content.pop(ROOT))
    with where.writing("the record"), where.aside() as aside:
        aside.put_all(content)
        arrays = {name: zarr.open_array(f"{aside.address}/{name}", mode="r+") for name in empty}
        yield arrays, root["attributes"]
        aside.put(ROOT, json.dumps(root).encode())


def packed(dataset: xr.Dataset, group: str | None = None, **how: Any) -> dict[str, bytes]:
    """Give what `write` would write, by name."""
    content: dict[str, Any] = {}
    write(dataset, zarr.storage.MemoryStore(content), group, **how)
    return {name: part.to_bytes() for name, part in content.items()}


def write(
    dataset: xr.Dataset,
    store: str | zarr.storage.MemoryStore,
    group: str | None = None,
    *,
    rows: int | None = None,
    compute: bool = True,
) -> None:
    """Write a Dataset as one group of a store (its root, unless named), over what was there.

    Chunks follow time: one holds ``rows`` times, or else 2 MB, with all variables where they are
    few. With ``compute=False`` what is lazy is made room for and not written.
    """
    # Names of a fixed length have no place in Zarr's format 3, those of any length have.
    text = {k: v.astype(object) for k, v in dataset.coords.items() if v.dtype.kind == "U"}
    plain = dataset.assign_coords(text).drop_encoding()
    encoding = {str(name): _encoding(array, rows) for name, array in plain.variables.items()}
    for name, array in plain.data_vars.items():
        if array.chunks is not None:  # how a user's record is chunked is not how it is kept
            told = encoding[str(name)]
            size = told.get("shards", told.get("chunks", array.shape))
            plain[name] = array.chunk(dict(zip(array.dims, size, strict=True)))
    with no_warnings():
        plain.to_zarr(  # type: ignore[call-overload]
            store,
            group=group,
            mode="w",
            consolidated=group is None,
            zarr_format=3,
            compute=compute,
            encoding=encoding,
        )


def _encoding(array: xr.Variable, rows: int | None) -> dict[str, Any]:
    """Give chunks, shards and compression of a variable; and of dates a unit that is exact."""
    if array.dtype.kind == "O" or array.size == 0 or array.ndim == 0:
        return {}
    packed = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    found: dict[str, Any] = {"compressors": (packed, Crc32cCodec())}  # so that damage shows
    if array.dtype.kind == "f":
        found["fill_value"] = np.nan  # a chunk that is gone reads as missing values, not as zeros
    if "time" in array.dims:
        sizes = dict(zip(array.dims, array.shape, strict=True))
        chunk = {d: min(n, 64) for d, n in sizes.items() if d != "time"}
        fitting = CHUNK // max(math.prod(chunk.values()), 1)
        chunk["time"] = max(min(rows or fitting, sizes["time"]), 1)
        found["chunks"] = tuple(chunk[d] for d in sizes)
        if rows is None and sizes["time"] > SHARD * chunk["time"]:
            found["shards"] = tuple(chunk[d] * (SHARD if d == "time" else 1) for d in sizes)
    if array.dtype.kind == "M":
        first = str(array.values[0].astype("datetime64[ns]")).replace("T", " ")
        found |= {"units": f"nanoseconds since {first}", "dtype": "int64"}
    return found
