"""Checks of models: before they run, and of what they gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from daml.arrays import fetch, home, put
from daml.errors import DivergedError, InputError, StepError, first_line, name_of
from daml.labels.arguments import fitting, shown
from daml.labels.dates import CALENDAR, check_text, is_span, months_of, span, unit_of_time
from daml.labels.space import StateSpace
from daml.labels.templates import Template
from daml.models.forced import check_given, names_of
from daml.randomness import ranks
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.stepping import advance

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

APART = 1e-4
"""Difference of a state that is stepped in a batch and alone, as a part of the batch's spread."""


def check_model(model: Model, time: Any = 0.0) -> None:
    """Refuse what is no model, and one that does not step a batch of states each on its own.

    A model is tried on a few states at ``time``, the first of a record where there is one.
    """
    check_settings(model)
    check_given(model)
    name, size = name_of(model), len(model.variables)
    rows = 3 if size != 3 else 4  # so that states and variables are not mistaken for each other
    states = typical(model, rows)
    x = _placed(model, states)
    schedule = getattr(model, "schedule", None)
    if schedule is not None:
        schedule.clock(time)  # refuses times of another kind
    with np.errstate(all="ignore"):
        try:
            memory = model.start(x, np.full(rows, time))
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{name}: 'start' failed for states of shape {states.shape} at the times {time} "
                f"({type(error).__name__}: {first_line(error)}); it takes x (..., variable) and "
                "time (...), which are numbers or datetime64 as the record has them"
            ) from error
        before = [fetch(x).copy(), *(leaf.copy() for leaf in _leaves(memory))]
        try:
            moved = advance(model, x, memory)[0]
        except StepError as error:
            if error.__cause__ is None:
                raise
            raise InputError(f"{error}{_advice(model, states, time, error)}") from error.__cause__
        after = [fetch(x), *_leaves(memory)]
        if not all(map(_same, before, after)):
            raise InputError(
                f"{name}: 'step' changes the state or the memory that it is given; work on a copy, "
                "e.g. x = x + ... in place of x += ..."
            )
        _check_rows(model, x, moved, time)


def _placed(model: Model, states: np.ndarray) -> Array:
    """Give a copy of states where a model steps; refuse a device that is not here."""
    device = home(model)
    try:
        return put(states.copy(), device)
    except Exception as error:
        raise InputError(
            f"{name_of(model)}: its 'device' is {device!r}, on which torch cannot compute "
            f"here ({first_line(error)}); give 'cpu', or leave it out"
        ) from error


def _advice(model: Model, states: np.ndarray, time: Any, error: StepError) -> str:
    """Say what to change in a model whose step raised for trial states (row, variable).

    A step that takes each state on its own, but no batch of them, takes the wrong axis. Another
    one has its own reason, which the first state that it refuses shows.
    """

    def fails(state: np.ndarray) -> bool:
        try:
            x = put(state.copy(), home(model))
            advance(model, x, model.start(x, np.full(state.shape[:-1], time)))
        except (Exception, SystemExit):
            return True
        return False

    refused = [row for row in states if fails(row[None])]
    if not refused or not any(map(fails, states)) or isinstance(error.__cause__, IndexError):
        return (
            f"; it must take a batch of shape (..., variable), here {states.shape}: write "
            "x[..., 0], not x[0]"
        )
    pairs = [f"{n}={value:.6g}" for n, value in zip(model.variables, refused[0], strict=True)]
    state = ", ".join(pairs[:4]) + ", ..." * (len(pairs) > 4)
    if getattr(model, "climate", None) is None:
        return (
            f" at the state {state}; a model is tried before it runs, on states near 1 where it "
            "has no 'climate': give it one, an array with a typical value of each variable"
        )
    return (
        f" at the state {state}; a model is tried before it runs, on states within 10 % of its "
        "'climate': correct that, or let 'step' take such states"
    )


def _check_rows(model: Model, states: Any, moved: Any, time: Any) -> None:
    """Refuse a step that mixes states (row, variable), or gives the same array each time."""
    name, together = name_of(model), fetch(moved).copy()

    def step(rows: slice) -> np.ndarray:
        x = states[rows] * 1.0  # a copy, where the states live
        return fetch(advance(model, x, model.start(x, np.full(len(x), time)))[0]).copy()

    with np.errstate(all="ignore"):
        alone = np.concatenate([step(slice(n, n + 1)) for n in range(len(states))])
        if not _same(fetch(moved), together):
            raise InputError(
                f"{name}: 'step' gives the same array each time and changes it later; return a new "
                "one"
            )
        spread = np.maximum(np.ptp(fetch(states), axis=0), _width(together))

        def apart(one: np.ndarray, two: np.ndarray) -> bool:
            both = np.isfinite(one) & np.isfinite(two)
            return bool((both & (np.abs(one - two) > APART * spread)).any())

        if apart(together, alone) and not apart(together, step(slice(None))):
            raise InputError(
                f"{name}: 'step' gives a different result for a state alone than for the same "
                "state beside others, so that it mixes the states of a batch (..., variable); "
                "work along the last axis: axis=-1, as in np.roll(x, 1, axis=-1), and x[..., "
                "0]"
            )


def check_settings(model: Model) -> None:
    """Refuse what is no model, or whose names, step or climate are none; run nothing."""
    name = name_of(model)
    if isinstance(model, type):
        raise InputError(f"{model.__name__} is a class, not a model; make one: {model.__name__}()")
    for needed in ("variables", "dt", "start", "step"):
        if not hasattr(model, needed):
            raise InputError(
                f"{name} is not a model: it has no {needed!r}; a model has variables, dt, "
                "start(x, time) and step(x, memory)"
            )
    variables = model.variables
    ordered = isinstance(variables, (tuple, list, pd.Index)) or (
        isinstance(variables, np.ndarray) and variables.ndim == 1
    )
    named = ordered and all(isinstance(v, str) for v in variables)
    if not named or len(variables) == 0 or len(set(variables)) != len(variables):
        what = f" {list(variables)}" if ordered and len(variables) < 20 else ""
        raise InputError(
            f"{name}: 'variables' is {shown(variables)}{what}; give a tuple of different names"
        )
    names_of(model)
    _check_dt(model)
    Template.of(model)
    StateSpace.of(model)
    Bounds.of(model)
    for which in ("climate", "climate_spread"):
        if getattr(model, which, None) is not None:
            _check_climate(model, which)


def _check_climate(model: Model, which: str) -> None:
    """Refuse a climate, or its spread, that has not one number for each variable."""
    name, variables, climate = name_of(model), tuple(model.variables), getattr(model, which)
    array = np.asarray(climate)
    if array.shape != (len(variables),) or array.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: {which!r} is {shown(climate)} of shape {array.shape}; give an array of "
            f"numbers, one for each of the {len(variables)} variables"
        )
    labels = getattr(climate, "to_series", lambda: climate)()
    index = labels.index if isinstance(labels, pd.Series) else variables
    if [str(v) for v in index] != [str(v) for v in variables]:
        raise InputError(
            f"{name}: {which!r} has labels in another order than 'variables'; give it in that "
            "order, without labels"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {which!r} holds values that are not finite; give numbers")
    if which == "climate_spread" and (array < 0).any():
        raise InputError(f"{name}: {which!r} holds negative values; give standard deviations")


def _check_dt(model: Model) -> None:
    """Refuse a step that is no positive number or span of time, and a unit that is none."""
    name, dt = name_of(model), model.dt
    unit = getattr(model, "time_unit", "s")
    if isinstance(dt, str):
        check_text(dt, name)
        return
    if unit not in CALENDAR:
        unit_of_time(unit, name)
    if not is_span(dt):
        fitting(name, "dt", dt, "float")
        positive = 0 < float(dt) < np.inf and months_of(dt, unit) != 0
    else:
        positive = bool(span(dt, unit, name) > pd.Timedelta(0))
    if not positive:
        raise InputError(f"{name}: 'dt' is {dt}; give a step > 0")


def typical(model: Model, rows: int = 4) -> np.ndarray:
    """Give a few different states (row, variable) near the model's climate, or near 1."""
    climate = getattr(model, "climate", None)
    size = len(model.variables)
    middle = np.ones(size) if climate is None else np.asarray(climate, dtype=np.float64)
    width = 0.1 * np.where(middle == 0, 1.0, np.abs(middle))
    drawn = np.random.default_rng(0).random((rows, size))
    found: np.ndarray = middle + width * drawn[:, ranks(model.variables)]
    return found


def remembers(model: Model, time: Any = 0.0) -> bool:
    """Whether a step depends on earlier states: tried on the same states after different ones.

    A memory that holds a clock, or nothing that matters, is none.

    Raises
    ------
    InputError
        If the same states and memory lead to different states.
    """
    device, states = home(model), typical(model)
    times, memories = np.full(len(states), time), []
    with np.errstate(all="ignore"):
        for x in (put(states.copy(), device), put(states[::-1].copy(), device)):
            memory = model.start(x, times)
            for _ in range(2):  # a window of states starts full of the first one
                x, memory = advance(model, x, memory)
            memories.append(memory)
        same = put(states.copy(), device)
        tried = [fetch(advance(model, same, m)[0]) for m in (*memories, memories[-1])]
    one, two, again = tried
    if not np.array_equal(two, again, equal_nan=True):
        raise InputError(
            f"{name_of(model)}: its step is random, and the scheme propagates a covariance "
            "with its steps; leave the random part out and give its variance as "
            "'model_error', or use an ensemble, e.g. daml.schemes.ETKF(20)"
        )
    return not np.array_equal(one, two, equal_nan=True)


def _leaves(memory: Memory) -> Iterator[np.ndarray]:
    """Give the NumPy arrays of a memory."""
    if isinstance(memory, np.ndarray):
        yield memory
    elif isinstance(memory, (tuple, list)):
        for part in memory:
            yield from _leaves(part)


def _same(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())


def _width(states: np.ndarray) -> np.ndarray:
    """Give the spread (variable,) of states (row, variable), what is not finite left out."""
    finite = np.where(np.isfinite(states), states, states[:1])
    width: np.ndarray = np.nan_to_num(np.ptp(finite, axis=0), nan=0.0, posinf=0.0)
    return width


def check_analysis(
    scheme: str, background: np.ndarray, analysis: np.ndarray, times: np.ndarray
) -> None:
    """Refuse what a scheme made not finite, of backgrounds (..., variable) at ``times`` (...)."""
    lost = ~np.isfinite(analysis).all(axis=-1) & np.isfinite(background).all(axis=-1)
    if lost.any():
        raise DivergedError(
            f"{scheme}: 'update' turned a finite background into an analysis that is not finite, "
            f"at time {times[lost].min()}; a missing observation has the value 0 there, and "
            "'present' says where one is: look for a division by zero, or for an 'operator' "
            "without a value there, such as the log of a negative number"
        )


def check_finite(
    states: np.ndarray, times: np.ndarray, variables: Sequence[str], what: str
) -> None:
    """Refuse states (..., variable) at ``times`` (...) that are not finite; say where it began."""
    wrong = ~np.isfinite(states)
    if wrong.any():
        places = np.argwhere(wrong)
        when = times[tuple(places[:, :-1].T)]
        first = int(np.argmin(when))
        raise DivergedError(
            f"{what} diverged: variable {variables[places[first, -1]]!r} is not finite at time "
            f"{when[first]}; take a smaller dt, or start nearer to the model's climate"
        )
