"""Arithmetic of dates that does not overflow (nanoseconds reach 292 years); units of time."""

from __future__ import annotations

import datetime
import re
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from daml.errors import InputError
from daml.labels.arguments import shown

UNITS = ("ns", "us", "ms", "s", "min", "h", "D", "W")
"""Units of time, the shortest first."""
SPARSE = 1000
"""Model steps from one date of a record to the next, typically; above, dt has another unit."""
USUAL = ("s", "min", "h", "D")
"""Units that are advised."""
ALIASES = {"N": "ns", "U": "us", "L": "ms", "S": "s", "T": "min", "H": "h", "d": "D", "w": "W"}
"""Names of units that pandas gave up, and what it calls them now."""


CALENDAR = {"MS": 1, "QS": 3, "YS": 12, "month": 1, "year": 12}
"""Months in a step that follows the calendar: as pandas writes it, or as a unit of a number."""


MONTHS = "months"
"""The unit of leads in steps that follow the calendar."""


def is_span(dt: Any) -> bool:
    """Whether a step is a span of time, not a number."""
    return isinstance(dt, (str, np.timedelta64, datetime.timedelta))


def months_of(dt: Any, time_unit: Any = "s") -> int | None:
    """Give the months of a step that follows the calendar; None for one of a fixed length.

    Examples
    --------
    >>> months_of("MS"), months_of("2QS"), months_of(1, "year"), months_of("6h")
    (1, 6, 12, None)
    """
    if isinstance(dt, str):
        written = re.fullmatch(r"([1-9]\d*)?(MS|QS|YS)", dt)
        return None if written is None else int(written[1] or 1) * CALENDAR[written[2]]
    if is_span(dt) or time_unit not in CALENDAR:
        return None
    if float(dt) != int(dt):
        raise InputError(f"'dt' is {dt} {time_unit}s; give a whole number of {time_unit}s")
    return int(dt) * CALENDAR[time_unit]


def is_calendar(step: Any) -> bool:
    """Whether a step in the kind of times counts months of the calendar."""
    return isinstance(step, np.timedelta64) and np.datetime_data(step.dtype)[0] == "M"


def offsets(times: np.ndarray, first: Any, step: Any) -> np.ndarray:
    """Give times (...) in steps after a first one, of the same kind, as floats.

    Of a calendar step a time within a month counts as a part of it.

    Examples
    --------
    >>> times = np.array(["2024-02-01", "2024-02-15T12", "2025-01-01"], "M8[ns]")
    >>> offsets(times, times[0], np.timedelta64(1, "M"))
    array([ 0. ,  0.5, 11. ])
    """
    if is_calendar(step):
        months = _months(times) - _months(np.asarray(first))
        return np.asarray(months / int(step.astype(np.int64)))
    if times.dtype.kind not in "mM":
        return np.asarray((times.astype(np.float64) - float(first)) / step)
    same = {np.datetime_data(t.dtype) for t in (times, first)} == {("ns", 1)}
    unit, ticks = ("ns", 1.0) if same else ("us", 1000.0)  # 292 years, or 292,000
    kind = f"{times.dtype.kind}8[{unit}]"
    since = times.astype(kind) - first.astype(kind)
    return np.asarray(since.astype(np.float64) * ticks / (step / np.timedelta64(1, "ns")))


def _months(times: np.ndarray) -> np.ndarray:
    """Give dates (...) in months since 1970, with the part of the month that is over."""
    month = times.astype("M8[M]")
    begun, ends = month.astype("M8[us]"), (month + 1).astype("M8[us]")
    part = (times.astype("M8[us]") - begun) / (ends - begun)
    return np.asarray(month.astype(np.int64) + part)


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
            calendar = ", or 'MS' for months and 'YS' for years" * (own in "MY")
            raise InputError(
                f"{what}: 'dt' is a numpy.timedelta64 {which}; give it in one of 'ns', 'us', "
                f"'ms', 's', 'm', 'h', 'D', 'W'{calendar}"
            )
    try:
        found = _fixed(dt) if is_span(dt) else pd.to_timedelta(float(dt), unit=unit)
        rounded = found.as_unit("ns") if isinstance(found, pd.Timedelta) else found
    except (ValueError, OverflowError) as error:
        raise _out_of_reach(dt, unit, what) from error
    if rounded == pd.Timedelta(0) and not is_span(dt) and dt != 0:
        raise _out_of_reach(dt, unit, what)
    return rounded


def _fixed(dt: Any) -> pd.Timedelta:
    """Give a span of a fixed length, also where it is written as pandas does ("6h", "D")."""
    return pd.Timedelta(cast("Any", to_offset(dt)) if isinstance(dt, str) else dt)


def check_text(dt: str, what: str) -> None:
    """Refuse a step as text that is none of pandas', or of a varying length that is not ours."""
    if months_of(dt) is None:
        try:
            right = _fixed(dt) > pd.Timedelta(0)
        except ValueError:
            right = False
        if not right:
            raise InputError(
                f"{what}: 'dt' is {dt!r}; give a number, or a step as pandas writes it: '6h', 'D', "
                "or for months, quarters and years 'MS', 'QS', 'YS'"
            )


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
    """Give the times (step,) so many steps after the first, in its kind.

    Their resolution is that of the first, or a finer one if the step is none of its multiples.

    Examples
    --------
    >>> first, step = np.datetime64("1000-01-01", "s"), np.timedelta64(10**9, "ns")
    >>> after(first, np.array([2]), step)
    array(['1000-01-01T00:00:02'], dtype='datetime64[s]')
    """
    if is_calendar(step):
        return after_months(first, steps * int(step.astype(np.int64)))
    if first.dtype.kind not in "mM":
        times = np.asarray(first + steps * step)
        is_whole = first.dtype.kind in "iu" and float(step).is_integer()
        return times.astype(first.dtype) if is_whole or first.dtype.kind == "f" else times
    return np.asarray(first + steps * coarse(step, np.datetime_data(first.dtype)[0]))


def coarse(step: np.timedelta64, unit: str) -> np.timedelta64:
    """Give a span of time in a unit, or in the next finer one in which it is a whole number.

    A sum with dates then keeps their resolution, where it can, and with it their range.

    Examples
    --------
    >>> coarse(np.timedelta64(1_500_000_000, "ns"), "s").dtype
    dtype('<m8[ms]')
    """
    for finer in (unit, "s", "ms", "us"):
        same: np.timedelta64 = step.astype(f"m8[{finer}]")
        if same == step:
            return same
    return step


def after_months(times: Any, months: Any) -> np.ndarray:
    """Give the dates so many months later, as far from the beginning of their month.

    Examples
    --------
    >>> after_months(np.datetime64("2024-01-16"), np.array([1, 12]))
    array(['2024-02-16', '2025-01-16'], dtype='datetime64[D]')
    """
    month = times.astype("M8[M]")
    return np.asarray((month + months).astype(times.dtype) + (times - month.astype(times.dtype)))


def by_months(times: np.ndarray) -> str:
    """Advise a step that follows the calendar where a record does."""
    months = np.diff(times.astype("M8[M]")).astype(np.int64) if times.dtype.kind == "M" else [0]
    return ", 'MS' for one of months" * bool(np.min(months) > 0)


def check_density(
    times: np.ndarray, offset: np.ndarray, name: str, dt: Any, time_unit: str
) -> None:
    """Refuse a record that is mostly missing by a dt in another unit than was meant."""
    dates = times.dtype.kind in "mM"
    apart = float(np.median(np.diff(offset))) if len(offset) > 1 else 1.0
    if apart <= (SPARSE if dates else 100 * SPARSE):
        return
    typical = apart * span(dt, time_unit, "the model") if dates else 0
    fit = [u for u in USUAL if dates and pd.to_timedelta(float(dt), unit=u) <= 1.001 * typical]
    step = f"one step of the model ({dt} {time_unit})" if dates else f"the model's dt {dt}"
    spacing = f"{typical} apart, " if dates else ""
    fix = f"time_unit={fit[-1]!r}, or give dt as a numpy.timedelta64" if fit else "give another dt"
    raise InputError(
        f"'time' of {name!r}: entries are typically {spacing}{apart:.0f} times {step}, so that the "
        f"record would be mostly missing; set the model's {fix}"
    )
