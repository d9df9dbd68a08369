"""What a network learns from: states and increments of a record, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from daml import segments
from daml.errors import InputError
from daml.labels.datasets import (
    check_dims,
    check_dtype,
    check_names,
    check_values,
    names,
    time_axis,
)
from daml.labels.doors import flat
from daml.protocols import Model
from daml.running.checks import check_model
from daml.running.cycling.stepping import advance
from daml.running.moments import joined, moments
from daml.training.held_out import HeldOut


class Block(NamedTuple):
    """A part of a record: states (time, variable), their increments, whether a target counts."""

    states: np.ndarray
    increments: np.ndarray
    weights: np.ndarray
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
        return np.asarray(found * self.weights[:, None])


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
    ) -> None:
        self.what = f"{owner}.fit"
        analysis = flat(analysis, base)
        self.name = "analysis" if "analysis" in analysis else "state"
        check_dims(analysis, self.name, ("time", "variable"))
        check_names(analysis, self.name)
        array = analysis[self.name]
        check_dtype(array, self.name)
        if array.ndim != 2:
            raise InputError(f"{self.what}: {self.name!r} has {array.dims}; give (time, variable)")
        self.array = array.variable.transpose("time", "variable")
        self.variables = names(analysis)
        self.steps = len(self.array) - 1
        if self.steps < length:
            raise InputError(
                f"{self.what}: a record of {len(self.array)} steps is too short to train on; give "
                f"more than {setting} ({length}), or shorten that"
            )
        self.step = _step_of(analysis, self.name, self.what)
        self.times = analysis["time"].values
        self.seen: xr.Variable | None = None
        if "innovation" in analysis:
            innovation = analysis["innovation"].variable
            self.seen = innovation.transpose("time", "observed")
        self.spread: xr.Variable | None = None
        if "spread" in analysis:
            self.spread = analysis["spread"].variable.transpose("time", "variable")
        self.base = base
        if base is not None:
            check_model(base, self.times[0])
            if tuple(base.variables) != self.variables:
                raise InputError(
                    f"{owner}: the base steps {tuple(base.variables)}, the analysis has "
                    f"{self.variables}"
                )
        self.held_out = HeldOut(len(self.array), held_out) if held_out else None
        rows = segments.rows_at_once(len(self.variables))
        count = math.ceil(self.steps / max(rows, 4 * length))
        self.edges = np.linspace(0, self.steps, count + 1).astype(int)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, number: int) -> Block:
        """Give a block."""
        first, stop = int(self.edges[number]), int(self.edges[number + 1])
        block = self._rows(first, stop)
        if self.held_out is None:
            return block
        trained = ~self.held_out.untrained[first + 1 : stop + 1]
        return block._replace(weights=block.weights * trained)

    def judged(self, length: int, burn_in: int) -> list[Block]:
        """Give sequences of a length whose targets, after the burn-in, cover what is held out."""
        if self.held_out is None:
            return []
        found = []
        for rows in self.held_out.sequences(length, burn_in):
            first = max(int(rows[0]) - 1, 0)
            block = self._rows(first, first + length)
            counts = self.held_out.judged[first + 1 : first + length + 1]
            found.append(block._replace(weights=block.weights * counts))
        return found

    def _rows(self, first: int, stop: int) -> Block:
        """Give the states from one row to another, and what each goes on to."""
        states = np.asarray(self.array[first : stop + 1].values, dtype=np.float64)
        check_values(states, self.name, self.variables)
        if np.isnan(states).any():
            raise InputError(
                f"{self.what}: {self.name!r} has missing values; give an analysis of all steps"
            )
        before = states[:-1]
        if self.base is not None:
            memory = self.base.start(before, self.times[first:stop])
            before = advance(self.base, before, memory)[0]
        weights = np.ones(stop - first)
        if self.seen is not None:
            seen = np.isfinite(self.seen[first + 1 : stop + 1].values)
            weights = seen.any(axis=1).astype(float)
        variances = None
        if self.spread is not None:
            variances = np.asarray(self.spread[first + 1 : stop + 1].values, dtype=float) ** 2
        return Block(states[:-1], states[1:] - before, weights, variances)

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
            parts.append([moments(block.states), moments(block.increments[there])])
        if not counted:
            raise InputError(
                f"{self.what}: no row of 'innovation' has a value: nothing to learn from"
            )
        states, increments = (joined(part) for part in zip(*parts, strict=True))
        return *states, *increments


def _step_of(analysis: xr.Dataset, name: str, what: str) -> tuple[float, str]:
    """Give the step of a record, and what it counts; refuse a record with gaps."""
    times = analysis["time"].values if "time" in analysis.coords else np.empty(0)
    if len(times) < 2:
        raise InputError(f"{what}: {name!r} needs a coordinate 'time' of two entries or more")
    if times.dtype.kind in "mM":
        dt = float(np.median(np.diff(times) / np.timedelta64(1, "ns"))) * 1e-9
    else:
        dt = float(np.round((times[-1] - times[0]) / (len(times) - 1), 12))
    axis = time_axis(analysis, name, dt)
    if axis.length != len(times):
        raise InputError(f"{what}: {name!r} has gaps in time; give a row for every step")
    return dt, "s"
