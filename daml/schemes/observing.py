"""How observations see a state: H and R of each kind, for a B that changes from state to state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from daml.observing.records import Record

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
    """H (observed, variable), and for each kind which values there are, and R.

    NumPy's or torch's. A value that is missing has zeros in H and the identity's row in R.
    """

    matrix: Any
    present: Any
    """1 where there is a value, else 0 (kind, observed)."""
    variance: Any
    """The diagonal of R (kind, observed)."""
    covariance: Any
    """R (observed, observed) where errors are correlated, else None."""
    whole: bool
    """Whether every value of the state is observed, in its order, at all times."""

    @classmethod
    def of(cls, record: Record, error_factor: float = 1.0) -> Observing:
        """Take them from a record; the factor multiplies R."""
        there, matrix = record.kind_present, record.operator.matrix()
        variance = record.kind_variance * np.where(there, error_factor, 1.0)
        covariance = None if record.covariance is None else record.covariance * error_factor
        whole = there.all() and matrix.shape[0] == matrix.shape[1]
        whole = bool(len(there) == 1 and whole and np.array_equal(matrix, np.eye(len(matrix))))
        return cls(matrix, there.astype(np.float64), variance, covariance, whole)

    def like(self, array: Any) -> Observing:
        """Give the same in the kind of an array, NumPy's or torch's."""
        if isinstance(self.matrix, type(array)):
            return self
        matrix, present, variance = map(
            array.new_tensor, (self.matrix, self.present, self.variance)
        )
        covariance = None if self.covariance is None else array.new_tensor(self.covariance)
        return Observing(matrix, present, variance, covariance, self.whole)

    def of_kind(self, kind: Any) -> tuple[Any, Any]:
        """Give H (..., observed, variable) and R (..., observed, observed) of kinds (...)."""
        present, variance = self.present[kind], self.variance[kind]
        xp = array_namespace(variance)
        eye = xp.eye(variance.shape[-1], dtype=variance.dtype, device=variance.device)
        error = variance[..., None] * eye
        if self.covariance is not None:
            both = present[..., None] * present[..., None, :]
            error = both * self.covariance + (1 - both) * eye
        return self.matrix * present[..., None], error

    @cached_property
    def alone(self) -> tuple[Any, Any]:
        """H and R of a record that has one kind only."""
        return self.of_kind(0)

    def compared(self, background: Any, values: Any, kind: Any, covariance: Any) -> Any:
        """Give innovation, B H' and H B H' + R, of a batch with a B each.

        Shapes: background (..., variable), values (..., observed), kind (...), covariance
        (..., variable, variable).
        """
        if len(self.present) == 1:  # nothing to pick
            matrix, error = self.alone
            if self.whole:
                return values - background, covariance, covariance + error
            innovation = values - background @ matrix.T
        else:
            matrix, error = self.of_kind(kind)
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
