"""A model alone in time: simulate, and forecast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.arrays import fetch, home, put, stacked
from daml.errors import InputError, StepError, name_of
from daml.labels.arguments import checked
from daml.labels.datasets import (
    first_time,
    pack,
    step_like,
)
from daml.labels.dates import after, is_span, months_of, span
from daml.labels.descriptions import description
from daml.labels.doors import coordinates, flat
from daml.labels.trajectories import by_trajectory
from daml.models.forced import check_reach, given, is_scheduled
from daml.randomness import Seed, sequence
from daml.running.checks import check_finite, check_model, check_settings
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.stepping import advance
from daml.running.leads import labels_of_leads, model_steps, record_of
from daml.running.starts.filtered import filtered
from daml.running.starts.first_guess import one_state
from daml.segments import Cut, rows_at_once, segment_length, side_by_side
from daml.stores.filling import filled

if TYPE_CHECKING:
    from daml.protocols import Model


@checked
@by_trajectory
def simulate(
    model: Model,
    *,
    steps: int,
    spinup: int = 0,
    seed: Seed = 0,
    initial: xr.Dataset | None = None,
    forcings: xr.Dataset | None = None,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Run a model freely and give its record.

    Parameters
    ----------
    model : Model
        The model that is run.
    steps : int
        Number of rows of the record; the first is the state after the spin-up.
    spinup : int
        Number of steps before the first row, which are discarded.
    seed : int or numpy.random.Generator
        Seed of the random initial state. It is drawn from a normal distribution with the model's
        ``climate`` as its mean (0 if it has none) and its ``climate_spread`` as its standard
        deviation (1 if it has none). Values beyond the model's ``bounds`` are set to the bound.
    initial : xarray.Dataset, optional
        ``state`` (variable), in the model's units: the initial state; with (trajectory, variable)
        one run starts from each state. If it has a date as its coordinate ``time``, the run starts
        there. Hidden variables that it lacks start at the model's climate.
    forcings : xarray.Dataset, optional
        Known inputs of a model that names them as its ``forcings``: for each name a data variable
        (time, ...). See :func:`daml.models.forced`. They must cover all steps. The run starts at
        their first time, or at that of ``initial``; the record starts after the spin-up.
    store : str or path, optional
        A new Zarr store to which the record is written block by block; default: in memory.

    Returns
    -------
    xarray.Dataset
        ``state`` (time, variable); time in model time units from 0, or dates. With ``store``
        opened lazily.

    Raises
    ------
    InputError
        If an argument is out of range or ``model`` is not a model.
    DivergedError
        If the state is no longer finite.

    Examples
    --------
    >>> import daml
    >>> daml.simulate(daml.Lorenz63(dt=0.05), steps=3).time.values
    array([0.  , 0.05, 0.1 ])
    """
    if steps < 1 or spinup < 0:
        raise InputError(f"simulate: steps={steps}, spinup={spinup}; give steps >= 1, spinup >= 0")
    model = given(model, forcings, "simulate")
    check_settings(model)
    first, is_forced = _first(model, initial), is_scheduled(model)
    times = _times(model, first, steps, spinup, goes_on=is_forced)
    # Without dates times count from the first row, and a clock of the model as the record does,
    # unless the first state has a number as its time.
    counts = times.dtype.kind in "fm" and not is_forced
    zero = first if times.dtype.kind == "f" else times[0]
    since = zero - spinup * _plain_step(model) if counts else first
    check_model(model, since)
    variables = tuple(model.variables)
    x = _drawn(model, seed) if initial is None else one_state(initial, model, "simulate")[None]
    check_reach(model, first, times[-2] if steps > 1 else first, "simulate")
    unit = {"units": "1"} if times.dtype.kind == "f" else {}
    attrs = {
        "model": description(model, "model", exact=False),
        "daml_version": __version__,
        "spinup": spinup,
    }
    if not isinstance(seed, np.random.Generator):
        attrs["seed"] = seed
    labels = xr.Dataset(
        coords={
            "time": ("time", times, {"long_name": "time"} | unit),
            "variable": list(variables),
            **coordinates(variables, model, xr.Dataset()),
        },
        attrs=attrs,
    )

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        for done, states in _states(model, x, times, since, spinup):
            rows = slice(done, done + len(states))
            check_finite(states, times[rows], variables, name_of(model))
            arrays["state"][rows] = states
        return {}

    described = {"state": (("time", "variable"), {"long_name": "state", "units": "1"})}
    return filled(labels, described, run, store, rows_at_once(len(variables)))


def _first(model: Model, initial: xr.Dataset | None) -> Any:
    """Give the time of a first state; that of the first forcings, if any, where it has none."""
    if initial is not None and "time" in initial.coords:
        return first_time(initial)
    schedule = getattr(model, "schedule", None)
    return 0.0 if schedule is None else schedule.forcings.times[0]


def _drawn(model: Model, seed: Seed) -> np.ndarray:
    """Draw the state (1, variable) that a free run starts from."""
    drawn = np.random.default_rng(sequence(seed)).standard_normal((1, len(model.variables)))
    climate, spread = (getattr(model, name, None) for name in ("climate", "climate_spread"))
    drawn = drawn if spread is None else np.asarray(spread * drawn)
    drawn = drawn if climate is None else np.asarray(climate + drawn)
    bounds = Bounds.of(model)
    return drawn if bounds is None else np.asarray(bounds.within(drawn))


def _times(model: Model, first: Any, steps: int, spinup: int, goes_on: bool = False) -> np.ndarray:
    """Give the times of a free run that stands at a date, or at 0, before or after its spin-up.

    Dates go on from the one of the first state; numbers count from the first row, unless they go
    on, too.
    """
    kind = np.asarray(first).dtype.kind
    if kind not in "fiumM":
        raise InputError(
            f"simulate: 'time' of 'initial' is {first}, neither a number nor datetime64; give "
            "initial=state.assign_coords(time=numpy.datetime64('2000-01-01')), or drop it"
        )
    if kind == "M" or goes_on:
        step = step_like(np.asarray(first), model.dt, getattr(model, "time_unit", "s"))
        numbers = spinup + np.arange(steps)
        return after(np.asarray(first)[()], numbers, step)
    dt = model.dt
    if months_of(dt, getattr(model, "time_unit", "s")):
        raise InputError(
            f"simulate: the step of {name_of(model)} follows the calendar; give a state "
            "with a date: initial=state.assign_coords(time=numpy.datetime64('2000-01-01'))"
        )
    return np.asarray(np.arange(steps) * _plain_step(model))


def _plain_step(model: Model) -> Any:
    """Give the step of a run without dates: a number, or a span of time."""
    dt = model.dt
    return span(dt, "s", name_of(model)).to_timedelta64() if is_span(dt) else float(dt)


def _states(
    model: Model, x: np.ndarray, times: np.ndarray, since: Any, spinup: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield first row and states (row, variable) of a free run, block by block."""
    memory, steps = model.start(x, np.full(1, since)), len(times)
    number = 0
    with (
        tqdm(total=steps + spinup, desc="simulate", delay=2, disable=None, leave=False) as bar,
        np.errstate(all="ignore"),
    ):
        try:
            for number in range(1, spinup + 1):  # noqa: B007 (an error says it)
                x, memory = advance(model, x, memory)
                bar.update()
            length = rows_at_once(x.shape[-1])
            for first in range(0, steps, length):
                states = np.empty((min(length, steps - first), x.shape[-1]))
                for row in range(len(states)):
                    states[row] = x[0]
                    if first + row + 1 < steps:
                        number = spinup + first + row + 1
                        x, memory = advance(model, x, memory)
                    bar.update()
                yield first, states
        except StepError as error:
            at = times[max(number - spinup, 0)]
            raise error.at(number, np.asarray(at)) from error.__cause__


@checked
@by_trajectory
def forecast(
    model: Model,
    initial: xr.Dataset,
    *,
    leads: int | Sequence[int] = 4,
    warmup: int = 100,
    forcings: xr.Dataset | None = None,
) -> xr.Dataset:
    """Forecast from every state of a record, after a warm-up of the model's memory.

    If the record is an analysis with members, each member is forecast.

    Parameters
    ----------
    model : Model
        The model that forecasts.
    initial : xarray.Dataset
        ``state``, or else ``analysis``, (time, variable): the initial states, one model step
        apart. Variables that the model lacks are left out. Hidden variables of the model
        that are missing are estimated with a filter (:class:`daml.schemes.SigmaPoint`), which takes
        the states up to each start as nearly exact observations. If there is ``analysis_members``
        (time, member, variable), as ``assimilate(..., keep_members=True)`` returns it, or a
        ``state`` with these dims, each member is forecast.
    leads : int or sequence of int
        Model steps to forecast; 4 means 1, 2, 3, 4.
    warmup : int
        Number of states before each start over which the memory is run, at least. No forecast
        starts from the first ``warmup`` states.
    forcings : xarray.Dataset, optional
        Known inputs of a model that names them as its ``forcings``; see :func:`daml.models.forced`.
        They must cover the record and all leads beyond its end.

    Returns
    -------
    xarray.Dataset
        ``forecast`` (start, lead, variable), or (start, lead, member, variable); ``lead`` in model
        time, with ``lead_steps``.

    Raises
    ------
    InputError
        If the record breaks the contract, has gaps, or is shorter than the warm-up.
    DivergedError
        If the filter for hidden variables diverges from the states.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> daml.forecast(model, daml.simulate(model, steps=30), leads=2, warmup=10).forecast.shape
    (20, 2, 3)
    """
    steps = model_steps(leads, warmup)
    model = given(model, forcings, "forecast")
    initial = flat(initial, model)
    check_model(model, first_time(initial))
    variables = tuple(model.variables)
    name, axis = record_of(model, initial, warmup)
    times, many = axis.times, ["member"] if "member" in initial[name].dims else []
    last = after(times[-1], np.array(steps[-1] - 1), axis.step)
    check_reach(model, times[0], last, "forecast")
    cut = Cut(len(times) - warmup, segment_length(len(times) - warmup), warmup)

    def run(arrays: Mapping[str, Any], initial: xr.Dataset) -> dict[str, Any]:
        states, _ = pack(filtered(model, initial, name, warmup), name, variables)
        if not np.isfinite(states).all():
            raise InputError(f"forecast: {name!r} has missing values; fill them first")
        states = np.moveaxis(states, 0, -2) if many else states
        with (
            side_by_side(model, cut, *states.shape[1:-1]) as (groups, each),
            tqdm(
                total=cut.steps * len(groups),
                desc="forecast",
                delay=2,
                disable=None,
                leave=False,
            ) as bar,
        ):

            def run_group(group: np.ndarray) -> None:
                result = np.empty((len(group), cut.length, len(steps), *states.shape[1:]))
                starts = group * cut.length
                for place, part in ahead(model, states, times, cut, starts, steps, bar):
                    result[:, place] = np.moveaxis(part, 2, 0)
                first = int(group[0]) * cut.length
                rows = arrays["forecast"][first : first + len(group) * cut.length]
                rows[:] = result.reshape(-1, *result.shape[2:])[: len(rows)]

            list(each(run_group, groups))
        return {}

    labels = labels_of_leads(model, times, warmup, steps, initial)
    if many:
        labels = labels.assign_coords(member=initial[name]["member"])
    attrs = {"long_name": "forecast", "units": initial[name].attrs.get("units", "1")}
    described = {"forecast": (("start", "lead", *many, "variable"), attrs)}
    return filled(labels, described, run, source=initial[[name]])


def ahead(
    model: Model,
    states: np.ndarray,
    times: np.ndarray,
    cut: Cut,
    starts: np.ndarray,
    leads: Sequence[int],
    bar: tqdm[Any] | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield places in segments, and the forecasts from there (place, lead, segment, variable).

    A segment begins at the row of ``states`` (row, variable) that ``starts`` (segment,) names, with
    the warm-up of the ``cut``; its place 0 comes after that. ``leads`` are increasing. States (row,
    member, variable) have a forecast (place, lead, segment, member, variable) each.
    """
    device, warmup = home(model), cut.spinup
    steps = np.arange(cut.steps)[:, None]
    when = times[starts]
    if states.ndim > 2:
        when = np.repeat(when[:, None], states.shape[1], axis=1)
    memory = model.start(put(states[starts], device), when)
    with np.errstate(all="ignore"):
        for block in cut.blocks(starts, math.prod(states.shape[1:])):
            rows = np.minimum(starts + steps[block], len(times) - 1)
            found = []
            for number, x in enumerate(put(states[rows], device), block.start):
                kept = []
                try:
                    x, memory = advance(model, x, memory)
                    later = memory
                    for lead in range(1, leads[-1] + 1) if number >= warmup else ():
                        if lead > 1:
                            x, later = advance(model, x, later)
                        if lead in leads:
                            kept.append(x)
                except StepError as error:
                    start = times[rows[number - block.start]]
                    raise error.at(number + 1, start) from error.__cause__
                if kept:
                    found.append(stacked(kept))
                if bar is not None:
                    bar.update()
            if found:
                stop = block.stop - warmup
                yield slice(stop - len(found), stop), fetch(stacked(found))
