"""Bounds of a model's variables, to which analyses are truncated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daml.arrays import alike, namespace
from daml.errors import InputError, name_of
from daml.labels.arguments import shown


@dataclass(frozen=True, eq=False)
class Bounds:
    """The smallest and the largest values (variable,) that a state may have, infinite if none."""

    low: np.ndarray
    high: np.ndarray
    text: str
    """The bounds in words, for the attributes of a result."""

    @classmethod
    def of(cls, model: Any) -> Bounds | None:
        """Give the ``bounds`` of a model, by the names of variables or of fields; None if none.

        Raises
        ------
        InputError
            If they are no pairs of numbers, or a name is unknown.
        """
        given, owner = getattr(model, "bounds", None), name_of(model)
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise InputError(f"{owner}: 'bounds' is {shown(given)}; give {{'q': (0, None)}}")
        names = [(name, name.partition("[")[0]) for name in model.variables]
        low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        words = []
        for name, pair in given.items():
            rows = [place for place, known in enumerate(names) if name in known]
            if not rows:
                raise InputError(
                    f"{owner}: 'bounds' names {name!r}, which is not a variable or field of the "
                    "model; rename it"
                )
            low[rows], high[rows] = least, most = _pair(pair, f"{owner}: 'bounds' of {name!r}")
            words += [f"{name} >= {least:g}"] * (least > -np.inf)
            words += [f"{name} <= {most:g}"] * (most < np.inf)
        return cls(low, high, f"truncated: {', '.join(words)}") if words else None

    def check(
        self, observed: Sequence[str], places: Sequence[int], means: np.ndarray, owner: str
    ) -> None:
        """Refuse bounds beyond which the means (observed,) of a record lie.

        Parameters
        ----------
        observed : sequence of str
            What is observed.
        places : sequence of int
            Its places among the variables.
        means : numpy.ndarray (observed,)
            Of what is observed.
        owner : str
            The model, for the message.

        Raises
        ------
        InputError
        """
        low, high = self.low[places], self.high[places]
        outside = (means < low) | (means > high)
        if outside.any():
            row = int(np.argmax(outside))
            raise InputError(
                f"{owner}: its 'bounds' keep {observed[row]!r} within ({low[row]:g}, "
                f"{high[row]:g}), and the mean of its observations is {means[row]:g}; correct "
                "the bounds, or the units of the record"
            )

    def within(self, x: Any) -> Any:
        """Give states (..., variable), each value at its nearest bound if it is outside."""
        xp = namespace(x)
        return xp.minimum(xp.maximum(x, alike(self.low, x)), alike(self.high, x))


def _pair(pair: Any, what: str) -> tuple[float, float]:
    try:
        least, most = (one if one is None else float(one) for one in pair)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is {shown(pair)}; give the smallest and the largest value, None for no bound"
        ) from error
    low, high = -np.inf if least is None else least, np.inf if most is None else most
    if not low < high:
        raise InputError(f"{what} is ({low:g}, {high:g}); give the smaller one first")
    return low, high
