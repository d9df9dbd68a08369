"""Where the segments of a record begin, also of one that goes on from the end of another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from daml.segments import Cut


@dataclass(frozen=True)
class Placing:
    """The first steps of segments; steps count from the first one of the record.

    Attributes
    ----------
    shift : int or None
        Steps from a window to the next, of a scheme with windows.
    begin, skip : int
        Where the cycle begins, and the first step of which there is an analysis: before it lies
        what is between two records, or was in no whole window.
    origin : int
        The number of the record's first step, counted from the first time of the first record.
    age : int
        That of the cycle at ``begin``.
    goes_on : bool
        Whether the cycle goes on from the end of another record.
    """

    shift: int | None = None
    begin: int = 0
    skip: int = 0
    origin: int = 0
    age: int = 0
    goes_on: bool = False

    def is_head(self, group: np.ndarray) -> bool:
        """Whether a group is the segment that goes on from an end."""
        return self.goes_on and bool(group[0] == 0)

    def groups(self, groups: list[np.ndarray]) -> list[np.ndarray]:
        """Give groups of segments in which the one that goes on from an end is alone."""
        if not self.goes_on:
            return groups
        first, *rest = groups
        return [part for part in (first[:1], first[1:], *rest) if len(part)]

    def of(self, cut: Cut, group: np.ndarray) -> tuple[Cut, np.ndarray]:
        """Give the cut of a group of segments, and the steps (segment,) at which they start.

        Windows end at the same times in all segments.
        """
        if not self.goes_on:
            return cut, np.maximum(group * cut.length - cut.spinup, 0)
        least = 0
        if self.shift is not None:
            ahead = self.skip - self.begin
            tail = -ahead % self.shift if cut.segments > 1 else 0
            spinup = cut.spinup + (ahead + 1 - cut.spinup) % self.shift
            cut, least = replace(cut, spinup=spinup, tail=tail), (self.begin - 1) % self.shift
        if group[0] == 0:
            return replace(cut, spinup=self.skip - self.begin), np.array([self.begin])
        return cut, np.maximum(self.skip + group * cut.length - cut.spinup, least)

    def aged(self, group: np.ndarray, done: int) -> int:
        """Give the age of a cycle after steps of its group, the first one counted as 0."""
        return done + (self.age if self.is_head(group) else 0)

    def last(self, group: np.ndarray, done: int) -> int:
        """Give the steps of the group until a state of its end: the last one, or a window's."""
        return done if self.shift is None else done - self.aged(group, done) % self.shift
