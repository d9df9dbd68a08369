"""The analysis with a constant B and the tangent of H: by Gauss-Newton iterations, or one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from daml.arrays import alike, namespace
from daml.observing.operators import check_tangent
from daml.protocols import Forecast, Observed, Setting
from daml.schemes.matrices import least_squares
from daml.schemes.variational.conjugate_gradients import conjugate_gradients
from daml.schemes.variational.damped import minimised


@dataclass(frozen=True)
class GaussNewton:
    """What a cycle with a constant B knows of H and R that no table holds; see :meth:`analysed`."""

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
        check_tangent(setting.operator, len(covariance))
        root = alike(np.linalg.cholesky(covariance), setting.noise.variance)
        return cls(root, factor, method)

    def analysed(self, background: Any, observed: Observed) -> tuple[Any, Any]:
        """Give the analysis (..., variable), and the minimum of J by the number of values (...).

        With x = xb + L v the cost is J(v) = |v|^2 + |R^(-1/2) (y - H(x))|^2. Each iteration
        minimises it for the H that is linear around the last x; see
        :func:`daml.schemes.variational.damped.minimised`. A linear H needs one step.
        """
        xp = namespace(background)

        def cost(v: Any) -> tuple[Any, Any]:
            return self._cost(background, v, observed)

        def step(v: Any, misfit: Any) -> Any:
            return self._aim(background, v, misfit, observed) - v

        control = xp.zeros_like(background)
        if observed.operator.linear:
            control = self._aim(background, control, cost(control)[0], observed)
            square = cost(control)[1]
        else:
            found = minimised(cost, step, control)
            control, square = found.control, found.cost
        counts = xp.sum(xp.astype(observed.present, background.dtype), axis=-1)
        chi_square = square / xp.where(counts > 0, counts, np.nan)
        return background + control @ self.root.T, chi_square

    def innovation_variance(self, forecast: Forecast, observed: Observed) -> Any:
        """Give the diagonal (..., observed) of H B H' + R, with H linear around the background."""
        xp, tangent = namespace(forecast.state), observed.operator.tangent(forecast.state)
        return xp.sum((tangent @ self.root) ** 2, axis=-1) + self.factor * observed.variance

    def _cost(self, background: Any, v: Any, observed: Observed) -> tuple[Any, Any]:
        """Give R^(-1/2) (y - H(x)) (..., observed), and J (...)."""
        xp = namespace(v)
        distance = observed.values - observed.operator.apply(background + v @ self.root.T)
        misfit = self._white(distance[..., None, :], observed)[..., 0, :]
        return misfit, xp.vecdot(v, v) + xp.vecdot(misfit, misfit)

    def _aim(self, background: Any, v: Any, misfit: Any, observed: Observed) -> Any:
        """Give the v (..., variable) that minimises J for the H that is linear around v."""
        xp = namespace(v)
        tangent = observed.operator.tangent(background + v @ self.root.T)
        turned = self._white(xp.matrix_transpose(tangent @ self.root), observed)
        seen = xp.matrix_transpose(turned)
        target = misfit + (seen @ v[..., None])[..., 0]
        if self.method == "cg":
            return conjugate_gradients(xp, seen, target)
        return least_squares(seen, target)

    def _white(self, rows: Any, observed: Observed) -> Any:
        """Give R^(-1/2) of rows (..., row, observed), 0 where a value is missing."""
        return observed.whitened(rows) / self.factor**0.5
