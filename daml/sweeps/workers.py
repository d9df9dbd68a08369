"""Where the members of a sweep run: here, on a cluster made for them, or on one that exists."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import xarray as xr
from tqdm.auto import tqdm

from daml.arrays import cores
from daml.errors import InputError, StoreError, first_line
from daml.sweeps.member import Member, run

if TYPE_CHECKING:
    from distributed import Client

SETTINGS = {
    # Workers that may die under a member before it is given up.
    "scheduler.allowed-failures": 10,
    # A worker holds one member at a time: no other is to blame where it dies.
    "scheduler.worker-saturation": 1.0,
    # A worker that dies twice in a short time is not given up, but started again.
    "deploy.lost-worker-timeout": "24h",
    # Ctrl-C reaches all processes of a terminal: this one ends its workers, which print nothing.
    # One that is ended would leave the lock between processes that tqdm makes for its bars.
    "worker.preload": [
        "import signal, threading, tqdm\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "tqdm.tqdm.set_lock(threading.RLock())\n"
    ],
    # Without Dask's limit on freed memory that is kept: a training takes a third longer by it.
    "nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
}
PATIENCE = 10
"""Seconds that a scheduler has to answer."""


def finished(
    members: Sequence[Member], device: str, scheduler: str | None, workers: int | None
) -> Generator[tuple[Member, xr.Dataset, bool]]:
    """Run members and yield them as they are done, in any order.

    Parameters
    ----------
    members : sequence of Member
    device : str
        Of the LSTM.
    scheduler : str, optional
        Address of a cluster that exists; one on this machine, unless given.
    workers : int, optional
        Of the cluster on this machine: a core each, unless given. 0 makes none: the members run
        in this process, one after another.

    Yields
    ------
    member : Member
    result : xarray.Dataset
        As :func:`daml.sweeps.member.run` gives it.
    lost : bool
        Whether the cluster failed, not the member: it may do better another time.

    Raises
    ------
    InputError
        If there is no cluster.
    StoreError
        If the scheduler is gone before the end.
    """
    if workers == 0:
        for member in members:
            yield member, run(member, device), False
        return
    from distributed import KilledWorker, as_completed

    with connected(scheduler, min(workers or cores(), len(members))) as client:
        if client.dashboard_link:
            tqdm.write(f"dashboard: {client.dashboard_link}")
        if not client.nthreads():
            tqdm.write(f"{scheduler}: no worker is there yet; waiting for one")
        about = uuid.uuid4().hex  # two sweeps on one cluster must not share a result
        waiting = {
            client.submit(run, member, device, key=f"member-{member.key}-{about}"): member
            for member in members
        }
        for future in as_completed(list(waiting), loop=client.loop):
            member = waiting.pop(future)
            try:
                result, lost = future.result(), False
            except Exception as error:
                if future.cancelled():
                    raise StoreError(
                        f"scheduler {scheduler or 'here'}: lost; what was finished is kept: start "
                        "it, then continue with --resume (resume=True)"
                    ) from error
                reason = f"{type(error).__name__}: {first_line(error)}"
                if isinstance(error, KilledWorker):
                    reason = "KilledWorker: each worker died under it; give them more memory"
                result, lost = member.outcome(reason), True
            yield member, result, lost
            future.release()


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """Give a client of the scheduler, or of a cluster on this machine that ends with it.

    Raises
    ------
    InputError
        If no scheduler answers, or no worker starts.
    """
    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import silence_logging_cmgr

    if scheduler is not None:
        with silence_logging_cmgr(logging.CRITICAL):
            try:
                client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"scheduler {scheduler!r}: no answer ({first_line(error)}); start one with "
                    "'dask scheduler' and give its address, or none for a cluster on this machine"
                ) from error
            with client:
                yield client
        return
    made: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1}
    made |= {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with dask.config.set({f"distributed.{name}": value for name, value in SETTINGS.items()}):
        try:
            cluster = LocalCluster(**made)
        except RuntimeError as error:
            raise InputError(
                f"sweep: the workers did not start ({first_line(error)}); a script must call "
                "daml.sweep under: if __name__ == '__main__':"
            ) from error
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client
