"""What a network learns from: states and increments of a record, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from daml import segments
from daml.errors import InputError
from daml.labels.datasets import (
    check_dims,
    check_dtype,
    check_names,
    check_time,
    check_values,
    names,
    time_axis,
)
from daml.labels.doors import flat
from daml.labels.forcings import Forcings, Schedule
from daml.labels.trajectories import TRAJECTORY
from daml.models.forced import lent
from daml.protocols import Model
from daml.running.checks import check_model
from daml.running.cycling.stepping import advance
from daml.running.moments import joined, moments
from daml.training.engine import Blocks, Tensors
from daml.training.held_out import HeldOut


class Block(NamedTuple):
    """A part of a record: states (time, variable), their increments, whether a target counts.

    ``forcing`` (time, column) are the forcings of the times of the states. Of a record of many
    trajectories all have these as a first axis.
    """

    states: np.ndarray
    increments: np.ndarray
    weights: np.ndarray
    forcing: np.ndarray
    variances: np.ndarray | None = None
    """The error variances (time, variable) of the targets, if the record has a ``spread``."""

    def precision(self, floor: float | None, spread: np.ndarray) -> np.ndarray:
        """Give how much targets count: (time,), or (time, variable) by their error variances.

        A variance s^2 gives the weight 1 / (s^2 + floor) to a squared error, both in units of
        ``spread`` (variable,); a target whose variance is unknown (NaN) does not count.
        """
        if floor is None or self.variances is None:
            return self.weights
        found = np.nan_to_num(spread**2 / (self.variances + floor), nan=0.0)
        return np.asarray(found * self.weights[..., None])


class Examples:
    """A record to learn from, in memory or not; blocks follow from its length alone.

    Parameters
    ----------
    analysis : xarray.Dataset
        As an emulator's ``fit`` takes it.
    length : int
        Steps of a sequence.
    base : Model, optional
        What the increments are counted from; the state before, unless given.
    held_out : float
        Part of the record, in blocks of time, whose targets do not count (:class:`HeldOut`).
    owner : str
        Name of the emulator's class, for errors.
    setting : str
        Name of the emulator's setting that ``length`` is, for errors.
    forcings : Forcings, optional
        What the emulator is given besides the states; the base takes its own of them.

    Raises
    ------
    InputError
        If the record breaks the contract or is too short.
    """

    def __init__(
        self,
        analysis: xr.Dataset,
        length: int,
        base: Model | None,
        held_out: float = 0.0,
        *,
        owner: str,
        setting: str = "sequence_length",
        forcings: Forcings | None = None,
    ) -> None:
        self.what = f"{owner}.fit"
        self._read(flat(analysis, base))
        if self.length < length:
            raise InputError(
                f"{self.what}: a record of {self.length + 1} steps is too short to train on; "
                f"give more steps than {setting} ({length}), or a smaller {setting}"
            )
        self.schedule = None if forcings is None else Schedule(forcings, *self.step)
        self.columns = () if forcings is None else forcings.columns
        if self.schedule is not None:
            self.schedule.check(self.times[0], self.times[-2], self.what)
        self.base = None if base is None else self._checked(lent(base, forcings), owner)
        rows, many = self.length + 1, self.trajectories or 1
        self.held_out = HeldOut(many * rows, held_out, many) if held_out else None
        rows = segments.rows_at_once(len(self.variables))
        count = math.ceil(self.steps / max(rows, 4 * length))
        whole = self.trajectories or self.steps
        self.edges = np.linspace(0, whole, min(count, whole) + 1).astype(int)
        """Steps, or trajectories, at which blocks begin and end."""

    def _read(self, analysis: xr.Dataset) -> None:
        """Take the labels off a record; refuse what is none."""
        self.name = "analysis" if "analysis" in analysis else "state"
        check_dims(analysis, self.name, ("time", "variable"))
        check_names(analysis, self.name)
        array = analysis[self.name]
        check_dtype(array, self.name)
        if array.sizes.get(TRAJECTORY) == 1:
            analysis, array = analysis.isel({TRAJECTORY: 0}), array.isel({TRAJECTORY: 0})
        many = tuple(dim for dim in (TRAJECTORY,) if dim in array.dims)
        if array.ndim != 2 + len(many):
            raise InputError(
                f"{self.what}: {self.name!r} has the dimensions {array.dims}; give (time, variable)"
            )
        self.array = array.variable.transpose(*many, "time", "variable")
        self.variables = names(analysis)
        self.length = array.sizes["time"] - 1
        self.trajectories = array.sizes[TRAJECTORY] if many else None
        self.steps = self.length * (self.trajectories or 1)
        self.step = _step_of(analysis, self.name, self.what)
        self.times = analysis["time"].values
        self.seen: xr.Variable | None = None
        if "innovation" in analysis:
            innovation = analysis["innovation"].variable
            self.seen = innovation.transpose(*many, "time", "observed")
        self.spread: xr.Variable | None = None
        if "spread" in analysis:
            self.spread = analysis["spread"].variable.transpose(*many, "time", "variable")

    def _checked(self, base: Model, owner: str) -> Model:
        """Give the base; refuse one that cannot step the record."""
        check_model(base, self.times[0])
        if tuple(base.variables) != self.variables:
            raise InputError(
                f"{owner}: the base steps {tuple(base.variables)}, and the analysis has "
                f"{self.variables}; give a base with the same variables"
            )
        return base

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, number: int) -> Block:
        """Give a block."""
        first, stop = int(self.edges[number]), int(self.edges[number + 1])
        rows: tuple[slice, ...]
        if self.trajectories is None:
            block, rows = self._rows(first, stop), (slice(first + 1, stop + 1),)
        else:
            group = slice(first, stop)
            block, rows = self._rows(0, self.length, group), (group, slice(1, None))
        if self.held_out is None:
            return block
        trained = ~self._by_row(self.held_out.untrained)[rows]
        return block._replace(weights=block.weights * trained)

    def _by_row(self, held: np.ndarray) -> np.ndarray:
        """Give what is said of rows, those of all trajectories in a row, as (trajectory, time)."""
        return held if self.trajectories is None else held.reshape(self.trajectories, -1)

    def judged(self, length: int, burn_in: int) -> list[Block]:
        """Give sequences of a length whose targets, after the burn-in, cover what is held out."""
        if self.held_out is None:
            return []
        found = []
        for rows in self.held_out.sequences(length, burn_in):
            number, row = divmod(int(rows[0]), self.held_out.own)
            first = max(row - 1, 0)
            seen = slice(first + 1, first + length + 1)
            one: Any = () if self.trajectories is None else (number,)
            block = self._rows(first, first + length, *one)
            counts = self._by_row(self.held_out.judged)[(*one, seen)]
            found.append(block._replace(weights=block.weights * counts))
        return found

    def blocks(self, read: Callable[[int], Tensors]) -> Blocks:
        """Give the record to a training, whose tensors of a block ``read`` gives."""
        length = None if self.trajectories is None else self.length
        return Blocks(self.steps, len(self), read, length)

    def _rows(self, first: int, stop: int, group: slice | int | None = None) -> Block:
        """Give the states from one row to another, and what each goes on to.

        They are those of a ``group`` of trajectories, or of one, where there are many.
        """
        many = () if group is None else (group,)
        states = np.asarray(self.array[(*many, slice(first, stop + 1))].values, dtype=np.float64)
        check_values(states, self.name, self.variables)
        if np.isnan(states).any():
            raise InputError(
                f"{self.what}: {self.name!r} has missing values; give an analysis of all steps"
            )
        start = before = states[..., :-1, :]
        if self.base is not None:
            times = np.broadcast_to(self.times[first:stop], start.shape[:-1])
            before = advance(self.base, start, self.base.start(start, times))[0]
        weights = np.ones(start.shape[:-1])
        if self.seen is not None:
            seen = np.isfinite(self.seen[(*many, slice(first + 1, stop + 1))].values)
            weights = seen.any(axis=-1).astype(float)
        forcing = self._forcing(first, stop)
        forcing = np.broadcast_to(forcing, (*start.shape[:-1], forcing.shape[-1]))
        variances = None
        if self.spread is not None:
            spread = self.spread[(*many, slice(first + 1, stop + 1))].values
            variances = np.asarray(spread, dtype=np.float64) ** 2
        return Block(start, states[..., 1:, :] - before, weights, forcing, variances)

    def _forcing(self, first: int, stop: int) -> np.ndarray:
        """Give the forcings (time, column) from one row to another."""
        if self.schedule is None:
            return np.empty((stop - first, 0))
        return self.schedule.at(self.schedule.clock(self.times[first:stop]))

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def scaling(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give mean and spread (variable,) of states, then of the increments that count.

        Raises
        ------
        InputError
            If no target counts.
        """
        parts, counted = [], 0.0
        for block in self:
            there = block.weights > 0
            counted += there.sum()
            rows = block.states.reshape(-1, len(self.variables))
            parts.append([moments(rows), moments(block.increments[there])])
        if not counted:
            raise InputError(
                f"{self.what}: all values of 'innovation' are missing, so that there is "
                "nothing to learn from; give an analysis of a record with observations"
            )
        states, increments = (joined(part) for part in zip(*parts, strict=True))
        return *states, *increments

    def forcing_scaling(self) -> dict[str, Any]:
        """Give the columns of the forcings, and mean and spread (column,) over the record."""
        edges = pairwise([0, self.length] if self.trajectories else self.edges.tolist())
        mean, spread = joined([moments(self._forcing(*edge)) for edge in edges])
        varies = spread > 1e-11 * np.abs(mean)
        scales = {"forcing_mean": mean, "forcing_spread": np.where(varies, spread, 1.0)}
        return {"columns": self.columns, **scales}


def _step_of(analysis: xr.Dataset, name: str, what: str) -> tuple[float, str]:
    """Give the step of a record, and what it counts; refuse a record with gaps."""
    times = analysis["time"].values if "time" in analysis.coords else np.empty(0)
    if len(times) < 2:
        raise InputError(f"{what}: {name!r} needs a coordinate 'time' of two entries or more")
    check_time(analysis, name)
    if times.dtype.kind == "M" and len(set(np.diff(times).tolist())) > 1:
        months = np.diff(times.astype("M8[M]")).astype(np.int64)
        if months[0] > 0 and (months == months[0]).all():
            return float(months[0]), "month"
    if times.dtype.kind in "mM":
        dt = float(np.median(np.diff(times) / np.timedelta64(1, "ns"))) * 1e-9
    else:
        dt = float(np.round((times[-1] - times[0]) / (len(times) - 1), 12))
    axis = time_axis(analysis, name, dt)
    if axis.length != len(times):
        raise InputError(f"{what}: {name!r} has gaps in time; give a row for every step")
    return dt, "s"
