"""Arithmetic of dates that does not overflow (nanoseconds reach 292 years); units of time."""

from __future__ import annotations

import datetime
from typing import Any, cast

import numpy as np
import pandas as pd

from daml.errors import InputError
from daml.labels.arguments import shown

UNITS = ("ns", "us", "ms", "s", "min", "h", "D", "W")
"""Units of time, the shortest first."""
ALIASES = {"N": "ns", "U": "us", "L": "ms", "S": "s", "T": "min", "H": "h", "d": "D", "w": "W"}
"""Names of units that pandas gave up, and what it calls them now."""


def is_span(dt: Any) -> bool:
    """Whether a step is a span of time, not a number."""
    return isinstance(dt, (np.timedelta64, datetime.timedelta))


def unit_of_time(name: Any, what: str) -> Any:
    """Give a unit of time as pandas names it.

    Raises
    ------
    InputError
        If it is no unit, or one of varying length (months, years). ``what`` begins the error.

    Examples
    --------
    >>> unit_of_time("H", "a model")
    'h'
    """
    unit = ALIASES.get(name, name) if isinstance(name, str) else None
    try:
        pd.Timedelta(1, unit=cast("Any", unit if unit else "none"))
    except (ValueError, TypeError) as error:
        allowed = ", ".join(map(repr, UNITS))
        raise InputError(
            f"{what}: 'time_unit' is {shown(name)}, which is no unit of time; give one of {allowed}"
        ) from error
    return unit


def span(dt: Any, time_unit: str, what: str) -> pd.Timedelta:
    """Give a step, a span of time or a number of units, as a span that nanoseconds can hold.

    Raises
    ------
    InputError
        If they cannot. ``what`` begins the error.

    Examples
    --------
    >>> span(90, "min", "a model"), span(np.timedelta64(2, "h"), "s", "a model")
    (Timedelta('0 days 01:30:00'), Timedelta('0 days 02:00:00'))
    """
    unit = unit_of_time(time_unit, what)
    if isinstance(dt, np.timedelta64) and not np.isnat(dt):
        own = np.datetime_data(dt.dtype)[0]
        if own != "m" and own not in UNITS:
            which = "without a unit" if own == "generic" else f"in the unit {own!r}"
            raise InputError(
                f"{what}: 'dt' is a numpy.timedelta64 {which}; give it in one of 'ns', 'us', "
                "'ms', 's', 'm', 'h', 'D', 'W'"
            )
    try:
        found = pd.Timedelta(dt) if is_span(dt) else pd.to_timedelta(float(dt), unit=unit)
        rounded = found.as_unit("ns") if isinstance(found, pd.Timedelta) else found
    except (ValueError, OverflowError) as error:
        raise _out_of_reach(dt, unit, what) from error
    if rounded == pd.Timedelta(0) and not is_span(dt) and dt != 0:
        raise _out_of_reach(dt, unit, what)
    return rounded


def _out_of_reach(dt: Any, unit: str, what: str) -> InputError:
    given = str(dt) if is_span(dt) else f"{dt} {unit}"
    return InputError(
        f"{what}: 'dt' is {given}; on a record with dates give a step from 1 ns to 292 years"
    )


def since_first(times: np.ndarray) -> np.ndarray:
    """Give the time (time,) since the first: of dates in nanoseconds, as floats.

    Examples
    --------
    >>> since_first(np.array(["1000-01-01", "1000-01-02"], "M8[s]"))
    array([0.00e+00, 8.64e+13])
    """
    since: np.ndarray = times - times[0]
    if times.dtype.kind not in "mM":
        return np.asarray(since, dtype=np.float64)
    unit, count = np.datetime_data(times.dtype)
    scale = np.timedelta64(count, cast("Any", unit)) / np.timedelta64(1, "ns")
    return np.asarray(since.astype(np.int64) * float(scale))


def after(first: Any, steps: np.ndarray, step: Any) -> np.ndarray:
    """Give the times (step,) so many steps after the first, in its kind and resolution.

    Examples
    --------
    >>> first, step = np.datetime64("1000-01-01", "s"), np.timedelta64(10**9, "ns")
    >>> after(first, np.array([2]), step)
    array(['1000-01-01T00:00:02'], dtype='datetime64[s]')
    """
    if first.dtype.kind not in "mM":
        return np.asarray((first + steps * step).astype(first.dtype))
    span = f"m8[{np.datetime_data(first.dtype)[0]}]"
    same = step.astype(span)
    return np.asarray(first + (steps * (same if same == step else step)).astype(span))
