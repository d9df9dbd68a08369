"""States of observations whose places change in time, to start from."""

from __future__ import annotations

from typing import cast

import numpy as np

from daml.observing.places.interpolation import Interpolation
from daml.observing.places.moving import MovingRecord
from daml.schemes.variational.conjugate_gradients import solution

AROUND = 20
"""Times with observations, around the one of a state, of which the state is made."""
TOLERANCE, ITERATIONS = 1e-12, 10
"""Length of the residual, as a part of what is given, at which iterations end; and most of them.
They end before the noise of values that lie close together grows."""


class Along:
    """States of the observations that lie nearest in time, each at its own place.

    From the climate on, one time after the other changes the state least, by least squares, until
    H x = y there, the nearest time last. So each variable follows from the time nearest to the
    state at which it was seen.
    """

    def __init__(self, record: MovingRecord) -> None:
        self.record = record
        self.unseen = record.track.touched < len(record.axis.index)
        """Which variables (variable,) the observations of some time leave open."""

    def states(self, rows: np.ndarray, climate: np.ndarray) -> np.ndarray:
        """Give the states (row, variable) at rows (row,) of the record."""
        x = np.tile(climate, (len(rows), 1))
        for observed in self.record.around(rows, AROUND):
            operator = cast("Interpolation", observed.operator)
            away = np.where(observed.present, observed.values - operator.apply(x), 0.0)
            x += _change(operator, away)
        return x

    def variances(self, rows: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """Give the error variances (row, variable) of these states.

        Where nothing was seen of a variable it is that of the climate, 1 / ``precision``
        (variable,).
        """
        found = np.tile(1 / precision, (len(rows), 1))
        for observed in self.record.around(rows, AROUND):
            operator = cast("Interpolation", observed.operator)
            seen = operator.squares(np.where(observed.present, 1 / observed.variance, 0.0))
            found = np.where(seen > 0, 1 / (precision + seen), found)
        return found


def _change(operator: Interpolation, away: np.ndarray) -> np.ndarray:
    """Give the smallest changes (row, variable) of states that move H x by (row, observed)."""

    def product(weights: np.ndarray) -> np.ndarray:
        return np.asarray(operator.apply(operator.adjoint(weights)))

    return np.asarray(operator.adjoint(solution(np, product, away, ITERATIONS, TOLERANCE)))
