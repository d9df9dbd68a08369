"""The one door between labelled Datasets and plain arrays, and the contract's checks.

Inside daml, arrays have the shape ``(..., time, variable)``; outside, everything has names.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.dates import (
    after,
    by_months,
    check_density,
    is_calendar,
    is_span,
    months_of,
    since_first,
    span,
)
from daml.labels.trajectories import numbers_of

LARGEST = 1e14
"""A magnitude above which a value is taken for an undeclared fill value."""
FEW = 8
"""Names that an error lists one by one."""
Data = TypeVar("Data", xr.Dataset, xr.DataArray)

ANALYSED = {
    "background": (("time", "variable"), {"long_name": "background"}),
    "analysis": (("time", "variable"), {"long_name": "analysis"}),
    "innovation": (("time", "observed"), {"long_name": "observation minus background"}),
}
"""Dimensions and attributes of an analysis, as the contract says; units are the observation's."""
SPREAD = {
    "background_spread": (
        ("time", "variable"),
        {"long_name": "standard deviation of the background's members"},
    ),
    "spread": (("time", "variable"), {"long_name": "standard deviation of the analysis's members"}),
}
"""What an analysis by an ensemble has besides."""
MEMBERS = {
    "background_members": (
        ("time", "member", "variable"),
        {"long_name": "members of the background"},
    ),
    "analysis_members": (("time", "member", "variable"), {"long_name": "members of the analysis"}),
}
"""What it has with ``keep_members=True``: the members, of which the others are mean and spread."""
HIDDEN = "hidden"
"""Variables that a model has besides those of its base are called so, with a number."""
DEVIATIONS = ("forecast_deviations", "analysis_deviations")
"""What a scheme of one state gives to be smoothed: see :class:`daml.protocols.Scheme`."""
SMOOTHED = {
    "analysis": (("time", "variable"), {"long_name": "smoothed analysis"}),
    "spread": (
        ("time", "variable"),
        {"long_name": "standard deviation of the smoothed analysis's error"},
    ),
}
"""What a smoother gives in place of the filter's."""


@dataclass(frozen=True)
class Layout:
    """How a packed array was labelled: enough to put every label back."""

    name: str
    dims: tuple[Hashable, ...]
    packed: tuple[Hashable, ...]
    dtype: np.dtype[Any]
    attrs: dict[Any, Any]
    rest: xr.Dataset

    def unpack(self, values: np.ndarray) -> xr.Dataset:
        """Give the Dataset again, with ``values`` (..., time, variable) in it."""
        labelled = xr.Variable(self.packed, values.astype(self.dtype, copy=False), self.attrs)
        return self.rest.assign({self.name: labelled.transpose(*self.dims)})


def pack(
    dataset: xr.Dataset, name: str, variables: Sequence[str] | None = None
) -> tuple[np.ndarray, Layout]:
    """Take the labels off a data variable.

    Parameters
    ----------
    dataset : xarray.Dataset
        Holds ``name`` with a dimension ``variable``; in memory or Dask-backed.
    name : str
        The data variable.
    variables : sequence of str, optional
        Which entries of ``variable``, in which order; all as they stand, unless given.

    Returns
    -------
    values : numpy.ndarray (..., time, variable)
        In float64; other dimensions lead in their order.
    layout : Layout
        ``layout.unpack(values)`` gives the Dataset again, identical.

    Raises
    ------
    InputError
        If the data variable, its dimension or one of the names is missing, or it holds no
        real numbers.

    Examples
    --------
    >>> import daml
    >>> truth = daml.simulate(daml.Lorenz63(), steps=4)
    >>> values, layout = pack(truth, "state")
    >>> values.shape, layout.unpack(values).identical(truth)
    ((4, 3), True)
    """
    check_dims(dataset, name, ("variable",))
    check_names(dataset, name)
    dataset = named(dataset)
    if variables is not None:
        missing = [v for v in variables if v not in dataset.indexes["variable"]]
        if missing:
            raise InputError(
                f"{name!r} lacks the variable {missing[0]!r} (it has {listed(names(dataset))}); "
                "rename or add it"
            )
        dataset = dataset.sel(variable=list(variables))
    array = dataset[name]
    check_dtype(array, name)
    last = [d for d in ("time", "variable") if d in array.dims]
    packed = (*[d for d in array.dims if d not in last], *last)
    layout = Layout(name, array.dims, packed, array.dtype, array.attrs, dataset.drop_vars(name))
    values = np.array(array.variable.transpose(*packed).values, dtype=np.float64)
    return values, layout


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden variable: hidden0, or hidden0_7 at a place.

    Examples
    --------
    >>> [name for name in ("x0", "hidden_heat", "hidden0", "hidden1_07") if is_hidden(name)]
    ['hidden0', 'hidden1_07']
    """
    return re.fullmatch(rf"{HIDDEN}\d+(_\d+)?", name) is not None


def names(dataset: xr.Dataset | xr.DataArray, dim: str = "variable") -> tuple[str, ...]:
    """Give the names along a dimension."""
    return tuple(str(v) for v in dataset.indexes[dim])


def listed(names: Sequence[str]) -> str:
    """List names for an error; of many the first and the last.

    Examples
    --------
    >>> listed(("u", "v")), listed([f"x{k}" for k in range(40)])
    ("('u', 'v')", "40, 'x0' to 'x39'")
    """
    if len(names) <= FEW:
        return str(tuple(names))
    return f"{len(names)}, {names[0]!r} to {names[-1]!r}"


def named(data: Data, dim: str = "variable") -> Data:
    """Give the same with names that are text along a dimension."""
    if all(isinstance(v, str) for v in data.indexes[dim]):
        return data
    return data.assign_coords({dim: list(names(data, dim))})


def check_dims(dataset: xr.Dataset, name: str, dims: Sequence[str]) -> None:
    """Refuse a Dataset without the data variable or without one of its dimensions."""
    if not isinstance(dataset, xr.Dataset):
        raise InputError(
            f"an xarray.Dataset with {name!r} is needed, a {type(dataset).__name__} was given; "
            f"make one with array.to_dataset(name={name!r})"
        )
    if name not in dataset.data_vars:
        found = ", ".join(repr(str(v)) for v in dataset.data_vars) or "nothing"
        raise InputError(
            f"the data variable {name!r} is missing (found {found}); rename yours, or build it "
            f"with ds.to_dataarray('variable').to_dataset(name={name!r})"
        )
    for dim in dims:
        if dim not in dataset[name].dims:
            found = ", ".join(repr(str(d)) for d in dataset[name].dims)
            raise InputError(
                f"{name!r} lacks the dimension {dim!r} (it has {found}); rename one of its "
                "dimensions, or build it with ds.to_dataarray('variable'); a field in space "
                f"needs a name of its own: ds.rename({name}='u')"
            )


def check_names(dataset: xr.Dataset | xr.DataArray, name: str, dim: str = "variable") -> None:
    """Refuse a dimension without names, or with a name twice."""
    if dim not in dataset.indexes:
        raise InputError(
            f"{name!r} has no coordinate along {dim!r}; name its entries with "
            f"ds.assign_coords({dim}=[...])"
        )
    index = dataset.indexes[dim]
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise InputError(
            f"{name!r} has the {dim} {str(twice)!r} more than once; give each a name of its own"
        )


def check_dtype(array: xr.DataArray, name: str) -> None:
    """Refuse what is not real numbers."""
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{name!r} holds values of type {array.dtype}, not real numbers; convert it with "
            ".astype(float)"
        )


def check_values(values: np.ndarray, name: str, variables: Sequence[str]) -> None:
    """Refuse infinite and absurd values of an array (..., variable); NaN passes."""
    size = np.abs(values)
    for wrong, what in ((np.isinf(size), "infinite"), (size > LARGEST, f"above {LARGEST:g}")):
        if wrong.any():
            at = int(np.argwhere(wrong)[0][-1])
            count = int(wrong.sum())
            raise InputError(
                f"{name!r} has {count} value(s) that are {what}, for variable "
                f"{variables[at]!r}; a missing value is NaN: replace fill values with ds.where"
            )


@dataclass(frozen=True)
class TimeAxis:
    """The times of a record as whole steps of a model.

    Attributes
    ----------
    times : numpy.ndarray (time,)
        As given, numbers or datetime64.
    step : float or numpy.timedelta64
        A model step in the same kind.
    index : numpy.ndarray (time,)
        Steps since the first time.
    many : int
        How many trajectories lie in a row: each has the same times, and its steps follow those of
        the one before.
    """

    times: np.ndarray
    step: Any
    index: np.ndarray
    many: int = 1

    @property
    def length(self) -> int:
        """Model steps from the first time to the last, both counted; those of all trajectories."""
        return int(self.index[-1]) + 1

    @property
    def own(self) -> int:
        """Model steps of a trajectory."""
        return self.length // self.many

    def grid(self) -> np.ndarray:
        """Give the time of every model step; the given times stay to the bit."""
        if self.length == len(self.times):
            return self.times
        given = len(self.times) // self.many
        grid = after(self.times[0], np.arange(self.own), self.step)
        grid[self.index[:given]] = self.times[:given]
        return np.tile(grid, self.many)


def step_like(times: np.ndarray, dt: Any, time_unit: str = "s") -> Any:
    """Give a model's dt in the kind of ``times``: a float, or a timedelta64 for dates."""
    months = months_of(dt, time_unit)
    if times.dtype.kind not in ("M" if months else "mM"):
        if is_span(dt) or months:
            unit = f" {time_unit}" * (not is_span(dt))
            raise InputError(
                f"'time' is numbers, but the model's dt is the time span {dt}{unit}; give the "
                "record datetime64 times, or the model a dt in numbers"
            )
        return float(dt)
    if months:
        return np.timedelta64(months, "M")
    return span(dt, time_unit, "the model").to_timedelta64()


def time_axis(dataset: xr.Dataset, name: str, dt: Any, time_unit: str = "s") -> TimeAxis:
    """Read the time of a record as whole steps of dt.

    Raises
    ------
    InputError
        If time is missing, empty, not increasing, of another kind, or off the model's steps by
        more than 1e-3 dt plus the rounding of its own type; or if dt is a number, and so small
        that the record would be mostly missing.
    """
    numbers = numbers_of(dataset)
    if numbers.any():
        one = time_axis(dataset.isel(time=np.flatnonzero(numbers == 0)), name, dt, time_unit)
        index = one.index + one.length * np.arange(numbers[-1] + 1)[:, None]
        return TimeAxis(dataset["time"].values, one.step, index.ravel(), len(index))
    times = check_time(dataset, name)
    step = step_like(times, dt, time_unit)
    if is_calendar(step):
        # A time is in its month on any day of it, as the middle of each is not the same.
        months = np.diff(times.astype("M8[M]"), prepend=times[:1].astype("M8[M]"))
        offset = np.cumsum(months.astype(np.int64)) / int(step.astype(np.int64))
        wrong = offset % 1 > 0
    else:
        width = float(step / (np.timedelta64(1, "ns") if times.dtype.kind in "mM" else 1.0))
        offset = since_first(times) / width
        if not is_span(dt):
            check_density(times, offset, name, dt, time_unit)
        wrong = np.abs(offset - np.rint(offset)) > 1e-3 + _rounding(times) / width
    index = np.rint(offset)
    wrong[1:] |= np.diff(index) < 1
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"'time' of {name!r}: entry {at} ({times[at]}) lies {offset[at]:.6g} model steps "
            f"after the first, not a multiple of the model's dt {dt}; give the model the "
            f"record's dt{by_months(times)}, or resample the record"
        )
    return TimeAxis(times, step, index.astype(np.int64))


def first_time(dataset: xr.Dataset) -> Any:
    """Give the first time of a record, for a model to start at; 0.0 where there is none."""
    time = dataset["time"] if "time" in dataset.coords else None
    return 0.0 if time is None or time.size == 0 else time.values.ravel()[0]


def check_time(dataset: xr.Dataset, name: str) -> np.ndarray:
    """Give the times of a record: present, of a known kind, increasing."""
    check_dims(dataset, name, ("time",))
    if "time" not in dataset.coords:
        raise InputError(f"{name!r} has no coordinate 'time'; add it with ds.assign_coords(time=…)")
    index = dataset.indexes.get("time")
    zone = getattr(index, "tz", None)
    if zone is not None:
        raise InputError(
            f"'time' of {name!r} has the time zone {zone}; give UTC without a zone: "
            "ds.assign_coords(time=ds.indexes['time'].tz_convert(None))"
        )
    times = dataset["time"].values
    if times.size == 0:
        raise InputError(f"{name!r} is empty: 'time' has no entries; give a record with values")
    if times.dtype.kind not in "fiumM":
        advice = "if it is text: ds.assign_coords(time=pandas.to_datetime(ds['time'].values))"
        if isinstance(index, xr.CFTimeIndex):
            advice = "of this calendar: ds.convert_calendar('standard', align_on='date')"
        raise InputError(
            f"'time' of {name!r} is of type {times.dtype}; give numbers or datetime64, {advice}"
        )
    if times.dtype.kind in "iu":
        times = times.astype(np.int64)
    absent = np.isnat(times) if times.dtype.kind in "mM" else ~np.isfinite(times)
    if absent.any():
        raise InputError(
            f"'time' of {name!r} is missing at entry {int(np.argmax(absent))}; drop such rows "
            "with ds.dropna('time') or fill them in"
        )
    steps = np.diff(times)
    if (steps <= steps.dtype.type(0)).any():
        at = int(np.argmax(steps <= steps.dtype.type(0)))
        what = "twice" if times[at] == times[at + 1] else "not increasing"
        raise InputError(
            f"'time' of {name!r} is {what} at entry {at + 1} ({times[at + 1]}); sort it with "
            "ds.sortby('time') and drop repeats with ds.drop_duplicates('time')"
        )
    return times


def _rounding(times: np.ndarray) -> float:
    """Give how far rounding may move a time: in its own unit, nanoseconds for datetime64."""
    if times.dtype.kind in "mM":
        unit, count = np.datetime_data(times.dtype)
        return float(np.timedelta64(count, cast("Any", unit)) / np.timedelta64(1, "ns"))
    if times.dtype.kind == "i":
        return 0.0
    return float(np.spacing(np.abs(times).max()))
