"""An analysis that goes on: its end, and the record from there to the last new observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import check_dims, check_names, check_time, names, step_like
from daml.labels.dates import after, is_calendar, offsets
from daml.models.forced import check_reach
from daml.observing.records import GIVEN
from daml.pairing import has_window
from daml.running.lost import Watched
from daml.running.onward.ends import End
from daml.running.onward.placing import Placing
from daml.running.onward.unfit import check_end, check_same, check_whole_end

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

CLOSE = 1e-3
"""Part of a model step by which a time may lie off the steps."""


@dataclass(frozen=True)
class GoingOn:
    """A record that goes on from an end.

    Attributes
    ----------
    end : End
    begin : int
        Model step of this record that comes next after the state of the end.
    skip : int
        Model steps of this record before the first that is new.
    origin : int
        Its first model step, counted from the first record's first time.
    """

    end: End
    begin: int
    skip: int
    origin: int

    @property
    def pace(self) -> float:
        """That of the cycle: see :class:`daml.protocols.Run`."""
        return self.end.pace

    @property
    def deviation(self) -> np.ndarray | None:
        """Standard deviations (variable,) of the state that the cycle started from."""
        return self.end.facts.get("deviation")

    @property
    def watched(self) -> Watched | None:
        """What says whether the filter has lost the observations before the end."""
        facts = self.end.facts
        return Watched(facts["counts"], facts["signs"]) if "signs" in facts else None

    def labelled(self, labels: xr.Dataset, scheme: Scheme, observed: tuple[str, ...]) -> xr.Dataset:
        """Give the labels of an analysis with what is left over of its windows.

        A window may bring places of its own, which ``observed`` has, too.
        """
        labels = labels.assign_coords(observed=list(observed))
        if not has_window(scheme):
            return labels
        last = self.origin + self.skip + labels.sizes["time"] - 1
        return labels.assign_attrs(left_over=last % scheme.shift)

    def places(self, shift: int | None) -> Placing:
        """Give where segments begin; ``shift`` is that of a scheme with windows."""
        where = self.begin, self.skip, self.origin, self.end.age + 1
        return Placing(shift, *where, goes_on=True)


def going_on(
    initial: xr.Dataset | None, model: Model, scheme: Scheme, observations: xr.Dataset
) -> tuple[GoingOn | None, xr.Dataset]:
    """Give how new observations (flat) go on from an analysis; None where that is none.

    Beside it are the observations from its end on: the new ones, after those of the last window, or
    after a time without any.

    Raises
    ------
    InputError
        If the analysis has no end, is that of another model or scheme, or ends later than the
        observations begin.
    """
    if initial is None or "state" in initial or not {"analysis", "end_step"} & set(initial):
        return None, observations
    check_dims(observations, "observation", ("time", "variable"))
    check_names(observations, "observation")
    end = check_end(End.found(initial), initial)
    check_same(initial, model, scheme)
    check_whole_end(end, model, scheme)
    since, first = np.asarray(end.facts["state_time"])[()], observations["time"].values[0]
    ahead = _ahead(end, model, observations)
    check_reach(model, since, first, "assimilate")
    rows = len(end.facts.get("observation", ()))
    joined = observations
    if rows or ahead > 1:
        before = _before(end) if rows else _gap(end, model, observations)
        if "place" in before:
            before, observations = _placed(before, tuple(model.variables), observations)
        joined = _joined(before, observations, end.facts.get("error_covariance"))
    window = end.window if has_window(scheme) else 0
    origin = int(end.facts["step"]) + 1 - rows
    return GoingOn(end, window, rows + ahead - 1, origin), joined


def _ahead(end: End, model: Model, observations: xr.Dataset) -> int:
    """Give how many model steps the first new time lies after the end: 1 or more."""
    times, last = check_time(observations, "observation"), np.asarray(end.facts["time"])[()]
    if (times.dtype.kind in "mM") != (last.dtype.kind in "mM"):
        kinds = ("numbers", "dates") if times.dtype.kind in "mM" else ("dates", "numbers")
        raise InputError(
            f"assimilate: the times of 'initial' are {kinds[0]}, and those of the observations "
            f"{kinds[1]}; give both as numbers, or both as dates"
        )
    step = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    if is_calendar(step):  # a time stands for its month on any day of it
        months = (times[:1].astype("M8[M]") - last.astype("M8[M]")).astype(np.int64)
        steps = float(months[0] / int(step.astype(np.int64)))
    else:
        steps = float(offsets(times[:1], last, step)[0])
    if steps < 1 - CLOSE:
        raise InputError(
            f"assimilate: the observations begin at {times[0]}, and 'initial' ends at {last}; give "
            "those after its end: observations.sel(time=observations.time > initial.end_time)"
        )
    if abs(steps - round(steps)) > CLOSE + 1e-9 * abs(steps):
        raise InputError(
            f"assimilate: the observations begin at {times[0]}, {steps:.6g} model steps after the "
            f"end of 'initial' ({last}); give times that are whole steps after it, e.g. by "
            "daml.on_steps(observations, model, start=initial.end_time)"
        )
    return round(steps)


def _before(end: End) -> xr.Dataset:
    """Give the observations of the last window, and those after it, as a record."""
    dims = {"observation": (), "error_variance": (), "place": ("corner",), "weight": ("corner",)}
    dims["position"] = ("dimension",)
    return xr.Dataset(
        {n: (("time", "variable", *d), end.facts[n]) for n, d in dims.items() if n in end.facts},
        {"time": end.facts["observation_time"], "variable": list(end.observed)},
    )


def _placed(
    before: xr.Dataset, variables: tuple[str, ...], observations: xr.Dataset
) -> tuple[xr.Dataset, xr.Dataset]:
    """Give two records whose places change with the slots of both, and places of one order."""
    if "place" not in observations or set(observations["place"].dims) != set(before["place"].dims):
        raise InputError(
            "assimilate: the last window of 'initial' reaches into the new record and has "
            "observations at places that change in time, and the new record has none of "
            "these; end the first record at the end of a window, or use a scheme without "
            "windows"
        )
    slots = names(observations)
    some = before["observation"].notnull().any("time").values
    added = [n for n in np.asarray(names(before))[some].tolist() if n not in slots]
    if added and "through" in observations["place"].attrs:
        raise InputError(
            "assimilate: the last window of 'initial' reaches into the new record and has "
            f"observations in the slot {added[0]!r}, which the new record lacks, and points "
            "that are observed through functions; end the first record at the end of a "
            "window, or use a scheme without windows"
        )
    order = observations.indexes["model_variable"].get_indexer(list(variables))
    place = before["place"]
    before = before.assign(place=place.copy(data=np.where(place >= 0, order[place], -1)))
    wide = {"variable": [*slots, *added]}
    before, observations = (
        one.reindex(wide, fill_value={"place": -1, "weight": 0.0, "position": np.nan})
        for one in (before, observations)
    )
    return before, observations


def _gap(end: End, model: Model, observations: xr.Dataset) -> xr.Dataset:
    """Give the first step after the end as a record of one time without observations."""
    times = observations["time"].values
    step = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    last = np.asarray(end.facts["time"])
    first = after(last.astype(np.result_type(last, times))[()], np.array([1]), step)
    missing = np.full((1, observations.sizes["variable"]), np.nan)
    both = {name: (("time", "variable"), missing) for name in ("observation", "error_variance")}
    return xr.Dataset(both, {"time": first, "variable": observations["variable"].values})


def _joined(
    before: xr.Dataset, observations: xr.Dataset, covariance: np.ndarray | None
) -> xr.Dataset:
    """Put a record before another one, which stays as lazy as it is.

    Raises
    ------
    InputError
        If what is observed before is missing, or has errors that a record cannot hold with these.
    """
    shown = names(observations)
    lacking = [n for n in names(before) if n not in shown]
    seen = [n for n in lacking if before["observation"].sel(variable=n).notnull().any()]
    if seen:
        raise InputError(
            "assimilate: the last window of 'initial' reaches into the new record and has "
            f"observations of {seen[0]!r}, which the new record lacks; add this variable with "
            "missing values: observations.reindex(variable=[...])"
        )
    before = before.reindex(variable=list(shown))
    given = observations["observation"].transpose("time", "variable")
    head = before["observation"].variable
    parts: dict[str, Any] = {"observation": _stacked(head, given.variable)}
    if covariance is not None or "error_covariance" in observations:
        _check_covariance(before, observations, covariance)
    elif "error_variance" in observations and not _same_errors(before, observations):
        error = observations["error_variance"]
        wide = error.broadcast_like(given).transpose("time", "variable")
        if given.chunks is not None:
            wide = wide.chunk(given.chunksizes)
        parts["error_variance"] = _stacked(before["error_variance"].variable, wide.variable)
    timed = [name for name, array in observations.variables.items() if "time" in array.dims]
    for name in map(str, set(timed) & set(GIVEN) - {"observation", "error_variance"}):  # places
        array = observations[name].variable
        if name in before:
            own = before[name].variable.transpose(*array.dims)
            parts[name] = _stacked(xr.Variable(array.dims, own.values, array.attrs), array)
        else:
            parts[name] = _repeated(array, len(head), name, before)
    kept = observations.drop_vars(timed)
    times = np.concatenate((before["time"].values, observations["time"].values))
    return kept.assign(parts).assign_coords(time=("time", times, observations["time"].attrs))


def _repeated(given: xr.Variable, rows: int, name: str, before: xr.Dataset) -> xr.Variable:
    """Give what changes in time with its first row before it, where nothing is observed before."""
    if before["observation"].notnull().any():
        raise InputError(
            "assimilate: the last window of 'initial' reaches into the new record, whose "
            f"{name!r} changes in time, while that of the first record does not; end the first "
            "record at the end of a window, or use a scheme without windows"
        )
    return _stacked(given.isel(time=[0] * rows), given)


def _stacked(first: xr.Variable, second: xr.Variable) -> xr.Variable:
    joined: xr.Variable = xr.Variable.concat([first, second], "time")  # type: ignore[no-untyped-call]
    return joined


def _same_errors(before: xr.Dataset, observations: xr.Dataset) -> bool:
    """Whether the variances of both are the same at all times."""
    error = observations["error_variance"]
    if "time" in error.dims:
        return False
    known = before["error_variance"].values
    return bool((np.isnan(known) | (known == error.values)).all())


def _check_covariance(
    before: xr.Dataset, observations: xr.Dataset, covariance: np.ndarray | None
) -> None:
    """Refuse errors of one record that are correlated otherwise than those of the other."""
    if not before["observation"].notnull().any():
        return
    found = observations.get("error_covariance")
    if covariance is None or found is None or not np.array_equal(found.values, covariance):
        raise InputError(
            "assimilate: the last window of 'initial' reaches into the new record, and their "
            "'error_covariance' differs; give observations with the same one, or end the "
            "first record at the end of a window"
        )
