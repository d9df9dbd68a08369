"""What a store can hold: what xarray gives back equal. Everything else is refused before any work.

Dates are kept by the conventions of NetCDF ("microseconds since 1970-01-01"), to which xarray can
append; where these do not reach, before 1678 say, in Zarr's own type of dates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError

LEVELS = "daml_multiindex"
"""An attribute of a group: the levels and attributes of each MultiIndex, by its dimension."""
TYPES = "daml_attribute_types"
"""An attribute of a group: which attributes, by variable and name, are tuples or arrays."""
NATIVE = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}
"""Zarr's types of dates and of time spans."""
SINCE = "since 1970-01-01T00:00:00.000000000"
"""Ends the units of dates; so written, the resolution is that of the units."""
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3}
MISSING = np.iinfo(np.int64).min
"""What NumPy counts a missing date as."""


def prepared(dataset: xr.Dataset, what: str = "the dataset") -> tuple[xr.Dataset, dict[str, Any]]:
    """Give a Dataset as xarray can write it, and the types of its dates and time spans by name.

    Dates become whole numbers, a MultiIndex its levels, text is of any length, and attributes are
    what JSON has. The types are of those that are kept in Zarr's own, see :func:`dated`.

    Raises
    ------
    InputError
        If a name or an attribute is nothing that a store can hold.
    """
    _check_names(dataset, what)
    levels = {
        str(index.dim): [str(n) for n in index.index.names]
        for index in dataset.xindexes.get_unique()
        if isinstance(index, xr.indexes.PandasMultiIndex)
    }
    marked = {d: {"levels": n, "attrs": dataset[d].attrs} for d, n in levels.items()}
    root = plain(dataset.attrs | ({LEVELS: marked} if marked else {}), f"{what}: attribute")
    typed = {"": dataset.attrs} | {str(n): v.attrs for n, v in dataset.variables.items()}
    types_of = {name: kinds for name, attrs in typed.items() if (kinds := _kind(attrs))}
    root |= {TYPES: types_of} if types_of else {}
    result = dataset.reset_index(list(levels)).drop_encoding()
    changed, types = {}, {}
    for name, variable in result.variables.items():
        made = variable.to_base_variable()
        if not isinstance(made.dtype, np.dtype):
            raise InputError(
                f"{what}: {name!r} is of pandas' type {made.dtype}, which a store does not know; "
                "convert it to text, numbers, or dates without a time zone"
            )
        attrs = plain(variable.attrs, f"{what}: {name!r}: attribute")
        if made.dtype.kind in NATIVE and _native(made):
            types[str(name)] = made.dtype
            made = made.copy(data=made.data.view("int64"))
        elif made.dtype.kind == "M":
            unit = UNITS[np.datetime_data(made.dtype)[0]]
            attrs |= {"units": f"{unit} {SINCE}", "calendar": "proleptic_gregorian"}
            made = made.copy(data=made.data.view("int64"))
        elif made.dtype.kind == "U":  # which has no place in Zarr's format 3
            made = made.astype(object)
        made.attrs = attrs
        changed[name] = made
    coords = {name: changed[name] for name in result.coords}
    data = {name: changed[name] for name in result.data_vars}
    # Nothing here needs an index; of an integer one, of a date's number say, pandas makes a copy.
    return xr.Dataset(data, xr.Coordinates(coords, indexes={}), root), types


def _native(variable: xr.Variable) -> bool:
    """Whether the conventions of NetCDF do not reach dates, or would overwrite an attribute."""
    if {"units", "calendar", "dtype"} & variable.attrs.keys():
        return True
    unit = np.datetime_data(variable.dtype)[0]
    if variable.dtype.kind == "m" or unit == "ns":
        return False
    count = variable.values.view("int64")
    reach = np.iinfo(np.int64).max // NANOSECONDS[unit] - 1
    return bool((np.abs(count[count != MISSING]) > reach).any())


def _check_names(dataset: xr.Dataset, what: str) -> None:
    """Refuse names that are no text, or no part of a path."""
    for name in (*dataset.variables, *dataset.dims):
        if not isinstance(name, str):
            raise InputError(
                f"{what}: the name {name!r} is a {type(name).__name__}; a store needs text: "
                f"ds.rename({{{name!r}: {str(name)!r}}})"
            )
        if not name or "/" in name or "\0" in name or name.strip(".") == "" or name == "zarr.json":
            raise InputError(
                f"{what}: the name {name!r} cannot be that of an array in a store; rename it"
            )


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """Give an attribute as JSON has it: NumPy's numbers and arrays as Python's.

    Raises
    ------
    InputError
        If JSON has nothing equal; ``where`` begins the error.
    """
    if depth > 50:
        raise InputError(f"{where} is nested more than 50 deep; make it flat")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v, where, depth + 1) for v in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(
                    f"{where}: the key {key!r} is a {type(key).__name__}; a store needs text as "
                    f"keys, as {str(key)!r}"
                )
        return {
            key: plain(v, f"{where} {key!r}" if not depth else where, depth + 1)
            for key, v in value.items()
        }
    raise InputError(
        f"{where} is a {type(value).__name__}; a store holds text, numbers, true, false, None, and "
        "lists and mappings of these: convert it, with str() say"
    )


def _kind(value: Any) -> Any:
    """Give what JSON does not say of an attribute: where it has tuples and arrays; None if nowhere.

    It has the shape of the attribute: lists within a list, a mapping within a mapping.
    """
    if isinstance(value, np.ndarray):
        return value.dtype.str
    if isinstance(value, Mapping):
        found = {str(k): kind for k, v in value.items() if (kind := _kind(v)) is not None}
        return found or None
    if isinstance(value, (list, tuple)):
        inner = [_kind(v) for v in value]
        inner = inner if any(kind is not None for kind in inner) else []
        return [type(value).__name__, *inner] if inner or isinstance(value, tuple) else None
    return None


def _typed(value: Any, kind: Any) -> Any:
    """Give an attribute as it was from JSON and its kind."""
    if isinstance(kind, str):
        return np.array(value, dtype=kind)
    if isinstance(kind, dict):
        return {k: _typed(v, kind.get(k)) for k, v in value.items()}
    if isinstance(kind, list):
        inner = kind[1:] or [None] * len(value)
        parts = [_typed(v, k) for v, k in zip(value, inner, strict=True)]
        return tuple(parts) if kind[0] == "tuple" else parts
    return value


def _with_types(dataset: xr.Dataset) -> xr.Dataset:
    """Give a Dataset with tuples and arrays in its attributes; where damaged, lists stay lists."""
    if TYPES not in dataset.attrs:
        return dataset
    result = dataset.copy()
    try:
        for name, kinds in result.attrs.pop(TYPES).items():
            holder = result if name == "" else result[name]
            holder.attrs = _typed(holder.attrs, kinds)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return dataset.drop_attrs(deep=False).assign_attrs(
            {k: v for k, v in dataset.attrs.items() if k != TYPES}
        )
    return result


def dated(document: bytes, types: Mapping[str, Any]) -> bytes:
    """Give an array's metadata, or those of a group with its arrays', with the types of dates.

    Parameters
    ----------
    document : bytes
        A ``zarr.json``.
    types : mapping from name to numpy.dtype
        "" for the array that it describes itself.
    """
    content = json.loads(document)
    inside = (content.get("consolidated_metadata") or {}).get("metadata", {})
    for name, dtype in types.items():
        array = inside[name] if name else content
        unit, count = np.datetime_data(dtype)
        how = {"unit": unit, "scale_factor": count}
        array["data_type"] = {"name": NATIVE[dtype.kind], "configuration": how}
        array["fill_value"] = "NaT"
    return json.dumps(content).encode()


def restored(dataset: xr.Dataset) -> xr.Dataset:
    """Give a Dataset that was read from a store with its MultiIndexes and its dates' resolution."""
    dates = {
        name: np.dtype(f"M8[{unit}]")
        for name, variable in dataset.variables.items()
        for unit, word in UNITS.items()
        if variable.encoding.get("units") == f"{word} {SINCE}"
    }
    result = dataset
    for name, dtype in dates.items():
        if dataset[name].dtype not in (dtype, np.int64):
            made = dataset[name].variable.astype(dtype)
            made.encoding = dataset[name].encoding
            result = result.assign({name: made})
    return _with_types(_with_levels(result))


def _with_levels(dataset: xr.Dataset) -> xr.Dataset:
    marked = dataset.attrs.get(LEVELS)
    if not isinstance(marked, dict):
        return dataset
    result = dataset.assign_attrs()
    del result.attrs[LEVELS]
    for dim, kept in marked.items():
        levels = {name: dataset[name] for name in kept["levels"]}
        index = pd.MultiIndex.from_arrays([_text(v.values) for v in levels.values()], names=levels)
        coords = xr.Coordinates.from_pandas_multiindex(index, dim)
        result = result.drop_vars(levels).assign_coords(coords)
        result[dim].attrs = kept["attrs"]
        for name, level in levels.items():
            result[name].attrs = level.attrs
    return result


def check_storable(
    dataset: xr.Dataset, what: str, kept: Callable[[xr.Dataset], xr.Dataset]
) -> None:
    """Refuse a Dataset that a store would change.

    Parameters
    ----------
    dataset : xarray.Dataset
        In memory or not.
    what : str
        Begins the error.
    kept : callable
        Writes a Dataset, but not what is lazy, and gives it as it is read again.

    Raises
    ------
    InputError
        It names the variable and what would change.
    """
    prepared(dataset, what)
    empty = {
        name: (array.dims, _hollow(array), array.attrs)
        for name, array in dataset.data_vars.items()
        if array.dtype.kind in "fiubcMm"
    }
    hollow = dataset.assign(empty)
    try:
        back = kept(hollow)
        for name in {LEVELS, TYPES} & dataset.attrs.keys():
            raise ValueError(f"the attribute {name!r} is daml's own")
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{what}: cannot be kept in a store ({reason}); change it, or leave 'store' out"
        ) from error
    _compare(hollow, back, what)


def _hollow(array: xr.DataArray) -> Any:
    """Give an array of the same shape and type without any values."""
    return dask.array.empty(array.shape, dtype=array.dtype, chunks=-1)


def _compare(one: xr.Dataset, two: xr.Dataset, what: str) -> None:
    """Refuse a Dataset that came back as another."""
    if set(one.variables) != set(two.variables) or set(one.coords) != set(two.coords):
        name = next(iter(set(one.variables) ^ set(two.variables)), "coordinates")
        raise InputError(f"{what}: a store would lose {name!r}; rename or drop it")
    if not _same(one.attrs, two.attrs):
        changed = _changed(one.attrs, two.attrs)
        raise InputError(
            f"{what}: a store would lose the attribute {changed!r}, which xarray uses itself; "
            "rename it"
        )
    for name, variable in one.variables.items():
        other = two.variables[name]
        if not _same(variable.attrs, other.attrs):
            changed = _changed(variable.attrs, other.attrs)
            raise InputError(
                f"{what}: {name!r} has the attribute {changed!r}, which programs that read a store "
                f"apply to the values; apply it, and remove it: del ds[{name!r}].attrs"
                f"[{changed!r}]"
            )
        text = {variable.dtype.kind, other.dtype.kind} <= set("OUT")
        same = text or variable.dtype.newbyteorder("=") == other.dtype
        if same and variable.chunks is None:
            first, second = (v.to_base_variable() for v in (variable, other))
            same = bool(first.equals(second.copy(data=_text(second.values))))  # type: ignore[no-untyped-call]
        if not same:
            raise InputError(
                f"{what}: {name!r} ({variable.dtype}) would come back from a store changed "
                f"({other.dtype}); convert it: numbers, dates or text of one kind are kept"
            )


def _text(values: np.ndarray) -> np.ndarray:
    """Give text as Python's, everything else as it is."""
    return values.astype(object) if values.dtype.kind == "T" else values


def _same(one: Mapping[Any, Any], two: Mapping[Any, Any]) -> bool:
    texts = (json.dumps(plain(attrs, "attribute"), sort_keys=True) for attrs in (one, two))
    return next(texts) == next(texts)


def _changed(one: Mapping[Any, Any], two: Mapping[Any, Any]) -> str:
    names = (str(k) for k in one if k not in two or not _same({k: one[k]}, {k: two[k]}))
    return next(names, next(iter(set(map(str, two)) - set(map(str, one))), ""))
