"""Blocks of time that a loop keeps from training, and what they say of its passes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import plain
from daml.labels.ranges import number
from daml.labels.trajectories import TRAJECTORY

BLOCKS = 20
"""Blocks of a long record."""
SHORT = 50
"""Steps of a block at least, and of a gap at most."""
ROOM = 4
"""Lengths of a block that a trajectory has at least: else whole ones are held out."""
BRIEF = 12
"""Steps of a trajectory at least."""
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
        Rows of the record; those of all trajectories, one after the other.
    fraction : float
        Part of them that is judged: blocks, evenly spread. A gap on either side is neither
        trained on nor judged.
    many : int
        Number of trajectories. No block crosses a seam, and there is room for a warm-up before it.
        Where trajectories are too short for that, whole ones are held out, evenly spread, and
        judged after their first third.

    Raises
    ------
    InputError
        If the fraction is out of range or the record too short.

    Examples
    --------
    >>> held_out = HeldOut(10_000, 0.1)
    >>> int(held_out.judged.sum()), int(held_out.untrained.sum())
    (1000, 3000)
    >>> HeldOut(30 * 60, 0.1, many=30).blocks.tolist()
    [[320, 360], [920, 960], [1520, 1560]]
    """

    steps: int
    fraction: float
    many: int = 1

    def __post_init__(self) -> None:
        fraction(self.fraction)
        if self.steps * self.fraction < 2 * SHORT:
            raise InputError(
                f"a record of {self.steps} steps is too short: {self.fraction:.3g} of it are "
                f"{int(self.steps * self.fraction)} held-out rows, and {2 * SHORT} are needed; "
                f"give {longer(2 * SHORT, self.steps, self.fraction)}, or held_out=0, which in "
                "improve needs a number of passes"
            )
        if self.own < BRIEF:
            raise InputError(
                f"a record of trajectories of {self.own} steps is too short: {BRIEF} or more are "
                "needed for forecasts within one; give longer ones, or held_out=0, which in "
                "improve needs a number of passes"
            )
        if self.whole and len(self.blocks) < 2:
            raise InputError(
                f"a record of {self.many} trajectories of {self.own} steps is too short: whole "
                f"ones are held out, {self.fraction:.3g} of them are {len(self.blocks)}, and 2 are "
                f"needed; give {self.more(2)}, longer ones, or held_out=0, which in improve needs "
                "a number of passes"
            )

    @property
    def own(self) -> int:
        """Rows of a trajectory."""
        return self.steps // self.many

    @property
    def _lengths(self) -> tuple[int, int]:
        """How many blocks of time there are, and how long each is."""
        judged = self.steps * self.fraction
        count = int(min(judged // SHORT, BLOCKS))
        return count, int(judged / count)

    @property
    def whole(self) -> bool:
        """Whether trajectories are too short for blocks within them."""
        return self.own < ROOM * self._lengths[1]

    @property
    def blocks(self) -> np.ndarray:
        """First and last row but one (block, 2)."""
        if self.whole:
            count = int(round(self.many * self.fraction, 6))
            picked = ((np.arange(count) + 0.5) * self.many / max(count, 1)).astype(int)
            return np.stack((picked * self.own + self.own // 3, (picked + 1) * self.own), axis=1)
        count, length = self._lengths
        middle = (np.arange(count) + 0.5) * self.steps / count
        first = (middle - self.steps * self.fraction / count / 2).astype(int)
        start = middle.astype(int) // self.own * self.own
        first = np.clip(first, start + length, start + self.own - 2 * length)
        return np.stack((first, first + length), axis=1)

    @property
    def room(self) -> int:
        """Rows at least between the start of a trajectory and a block in it."""
        return int((self.blocks[:, 0] % self.own).min())

    @property
    def judged(self) -> np.ndarray:
        """Whether a row (time,) is judged."""
        return self._rows(0, 0)

    @property
    def untrained(self) -> np.ndarray:
        """Whether a row (time,) is kept from training."""
        if self.whole:
            return self._rows(0, self.own // 3)
        blocks = self.blocks
        gap = min(SHORT, int(blocks[0, 1] - blocks[0, 0]))
        return self._rows(gap, gap)

    def more(self, blocks: float) -> str:
        """Say what makes so many blocks: more of a record, or a larger fraction of this one."""
        if not self.whole:
            return longer(math.ceil(SHORT * blocks), self.steps, self.fraction)
        larger = math.ceil(1000 * blocks / self.many) / 1000
        also = f", or held_out={larger:g}" if self.fraction < larger <= MOST else ""
        return f"{math.ceil(round(blocks / self.fraction, 6))} trajectories or more{also}"

    def _rows(self, after: int, before: int) -> np.ndarray:
        rows = np.zeros(self.steps, dtype=bool)
        for first, stop in self.blocks:
            rows[max(first - before, 0) : stop + after] = True
        return rows

    def sequences(self, length: int, burn_in: int) -> np.ndarray:
        """Give rows (sequence, time) whose steps after the burn-in cover what is judged."""
        heads = [
            min(max(head, start), start + self.own - length)
            for first, stop in self.blocks
            for start in [first // self.own * self.own]
            for head in range(first - burn_in, stop - burn_in, length - burn_in)
        ]
        return np.add.outer(heads, np.arange(length))

    @classmethod
    def of(cls, analysis: xr.Dataset, fraction: float) -> HeldOut:
        """Give the blocks of an analysis, or of states."""
        many = analysis.sizes.get(TRAJECTORY, 1)
        return cls(many * analysis.sizes["time"], fraction, many)

    def masked(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give an analysis to train on: what is held out counts as not observed there."""
        rows = ~self.untrained
        trained = xr.DataArray(rows, dims="time")
        if TRAJECTORY in analysis.dims:
            trained = xr.DataArray(rows.reshape(-1, self.own), dims=(TRAJECTORY, "time"))
        return analysis.assign(innovation=analysis["innovation"].where(trained))
