"""Groups of segments as tasks of dask.distributed, where a client is active."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daml.arrays import one_core
from daml.errors import InputError, first_line

if TYPE_CHECKING:
    from distributed import Client


def active() -> Client | None:
    """Give the client of dask.distributed that is active in this process, if any.

    A task has none: one that waited for others could hold the only thread that they need.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client, get_worker

    try:
        get_worker()
    except ValueError:
        pass
    else:
        return None
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
    """Do a task on one core, with what it loads from Dask's arrays computed in this thread."""
    import dask

    with dask.config.set(scheduler="synchronous"), one_core():
        return work(shared, task)
