"""States of observations whose places change in time, to start from."""

from __future__ import annotations

from typing import cast

import numpy as np

from daml.observing.places.interpolation import Interpolation
from daml.observing.places.moving import MovingRecord

AROUND = 20
"""Times with observations, around the one of a state, of which the state is made."""


class Along:
    """States of the observations that lie nearest in time, each at its own place.

    From the climate on, one time after the other corrects the state, the nearest time last:
    variables take the mean of the distances y - H x around them, by the weights of H and 1 / R. So
    each follows from the time nearest to the state at which it was seen, and no correction is
    larger than a distance, however close to each other places lie.

    References
    ----------
    Cressman, G. P. (1959): An operational objective analysis system. Mon. Wea. Rev. 87, 367-374;
    with the weights of the interpolation.
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
            sharp = np.where(observed.present, 1 / observed.variance, 0.0)
            total = operator.adjoint(sharp)
            pull = operator.adjoint(sharp * (observed.values - operator.apply(x)))
            x += pull / np.where(total > 0, total, 1.0)
        return x

    def variances(self, rows: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """Give the error variances (row, variable) of these states.

        Where nothing was seen of a variable it is that of the climate, 1 / ``precision``
        (variable,). An observation y sees a variable with the error of y and of the other
        variables around: 1 / v = 1 / c + sum of w^2 / (R + what c makes of the others).
        """
        found = np.tile(1 / precision, (len(rows), 1))
        for observed in self.record.around(rows, AROUND):
            operator = cast("Interpolation", observed.operator)
            own = operator.weights**2 / precision[operator.places]
            error = observed.variance[..., None] + own.sum(axis=-1, keepdims=True) - own
            sharp = np.where(observed.present[..., None], operator.weights**2 / error, 0.0)
            alone = Interpolation(operator.places, sharp, operator.size)
            seen = alone.adjoint(np.ones(observed.present.shape))
            found = np.where(seen > 0, 1 / (precision + seen), found)
        return found
