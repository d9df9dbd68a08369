"""Records of many trajectories, each of which starts afresh."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.randomness import Seed, sequence

P = ParamSpec("P")
TRAJECTORY = "trajectory"
"""The dimension along which trajectories lie."""
SHARED = ("error_variance", "error_covariance", "operator")
"""What observations have once, where it is the same for all."""
NUMBER = "_trajectory"
"""The coordinate along ``time`` with the number of the trajectory of each row; see `in_a_row`."""


def by_trajectory(function: Callable[P, xr.Dataset]) -> Callable[P, xr.Dataset]:
    """Let a function of records run on each trajectory of those that have many.

    Datasets without the dimension are given to all of them. A ``seed`` gives each trajectory draws
    of its own.
    """
    signature, name = inspect.signature(function), function.__name__

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> xr.Dataset:
        bound = signature.bind(*args, **kwargs).arguments
        given = {key: value for key, value in bound.items() if isinstance(value, xr.Dataset)}
        many = {key: value for key, value in given.items() if TRAJECTORY in value.dims}
        if not many:
            return function(*args, **kwargs)
        labels = _labels(many, name)
        many = {key: _at_one_time(dataset, key, name) for key, dataset in many.items()}
        if bound.get("store") is not None:
            raise InputError(
                f"{name}: a store takes the result of one trajectory at a time; leave 'store' out, "
                "and write the result: result.to_zarr(path)"
            )
        seeds = _seeds(bound, signature, len(labels))
        found = []
        for place, seed in enumerate(seeds):
            parts = {k: v.isel({TRAJECTORY: place}, drop=True) for k, v in many.items()}
            call = cast("Any", function)
            found.append(call(**{**bound, **parts, **seed}))
        return _joined(found, labels)

    return called


def _at_one_time(dataset: xr.Dataset, key: str, name: str) -> xr.Dataset:
    """Give trajectories that start at a date with this date once; refuse different ones."""
    time = dataset.variables.get("time")
    if time is None or time.dims != (TRAJECTORY,):
        return dataset
    if len(np.unique(time)) > 1:
        raise InputError(
            f"{name}: the trajectories of {key!r} have different times, and a result has one axis "
            f"of time; give one at a time: {key}.isel(trajectory=0)"
        )
    return dataset.assign_coords(time=time[0])


def parts_of(dataset: xr.Dataset) -> list[xr.Dataset]:
    """Give each trajectory of a Dataset by itself; one without the dimension as it is."""
    many = dataset.sizes.get(TRAJECTORY)
    if many is None:
        return [dataset]
    return [dataset.isel({TRAJECTORY: place}, drop=True) for place in range(many)]


def joined_like(found: list[xr.Dataset], dataset: xr.Dataset, what: str) -> xr.Dataset:
    """Join what was found of each of the `parts_of` a Dataset; the text of errors: ``what``."""
    if TRAJECTORY not in dataset.dims:
        return found[0]
    return _joined(found, _labels({"observations": dataset}, what))


def in_a_row(dataset: xr.Dataset) -> xr.Dataset:
    """Give the rows of all trajectories along ``time``, one trajectory after the other.

    What works on rows needs to know no more; what must not cross a seam goes by `numbers_of`. A
    Dataset without the dimension is returned as it is.

    Examples
    --------
    >>> two = xr.Dataset({"u": (("trajectory", "time"), [[1, 2], [3, 4]])}, {"time": [0.0, 1.0]})
    >>> in_a_row(two).u.values, in_a_row(two).time.values, numbers_of(in_a_row(two))
    (array([1, 2, 3, 4]), array([0., 1., 0., 1.]), array([0, 0, 1, 1]))
    """
    if not {TRAJECTORY, "time"} <= set(dataset.dims):
        return dataset
    rows = dataset.assign_coords({TRAJECTORY: np.arange(dataset.sizes[TRAJECTORY])})
    rows = rows.stack(row=(TRAJECTORY, "time"), create_index=False)
    times = rows.variables.get("time")
    rows = rows.drop_vars("time", errors="ignore").rename({"row": "time", TRAJECTORY: NUMBER})
    if times is not None:
        rows = rows.assign_coords(time=("time", times.values, times.attrs))
    return rows.transpose("time", ...)


def numbers_of(dataset: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Give the number (time,) of the trajectory of each row; 0 for all of one record."""
    if NUMBER in dataset.coords:
        return np.asarray(dataset.coords[NUMBER].values)
    return np.zeros(dataset.sizes.get("time", 0), dtype=np.int64)


def _labels(many: dict[str, xr.Dataset], what: str) -> xr.DataArray:
    """Give the coordinate of the trajectories, which all Datasets share."""
    (first, one), *others = many.items()
    for key, other in others:
        if not np.array_equal(one[TRAJECTORY].values, other[TRAJECTORY].values):
            raise InputError(
                f"{what}: {first!r} has {one.sizes[TRAJECTORY]} trajectories, and {key!r} has "
                f"{other.sizes[TRAJECTORY]}, or others; give both with the same trajectories"
            )
    if not one.sizes[TRAJECTORY]:
        raise InputError(f"{what}: {first!r} has no trajectory; give one or more")
    return one[TRAJECTORY].reset_coords(drop=True)


def _seeds(bound: dict[str, Any], signature: inspect.Signature, many: int) -> list[dict[str, Any]]:
    """Give the argument ``seed`` of each trajectory, if there is one."""
    if "seed" not in signature.parameters:
        return [{}] * many
    seed: Seed = bound.get("seed", signature.parameters["seed"].default)
    return [{"seed": np.random.default_rng(child)} for child in sequence(seed).spawn(many)]


def _joined(found: list[xr.Dataset], labels: xr.DataArray) -> xr.Dataset:
    """Join results along the trajectories; what is equal in all, such as R, is kept once."""
    first = found[0]
    differ = [
        name
        for name, array in first.data_vars.items()
        if name not in SHARED or not all(array.equals(other[name]) for other in found[1:])
    ]
    how: dict[str, Any] = {"coords": "minimal", "compat": "override", "join": "exact"}
    how["combine_attrs"] = "drop_conflicts"
    joined = xr.concat([one[differ] for one in found], labels, data_vars="all", **how)
    rest = first.drop_vars(differ)
    return rest.merge(joined, combine_attrs="drop_conflicts").assign_attrs(joined.attrs)
