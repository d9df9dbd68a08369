"""How a long record is cut, so that its parts run side by side.

The cuts follow from the record's length alone: neither how it is chunked nor how many cores there
are changes a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from daml.arrays import home, one_core_each

if TYPE_CHECKING:
    from daml.protocols import Model

SHORTEST, LONGEST = 100, 500
"""Model steps of a segment, by default."""
WIDTH = 1024
"""Segments of a group, side by side in one array: NumPy's cost lies in the number of calls."""
NETWORK_WIDTH = 160
"""The same for a network on the CPU, whose groups run on a core each."""
ROWS, VALUES = 1 << 18, 1 << 21
"""Rows of a group that are loaded, moved to a device and back at once, and the values in them."""
ROOM = 1 << 24
"""Values of a group in each array that it fills: with many variables fewer segments go together."""

STEP = 1 << 16
"""Values of the ensembles of a group: what they are worked out in stays in the cache."""


def rows_at_once(size: int) -> int:
    """Give how many rows of ``size`` values are loaded, or lie in a chunk of a store, at once."""
    return max(min(ROWS, VALUES // max(size, 1)), 1)


def segment_length(total: int) -> int:
    """Give the steps of a segment of a record of ``total`` steps.

    The root of the total balances steps that follow one another against spin-ups.
    """
    return min(max(math.isqrt(total), SHORTEST), LONGEST, total)


def consecutive(numbers: np.ndarray) -> list[slice]:
    """Give where the runs of consecutive numbers lie in rising ones.

    Examples
    --------
    >>> consecutive(np.array([0, 1, 5, 6, 7]))
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = [0, *(np.flatnonzero(np.diff(numbers) > 1) + 1).tolist(), len(numbers)]
    return [slice(first, stop) for first, stop in pairwise(ends)]


def own_steps(count: int, early: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Say which of so many steps (step, segment) are a segment's own, and not of its spin-up.

    ``early`` and ``rows`` (segment,) are steps of spin-up, and rows of the record after them.
    """
    steps = np.arange(count)[:, None]
    return np.asarray((steps >= early) & (steps < early + rows))


@dataclass(frozen=True)
class Cut:
    """A record of ``total`` steps in segments of ``length`` that start ``spinup`` steps early.

    They run ``tail`` steps beyond their end, where later observations say something of it.
    """

    total: int
    length: int
    spinup: int
    tail: int = 0

    @property
    def segments(self) -> int:
        """How many."""
        return -(-self.total // self.length)

    @property
    def steps(self) -> int:
        """Steps that a segment runs."""
        return self.spinup + self.length + self.tail

    def groups(self, width: int, numbers: np.ndarray | None = None) -> list[np.ndarray]:
        """Give the numbers of the segments that run side by side, at most ``width``.

        Of all segments, unless their numbers are given.
        """
        numbers = np.arange(self.segments) if numbers is None else numbers
        return [numbers[first : first + width] for first in range(0, len(numbers), width)]

    def blocks(self, group: np.ndarray, size: int = 1) -> list[slice]:
        """Cut the steps of a group, with ``size`` values each, into blocks that load at once."""
        length = max(rows_at_once(size) // len(group), 1)
        firsts = range(0, self.steps, length)
        return [slice(first, min(first + length, self.steps)) for first in firsts]


@contextmanager
def side_by_side(
    model: Model, cut: Cut, members: int = 1, size: int | None = None
) -> Iterator[tuple[list[np.ndarray], Callable[..., Iterator[Any]]]]:
    """Give the groups of segments, and a ``map`` that runs them, on all cores where that pays.

    ``size`` is the number of values of a step that are kept in an array: of one state, unless
    given.
    """
    on_cores = hasattr(model, "device") and home(model) is None
    fitting = max(ROOM // ((cut.length + cut.tail) * (size or len(model.variables))), 1)
    if members > 1:
        fitting = min(fitting, max(STEP // (members * len(model.variables)), 1))
    groups = cut.groups(min(NETWORK_WIDTH if on_cores else WIDTH, fitting))
    with one_core_each(len(groups)) if on_cores else nullcontext(map) as each:
        yield groups, each
