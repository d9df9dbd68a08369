"""The analysis with the B that the model gives for each forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from daml.arrays import alike, namespace
from daml.observing.noise import fetched
from daml.protocols import Forecast, Observed, Outputs, Setting

OUTPUTS: Outputs = {
    "background_spread": (("time", "variable"), {"long_name": "expected error of the background"}),
    "innovation_spread": (("time", "observed"), {"long_name": "expected size of the innovation"}),
    "normalized_innovation": (
        ("time", "observed"),
        {"long_name": "innovation by the root of its expected covariance", "units": "1"},
    ),
    "log_likelihood": (
        ("time",),
        {"long_name": "log-likelihood of the innovation, less its constant", "units": "1"},
    ),
}
"""The further outputs of an analysis if the model gives B."""


@dataclass(frozen=True)
class Observing:
    """H (observed, variable), and for each pattern R and which values are present.

    The arrays are NumPy's or torch's. A missing value has zeros in H and a row of the identity in
    R. Nothing of it holds for a time whose H or R is its own.
    """

    factor: float
    """On R, and contained in it."""
    matrix: Any
    """None where H changes in time."""
    present: Any
    """1 where a value is present, otherwise 0 (pattern, observed)."""
    variance: Any
    """The diagonal of R (pattern, observed)."""
    covariance: Any
    """R (observed, observed) if errors are correlated, otherwise None."""
    whole: bool
    """Whether all variables are observed, in their order, at all times: H is the identity."""

    @classmethod
    def of(cls, setting: Setting, error_factor: float = 1.0) -> Observing:
        """Give H and R of a setting; ``error_factor`` multiplies R."""
        noise = fetched(setting.noise)
        there = noise.present
        linear = setting.operator.linear
        matrix = setting.operator.matrix() if len(there) or not linear else None
        variance = noise.variance * np.where(there, error_factor, 1.0)
        covariance = None if noise.covariance is None else noise.covariance * error_factor
        whole = False
        if matrix is not None and len(there) == 1 and there.all():
            whole = np.array_equal(matrix, np.eye(matrix.shape[1]))
        like = setting.noise.variance
        return cls(
            error_factor,
            None if matrix is None else alike(matrix, like),
            alike(there.astype(np.float64), like),
            alike(variance, like),
            None if covariance is None else alike(covariance, like),
            whole,
        )

    def of_time(self, observed: Observed, background: Any) -> tuple[Any, Any]:
        """Give the same of a time whose H or R is its own, for backgrounds (..., variable)."""
        xp = namespace(background)
        present = xp.astype(observed.present, background.dtype)
        error = observed.covariance
        eye = xp.eye(error.shape[-1], dtype=error.dtype, device=error.device)
        error = xp.where(present[..., None] * present[..., None, :] > 0, error * self.factor, eye)
        return observed.operator.tangent(background) * present[..., None], error

    def of_pattern(self, pattern: Any) -> tuple[Any, Any]:
        """Give H (..., observed, variable) and R (..., observed, observed) of patterns (...)."""
        present, variance = self.present[pattern], self.variance[pattern]
        xp = namespace(variance)
        eye = xp.eye(variance.shape[-1], dtype=variance.dtype, device=variance.device)
        error = variance[..., None] * eye
        if self.covariance is not None:
            both = present[..., None] * present[..., None, :]
            error = both * self.covariance + (1 - both) * eye
        return self.matrix * present[..., None], error

    @cached_property
    def alone(self) -> tuple[Any, Any]:
        """H and R of a record with only one pattern."""
        return self.of_pattern(0)

    def compared(self, background: Any, observed: Observed, covariance: Any) -> Any:
        """Give innovation, B H' and H B H' + R, for a batch of backgrounds, each with its B.

        Shapes: background (..., variable), covariance (..., variable, variable).
        """
        values = observed.values
        if not observed.tabled:
            matrix, error = self.of_time(observed, background)
            innovation = values - (matrix @ background[..., None])[..., 0]
        elif len(self.present) == 1:  # no need to select by pattern
            matrix, error = self.alone
            if self.whole:
                return values - background, covariance, covariance + error
            innovation = values - background @ matrix.T
        else:
            matrix, error = self.of_pattern(observed.pattern)
            innovation = values - (matrix @ background[..., None])[..., 0]
        cross = covariance @ matrix.mT
        return innovation, cross, matrix @ cross + error

    def innovation_variance(self, forecast: Forecast, observed: Observed) -> Any:
        """Give the diagonal (..., observed) of H B H' + R, with the model's B."""
        xp = namespace(forecast.state)
        covariance = xp.asarray(forecast.covariance, dtype=forecast.state.dtype)
        total = self.compared(forecast.state, observed, covariance)[2]
        return xp.linalg.diagonal(total + xp.zeros_like(forecast.state)[..., :1, None])

    def analysed(
        self, background: Any, observed: Observed, covariance: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Give the analysis, and the outputs by name (`OUTPUTS` and ``chi_square``).

        The innovation is normalised by the triangular root of H B H' + R: its entries have
        variance 1 if B and R are right.
        """
        xp = namespace(background)
        covariance = xp.asarray(covariance, dtype=background.dtype)
        innovation, cross, total = self.compared(background, observed, covariance)
        size = xp.sqrt(xp.linalg.diagonal(total))[..., None]  # then units and pivots do not matter
        scaled, apart = total / (size * size.mT), innovation[..., None] / size
        weights = xp.linalg.solve(scaled, apart) / size
        root = xp.linalg.cholesky(scaled)
        normal = xp.linalg.solve(root, apart)[..., 0]
        spreads = (xp.sqrt(xp.linalg.diagonal(part)) for part in (covariance, total))
        background_spread, innovation_spread = spreads
        square = xp.vecdot(normal, normal)
        width = xp.sum(xp.log(size[..., 0] * xp.linalg.diagonal(root)), axis=-1)
        counts = xp.sum(xp.astype(observed.present, background.dtype), axis=-1)
        return background + (cross @ weights)[..., 0], {
            "background_spread": xp.broadcast_to(background_spread, background.shape),
            "innovation_spread": xp.broadcast_to(innovation_spread, innovation.shape),
            "normalized_innovation": normal,
            "log_likelihood": -square / 2 - width,
            "chi_square": square / xp.where(counts > 0, counts, np.nan),
        }
