"""Groups of segments run here, or as tasks of a cluster where a client is active."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from daml.arrays import in_task, one_core
from daml.errors import InputError, first_line
from daml.running.targets import Room, Target
from daml.segments import Cut

if TYPE_CHECKING:
    from distributed import Client

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


def active() -> Client | None:
    """Give the client of dask.distributed that is active in this process, if any.

    A task has none: one that waited for others could hold the only thread that they need.
    """
    if "distributed" not in sys.modules or in_task():
        return None
    from distributed import default_client

    try:
        client: Client = default_client()
    except ValueError:
        return None
    return client


def finished(
    client: Client, work: Callable[..., Any], shared: Any, tasks: Sequence[Any], what: str
) -> Iterator[tuple[int, Any]]:
    """Run tasks on a cluster, and yield the number and the result of each as it is done.

    Parameters
    ----------
    client : distributed.Client
    work : callable
        ``work(shared, task)``.
    shared : object
        What all tasks need; it goes to each worker once.
    tasks : sequence
    what : str
        Who asks, for errors.

    Raises
    ------
    InputError
        If a worker is lost, or something cannot be sent. What a task raises is raised here.
    """
    from distributed import as_completed
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    futures = {}
    try:
        there = client.scatter(shared, broadcast=True, hash=False)
        for number, task in enumerate(tasks):
            futures[client.submit(_alone, work, there, task, pure=False)] = number
        for future in as_completed(list(futures), loop=client.loop):
            yield futures[future], future.result()
            future.release()
    except (KilledWorker, FutureCancelledError) as error:
        raise InputError(
            f"{what}: the cluster lost a group of segments ({type(error).__name__}: "
            f"{first_line(error)}); give its workers more memory, or close the client to run here"
        ) from error
    except TypeError as error:
        if "pickle" not in str(error) and "serialize" not in str(error):
            raise
        raise InputError(
            f"{what}: a part of it cannot be sent to the workers of the cluster "
            f"({first_line(error)}); define model and scheme in a module, or close the client to "
            "run here"
        ) from error
    finally:
        late = [future for future in futures if not future.done()]
        if late:
            client.cancel(late)


def _alone(work: Callable[..., Any], shared: Any, task: Mapping[str, Any]) -> Any:
    """Do a task on one core."""
    with one_core():
        return work(shared, task)
