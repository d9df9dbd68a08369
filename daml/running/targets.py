"""Where the segments of a record go as they are done: into rows, in memory or in Zarr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from daml.segments import Cut, consecutive

Room = Mapping[str, Any]
"""By name, what takes values (segment, step, ...) of a group by ``room[name][a:b, c:d] = ...``"""


class Target:
    """Arrays (time, ...) by name, NumPy's or Zarr's; groups of segments come in any order."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = arrays
        self.writing = Lock()  # groups may end within a chunk of a store, and are run by threads

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of a row of each array."""
        return {name: tuple(array.shape[1:]) for name, array in self.arrays.items()}

    def room(self, group: np.ndarray, cut: Cut) -> Room:
        """Give room for a group; of a record in one piece what writes through."""
        if cut.segments == 1:
            return {name: _Through(array) for name, array in self.arrays.items()}
        first, stop = int(group[0]) * cut.length, (int(group[-1]) + 1) * cut.length
        whole = stop <= cut.total and len(consecutive(group)) == 1
        return {
            name: array[first:stop].reshape(len(group), cut.length, *array.shape[1:])  # no copy
            if isinstance(array, np.ndarray) and whole
            else np.empty((len(group), cut.length, *array.shape[1:]))
            for name, array in self.arrays.items()
        }

    def close(self, group: np.ndarray, cut: Cut, room: Room) -> None:
        """Put the room of a group into its rows; the last segment may reach beyond them."""
        if cut.segments == 1:
            return
        with self.writing:
            for part in consecutive(group):
                first = int(group[part][0]) * cut.length
                stop = min((int(group[part][-1]) + 1) * cut.length, cut.total)
                for name, array in self.arrays.items():
                    if isinstance(array, np.ndarray) and np.may_share_memory(array, room[name]):
                        continue
                    rows = room[name][part].reshape(-1, *array.shape[1:])
                    array[first:stop] = rows[: stop - first]


class _Through:
    """Writes the steps of a single segment where they belong."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __setitem__(self, place: tuple[slice, slice], values: np.ndarray) -> None:
        self.array[place[1]] = values[0]


def pick(
    parts: dict[str, np.ndarray],
    done: int,
    picked: Iterable[tuple[np.ndarray, str, np.ndarray]],
) -> None:
    """Keep what a block has of some steps (segment,), by name, in arrays (segment, variable)."""
    for into, name, steps in picked:
        if name in parts:
            at = steps - done
            inside = (at >= 0) & (at < len(parts[name]))
            into[inside] = parts[name][at[inside], inside]


def sort(
    parts: dict[str, np.ndarray], early: np.ndarray, done: int, length: int, room: Room
) -> None:
    """Put a block (step, segment, width), ``done`` steps after the start, into its room.

    ``early`` says how many steps of spin-up each segment has.
    """
    for spinup in np.unique(early):
        members = np.flatnonzero(early == spinup)
        side = slice(members[0], members[-1] + 1)
        first = max(spinup - done, 0)
        stop = min(spinup + length - done, len(parts["analysis"]))
        if first < stop:
            place = slice(done + first - spinup, done + stop - spinup)
            for name, part in parts.items():
                room[name][side, place] = part[first:stop, side].swapaxes(0, 1)
