"""The space of a state: its variables, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from daml.errors import InputError, name_of
from daml.labels.arguments import shown

PLACING = (
    "give the model an attribute 'positions' (variable,) or (variable, dimension), and 'period' "
    "where space is periodic"
)
"""What to do where variables have no positions."""


@dataclass(frozen=True, eq=False)
class StateSpace:
    """The variables of a state, looked up by an index, and their distances.

    Fields with dimensions of their own (a model's template) will be described here, too.

    Parameters
    ----------
    names : tuple of str
        Names along the last axis of a state.
    positions : numpy.ndarray (variable, dimension), optional
        Where each variable lies, in any unit of length.
    period : numpy.ndarray (dimension,), optional
        Length after which a dimension repeats itself; infinite where it does not.

    Examples
    --------
    >>> ring = StateSpace(("x0", "x1", "x2", "x3"), np.arange(4.0)[:, None], np.array([4.0]))
    >>> ring.places(["x3", "x0", "y"]), ring.distance([0], [1, 2, 3])
    (array([ 3,  0, -1]), array([[1., 2., 1.]]))
    """

    names: tuple[str, ...]
    positions: np.ndarray | None = None
    period: np.ndarray | None = None

    @classmethod
    def of(cls, model: Any) -> StateSpace:
        """Give the space of a model: its ``variables``, and ``positions`` and ``period`` if any.

        Without positions a ``period`` is the model's own matter, of an oscillation say.

        Raises
        ------
        InputError
            If positions or periods are no numbers, or of another shape.
        """
        owner, names = name_of(model), tuple(model.variables)
        positions, period = getattr(model, "positions", None), getattr(model, "period", None)
        if positions is None:
            return cls(names)
        return cls.given(positions, period, owner, names)

    @classmethod
    def given(
        cls, positions: Any, period: Any, owner: str, names: tuple[str, ...] | None = None
    ) -> StateSpace:
        """Give the space of positions and periods that a user gives; errors begin with ``owner``.

        Without ``names`` there is one place or more, and they have none.
        """
        array = _numbers(positions, owner, "positions")
        if array.ndim == 1:
            array = array[:, None]
        wanted = array.shape[:1] if names is None else (len(names),)
        fits = array.ndim == 2 and array.size and array.shape[:1] == wanted
        if not fits or not np.isfinite(array).all():
            count = "the" if names is None else len(names)
            raise InputError(
                f"{owner}: 'positions' is {shown(positions)} of shape {np.shape(positions)}; give "
                f"finite numbers (variable,) or (variable, dimension) for {count} variables"
            )
        names = names or ()
        if period is None:
            return cls(names, array)
        given = [period] if np.ndim(period) == 0 else list(period)
        lengths = _numbers([np.inf if p is None else p for p in given], owner, "period")
        if lengths.shape != array.shape[1:] or not (lengths > 0).all():
            raise InputError(
                f"{owner}: 'period' is {shown(period)}; give a number > 0, or None, for each of "
                f"the {array.shape[1]} dimensions of 'positions'"
            )
        return cls(names, array, lengths)

    @cached_property
    def index(self) -> pd.Index[str]:
        """The names as an index."""
        return pd.Index(self.names, dtype=object)

    def places(self, names: Sequence[str]) -> np.ndarray:
        """Give the place of each name in a state; -1 where there is none."""
        return np.asarray(self.index.get_indexer(pd.Index(names, dtype=object)))

    def ordered(self, names: tuple[str, ...]) -> StateSpace:
        """Give the space with the same variables in another order."""
        if names == self.names or self.positions is None:
            return StateSpace(names, self.positions, self.period)
        return StateSpace(names, self.positions[self.places(names)], self.period)

    def near(
        self, entries: np.ndarray, points: np.ndarray, reach: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give all pairs of variables and points (point, dimension) within ``reach``.

        Returns
        -------
        tuple of numpy.ndarray (pair,)
            Which of the entries, which of the points, and their distance.

        Raises
        ------
        InputError
            If the variables have no positions.
        """
        own = self._placed()[entries]
        if np.isinf(reach):
            rows, columns = np.indices((len(own), len(points))).reshape(2, -1)
            return rows, columns, self._apart(own, points).ravel()
        box = None
        if self.period is not None:
            box = np.where(np.isfinite(self.period), self.period, 0.0)
            own, points = (_within(part, box) for part in (own, points))
        trees = (KDTree(part, boxsize=box) for part in (own, points))
        found = next(trees).sparse_distance_matrix(next(trees), reach, output_type="ndarray")
        return found["i"], found["j"], found["v"]

    def distance(self, entries: Any, other: Any) -> np.ndarray:
        """Give the distances (entry, other) of variables, given by their places in a state.

        The shortest, where a dimension is periodic.

        Raises
        ------
        InputError
            If the variables have no positions.
        """
        positions = self._placed()
        return self._apart(positions[entries], positions[other])

    def _placed(self) -> np.ndarray:
        if self.positions is None:
            raise InputError(f"the model's variables have no positions; {PLACING}")
        return self.positions

    def _apart(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Give the distances (one, other) of positions."""
        apart = np.abs(one[:, None] - other[None])
        if self.period is not None:
            around = np.isfinite(self.period)
            length = self.period[around]
            part = apart[..., around] % length
            apart[..., around] = np.minimum(part, length - part)
        found: np.ndarray = np.linalg.norm(apart, axis=-1)
        return found


def _within(positions: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Give positions (row, dimension) in [0, length) of each dimension that has a length."""
    turned = np.mod(positions, np.where(box > 0, box, np.inf))
    turned = np.where(turned < box, turned, 0.0)  # just below 0 rounds to the length
    return np.where(box > 0, turned, positions)


def _numbers(values: Any, owner: str, name: str) -> np.ndarray:
    """Give numbers as an array."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{owner}: {name!r} is {shown(values)}; give numbers")
    return array.astype(np.float64)
