"""The cycle of a scheme that analyses some times together: those of a window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from daml.arrays import namespace, taken
from daml.protocols import Forecast, Observed, Run, Update, Window
from daml.running.cycling.ending import NO_ENDING, NO_HISTORY, Ending, History, Stand
from daml.running.cycling.guards import REJECTED, Guard
from daml.running.cycling.steps import Steps
from daml.running.cycling.tangents import has_past
from daml.schemes.calling import fresh, updated

if TYPE_CHECKING:
    from daml.protocols import Array, CarriesMemory, Memory, Model

Time = tuple[Observed, Run]
"""The observations of a time, and its position in the cycle."""


def windows(
    model: Model,
    scheme: Any,
    prepared: Memory,
    x: Array,
    memory: Memory,
    seen: Iterable[Time],
    after: Update | None = None,
    history: History = NO_HISTORY,
    ending: Ending = NO_ENDING,
) -> Iterator[tuple[Array, Update]]:
    """Yield the background and the update of each time, as :func:`cycle` does.

    The first time is a window of its own, which starts there. Windows after it start there, too,
    until they have all their steps. The last one has fewer if the record ends within a shift.
    """
    carrier = getattr(scheme, "carries", False) and model
    way = _Way(Steps(model, scheme, x, history.near), Guard(scheme), carrier)
    prepared, seen = fresh(prepared), iter(seen)
    start = _Point(x, memory)
    times: list[Time] = []
    path: list[_Point] = []
    errors: list[Array] = []
    if after is None:
        for time in islice(seen, 1):
            window = way.window(start, [start], [], 1, [])
            observed, rejected = way.guarded(window.background, [time], prepared)
            update, prepared = way.analysed(scheme, window, observed, (time[1],), prepared)
            front = start = way.begun(start, update)
            if update.onward is not None:
                start = way.begun(start, update.onward)
            ending.after(time[1], way.stand(start, prepared, (), update, front))
            yield x, _of_time(update, update.state, 0, rejected)
    else:
        start, times = way.begun(start, after), list(history.times)
        path, errors, front = way.resumed(start, history)
    while new := list(islice(seen, scheme.shift)):
        ends = [run for _, run in new]
        ahead = forecasts = way.path(path[-1] if path else start, ends)
        if front is not (path[-1] if path else start):
            forecasts = way.path(front, ends)
        times, path = [*times, *new], [*path, *ahead]
        errors = [*errors, *(namespace(p.state).zeros_like(p.state) for p in ahead)]
        # Where a record ends within a shift, the window starts as if it went on: so it is in a
        # segment that runs beyond the record.
        over = max(len(path) + scheme.shift - len(new) - scheme.window, 0)
        if over:
            start, times, path, errors = path[over - 1], times[over:], path[over:], errors[over:]
        runs = tuple(run for _, run in times)
        window = way.window(start, path, runs, len(new), errors)
        window = window._replace(forecasts=tuple(point.state for point in forecasts))
        kept, rejected = way.guarded(window.forecasts, new, prepared)
        times[-len(new) :] = zip(kept, ends, strict=True)
        observed = tuple(part for part, _ in times)
        update, prepared = way.analysed(scheme, window, observed, runs, prepared)
        onward = update.onward or update
        errors = list(onward.errors or (0 * error for error in errors))
        shown = way.within(way.path(way.begun(start, update), runs, update.errors))
        start = way.begun(start, onward)
        path = shown if update.onward is None else way.within(way.path(start, runs, onward.errors))
        front = shown[-1]
        ending.after(runs[-1], way.stand(start, prepared, times, update, front))
        for place, point in enumerate(shown[-len(new) :]):
            yield forecasts[place].state, _of_time(update, point.state, place, rejected)


class _Point(NamedTuple):
    """A state (..., variable) on the way, and the model's memory there."""

    state: Array
    memory: Memory


@dataclass(frozen=True)
class _Way:
    """How a model goes through a window."""

    steps: Steps
    guard: Guard
    carrier: Any
    """The model, if the members' memory may move with their states."""

    def path(
        self, start: _Point, runs: Sequence[Run], errors: Sequence[Array] | None = None
    ) -> list[_Point]:
        """Give the points at each position, from the one at the start."""
        x, memory = start
        found = []
        for place, run in enumerate(runs):
            x, memory = self.steps.moved(x, memory, run)
            if errors is not None:
                x = x + errors[place]
            found.append(_Point(x, memory))
        return found

    def resumed(self, start: _Point, history: History) -> tuple[list[_Point], list[Array], _Point]:
        """Give the points of the times before, what was added at each, and where forecasts start.

        They are those that a cycle had when it stood at ``start``.
        """
        path = self.path(start, [run for _, run in history.times], history.errors or None)
        path = self.within(path)
        errors = list(history.errors or (namespace(p.state).zeros_like(p.state) for p in path))
        front = path[-1] if path else start
        return path, errors, front if history.front is None else _Point(*history.front)

    def guarded(
        self, backgrounds: Sequence[Array], times: Sequence[Time], memory: Memory
    ) -> tuple[tuple[Observed, ...], tuple[Array | None, ...]]:
        """Give the observations of some times that a scheme may use, and the gross errors."""
        pairs = zip(backgrounds, times, strict=True)
        found = [self.guard.of(Forecast(x), *time, memory) for x, time in pairs]
        observed, rejected = zip(*found, strict=True)
        return observed, rejected

    def within(self, path: list[_Point]) -> list[_Point]:
        """Give the points of an analysis within the bounds of the model."""
        bounds = self.steps.bounds
        if bounds is None:
            return path
        return [point._replace(state=bounds.within(point.state)) for point in path]

    def window(
        self,
        start: _Point,
        path: Sequence[_Point],
        runs: Sequence[Run],
        fresh: int,
        errors: Sequence[Array],
    ) -> Window:
        """Give the window that a scheme analyses."""

        def memory_of(x: Array) -> Memory:
            members = start.state.ndim > x.ndim
            lead = tuple(start.state.shape[:-1])
            return _of_first(start.memory, lead) if members else start.memory

        def moved(
            x: Array,
            errors: Sequence[Array] | None = None,
            *,
            carried: Array | None = None,
            rows: np.ndarray | None = None,
        ) -> tuple[Array, ...]:
            if not runs:
                return (x,)
            memory, times = _recordable(memory_of(x), x), runs
            if rows is not None:
                memory = _of_rows(memory, rows, tuple(start.state.shape[:-1]))
                times = [r._replace(step=r.step[rows], segment=r.segment[rows]) for r in runs]
            if carried is not None:
                memory = cast("CarriesMemory", self.carrier).unpacked(memory, carried)
            return tuple(p.state for p in self.path(_Point(x, memory), times, errors))

        def linear(
            x: Array, errors: Sequence[Array] | None = None
        ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            if not runs:
                return (x,), ()
            first = _Point(x, memory_of(x))
            path = self.path(first, runs, errors)
            before = [first, *path[:-1]]
            tangents = cast("Any", self.steps.tangents)
            return tuple(p.state for p in path), tuple(tangents.at(*p) for p in before)

        carried = None
        if hasattr(self.carrier, "packed"):
            carried = cast("CarriesMemory", self.carrier).packed(start.memory, start.state)
        background = tuple(p.state for p in path)
        way = start.state, background, fresh, moved, linear, tuple(errors)
        how = self.steps.error, carried, background[-fresh:]
        remembers = any(has_past(self.steps.model, point.memory) for point in path)
        return Window(*way, *how, remembers)

    def stand(
        self, start: _Point, known: Memory, times: Sequence[Time], update: Update, front: _Point
    ) -> Stand:
        """Give where the cycle stands after a window."""
        errors, apart = (update.onward or update).errors or (), update.onward and front
        return Stand(*start, known, History(self.steps.near, tuple(times), tuple(errors), apart))

    def analysed(
        self,
        scheme: Any,
        window: Window,
        observed: tuple[Observed, ...],
        runs: tuple[Run, ...],
        known: Memory,
    ) -> tuple[Update, Memory]:
        """Give what a scheme makes of a window, within the bounds of the model."""
        update, known = updated(scheme, window, observed, runs, known)
        return self.steps.bounded(update), known

    def begun(self, start: _Point, update: Update) -> _Point:
        """Give the point from which the analysis of a window goes on."""
        memory = start.memory
        if update.carried is not None:
            memory = cast("CarriesMemory", self.carrier).unpacked(memory, update.carried)
        return _Point(update.state, memory)


def _of_first(memory: Memory, lead: tuple[int, ...]) -> Memory:
    """Give the memory of the first members; ``lead`` are the leading axes of all states.

    Networks have them in one axis.
    """
    if isinstance(memory, (tuple, list)):
        return tuple(_of_first(part, lead) for part in memory)
    shape = tuple(getattr(memory, "shape", ()))
    if shape[: len(lead)] == lead:
        return memory[(slice(None),) * (len(lead) - 1) + (0,)]
    if shape and shape[0] == math.prod(lead):
        return memory[:: lead[-1]]
    return memory


def _recordable(memory: Memory, x: Array) -> Memory:
    """Give a memory beside which tensors ``x`` may be recorded.

    What an emulator made of NumPy's states, without a gradient, torch refuses to record.
    """
    if isinstance(memory, (tuple, list)):
        return tuple(_recordable(part, x) for part in memory)
    is_closed = getattr(memory, "is_inference", None)
    if isinstance(x, np.ndarray) or is_closed is None or not is_closed():
        return memory
    return memory.clone()


def _of_rows(memory: Memory, rows: np.ndarray, lead: tuple[int, ...]) -> Memory:
    """Give the memory of some states of a batch; ``lead`` are the leading axes of all states.

    Networks have them in one axis.
    """
    if isinstance(memory, (tuple, list)):
        return tuple(_of_rows(part, rows, lead) for part in memory)
    shape = tuple(getattr(memory, "shape", ()))
    if shape[: len(lead)] == lead:
        return taken(memory, rows)
    if shape and shape[0] == math.prod(lead):
        return taken(memory, np.repeat(rows.ravel(), shape[0] // rows.size))
    return memory


def _of_time(update: Update, state: Array, place: int, rejected: Sequence[Array | None]) -> Update:
    """Give the update of a time: its state, and what the scheme says of it besides."""
    extras = {name: parts[place] for name, parts in update.extras.items() if place < len(parts)}
    if rejected[place] is not None:
        extras[REJECTED] = rejected[place]
    return Update(state, extras)
