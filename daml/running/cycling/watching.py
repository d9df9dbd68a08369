"""What is watched of a cycle, block by block: signs of a lost filter, iterations, gross errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from daml.running.converging import unconverged
from daml.running.cycling.guards import REJECTED, counted, counted_within
from daml.running.lost import distances, summed


class Seen(NamedTuple):
    """What was seen of the steps of segments, without their spin-up."""

    unconverged: np.ndarray
    """Steps (segment,) at which iterations did not converge."""
    rejected: np.ndarray
    """Values (segment, 2) that were left out as gross errors, and all values."""
    distance: np.ndarray
    """Sum and number (segment, 2) of the steps' :func:`~daml.running.lost.distances`."""


class Watching:
    """Keeps what is watched of the blocks of a group of segments."""

    def __init__(self, variance: np.ndarray, is_judged: bool) -> None:
        self.variance, self.is_judged = variance, is_judged
        self.far: list[np.ndarray] = []
        self.chi_square: list[np.ndarray] = []
        self.converged: list[np.ndarray] = []
        self.gross: list[np.ndarray] = []

    def add(self, parts: Mapping[str, np.ndarray]) -> None:
        """Keep what a block (step, segment, ...) says."""
        self.far.append(distances(parts["innovation"], self.variance))
        if self.is_judged:
            self.chi_square.append(parts["chi_square"])
        if "converged" in parts:
            self.converged.append(parts["converged"])
        if REJECTED in parts:
            self.gross.append(counted(parts))

    def signs(self) -> np.ndarray:
        """Give the signs (2, step, segment) of a filter that is lost."""
        return np.stack((np.concatenate(self.chi_square), np.concatenate(self.far)))

    def within(self, early: np.ndarray, rows: np.ndarray) -> Seen:
        """Give what was seen; segments have steps (segment,) of spin-up, and rows after them."""
        early_end = np.zeros(len(early))
        if self.converged:
            early_end = unconverged(np.concatenate(self.converged), early, rows)
        rejected = counted_within(self.gross, early, rows)
        return Seen(early_end, rejected, summed(np.concatenate(self.far), early, rows))
