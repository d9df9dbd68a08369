"""Observations at any times, put on the steps of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError, name_of
from daml.labels.arguments import checked, plain
from daml.labels.datasets import check_dims, check_names, check_time, step_like
from daml.labels.dates import after, is_calendar, is_span, offsets, since_first
from daml.labels.doors import flat_record
from daml.observing.guarded import LIMIT, PERIOD, periods, unwound

if TYPE_CHECKING:
    from daml.protocols import Model

NAMES = ("observation", "error_variance")
ROUNDING = 1e-6
"""Part of a step by which a time may be off a step without being moved."""


@checked
def on_steps(
    observations: xr.Dataset, model: Model, *, tolerance: Any = None, start: Any = None
) -> xr.Dataset:
    """Put observations at uneven times on the nearest steps of a model.

    Values of one quantity that are moved to the same step are treated as independent: they are
    replaced by their mean, weighted by the inverse of their error variances, with the error
    variance of this mean. The error that a move in time adds is not included: if states change much
    within half a step, give larger error variances.

    Parameters
    ----------
    observations : xarray.Dataset
        ``observation`` (time, variable) and ``error_variance`` (variable) or (time, variable), in
        memory; or fields, see :func:`daml.flatten`. Times must not decrease.
    model : Model
        Its ``dt`` is the length of a step.
    tolerance : float or timedelta, optional
        Largest distance in time from a step, in the unit of the times; values farther away are left
        out. Default: half a step, so none are.
    start : float or datetime, optional
        A time at which there is a step; by default the first one of the observations.

    Returns
    -------
    xarray.Dataset
        ``observation`` (time, variable) and ``error_variance`` (time, variable), at whole steps.
        Attributes: the number of values that were ``moved`` in time, ``left_out`` and ``merged``
        with others, and the ``farthest_move`` in model steps.

    Raises
    ------
    InputError
        If the observations are not a valid record, apart from uneven times, have correlated errors,
        or all would be left out.

    Examples
    --------
    >>> import daml
    >>> uneven = xr.Dataset(
    ...     {"observation": (("time", "variable"), [[1.0], [3.0], [5.0]]),
    ...      "error_variance": ("variable", [2.0])},
    ...     {"time": [0.0, 0.048, 0.053], "variable": ["x0"]})
    >>> even = on_steps(uneven, daml.Lorenz63(dt=0.05))
    >>> even.time.values, even.observation.values.ravel(), even.error_variance.values.ravel()
    (array([0.  , 0.05]), array([1., 4.]), array([2., 1.]))
    """
    record = _checked(flat_record(observations, model))
    near = nearest(record["time"].values, model, tolerance, start, "on_steps")
    values = record["observation"].values.astype(np.float64)
    variance = record["error_variance"].broadcast_like(record["observation"]).values
    there = np.isfinite(values) & np.isfinite(variance)
    rows, places = np.nonzero(there & near.kept[:, None])
    shown = _one_turn(near.steps[rows], places, values[rows, places], periods(record))
    found = merged(near, rows, places, shown, variance[rows, places], values.shape[1])
    dims = ("time", "variable")
    result = xr.Dataset(
        {name: (dims, getattr(found, name), record[name].attrs) for name in NAMES},
        {name: array for name, array in record.coords.items() if "time" not in array.dims},
        record.attrs,
    ).assign_coords(time=("time", found.times, record["time"].attrs))
    result = result.assign({name: record[name] for name in (LIMIT, PERIOD) if name in record})
    return result.assign_attrs(changes(near, rows, found.doubled, int(there.sum())))


class Nearest(NamedTuple):
    """The steps of a model that times are nearest to."""

    origin: Any
    """A time at which there is a step."""
    step: Any
    steps: np.ndarray
    """Steps (row,) after the origin."""
    away: np.ndarray
    """How far a time is from its step, in steps."""
    kept: np.ndarray
    """Whether that is within the tolerance."""


def nearest(times: np.ndarray, model: Model, tolerance: Any, start: Any, what: str) -> Nearest:
    """Give the steps of a model that times (row,), in any order, are nearest to."""
    step = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    unit = np.timedelta64(1, "ns") if times.dtype.kind == "M" else 1.0
    origin = _time_like(start, times, what)
    if is_calendar(step):
        origin = origin.astype("M8[M]").astype(times.dtype)
        index, away = _in_months(times, origin, step, tolerance, what)
        return Nearest(origin, step, index, away, np.ones(len(times), dtype=bool))
    offset = since_first(np.concatenate((origin[None], times)))[1:] / float(step / unit)
    index = np.rint(offset)
    away = np.abs(offset - index)
    kept = away <= _part(tolerance, step, what)
    if not kept.any():
        raise InputError(
            f"{what}: no value lies within 'tolerance' ({tolerance}) of a step of "
            f"{name_of(model)}, whose dt is {model.dt}; give a larger tolerance"
        )
    return Nearest(origin, step, index, away, kept)


def _in_months(
    times: np.ndarray, origin: Any, step: Any, tolerance: Any, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Give the calendar step that holds each time, and how far this is from the step's first."""
    if tolerance is not None:
        raise InputError(
            f"{what}: 'tolerance' is {tolerance!r}, and a step that follows the calendar takes all "
            "values of its months; leave it out"
        )
    offset = offsets(times, origin, step)
    index = np.floor(offset)
    return index, offset - index


class Merged(NamedTuple):
    """Values on steps."""

    times: np.ndarray
    observation: np.ndarray
    """(time, variable)."""
    error_variance: np.ndarray
    """(time, variable)."""
    doubled: int
    """Values that were merged with others."""


def merged(
    near: Nearest,
    rows: np.ndarray,
    places: np.ndarray,
    values: np.ndarray,
    variances: np.ndarray,
    size: int,
) -> Merged:
    """Put values (value,) of rows of times, and of places in a state of a size, on steps."""
    steps, time = np.unique(near.steps[rows], return_inverse=True)
    sums, total, count = np.zeros((3, len(steps), size))
    np.add.at(total, (time, places), 1 / variances)
    np.add.at(sums, (time, places), values / variances)
    np.add.at(count, (time, places), 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where nothing is
        mean, variance = sums / total, np.where(count > 0, 1 / total, np.nan)
    times = after(near.origin, steps.astype(np.int64), near.step)
    return Merged(times, mean, variance, int((count - (count > 0)).sum()))


def _one_turn(
    steps: np.ndarray, places: np.ndarray, values: np.ndarray, period: np.ndarray | None
) -> np.ndarray:
    """Give values (value,), of which angles on one step and place are less than a turn apart."""
    if period is None or not len(values):
        return values
    pairs = np.stack((steps, places))
    _, first, inverse = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    there = values[first][inverse.ravel()]
    return np.asarray(there + unwound(values - there, period[places]))


def changes(near: Nearest, rows: np.ndarray, doubled: int, given: int) -> dict[str, Any]:
    """Give the attributes that say what was done to the values of rows, of so many given."""
    away = near.away[rows]
    return {
        "moved": int((away > ROUNDING).sum()),
        "farthest_move": float(away.max(initial=0.0)),
        "left_out": given - len(rows),
        "merged": doubled,
    }


def _checked(record: xr.Dataset) -> xr.Dataset:
    """Give a record with rising times, which may be equal; refuse one that cannot be moved."""
    check_dims(record, "observation", ("time", "variable"))
    check_names(record, "observation")
    if "error_variance" not in record or "operator" in record:
        raise InputError(
            "on_steps: values are averaged on a step with weights from their error variances; "
            "give 'error_variance', and give 'operator' to daml.assimilate instead"
        )
    extra = [d for d in record["observation"].dims if d not in ("time", "variable")]
    if extra:
        raise InputError(
            f"on_steps: 'observation' has the further dimension {extra[0]!r}; select one entry"
        )
    if "time" in record.indexes:
        record = record.sortby("time")
        check_time(record.drop_duplicates("time"), "observation")
    else:
        check_time(record, "observation")
    return record.transpose("time", "variable", ...)


def _time_like(start: Any, times: np.ndarray, what: str) -> Any:
    """Give a start in the type of times, which is the first of them unless it is given."""
    if start is None:
        return times[0]
    try:
        if times.dtype.kind == "M":
            given = np.array([pd.Timestamp(start).to_datetime64()])
            same = given.astype(times.dtype)
            return same[0] if same[0] == given[0] else given[0]
        return np.float64(start) if times.dtype.kind in "iu" else times.dtype.type(start)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{what}: 'start' is {start!r}; give a time like those of the record, {times[0]}"
        ) from error


def _part(tolerance: Any, step: Any, what: str) -> float:
    """Give a tolerance as a part of a step."""
    if tolerance is None:
        return 0.5
    spans = is_span(tolerance)
    wanted = isinstance(step, np.timedelta64)
    number = plain("float", tolerance)
    if spans != wanted or (not spans and number is None):
        kind = "a span of time, e.g. numpy.timedelta64(5, 's')" if wanted else "a number"
        raise InputError(f"{what}: 'tolerance' is {tolerance!r}; give {kind}")
    part = float(np.timedelta64(tolerance) / step) if spans else float(number / step)
    if not part >= 0:
        raise InputError(f"{what}: 'tolerance' is {tolerance!r}; give 0 or more")
    return part
