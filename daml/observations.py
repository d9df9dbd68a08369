"""What is seen of a state: the operator H, the error covariance R, and which values are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from daml import __version__
from daml.covariance import check as check_covariance
from daml.errors import InputError
from daml.labels import TimeAxis, check_values, names, pack, time_axis
from daml.operators import Operator, read_operator
from daml.randomness import BLOCK, Seed, blocks


@dataclass(frozen=True)
class ObservationArrays:
    """Observations on every model step, as arrays.

    Attributes
    ----------
    observed : tuple of str
        What is observed.
    operator : Selection or LinearOperator
        H, from a state (..., variable) to (..., observed).
    axis : TimeAxis
        The record's times as model steps.
    values : numpy.ndarray (time, observed)
        0 where a value is missing.
    present : numpy.ndarray (time, observed) of bool
    kind : numpy.ndarray (time,) of int
        Which error setting holds: rows that miss the same values and have the same R share one.
    kind_present : numpy.ndarray (kind, observed) of bool
    kind_covariance : numpy.ndarray (kind, observed, observed)
        R of each kind; where a value is missing its row and column are the identity's.
    """

    observed: tuple[str, ...]
    operator: Operator
    axis: TimeAxis
    values: np.ndarray
    present: np.ndarray
    kind: np.ndarray
    kind_present: np.ndarray
    kind_covariance: np.ndarray


def read(
    observations: xr.Dataset, variables: tuple[str, ...], dt: Any, time_unit: str = "s"
) -> ObservationArrays:
    """Check observations against the contract and give them as arrays on every model step.

    Parameters
    ----------
    observations : xarray.Dataset
        ``observation`` (time, variable), NaN where missing; ``error_variance`` (variable) or
        (time, variable), or ``error_covariance`` (variable, covariable); optionally
        ``operator`` (variable, model_variable). An infinite variance means missing.
    variables : tuple of str
        The model's.
    dt : float or numpy.timedelta64
        The model's step.
    time_unit : str
        What a float dt counts on datetime64 times.

    Raises
    ------
    InputError
        If the observations break the contract; the text names variable or dimension.
    """
    axis = time_axis(observations, "observation", dt, time_unit)
    observations = observations.drop_vars("state", errors="ignore")
    values, _ = pack(observations, "observation")
    if values.ndim != 2:
        extra = [d for d in observations["observation"].dims if d not in ("time", "variable")]
        raise InputError(f"'observation' has the further dimension {extra[0]!r}; select one entry")
    observed = names(observations)
    operator = read_operator(observations, observed, variables)
    check_values(values, "observation", observed)
    covariance, number = _error_covariance(observations, observed, np.isfinite(values))
    present = np.isfinite(values) & np.isfinite(covariance.diagonal(axis1=1, axis2=2)[number])
    if not present.any():
        raise InputError("'observation' holds no value at all, only missing ones; give some")
    keys = np.column_stack((number, np.packbits(present, axis=1)))
    _, first, kind = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    both = present[first][:, :, None] & present[first][:, None, :]
    kind_covariance = np.where(both, covariance[number[first]], np.eye(len(observed)))
    rows = axis.length
    full_values, full_present = (
        np.zeros((rows, len(observed))),
        np.zeros((rows, len(observed)), bool),
    )
    full_values[axis.index] = np.where(present, values, 0.0)
    full_present[axis.index] = present
    kind_present = present[first]
    full_kind = np.full(rows, len(kind_present))
    full_kind[axis.index] = kind.ravel()
    if rows > len(values):
        nothing = np.zeros((1, len(observed)), bool)
        kind_present = np.concatenate((kind_present, nothing))
        kind_covariance = np.concatenate((kind_covariance, np.eye(len(observed))[None]))
    return ObservationArrays(
        observed,
        operator,
        axis,
        full_values,
        full_present,
        full_kind,
        kind_present,
        kind_covariance,
    )


def _error_covariance(
    observations: xr.Dataset, observed: tuple[str, ...], given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the distinct R (number, observed, observed) and the number of each row (time,)."""
    has = [v for v in ("error_variance", "error_covariance") if v in observations]
    if len(has) != 1:
        found = "both are there" if has else "neither is there"
        raise InputError(
            f"observations need 'error_variance' or 'error_covariance' ({found}); give one, e.g. "
            "ds.assign(error_variance=('variable', [...]))"
        )
    rows = len(given)
    if has == ["error_covariance"]:
        matrix = check_covariance(observations["error_covariance"], observed, "'error_covariance'")
        return matrix[None], np.zeros(rows, dtype=np.int64)
    array = observations["error_variance"]
    if set(array.dims) not in ({"variable"}, {"time", "variable"}):
        raise InputError(
            f"'error_variance' has the dimensions {array.dims}; give (variable) or (time, variable)"
        )
    variance, _ = pack(observations[["error_variance"]], "error_variance")
    needed = given if variance.ndim == 2 else given.any(axis=0)
    wrong = needed & ~(variance > 0)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise InputError(
            f"observations: 'error_variance' is {variance[at]:g} for variable "
            f"{observed[at[-1]]!r}; give a variance > 0"
        )
    variance = np.where(needed, variance, np.inf)
    distinct, number = np.unique(np.atleast_2d(variance), axis=0, return_inverse=True)
    covariance = np.where(np.eye(len(observed), dtype=bool), distinct[:, :, None], 0.0)
    return covariance, np.broadcast_to(number.ravel(), (rows,))


def observe(
    truth: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    operator: xr.DataArray | None = None,
    every: int = 1,
    error_variance: float | Mapping[str, float] = 1.0,
    missing: float = 0.0,
    seed: Seed = 0,
) -> xr.Dataset:
    """Give noisy, partial observations of a true record: y = H x + e, e ~ N(0, R).

    Parameters
    ----------
    truth : xarray.Dataset
        ``state`` (time, variable).
    variables : sequence of str, optional
        What is observed; everything, unless given.
    operator : xarray.DataArray (variable, model_variable), optional
        A matrix H in place of ``variables``.
    every : int
        Observe each so-many-th time.
    error_variance : float or mapping from name to float
        Diagonal of R, in units of the observed quantity squared.
    missing : float
        Probability, from 0 to below 1, that a single value is missing.
    seed : int or numpy.random.Generator
        The noise follows from it and from the place in the record, not from how it is chunked.

    Returns
    -------
    xarray.Dataset
        ``observation`` (time, variable) and ``error_variance`` (variable).

    Raises
    ------
    InputError
        If truth breaks the contract or an argument is out of its range.

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
    if variables is not None and operator is not None:
        raise InputError("observe: give 'variables' or 'operator', not both")
    state, layout = pack(truth, "state", variables)
    if layout.packed != ("time", "variable"):
        raise InputError(
            f"observe: 'state' has the dimensions {layout.dims}; give (time, variable)"
        )
    observed = tuple(variables) if variables is not None else names(truth)
    result = xr.Dataset(coords={"variable": list(observed)})
    if operator is not None:
        result = xr.Dataset({"operator": operator})
        observed = names(operator)
        state = read_operator(result, observed, names(truth)).apply(state)
    variance = np.array(
        [
            error_variance[v] if isinstance(error_variance, Mapping) else error_variance
            for v in observed
        ],
        dtype=np.float64,
    )
    if not (np.isfinite(variance) & (variance > 0)).all():
        at = int(np.argmin(np.isfinite(variance) & (variance > 0)))
        raise InputError(
            f"observe: 'error_variance' is {variance[at]:g} for variable {observed[at]!r}; "
            "give a variance > 0"
        )
    values = np.empty_like(state)
    for rows, random in blocks(seed, len(state)):
        whole, count = (BLOCK, state.shape[-1]), rows.stop - rows.start
        noise = random.standard_normal(whole)[:count]
        gone = random.random(whole)[:count] < missing
        values[rows] = np.where(gone, np.nan, state[rows] + np.sqrt(variance) * noise)
    units = truth["state"].attrs.get("units", "1")
    result["observation"] = (("time", "variable"), values[::every])
    result["error_variance"] = ("variable", variance)
    result = result.assign_coords(time=truth["time"][::every])
    result["observation"].attrs = {"long_name": "observation", "units": units}
    result["error_variance"].attrs = {
        "long_name": "observation error variance",
        "units": "1" if units == "1" else f"({units})2",
    }
    result.attrs = dict(truth.attrs) | {
        "daml_version": __version__,
        "every": every,
        "missing": missing,
    }
    if not isinstance(seed, np.random.Generator):
        result.attrs["observation_seed"] = seed
    return result
