"""Blocks of time that a loop keeps from training, and what they say of its passes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import plain
from daml.labels.ranges import number

BLOCKS = 20
"""Blocks of a long record."""
SHORT = 50
"""Steps of a block at least, and of a gap at most."""
MOST = 0.3
"""Largest part that is held out."""


def fraction(held_out: float) -> float:
    """Give the part of a record that is held out, as Python's number.

    Raises
    ------
    InputError
        If it is out of range.
    """
    if plain("float", held_out) == 0:
        return 0.0
    needed = f"a fraction in (0, {MOST}], or 0 for none"
    return number(held_out, "'held_out'", needed, above=0, most=MOST)


def longer(rows: int, steps: int, held_out: float) -> str:
    """Say what makes so many held-out rows: a longer record, or a larger fraction of this one.

    Examples
    --------
    >>> longer(100, 500, 0.1)
    'a record of 1000 steps or more, or held_out=0.2'
    """
    enough = f"a record of {math.ceil(round(rows / held_out, 6))} steps or more"
    larger = math.ceil(1000 * rows / steps) / 1000
    return f"{enough}, or held_out={larger:g}" if held_out < larger <= MOST else enough


@dataclass(frozen=True)
class HeldOut:
    """Which rows of a record are judged, and which are not trained on.

    Parameters
    ----------
    steps : int
        Rows of the record.
    fraction : float
        Part of them that is judged: blocks, evenly spread. A gap on either side is neither
        trained on nor judged.

    Raises
    ------
    InputError
        If the fraction is out of range or the record too short.

    Examples
    --------
    >>> held_out = HeldOut(10_000, 0.1)
    >>> int(held_out.judged.sum()), int(held_out.untrained.sum())
    (1000, 3000)
    """

    steps: int
    fraction: float

    def __post_init__(self) -> None:
        fraction(self.fraction)
        if self.steps * self.fraction < 2 * SHORT:
            raise InputError(
                f"a record of {self.steps} steps is too short: {self.fraction:.3g} of it are "
                f"{int(self.steps * self.fraction)} held-out rows, and {2 * SHORT} are needed; "
                f"give {longer(2 * SHORT, self.steps, self.fraction)}, or held_out=0, which in "
                "improve needs a number of passes"
            )

    @property
    def blocks(self) -> np.ndarray:
        """First and last row but one (block, 2)."""
        judged = self.steps * self.fraction
        count = int(min(judged // SHORT, BLOCKS))
        middle = (np.arange(count) + 0.5) * self.steps / count
        first = (middle - judged / count / 2).astype(int)
        return np.stack((first, first + int(judged / count)), axis=1)

    @property
    def judged(self) -> np.ndarray:
        """Whether a row (time,) is judged."""
        return self._rows(0)

    @property
    def untrained(self) -> np.ndarray:
        """Whether a row (time,) is kept from training."""
        blocks = self.blocks
        return self._rows(min(SHORT, int(blocks[0, 1] - blocks[0, 0])))

    def _rows(self, gap: int) -> np.ndarray:
        rows = np.zeros(self.steps, dtype=bool)
        for first, stop in self.blocks:
            rows[max(first - gap, 0) : stop + gap] = True
        return rows

    def sequences(self, length: int, burn_in: int) -> np.ndarray:
        """Give rows (sequence, time) whose steps after the burn-in cover what is judged."""
        heads = [
            min(max(head, 0), self.steps - length)
            for first, stop in self.blocks
            for head in range(first - burn_in, stop - burn_in, length - burn_in)
        ]
        return np.add.outer(heads, np.arange(length))

    def masked(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give an analysis to train on: what is held out counts as not observed there."""
        trained = xr.DataArray(~self.untrained, dims="time")
        return analysis.assign(innovation=analysis["innovation"].where(trained))
