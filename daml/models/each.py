"""A model that steps one state at a time, such as an external program, as a model of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.errors import DamlError, InputError, StepError, first_line
from daml.labels.arguments import checked
from daml.models.enclosing import Around

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model


@checked
def each(model: Model, *, workers: int = 1) -> Each:
    """Make a model that steps batches of states from one that steps a single state.

    Parameters
    ----------
    model : Model
        Its ``start(x, time)`` and ``step(x, memory)`` take one state (variable,) and one time. If
        it has ``forcings``, its ``step(x, memory, forcing)`` takes their values (forcing,). The
        memory may be any object; ``step`` must return a new one and must not change the memory that
        it is given.
    workers : int
        Number of threads that step the states of a batch in parallel. More than one is worthwhile
        if a step waits for an external program, or runs compiled code that releases Python's global
        interpreter lock.

    Returns
    -------
    Each
        A model that takes states (..., variable).

    Raises
    ------
    InputError
        If an argument is of another type, or ``workers`` is below 1.

    Examples
    --------
    >>> import daml
    >>> class Rotation:
    ...     variables, dt = ("u", "v"), 1.0
    ...
    ...     def start(self, x, time=None):
    ...         return None
    ...
    ...     def step(self, x, memory):
    ...         u, v = x  # of one state
    ...         return np.array([0.8 * u - 0.6 * v, 0.6 * u + 0.8 * v]), memory
    >>> model = daml.models.each(Rotation())
    >>> model.step(np.ones((10, 2)), model.start(np.ones((10, 2))))[0].shape
    (10, 2)
    """
    return Each(model, workers)


class Each(Around):
    """A model that steps batches of states with one that steps a single state; see :func:`each`.

    It also has all other attributes of the given model (``climate``, ``time_unit``, ...).

    Parameters
    ----------
    model : Model
        The model that steps a single state (variable,).
    workers : int
        Number of threads that step the states of a batch in parallel.

    Raises
    ------
    InputError
        If ``model`` is not a model, or ``workers`` is below 1.
    """

    def __init__(self, model: Model, workers: int = 1) -> None:
        for needed in ("variables", "dt", "start", "step"):
            if not hasattr(model, needed):
                raise InputError(
                    f"each: {type(model).__name__} is not a model: it has no {needed!r}; a model "
                    "has variables, dt, start(x, time) and step(x, memory)"
                )
        if workers < 1:
            raise InputError(f"each: 'workers' is {workers}; give 1 or more")
        self.model, self._workers = model, workers

    def __repr__(self) -> str:
        return f"each({self.model!r})"

    def start(self, x: Array, time: Array | None = None) -> Memory:
        """Give the memory of each state of ``x`` (..., variable), at ``time`` (...) if given.

        Memories that are arrays or numbers, or tuples of these, are stacked to arrays (..., entry).
        Other objects are held in an array (...) of objects.
        """
        states, times = _rows(x), None if time is None else np.broadcast_to(time, x.shape[:-1])

        def begun(place: int) -> Memory:
            when = None if times is None else times.ravel()[place]
            return self.model.start(states[place], when)

        return _together(self._map("start", begun, x.shape[:-1]), x.shape[:-1])

    def step(self, x: Array, memory: Memory, *forcing: Array) -> tuple[Array, Memory]:
        """Step each state of ``x`` (..., variable) by one dt, with its own memory.

        A model with ``forcings`` also takes their values (..., forcing).

        Raises
        ------
        StepError
            If the step of a state raises, or does not return a state. The message names the first
            such state.
        """
        states, batch = _rows(x), x.shape[:-1]
        values = [_rows(part) for part in forcing]

        def moved(place: int) -> tuple[np.ndarray, Memory]:
            own = (part[place] for part in values)
            result = cast("Any", self.model).step(states[place], _one(memory, batch, place), *own)
            return _state(result, x.shape[-1:])

        found = self._map("step", moved, batch)
        if not found:
            return np.array(x), memory
        moved_states, memories = zip(*found, strict=True)
        return np.stack(moved_states).reshape(x.shape), _together(memories, batch)

    def _map(self, what: str, run: Callable[[int], Any], batch: tuple[int, ...]) -> list[Any]:
        """Run a function on the place of each state; an error says which state it was."""

        def named(place: int) -> Any:
            try:
                return run(place)
            except DamlError:
                raise
            except (Exception, SystemExit) as error:
                at = ", ".join(map(str, np.unravel_index(place, batch))) if batch else "0"
                wrong = isinstance(error, _NoState)
                reason = str(error) if wrong else f"{type(error).__name__}: {first_line(error)}"
                raise StepError(
                    f"{type(self.model).__name__}: {what!r} failed for state {at} of a batch of "
                    f"{batch or (1,)} ({reason})"
                ) from (None if wrong else error)

        places = range(int(np.prod(batch)))
        if self._workers == 1 or len(places) < 2:
            return [named(place) for place in places]
        with ThreadPoolExecutor(min(self._workers, len(places))) as pool:
            return list(pool.map(named, places))


def _rows(x: Array) -> np.ndarray:
    """Give copies of the states (state, variable) of a batch (..., variable)."""
    if not isinstance(x, np.ndarray):
        raise InputError(
            "each: a model that steps one state at a time takes NumPy's arrays, not a "
            f"{type(x).__name__}; for a gradient give a model that steps torch tensors"
        )
    return np.array(x).reshape(-1, x.shape[-1])


class _NoState(ValueError):
    """What a step gave is no state; the message says what it was."""


def _state(result: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, Memory]:
    """Give state (variable,) and memory of what a step returned; refuse what is no state."""
    if not isinstance(result, tuple) or len(result) != 2:
        many = f" of {len(result)}" if isinstance(result, tuple) else ""
        raise _NoState(f"it gave a {type(result).__name__}{many}; return (state, memory)")
    found, memory = result
    state = np.asarray(np.ma.filled(found, np.nan) if np.ma.isMaskedArray(found) else found)
    if state.shape != shape or state.dtype.kind not in "fiu":
        raise _NoState(
            f"it gave a state of {state.dtype} and shape {state.shape}; return real numbers of "
            f"shape {shape}"
        )
    return state.astype(np.float64, copy=False), memory


class _Held:
    """A memory that is no array; equal to itself only."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _together(memories: Sequence[Memory], batch: tuple[int, ...]) -> Memory:
    """Lay the memories of states along the axes (...) of their batch."""
    if all(memory is None for memory in memories):
        return None
    if all(type(m) is tuple and len(m) == len(memories[0]) for m in memories):
        return tuple(_together(parts, batch) for parts in zip(*memories, strict=True))
    if all(isinstance(m, (np.ndarray, np.generic, float, int)) for m in memories):
        arrays = [np.asarray(m) for m in memories]
        if all((a.shape, a.dtype) == (arrays[0].shape, arrays[0].dtype) for a in arrays):
            return np.stack(arrays).reshape((*batch, *arrays[0].shape))
    held = np.empty(len(memories), dtype=object)
    held[:] = [_Held(memory) for memory in memories]
    return held.reshape(batch)


def _one(memory: Memory, batch: tuple[int, ...], place: int) -> Memory:
    """Give the memory of one state of a batch."""
    if memory is None:
        return None
    if isinstance(memory, tuple):
        return tuple(_one(part, batch, place) for part in memory)
    found = memory.reshape(-1, *memory.shape[len(batch) :])[place]
    if isinstance(found, _Held):
        return found.value
    return found.copy() if isinstance(found, np.ndarray) else found
