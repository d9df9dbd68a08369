"""The analysis through a nonlinear H: Gauss-Newton iterations with the tangent of H."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from daml.arrays import alike, namespace
from daml.protocols import Noise, ObservationOperator, Setting
from daml.schemes.matrices import least_squares
from daml.schemes.variational.conjugate_gradients import conjugate_gradients
from daml.schemes.variational.damped import minimised


@dataclass(frozen=True)
class GaussNewton:
    """What a cycle with a constant B and a nonlinear H knows; see :meth:`analysed`."""

    operator: ObservationOperator
    noise: Noise
    root: Any
    """The Cholesky factor L of B (variable, variable)."""
    factor: float
    """On R."""
    method: str

    @classmethod
    def of(
        cls, setting: Setting, covariance: np.ndarray, factor: float, method: str
    ) -> GaussNewton:
        """Give it for a setting; an H that torch cannot differentiate raises `InputError`."""
        setting.operator.tangent(np.ones((1, len(covariance))))
        root = alike(np.linalg.cholesky(covariance), setting.noise.variance)
        return cls(setting.operator, setting.noise, root, factor, method)

    def analysed(self, background: Any, values: Any, pattern: Any) -> tuple[Any, Any]:
        """Give the analysis (..., variable), and the minimum of J by the number of values (...).

        With x = xb + L v the cost is J(v) = |v|^2 + |R^(-1/2) (y - H(x))|^2. Each iteration
        minimises it for the H that is linear around the last x; see
        :func:`daml.schemes.variational.damped.minimised`.
        """
        xp = namespace(background)

        def cost(v: Any) -> tuple[Any, Any]:
            return self._cost(background, v, values, pattern)

        def step(v: Any, misfit: Any) -> Any:
            return self._aim(background, v, misfit, pattern) - v

        found = minimised(cost, step, xp.zeros_like(background))
        present = xp.astype(self.noise.present[pattern], background.dtype)
        counts = xp.sum(present, axis=-1)
        chi_square = found.cost / xp.where(counts > 0, counts, np.nan)
        return background + found.control @ self.root.T, chi_square

    def _cost(self, background: Any, v: Any, values: Any, pattern: Any) -> tuple[Any, Any]:
        """Give R^(-1/2) (y - H(x)) (..., observed), and J (...)."""
        xp = namespace(v)
        distance = values - self.operator.apply(background + v @ self.root.T)
        misfit = self._white(distance[..., None, :], pattern)[..., 0, :]
        return misfit, xp.vecdot(v, v) + xp.vecdot(misfit, misfit)

    def _aim(self, background: Any, v: Any, misfit: Any, pattern: Any) -> Any:
        """Give the v (..., variable) that minimises J for the H that is linear around v."""
        xp = namespace(v)
        tangent = self.operator.tangent(background + v @ self.root.T)
        turned = self._white(xp.matrix_transpose(tangent @ self.root), pattern)
        seen = xp.matrix_transpose(turned)
        target = misfit + (seen @ v[..., None])[..., 0]
        if self.method == "cg":
            return conjugate_gradients(xp, seen, target)
        return least_squares(seen, target)

    def _white(self, rows: Any, pattern: Any) -> Any:
        """Give R^(-1/2) of rows (..., row, observed), 0 where a value is missing."""
        return self.noise.whitened(rows, pattern) / self.factor**0.5
