"""Arithmetic of dates that does not overflow: nanoseconds reach 292 years only."""

from __future__ import annotations

from typing import Any, cast

import numpy as np


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
