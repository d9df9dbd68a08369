"""What a training finds and goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from daml.emulators.networks import Network
from daml.errors import InputError
from daml.labels import time_axis


@dataclass(frozen=True)
class Fitted:
    """What a training found: weights, and the scaling of states and increments."""

    variables: tuple[str, ...]
    dt: float
    time_unit: str
    mean: np.ndarray
    spread: np.ndarray
    increment_mean: np.ndarray
    increment_spread: np.ndarray
    network: Network
    losses: np.ndarray
    trainings: int

    @cached_property
    def scaling(self) -> tuple[torch.Tensor, ...]:
        """Mean and spread of states, then of increments, where the network lives.

        Made once: a step must not wait for a transfer.
        """
        parts = (self.mean, self.spread, self.increment_mean, self.increment_spread)
        where = next(self.network.parameters()).device
        with torch.inference_mode(False):  # so that a gradient may pass, too, later
            return tuple(torch.as_tensor(part, device=where) for part in parts)


def untrained(
    network: Network,
    variables: tuple[str, ...],
    step: tuple[float, str],
    states: np.ndarray,
    increments: np.ndarray,
) -> Fitted:
    """Give a network before its first training, and the scaling of a record."""

    def spread(array: np.ndarray) -> np.ndarray:
        found = array.std(axis=0)
        return np.where(found > 0, found, 1.0)

    return Fitted(
        variables,
        *step,
        states.mean(axis=0),
        spread(states),
        increments.mean(axis=0),
        spread(increments),
        network,
        np.empty(0),
        0,
    )


def step_of(analysis: xr.Dataset, name: str) -> tuple[float, str]:
    """Give the step of a record, and what it counts; refuse a record with gaps."""
    times = analysis["time"].values if "time" in analysis.coords else np.empty(0)
    if len(times) < 2:
        raise InputError(f"LSTM.fit: {name!r} needs a coordinate 'time' of two entries or more")
    if times.dtype.kind == "M":
        dt = float(np.median(np.diff(times) / np.timedelta64(1, "ns"))) * 1e-9
    else:
        dt = float(np.round((times[-1] - times[0]) / (len(times) - 1), 12))
    axis = time_axis(analysis, name, dt)
    if axis.length != len(times):
        raise InputError(f"LSTM.fit: {name!r} has gaps in time; give a row for every step")
    return dt, "s"
