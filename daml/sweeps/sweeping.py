"""Sweeps: the twin experiment over a grid of parameters and seeds, one task per member."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from daml.arrays import check_device
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.progress import Progress
from daml.stores.keeper import keeper
from daml.sweeps.grid import planned
from daml.sweeps.member import Member
from daml.sweeps.workers import finished


@checked
def sweep(
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: int | Iterable[int] = 3,
    preset: str = "fast",
    fixed: Mapping[str, Any] | None = None,
    device: str = "cpu",
    store: str | Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.Dataset:
    """Run the twin experiment for each combination of parameters and each seed.

    The random numbers of a member depend only on its own parameters and its seed, so the rest of
    the grid, the order and the workers do not change results.

    Parameters
    ----------
    grid : mapping of str to sequence
        Values of each parameter that varies: of a preset (``steps``, ``passes``, ``epochs``,
        ``warm_start``, ``skip``, ``max_variance``, ``background``,
        ``correction``, ``window``) and of the LSTM (``hidden``, ``layers``,
        ``sequence_length``, ``burn_in``, ``batch_size``, ``learning_rate``); ``scheme``, a name
        of a class of :mod:`daml.schemes` that assimilates in place of 3DVar with the preset's B,
        and arguments of schemes (``members``, ``inflation``, ``radius``, ...), each of which
        holds for the schemes that have it; ``system``, "lorenz63" as in the paper or "lorenz96",
        a ring whose model has a wrong forcing (7.6 in place of 8).
    seeds : int or iterable of int
        Number of seeds, counted from 0, or the seeds themselves.
    preset : {"fast", "smoke", "literal"}
        Settings of all members, as in :func:`daml.paper.run`.
    fixed : mapping, optional
        Parameters in place of the preset's and the LSTM's.
    device : str
        Device of the LSTM.
    store : str or path, optional
        A Zarr store to which each member is written when it is done, and the result as the group
        ``result``.
    scheduler : str, optional
        Address of the scheduler of a running Dask cluster.
    workers : int, optional
        Number of workers of the cluster that is started if no ``scheduler`` is given; default: one
        per core. 0 starts none: the members run in this process.
    overwrite, resume : bool
        Replace a store of daml's; run what it lacks.

    Returns
    -------
    xarray.Dataset
        One dimension per parameter of the grid, then ``seed``. ``analysis_rmse``,
        ``background_rmse`` (..., iteration, record), ``mfe``, ``mfe_reduction`` (..., iteration,
        lead), ``pass_seconds`` (..., iteration), and ``held_out_square_error`` (..., iteration,
        block, lead) if observations were held out; the corresponding scores of the imperfect and
        the perfect model as ``imperfect_...`` and ``perfect_...``; ``error``, the message of a
        member that failed, whose scores are NaN, otherwise ""; ``seconds`` and ``experiment_seed``.

    Raises
    ------
    InputError, StoreError
        If a parameter is unknown, of another type or out of range, the scheduler does not answer,
        or the store holds another sweep.

    Examples
    --------
    >>> short = {"steps": 400, "passes": 1, "epochs": 1, "hidden": 4, "skip": 10}
    >>> result = sweep({"max_variance": [1, 2]}, seeds=1, fixed=short, workers=0)
    >>> dict(result.analysis_rmse.sizes)
    {'max_variance': 2, 'seed': 1, 'iteration': 1, 'record': 2}
    """
    plan = planned(grid, seeds, preset, {} if fixed is None else fixed)
    _check_workers(scheduler, workers)
    device = check_device(device, "sweep")
    keep = keeper(store, plan.attrs(device), overwrite=overwrite, resume=resume)
    with keep.open():
        done = {m.key: d for m, d in plan.begun(keep.begun)}
        keys = {member.key: member for member in plan.members}  # an argument may change nothing
        left = [member for key, member in keys.items() if key not in done]
        failed, there = 0, keep.begun is not None
        with (
            Progress("sweep", "member", len(keys), len(done)) as progress,
            closing(finished(left, device, scheduler, workers)) as results,
        ):
            progress.say(f"{len(left)} of {len(keys)} members to run")
            for member, result, lost in results if left else ():
                done[member.key] = result
                if not lost:
                    keep({f"member/{member.key}": result})
                    there = True
                failed += bool(result["error"].item())
                progress.advance({"failed": str(failed)}, _named(member, plan.grid))
        whole = plan.assembled(done).assign_attrs(plan.attrs(device))
        written = keep.begun is not None and "result" in keep.begun.children
        if there and (left or not written):  # what is visible is not written again
            keep({"result": whole})
    return whole


def _named(member: Member, grid: Iterable[str]) -> str:
    """Give the parameters that tell a member from the others of its sweep."""
    return ", ".join([*(f"{n} {member.parameters[n]}" for n in grid), f"seed {member.seed}"])


def _check_workers(scheduler: str | None, workers: int | None) -> None:
    """Refuse a cluster that cannot be."""
    if workers is not None and (type(workers) is not int or workers < 0):
        raise InputError(f"workers is {workers!r}; give 1 or more, or 0 for none")
    if workers is not None and scheduler is not None:
        raise InputError("workers and scheduler are given; a scheduler has its own workers")


def table(result: xr.Dataset) -> str:
    """Give the last analyses' RMSE on the test record as text: mean and spread over the seeds.

    Parameters
    ----------
    result : xarray.Dataset
        Result of :func:`sweep`.
    """
    dims = [str(dim) for dim in result["error"].dims if dim != "seed"]
    widths = [max(len(dim), 10) + 2 for dim in dims]
    lines = ["".join(f"{dim:<{n}}" for dim, n in zip(dims, widths, strict=True))]
    lines[0] += "RMSE of the analysis, test       failed"
    for place in np.ndindex(*(result.sizes[dim] for dim in dims)):
        row = result.isel(dict(zip(dims, place, strict=True)))
        named = [f"{row[dim].item()!s:<{n}}" for dim, n in zip(dims, widths, strict=True)]
        failed, of = int((row["error"] != "").sum()), row.sizes["seed"]
        lines.append("".join(named) + f"{_last(row):<33}{failed} of {of}")
    return "\n".join(lines)


def _last(row: xr.Dataset) -> str:
    """Give mean and standard deviation over the seeds of each member's last analysis."""
    if "analysis_rmse" not in row or row["analysis_rmse"].isnull().all():
        return "none"
    rmse = row["analysis_rmse"].sel(record="test")
    last = rmse.dropna("iteration", how="all").isel(iteration=-1).dropna("seed")
    spread = f" +- {float(last.std(ddof=1)):.4g}" if last.size > 1 else ""
    return f"{float(last.mean()):.4g}{spread}"
