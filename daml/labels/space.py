"""The space of a state: its variables, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from daml.errors import InputError
from daml.labels.arguments import shown


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
        owner, names = type(model).__name__, tuple(model.variables)
        positions, period = getattr(model, "positions", None), getattr(model, "period", None)
        if positions is None:
            return cls(names)
        array = _numbers(positions, owner, "positions")
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or len(array) != len(names) or not np.isfinite(array).all():
            raise InputError(
                f"{owner}: 'positions' is {shown(positions)} of shape {np.shape(positions)}; give "
                f"finite numbers (variable,) or (variable, dimension) for {len(names)} variables"
            )
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

    def distance(self, entries: Any, other: Any) -> np.ndarray:
        """Give the distances (entry, other) of variables, given by their places in a state.

        The shortest, where a dimension is periodic.

        Raises
        ------
        InputError
            If the variables have no positions.
        """
        if self.positions is None:
            raise InputError(
                "the model's variables have no positions; give the model an attribute 'positions' "
                "(variable,) or (variable, dimension), and 'period' where space is periodic"
            )
        apart = np.abs(self.positions[entries][:, None] - self.positions[other][None])
        if self.period is not None:
            around = np.isfinite(self.period)
            length = self.period[around]
            part = apart[..., around] % length
            apart[..., around] = np.minimum(part, length - part)
        found: np.ndarray = np.linalg.norm(apart, axis=-1)
        return found


def _numbers(values: Any, owner: str, name: str) -> np.ndarray:
    """Give numbers as an array."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{owner}: {name!r} is {shown(values)}; give numbers")
    return array.astype(np.float64)
