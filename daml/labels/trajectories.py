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


def _labels(many: dict[str, xr.Dataset], what: str) -> xr.DataArray:
    """Give the coordinate of the trajectories, which all Datasets share."""
    (first, one), *others = many.items()
    for key, other in others:
        if not one[TRAJECTORY].equals(other[TRAJECTORY]):
            raise InputError(
                f"{what}: {first!r} has {one.sizes[TRAJECTORY]} trajectories, and {key!r} has "
                f"{other.sizes[TRAJECTORY]}, or others; give the same"
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
