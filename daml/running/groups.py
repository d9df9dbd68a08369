"""Groups of segments run here, or as tasks of a cluster where a client is active."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from daml.running.on_cluster import active, finished
from daml.running.targets import Room, Target
from daml.segments import Cut

Run = Callable[[Cut, np.ndarray, Room, Any], Any]
"""Runs the segments of a group and fills its room; the last argument is a progress bar."""


class Places(NamedTuple):
    """Where groups run, and where their results go."""

    target: Target
    bar: Any
    """Of progress."""
    each: Callable[..., Iterator[Any]]
    """A ``map``, for groups that run here."""
    what: str
    """Who asks, for errors."""


def all_of(run: Run, cut: Cut, groups: list[np.ndarray], places: Places) -> list[Any]:
    """Run groups, and give what each leaves; the numbers do not depend on where they run.

    Raises
    ------
    InputError
        If a cluster loses a group, or it cannot be sent there.
    """
    target = places.target
    client = active() if len(groups) > 1 else None
    if client is None:

        def here(group: np.ndarray) -> Any:
            room = target.room(group, cut)
            found = run(cut, group, room, places.bar)
            target.close(group, cut, room)
            return found

        return list(places.each(here, groups))
    found: list[Any] = [None] * len(groups)
    tasks = [(cut, group, target.shapes) for group in groups]
    for number, (part, room) in finished(client, _elsewhere, run, tasks, places.what):
        target.close(groups[number], cut, room)
        found[number] = part
        places.bar.update(cut.steps)
    return found


def _elsewhere(
    run: Run, task: tuple[Cut, np.ndarray, Mapping[str, tuple[int, ...]]]
) -> tuple[Any, Room]:
    """Run a group on a worker; give what it leaves, and its rows."""
    cut, group, shapes = task
    room = {name: np.empty((len(group), cut.length, *shape)) for name, shape in shapes.items()}
    with tqdm(disable=True) as bar:
        return run(cut, group, room, bar), room
