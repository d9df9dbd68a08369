"""Datasets on disk: written in chunks that suit a record, whole or not at all."""

from __future__ import annotations

import json
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
from daml.segments import VALUES
from daml.stores.folder import ROOT
from daml.stores.opening import no_warnings, open_record
from daml.stores.places import place
from daml.stores.storable import MISSING, check_storable, dated, prepared, restored

CHUNK = 1 << 18
"""Values in a chunk: 2 MB of float64; of a record that is filled in blocks, one block."""
TIMES = 3200
"""Least times in a chunk of a coordinate, where those of a wide record hold a few rows."""
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
    further: Callable[[], xr.Dataset] | None = None,
    further_like: Callable[[], xr.Dataset | None] = lambda: None,
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
    further : callable, optional
        Gives variables that are known, with their sizes, only when the others are filled.
    further_like : callable
        Gives variables as these will be, where the arrays are filled later. Where they turn out to
        be others, they are missing values.

    Raises
    ------
    InputError, StoreError
        As of `new_record`.
    """
    given = () if source is None else (source,)
    if store is not None:
        with new_record(store, labels, variables, rows, further) as (rooms, about):
            about.update(fill(rooms, *given))
        return open_record(store)
    shapes = {name: tuple(labels.sizes[d] for d in dims) for name, (dims, _) in variables.items()}

    def whole(*given: xr.Dataset) -> tuple[dict[str, Any], Mapping[str, Any]]:
        arrays = {name: np.empty(shape) for name, shape in shapes.items()}
        return arrays, fill(arrays, *given)

    if source is not None and is_lazy(source):
        like = None if further is None else further_like()

        def lazily(source: xr.Dataset) -> dict[str, Any]:
            arrays = whole(source)[0]
            return arrays if further is None or like is None else arrays | _alike(further(), like)

        # As an argument the source is loaded before the task starts: one that reads within a task
        # waits for a worker that waits for it.
        task = delayed(lazily, pure=False)(source)
        found: dict[str, Any] = {
            name: (dims, from_delayed(task[name], shapes[name], np.float64), about)  # type: ignore[no-untyped-call]
            for name, (dims, about) in variables.items()
        }
        for name, array in (like or xr.Dataset()).data_vars.items():
            part = from_delayed(task[name], array.shape, array.dtype)  # type: ignore[no-untyped-call]
            found[str(name)] = array.dims, part, array.attrs
        return labels.assign(found)
    arrays, attrs = whole(*given)
    found = {name: (dims, arrays[name], about) for name, (dims, about) in variables.items()}
    more = {} if further is None else further().variables
    return labels.assign(found).assign(more).assign_attrs(attrs)


def _alike(found: xr.Dataset, like: xr.Dataset) -> dict[str, np.ndarray]:
    """Give the arrays of variables that are as expected; missing values where some are not."""
    kinds = [
        {n: (v.dims, v.shape, v.dtype, v.attrs) for n, v in part.data_vars.items()}
        for part in (found, like)
    ]
    if kinds[0] == kinds[1]:
        return {str(name): array.values for name, array in found.data_vars.items()}
    blank = {"f": np.nan, "M": np.datetime64("NaT"), "m": np.timedelta64("NaT")}
    return {
        str(name): np.full(array.shape, blank.get(array.dtype.kind, 0), array.dtype)
        for name, array in like.data_vars.items()
    }


def is_lazy(dataset: xr.Dataset) -> bool:
    """Whether some of it is Dask's."""
    return any(variable.chunks is not None for variable in dataset.variables.values())


@contextmanager
def new_record(
    store: str | Path,
    labels: xr.Dataset,
    variables: Described,
    rows: int,
    further: Callable[[], xr.Dataset] | None = None,
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
    further : callable, optional
        Gives variables that are written when the arrays are filled.

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
    check(labels.assign(empty), "store")
    content = packed(labels.assign(empty), rows=rows, compute=False)
    root = json.loads(content.pop(ROOT))
    with where.writing("the record"), where.aside() as aside:
        aside.put_all(content)
        arrays = {name: zarr.open_array(f"{aside.address}/{name}", mode="r+") for name in empty}
        yield arrays, root["attributes"]
        if further is not None:
            more = packed(further())
            described = json.loads(more.pop(ROOT))["consolidated_metadata"]["metadata"]
            root["consolidated_metadata"]["metadata"].update(described)
            aside.put_all(more)
        aside.put(ROOT, json.dumps(root).encode())


def packed(dataset: xr.Dataset, group: str | None = None, **how: Any) -> dict[str, bytes]:
    """Give what `write` would write, by name."""
    content: dict[str, Any] = {}
    types = _to_zarr(dataset, zarr.storage.MemoryStore(content), group, **how)
    result = {name: part.to_bytes() for name, part in content.items()}
    return result | dict(_documents(types, group, result.__getitem__))


def write(dataset: xr.Dataset, store: str | Path, group: str | None = None) -> None:
    """Write a Dataset as one group of a store (its root, unless named), over what was there.

    Chunks follow time: one holds 2 MB, with all variables where they are few.

    Raises
    ------
    InputError
        If a store cannot hold it; see :func:`check`.
    """
    where = place(store)
    types = _to_zarr(dataset, where.address, group)
    for name, document in _documents(types, group, where.read):
        where.put(name, document)


def save(dataset: xr.Dataset, store: str | Path, what: str) -> None:
    """Write a Dataset to a new store, whole or not at all.

    Raises
    ------
    InputError
        If something is there, or a store cannot hold the Dataset.
    StoreError
        If it cannot be written.
    """
    where = place(store)
    if where.exists():
        raise InputError(f"{store} exists; give another path, or remove it")
    check(dataset, what)
    content = packed(dataset)
    root = content.pop(ROOT)
    with where.writing(what), where.aside() as aside:
        aside.put_all(content)
        aside.put(ROOT, root)


def check(dataset: xr.Dataset, what: str) -> None:
    """Refuse a Dataset that would come back from a store changed, or not at all; write nothing.

    Raises
    ------
    InputError
        It begins with ``what`` and names the variable or the attribute.
    """

    def kept(dataset: xr.Dataset) -> xr.Dataset:
        buffer = zarr.core.buffer.default_buffer_prototype().buffer
        content = {k: buffer.from_bytes(v) for k, v in packed(dataset, compute=False).items()}
        with no_warnings():
            return restored(xr.open_zarr(zarr.storage.MemoryStore(content), chunks=None))

    check_storable(dataset, what, kept)


def _to_zarr(
    dataset: xr.Dataset,
    store: str | zarr.storage.MemoryStore,
    group: str | None,
    *,
    rows: int | None = None,
    compute: bool = True,
) -> dict[str, Any]:
    """Write a Dataset with dates as whole numbers; give the types of these by name.

    A chunk has ``rows`` times, where they are given. With ``compute=False`` what is lazy is made
    room for and not written.
    """
    plain, types = prepared(dataset)
    encoding = {str(name): _encoding(array, rows) for name, array in plain.variables.items()}
    for name in dataset.variables:
        if dataset[name].dtype.kind == "M" or name in types:
            encoding[str(name)]["fill_value"] = MISSING  # of a chunk that is gone
    for name, array in plain.data_vars.items():
        if array.chunks is not None:  # how a user's record is chunked is not how it is kept
            own = encoding[str(name)]
            size = own.get("shards", own.get("chunks", array.shape))
            plain[name] = array.variable.chunk(dict(zip(array.dims, size, strict=True)))
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
    return types


def _documents(
    types: Mapping[str, Any], group: str | None, read: Callable[[str], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the metadata that say of dates that they are dates."""
    above = "" if group is None else f"{group}/"
    for name, dtype in types.items():
        document = f"{above}{name}/{ROOT}"
        yield document, dated(read(document), {"": dtype})
    if types and group is None:
        yield ROOT, dated(read(ROOT), types)


def _encoding(array: xr.Variable, rows: int | None) -> dict[str, Any]:
    """Give chunks, shards and compression of a variable."""
    if array.dtype.kind == "O" or array.size == 0 or array.ndim == 0:
        return {}
    packed = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    found: dict[str, Any] = {"compressors": (packed, Crc32cCodec())}  # so that damage shows
    if array.dtype.kind == "f":
        found["fill_value"] = np.nan  # a chunk that is gone reads as missing values, not as zeros
    if "time" in array.dims:
        sizes = dict(zip(array.dims, array.shape, strict=True))
        chunk, fitting = {}, CHUNK if rows is None else VALUES
        for d in (d for d in reversed(array.dims) if d != "time"):
            chunk[d] = max(min(sizes[d], fitting), 1)
            fitting //= chunk[d]
        length = fitting if rows is None else rows if chunk else max(rows, TIMES)
        chunk["time"] = max(min(length, sizes["time"]), 1)
        found["chunks"] = tuple(chunk[d] for d in sizes)
        if rows is None and sizes["time"] > SHARD * chunk["time"]:
            found["shards"] = tuple(chunk[d] * (SHARD if d == "time" else 1) for d in sizes)
    return found
