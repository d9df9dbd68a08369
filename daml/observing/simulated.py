"""Noisy, partial observations of a true record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels.arguments import checked, shown
from daml.labels.datasets import check_dims, check_dtype, check_names, listed, names
from daml.labels.doors import coordinates, flat, points_of
from daml.labels.fields import has_fields
from daml.labels.trajectories import by_trajectory
from daml.observing.functions import (
    check_function,
    described,
    number_of_values,
    seen_through,
)
from daml.observing.networked import networked
from daml.observing.operators import read_operator
from daml.observing.places.drawn import Network
from daml.protocols import ObservationOperator
from daml.randomness import Seed, block, blocks
from daml.segments import rows_at_once
from daml.stores.filling import filled

Variances: TypeAlias = float | Mapping[str, float] | Sequence[float] | pd.Series | xr.DataArray
OTHER = (bool, np.bool_, str, bytes, np.timedelta64)
"""What NumPy makes a number of, and is none."""


@checked
@by_trajectory
def observe(
    truth: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    operator: xr.DataArray | Callable[[Any], Any] | None = None,
    network: Network | None = None,
    every: int = 1,
    error_variance: Variances = 1.0,
    missing: float = 0.0,
    seed: Seed = 0,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Draw noisy, partial observations of a true record: y = H x + e, e ~ N(0, R).

    Parameters
    ----------
    truth : xarray.Dataset
        ``state`` (time, variable).
    variables : sequence of str, optional
        Names of the observed variables; default: all. With a function as ``operator``, the names of
        its results; default: "y0", "y1", ....
    operator : xarray.DataArray (variable, model_variable) or callable, optional
        A matrix H in place of ``variables``, or a function, linear or not, from states (...,
        variable) to observed values (..., observed). A matrix is stored with the observations, and
        a linear function as its matrix. Give a nonlinear function to ``assimilate`` again.
    network : Stations, Tracks or RandomPlaces of daml.networks, optional
        Draws places between the grid points of a truth of fields. All fields, or those that
        ``variables`` names, are observed there, and ``error_variance`` may be given by field. The
        record has the form of :func:`daml.from_points`, in memory.
    every : int
        Observe only every ``every``-th time.
    error_variance : float, or one for each observed quantity
        Diagonal of R, in units of the observed quantity squared. A mapping, a ``pandas.Series`` or
        an ``xarray.DataArray`` with a coordinate is matched by name, and additional names are
        ignored; a list or an array without names is in the order of the observed quantities.
    missing : float
        Probability, from 0 to below 1, that a single value is missing.
    seed : int or numpy.random.Generator
        Seed of the noise, which does not depend on the chunks of the record.
    store : str or path, optional
        A new Zarr store to which the observations are written block by block; default: in memory.

    Returns
    -------
    xarray.Dataset
        ``observation`` (time, variable) and ``error_variance`` (variable); with ``store`` opened
        lazily.

    Raises
    ------
    InputError
        If the truth is not a valid Dataset or an argument is out of range.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=10)
    >>> daml.observe(truth, variables=["x0"], every=2, seed=1).observation.shape
    (5, 1)
    """
    if every < 1:
        raise InputError(f"observe: 'every' is {every}; give 1 or more")
    if not 0 <= missing < 1:
        raise InputError(f"observe: 'missing' is {missing}; give a probability in [0, 1)")
    truth = _without_mask(flat(truth))
    source = _states(truth)
    if network is not None:
        if operator is not None or store is not None:
            raise InputError(
                f"observe: 'network' and {'store' if operator is None else 'operator'!r} are "
                "given; a network has an operator of its own, and is made in memory: leave it out, "
                "and write the result with .to_zarr"
            )
        seen_by = networked(
            truth, source, network, variables, cast("Any", error_variance), every, missing, seed
        )
        about = {"daml_version": __version__, "every": every, "missing": missing}
        if not isinstance(seed, np.random.Generator):
            about["observation_seed"] = seed
        return seen_by.assign_attrs(about)
    labels, seen = _seen(truth, source, variables, operator)
    observed = names(labels)
    variance = _variances(error_variance, observed)
    units = truth["state"].attrs.get("units", "1")
    labels = labels.assign_coords(time=truth["time"][::every])
    of_variance = {"long_name": "observation error variance"}
    of_variance["units"] = "1" if units == "1" else f"({units})2"
    labels["error_variance"] = ("variable", variance, of_variance)
    labels.attrs |= {"daml_version": __version__, "every": every, "missing": missing}
    if not isinstance(seed, np.random.Generator):
        labels.attrs["observation_seed"] = seed

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        _fill(arrays["observation"], source, seen, variance, every, missing, seed)
        return {}

    attrs = {"long_name": "observation", "units": units}
    filling = {"observation": (("time", "variable"), attrs)}
    return filled(labels, filling, run, store, rows_at_once(len(observed)))


def _without_mask(truth: xr.Dataset) -> xr.Dataset:
    """Leave out the points of fields where there is no value, such as land."""
    if not has_fields(truth) or "time" not in truth["state"].dims:
        return truth
    there = truth["state"].isel(time=[0, -1]).notnull().any("time").values
    return truth if there.all() else truth.isel(variable=there)


def _seen(
    truth: xr.Dataset,
    source: xr.Variable,
    variables: Sequence[str] | None,
    operator: xr.DataArray | Callable[[Any], Any] | None,
) -> tuple[xr.Dataset, ObservationOperator]:
    """Give the names of what is observed in a Dataset, with H where it is a matrix; and H."""
    held = names(truth)
    if operator is not None and not isinstance(operator, xr.DataArray):
        check_function(operator, "observe")
        states = np.array(source[:2].values, dtype=np.float64)
        if variables is None:
            count = number_of_values(operator, states)
            variables = [f"y{place}" for place in range(count)]
        labels = xr.Dataset(coords={"variable": list(variables)}, attrs=truth.attrs)
        labels.attrs["operator"] = described(operator, labels, held)
        labels, function = seen_through(labels, operator, held, states, "observe")
        own = cast("ObservationOperator | None", function)
        return labels, own or read_operator(labels, names(labels), held)
    if variables is not None and operator is not None:
        raise InputError("observe: give 'variables' or a matrix as 'operator', not both")
    observed = held if variables is None else points_of(truth, variables)
    of_fields = coordinates(observed, None, truth) if set(observed) <= set(held) else {}
    labels = xr.Dataset(coords={"variable": list(observed), **of_fields}, attrs=truth.attrs)
    if operator is not None:
        labels = labels.drop_vars("variable").assign(operator=operator)
        observed = names(operator)
    elif not set(observed) <= set(held):
        lacking = next(v for v in observed if v not in held)
        raise InputError(
            f"observe: 'state' lacks the variable {lacking!r} (it has {listed(held)}); rename or "
            "add it"
        )
    return labels, read_operator(labels, observed, held)


def _fill(
    target: Any,
    source: xr.Variable,
    operator: ObservationOperator,
    variance: np.ndarray,
    every: int,
    missing: float,
    seed: Seed,
) -> None:
    """Put the noisy observations of each so-many-th state (time, variable) into an array."""
    size = len(variance)
    draws, length = blocks(seed, len(source), size), block(size)
    step = max(rows_at_once(max(size, source.shape[1])) // length, 1) * length
    for first in range(0, len(source), step):
        states = np.asarray(source[first : first + step].values, dtype=np.float64)
        values = np.array(operator.apply(states))  # a copy: the truth stays as it is
        for rows, random in islice(draws, step // length):
            place = slice(rows.start - first, rows.stop - first)
            whole, count = (length, size), rows.stop - rows.start
            noise = random.standard_normal(whole)[:count]
            gone = random.random(whole)[:count] < missing
            noisy = values[place] + np.sqrt(variance) * noise
            values[place] = np.where(gone, np.nan, noisy)
        start = -(-first // every)
        kept = values[start * every - first :: every]
        target[start : start + len(kept)] = kept


def _states(truth: xr.Dataset) -> xr.Variable:
    """Give the states (time, variable) of a record, in memory or not."""
    check_dims(truth, "state", ("time", "variable"))
    check_names(truth, "state")
    array = truth["state"]
    check_dtype(array, "state")
    if array.ndim != 2:
        raise InputError(f"observe: 'state' has the dimensions {array.dims}; give (time, variable)")
    return array.variable.transpose("time", "variable")


def _variances(given: Variances, observed: tuple[str, ...]) -> np.ndarray:
    """Give the error variance (observed,): by its labels where it has some, else in order."""
    if isinstance(given, (Mapping, pd.Series, xr.DataArray, xr.Dataset)):
        given = _by_label(given, observed)
    try:
        values = np.asarray(given, dtype=object).ravel()
        variance = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"observe: 'error_variance' is {shown(given)}; give a number, or one for each of "
            f"{observed} by name"
        ) from error
    other = next((v for v in values if isinstance(v, OTHER)), None)
    if other is not None:  # NumPy makes a number of it
        raise InputError(
            f"observe: 'error_variance' {'is' if np.ndim(given) == 0 else 'holds'} {shown(other)}; "
            f"give a number, or one for each of {observed} by name"
        )
    if variance.ndim and variance.shape != (len(observed),):
        raise InputError(
            f"observe: 'error_variance' has the shape {variance.shape}; give a number, or one for "
            f"each of {observed}, best by name"
        )
    variance = np.broadcast_to(variance, len(observed))
    wrong = ~(np.isfinite(variance) & (variance > 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"observe: 'error_variance' is {variance[at]:g} for variable {observed[at]!r}; "
            "give a variance > 0"
        )
    return variance


def _by_label(given: Any, observed: tuple[str, ...]) -> Any:
    """Give the variances (observed,) of a mapping, a Series or an array with labels."""
    if isinstance(given, xr.Dataset):
        given = {str(name): array for name, array in given.data_vars.items()}
    if isinstance(given, xr.DataArray):
        if given.ndim != 1 or given.dims[0] not in given.indexes:
            return given.values  # nothing to go by
        given = given.to_series()
    named = {str(name): value for name, value in given.items()}
    if len(named) != len(given):
        raise InputError("observe: 'error_variance' has a name twice; give one for each")
    lacking = [v for v in observed if v not in named]
    if lacking:
        raise InputError(
            f"observe: 'error_variance' lacks {lacking[0]!r} (it has {listed(tuple(named))}); give "
            "one for each by name"
        )
    return [named[v] for v in observed]
