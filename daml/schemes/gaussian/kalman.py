"""What schemes with a mean and a covariance share: the Kalman update, roots, and outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from daml.arrays import namespace
from daml.labels.datasets import SPREAD
from daml.protocols import Observed, Outputs
from daml.schemes.ensembles.parts import SILENT, chi_square
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.matrices import cholesky, identity, log_determinant
from daml.schemes.variational.by_model import OUTPUTS

GIVEN: Outputs = {
    **CHI_SQUARE,
    "log_likelihood": OUTPUTS["log_likelihood"],
    "background_spread": (
        SPREAD["background_spread"][0],
        {"long_name": "standard deviation of the background's error"},
    ),
    "spread": (
        SPREAD["spread"][0],
        {"long_name": "standard deviation of the analysis's error"},
    ),
}
"""The outputs of these schemes. The spread is the root of the variances that they carry."""


class Analysed(NamedTuple):
    """Mean and covariance after an update, and what the innovation says of those before."""

    mean: Any
    """(..., variable)."""
    covariance: Any
    """(..., variable, variable)."""
    square: Any
    """d' S^-1 d (...) of the innovation d and its expected covariance S."""
    log_determinant: Any
    """Of R^(-1/2) S R^(-1/2) (...)."""

    @classmethod
    def of(cls, mean: Any, deviations: Any, seen: Any, innovation: Any) -> Analysed:
        """Update a mean and a covariance P = X' X by observations with unit errors.

        With Y = R^(-1/2) H X and Z = T^-1 X, where T T' = I + Y Y', the analysis covariance is
        Z' Z, which no rounding makes negative.

        Parameters
        ----------
        mean : array (..., variable)
        deviations : array (..., row, variable)
            X, a root of the covariance.
        seen : array (..., row, observed)
            Y; 0 where a value is missing.
        innovation : array (..., observed)
            R^(-1/2) (y - H x); 0 where a value is missing.
        """
        xp = namespace(seen)
        root = cholesky(identity(seen.shape[-2], seen) + seen @ xp.matrix_transpose(seen))
        signal = seen @ innovation[..., None]
        solved = xp.linalg.solve(root, xp.concat((deviations, signal), axis=-1))
        parts, weights = solved[..., :-1], solved[..., -1]
        turned = xp.matrix_transpose(parts)
        return cls(
            mean + (turned @ weights[..., None])[..., 0],
            turned @ parts,
            xp.vecdot(innovation, innovation) - xp.vecdot(weights, weights),
            log_determinant(root),
        )

    def inflated(self, factor: float, seen: Any) -> Any:
        """Give the covariance, times the square of a factor where anything was observed."""
        if factor == 1:
            return self.covariance
        xp = namespace(seen)
        informed = xp.astype(xp.sum(seen**2, axis=(-2, -1)) > SILENT, seen.dtype)
        return self.covariance * (1 + (factor**2 - 1) * informed)[..., None, None]

    def extras(self, observed: Observed, before: Any, after: Any, width: Any) -> dict[str, Any]:
        """Give the outputs, by name.

        ``before`` and ``after`` are the covariances of background and analysis; ``width`` (...) is
        the log of the root of R's determinant.
        """
        xp = namespace(after)
        return {
            **chi_square(observed, self.square),
            "log_likelihood": -(self.square + self.log_determinant) / 2 - width,
            "background_spread": xp.sqrt(xp.linalg.diagonal(before)),
            "spread": xp.sqrt(xp.linalg.diagonal(after)),
        }


class Root:
    """Roots of covariances that do not depend on the order of the variables."""

    def __init__(self, names: tuple[str, ...]) -> None:
        order = np.argsort(names)
        self.sorted = bool((order == np.arange(len(names))).all())
        self.order, self.back = order.tolist(), np.argsort(order).tolist()

    def of(self, covariance: Any) -> Any:
        """Give L (..., variable, variable) with L L' = P, triangular in the order of the names.

        In units of the standard deviations, a few roundings are added to the diagonal: P may be
        singular. NaN where P is not finite.
        """
        part = covariance
        if not self.sorted:
            part = part[..., self.order, :][..., self.order]
        xp = namespace(part)
        info = xp.finfo(part.dtype)
        variance = xp.linalg.diagonal(part)
        size = xp.sqrt(xp.where(variance > info.tiny, variance, xp.full_like(variance, info.tiny)))
        scaled = part / (size[..., :, None] * size[..., None, :])
        jitter = 64 * part.shape[-1] * info.eps
        found = cholesky(scaled + jitter * identity(part.shape[-1], part)) * size[..., None]
        return found if self.sorted else found[..., self.back, :]
