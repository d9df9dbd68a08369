"""Where hidden variables lie: at the places of a base's variables, along a line or a ring."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daml.errors import InputError, name_of
from daml.labels.space import PLACING, StateSpace
from daml.protocols import Model


class Places(NamedTuple):
    """Places along a line or a ring, and which variables lie at each."""

    positions: np.ndarray
    """(place,), ascending."""
    variables: np.ndarray
    """The variables (place, field) of a state that lie at each place."""
    ring: bool
    """Whether the last place is next to the first."""

    def widened(self, hidden: int) -> Places:
        """Give the places with so many hidden variables at each, which stand behind the others."""
        count = len(self.positions)
        added = self.variables.size + np.arange(hidden * count).reshape(hidden, count).T
        return self._replace(variables=np.concatenate((self.variables, added), axis=1))

    def named(self, name: str, hidden: int) -> tuple[str, ...]:
        """Give the names of hidden variables: each with its number, and that of its place."""
        count = len(self.positions)
        width = len(str(count - 1))
        return tuple(f"{name}{h}_{place:0{width}}" for h in range(hidden) for place in range(count))

    def near(self, reach: int) -> np.ndarray:
        """Give the places (place, 2 reach + 1) within reach of each; -1 beyond the ends of a line.

        They stand in the order in which they lie.
        """
        count = len(self.positions)
        found = np.arange(count)[:, None] + np.arange(-reach, reach + 1)
        if self.ring:
            return found % count
        return np.where((found >= 0) & (found < count), found, -1)


def places_of(base: Model | None, reach: int, owner: str) -> Places:
    """Give the places of the variables of a base.

    Parameters
    ----------
    base : Model, optional
    reach : int
        Places on either side that a correction sees.
    owner : str
        Name of the emulator's class, for errors.

    Raises
    ------
    InputError
        If the variables do not lie along a line or evenly around a ring, as many at each place, or
        the reach is negative or longer than half the ring.
    """
    what = f"{owner}: 'reach' is {reach}"
    if base is None:
        raise InputError(f"{what}, and there is no base to say where variables lie; give 'base'")
    space, name = StateSpace.of(base), name_of(base)
    if space.positions is None:
        raise InputError(f"{what}, and the variables of {name} have no positions; {PLACING}")
    if space.positions.shape[1] != 1:
        raise InputError(
            f"{what}, and the positions of {name} have {space.positions.shape[1]} dimensions; "
            "it needs variables along a line or a ring: leave 'reach' out"
        )
    along = space.positions[:, 0]
    length = np.inf if space.period is None else space.period[0]
    if np.isfinite(length):
        along = along % length
    found, which, counts = np.unique(along, return_inverse=True, return_counts=True)
    if counts.min() != counts.max():
        raise InputError(
            f"{what}, and {name} has from {counts.min()} to {counts.max()} variables at a place; "
            "weights are shared by all places: leave 'reach' out"
        )
    gaps = np.diff(np.append(found, found[0] + length))
    if np.isfinite(length) and not np.allclose(gaps, gaps[0]):
        raise InputError(
            f"{what}, and the variables of {name} do not lie evenly around the ring; weights are "
            "shared by all places: leave 'reach' out"
        )
    most = (len(found) - 1) // 2 if np.isfinite(length) else len(found) - 1
    if not 0 <= reach <= most:
        raise InputError(
            f"{what}; give a number of places from 0 to {most}, as {name} has {len(found)}, or "
            "leave it out for a dense network"
        )
    order = np.argsort(which, kind="stable").reshape(len(found), -1)
    return Places(found, order, bool(np.isfinite(length)))
