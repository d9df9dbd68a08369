"""How observations see a state: H and R of each kind, for a B that changes from state to state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from daml.records import Record

EXPECTED = {
    "background_spread": (("time", "variable"), {"long_name": "expected error of the background"}),
    "innovation_spread": (("time", "observed"), {"long_name": "expected size of the innovation"}),
    "normalized_innovation": (
        ("time", "observed"),
        {"long_name": "innovation by the root of its expected covariance", "units": "1"},
    ),
}
"""What an analysis has besides, where the model says how wrong its forecast is."""


@dataclass(frozen=True)
class Observing:
    """H (kind, observed, variable), R (kind, observed, observed), and which values there are.

    NumPy's or torch's. A value that is missing has zeros in H and the identity's row in R.
    """

    matrix: Any
    error: Any
    present: Any
    whole: bool
    """Whether every value of the state is observed, in its order, at all times."""

    @classmethod
    def of(cls, record: Record, error_factor: float = 1.0) -> Observing:
        """Take them from a record; the factor multiplies R."""
        there = record.kind_present
        both = there[:, :, None] & there[:, None, :]
        error = record.kind_covariance * np.where(both, error_factor, 1.0)
        matrix = record.matrices()
        whole = len(matrix) == 1 and np.array_equal(matrix[0], np.eye(matrix.shape[-1]))
        return cls(matrix, error, there.astype(np.float64), whole)

    def like(self, array: Any) -> Observing:
        """Give the same in the kind of an array, NumPy's or torch's."""
        if isinstance(self.matrix, type(array)):
            return self
        matrix, error, present = map(array.new_tensor, (self.matrix, self.error, self.present))
        return Observing(matrix, error, present, self.whole)

    def compared(self, background: Any, values: Any, kind: Any, covariance: Any) -> Any:
        """Give innovation, B H' and H B H' + R, of a batch with a B each.

        Shapes: background (..., variable), values (..., observed), kind (...), covariance
        (..., variable, variable).
        """
        if self.whole:
            return values - background, covariance, covariance + self.error[0]
        if len(self.matrix) == 1:  # nothing to pick
            matrix, error = self.matrix[0], self.error[0]
            innovation = values - background @ matrix.T
        else:
            matrix, error = self.matrix[kind], self.error[kind]
            innovation = values - (matrix @ background[..., None])[..., 0]
        cross = covariance @ matrix.mT
        return innovation, cross, matrix @ cross + error

    def analysed(self, background: Any, values: Any, kind: Any, covariance: Any) -> tuple[Any, ...]:
        """Give the analysis, and what was expected: three arrays as `EXPECTED` has them.

        Those are the standard deviations of background and innovation, and the innovation
        normalised by the triangular root of H B H' + R, whose entries have variance 1 if B and R
        are right.
        """
        xp = array_namespace(background)
        covariance = xp.asarray(covariance, dtype=background.dtype)
        innovation, cross, total = self.compared(background, values, kind, covariance)
        size = xp.sqrt(xp.linalg.diagonal(total))[..., None]  # neither units nor pivots matter then
        scaled, apart = total / (size * size.mT), innovation[..., None] / size
        weights = xp.linalg.solve(scaled, apart) / size
        normal = xp.linalg.solve(xp.linalg.cholesky(scaled), apart)
        spreads = (xp.sqrt(xp.linalg.diagonal(part)) for part in (covariance, total))
        background_spread, innovation_spread = spreads
        return (
            background + (cross @ weights)[..., 0],
            xp.broadcast_to(background_spread, background.shape),
            xp.broadcast_to(innovation_spread, innovation.shape),
            normal[..., 0],
        )
