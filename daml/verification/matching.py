"""What is compared with what: the truth, or observations, at the times of an estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import (
    check_dims,
    check_dtype,
    check_names,
    check_time,
    listed,
    named,
    names,
)
from daml.labels.dates import MONTHS, after, after_months


def true_states(truth: xr.Dataset) -> xr.DataArray:
    """Give the true states (time, variable)."""
    check_dims(truth, "state", ("time", "variable"))
    check_names(truth, "state")
    check_dtype(truth["state"], "state")
    extra = [d for d in truth["state"].dims if d not in ("time", "variable")]
    if extra:
        raise InputError(f"the truth's 'state' has the further dimension {extra[0]!r}; select one")
    check_time(truth, "state")
    return named(truth)["state"]


def at_times(state: xr.DataArray, times: pd.Index, what: str) -> xr.DataArray:
    """Give the true states at ``times``; as a slice where that will do: a record may be long."""
    index = state.indexes["time"]
    first = int(index.searchsorted(times[0])) if index.dtype.kind == times.dtype.kind else 0
    if index[first : first + len(times)].equals(times):
        return state.isel(time=slice(first, first + len(times)))
    rows = index.get_indexer(times)
    if (rows < 0).any():
        raise InputError(
            f"{what}: the truth lacks {(rows < 0).sum()} of the {len(times)} times of the "
            f"analysis, the first of them {times[rows < 0][0]}; select the times that both have"
        )
    return state.isel(time=rows)


def shared_names(first: xr.Dataset, second: xr.Dataset) -> list[str]:
    """Give the names of variables that both have."""
    check_names(first, "the first Dataset")
    has = names(second)
    both = [v for v in names(first) if v in has]
    if not both:
        raise InputError(
            f"verification: the two Datasets share no variable ({listed(names(first))}, and "
            f"{listed(has)}); rename the variables of one"
        )
    return both


@checked
def valid_rows(forecast: xr.Dataset, truth: xr.Dataset, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows of the truth at the starts (start,) and leads (start, lead) of a forecast.

    The row is -1 where the truth does not have the time of a lead.

    Raises
    ------
    InputError
        If a Dataset lacks a variable or has wrong dims, or the truth lacks the time of a start. The
        message begins with ``what``.
    """
    check_dims(forecast, "forecast", ("start", "lead", "variable"))
    check_names(forecast, "forecast")
    if "member" in forecast["forecast"].dims:
        raise InputError(
            f"{what}: 'forecast' has the dimension 'member'; give its mean, "
            "forecast.mean('member'), or score it with daml.verification.probabilistic"
        )
    index = true_states(truth).indexes["time"]
    rows = rows_at(index, forecast["start"].values, _nearest(forecast), what)
    if (rows < 0).any():
        raise InputError(
            f"{what}: a forecast starts at {forecast['start'].values[rows < 0][0]}, which is not a "
            "time of the truth; give a truth that has all starts"
        )
    return rows, rows_at_leads(index, forecast, what)


def rows_at_leads(index: pd.Index, forecast: xr.Dataset, what: str) -> np.ndarray:
    """Give the rows of the truth at the leads (start, lead), -1 where it has no such time."""
    near = _nearest(forecast)
    leads: list[Any] = list(forecast["lead"].values)
    found = [rows_at(index, valid_at(forecast, lead), near, what) for lead in leads]
    return np.stack(found, axis=1)


def valid_at(forecast: xr.Dataset, lead: Any) -> np.ndarray:
    """Give the times (start,) that forecasts of a lead are for."""
    starts = forecast["start"].values
    if _is_calendar(forecast):
        return after_months(starts, int(lead))
    return after(starts, np.array(1), lead)


def rows_at(index: pd.Index, times: np.ndarray, tolerance: Any, what: str) -> np.ndarray:
    """Give the row of the index nearest to each time; -1 where none lies within the tolerance."""
    kinds = times.dtype.kind, index.dtype.kind
    if kinds[0] != kinds[1] and "M" in kinds:
        raise InputError(
            f"{what}: one of 'start' and the truth's 'time' has numbers, the other has dates; give "
            "both as numbers, or both as dates"
        )
    rows: np.ndarray = index.get_indexer(times, method="nearest", tolerance=tolerance)
    return rows


def _nearest(forecast: xr.Dataset) -> Any:
    """Give how far rounding may move a time of a forecast."""
    if _is_calendar(forecast):
        return np.timedelta64(14, "D")  # the middles of months are not a month apart
    return forecast["lead"].values[0] / 100


def _is_calendar(forecast: xr.Dataset) -> bool:
    return forecast["lead"].attrs.get("units") == MONTHS
