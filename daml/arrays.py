"""Where arrays live while they are computed on: in NumPy, or in torch on a device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace

from daml.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Array, Model


def namespace(array: Array) -> Any:
    """Give the module, NumPy or that of torch by the Array API, whose functions take an array.

    A step of a small model spends a tenth of its time on asking for it in general.
    """
    return np if type(array) is np.ndarray else array_namespace(array)


def home(model: Model) -> str | None:
    """Give the torch device that a model steps on; None where that is the CPU, by NumPy."""
    device = str(getattr(model, "device", "cpu"))
    return None if device == "cpu" else device


def check_device(device: object, what: str) -> str:
    """Give a device on which daml computes, as text: the CPU, or a CUDA device that is here.

    Raises
    ------
    InputError
        It begins with ``what``.
    """
    import torch

    name = str(device)
    kind, colon, number = name.partition(":")
    known = isinstance(device, (str, torch.device))
    if not known or kind not in ("cpu", "cuda") or (colon and not number.isdecimal()):
        raise InputError(f"{what}: device {name[:60]!r} is unknown; give 'cpu', 'cuda' or 'cuda:0'")
    if kind == "cpu":
        return name
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"{what}: device {name!r} is not available here; give device='cpu'")
    return name


def put(array: np.ndarray, device: str | None) -> Array:
    """Move an array to a device, in one transfer."""
    if device is None:
        return array
    import torch

    # torch warns of arrays that may not be written into.
    return torch.as_tensor(array if array.flags.writeable else array.copy(), device=device)


def fetch(array: Array) -> np.ndarray:
    """Give an array back in NumPy, in one transfer."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu().numpy())


def alike(array: np.ndarray, other: Array) -> Array:
    """Give an array in the kind of another one: NumPy's, or torch's on its device."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.as_tensor(array, dtype=other.dtype, device=other.device)


def taken(array: Array, rows: np.ndarray) -> Array:
    """Give some states (state, ...) of a batch, where ``rows`` (...) is True."""
    if isinstance(array, np.ndarray):
        return array[rows]
    import torch

    return array[torch.as_tensor(rows, device=array.device)]


def unrecorded(array: Array) -> AbstractContextManager[Any]:
    """Give a context in which torch records nothing of what is done with an array for gradients."""
    if isinstance(array, np.ndarray):
        return nullcontext()
    import torch

    return torch.no_grad()


def stacked(arrays: Sequence[Array]) -> Array:
    """Join arrays along a new first axis, where they live."""
    if isinstance(arrays[0], np.ndarray):
        return np.stack(arrays)
    import torch

    return torch.stack(list(arrays))


def on_its_own(array: Array) -> Array:
    """Give a copy of what may be a part of a larger array, which need not be kept for it."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def member_mean(x: Array) -> Array:
    """Give the mean (..., any) of members (..., member, any).

    A product does it in a tenth of the time of NumPy's mean.

    Examples
    --------
    >>> member_mean(np.array([[1.0, 2.0], [3.0, 6.0]]))
    array([2., 4.])
    """
    shape, weight = (1, x.shape[-2]), 1 / x.shape[-2]
    is_numpy = isinstance(x, np.ndarray)
    weights = np.full(shape, weight, x.dtype) if is_numpy else x.new_full(shape, weight)
    return (weights @ x)[..., 0, :]


@contextmanager
def one_core_each(workers: int) -> Iterator[Callable[..., Any]]:
    """Give a ``map`` over threads, each of which computes by torch on one core.

    How work is shared out must not depend on the number of threads: results would. torch's own
    threads gain nothing where products are as small as a time step's.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    workers = min(torch.get_num_threads(), workers)
    with (
        one_core(),  # BLAS minds the main thread's number, too.
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool.map


@contextmanager
def on_cores(tasks: int, like: Array) -> Iterator[Callable[..., Any]]:
    """Give a ``map`` over threads for tasks of NumPy, or the plain one where that does not pay.

    As many as there are cores, or as ``OMP_NUM_THREADS`` says. Threads of a pool, such as those of
    groups of segments, start no further ones. ``like`` is an array that the tasks work on: torch
    has its own threads, and records gradients in one.
    """
    from concurrent.futures import ThreadPoolExecutor

    limit = os.environ.get("OMP_NUM_THREADS", "")
    workers = min(int(limit) if limit.isdecimal() else cores(), tasks)
    alone = current_thread() is not main_thread()
    if workers < 2 or alone or not isinstance(like, np.ndarray):
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:

        def each(work: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[Any]:
            # Each in a copy of this thread's context, which says what NumPy warns of.
            contexts = [copy_context() for _ in given]
            return pool.map(lambda context, task: context.run(work, task), contexts, given)

        yield each


def read(variable: xr.Variable) -> np.ndarray:
    """Give the values of a variable; in a task of a cluster its thread computes those of Dask.

    The scheduler is named for this call alone: Dask's configuration is one for all threads of a
    process, so a task that set it there could change it for others, and after they had ended.
    """
    return np.asarray(variable.compute(**({"scheduler": "synchronous"} if in_task() else {})))


def in_task() -> bool:
    """Say whether this is a task of dask.distributed."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def cores() -> int:
    """Give the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch compute on one core: results must not depend on the number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
