"""The analysis with a B that is given by its actions, solved for in the space of observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse

from daml.arrays import alike, namespace
from daml.covariances.sparse import Sparse
from daml.errors import InputError
from daml.observing.noise import fetched
from daml.protocols import Noise, ObservationOperator, Setting
from daml.schemes.variational.conjugate_gradients import solution

TOLERANCE = 1e-12
"""Length of the last residual of conjugate gradients, as a part of the first one."""

Times = Callable[[Any], Any]


@dataclass(frozen=True)
class Actions:
    """What a cycle with a B by its actions and a linear H knows; see :meth:`analysed`."""

    operator: ObservationOperator
    cross: Times
    """Gives B H' y (..., variable) of observations (..., observed)."""
    square: Times
    """Gives H B H' y (..., observed)."""
    noise: Noise
    correlation: Any
    """R (observed, observed) by its standard deviations; None if errors are not correlated."""
    factors: tuple[float, float]
    """On B and on R."""

    @classmethod
    def of(cls, setting: Setting, covariance: Any, factors: tuple[float, float]) -> Actions:
        """Give it for a setting; ``factors`` multiply B and R.

        Raises
        ------
        InputError
            If H is not linear, or B is not one of the variables of the setting.
        """
        operator, size = setting.operator, len(setting.variables)
        if not operator.linear:
            raise InputError(
                f"ThreeDVar: B is a {type(covariance).__name__}, which needs a linear H, and "
                "'operator' is not linear; give B as an xarray.DataArray, or an ensemble scheme, "
                "e.g. daml.schemes.ETKF(20)"
            )
        if hasattr(covariance, "placed"):
            covariance = covariance.placed(setting.space)
        noise, correlation = fetched(setting.noise), None
        if noise.covariance is not None:
            deviation = np.sqrt(noise.covariance.diagonal())
            scaled = noise.covariance / (deviation * deviation[:, None])
            correlation = alike(scaled, setting.noise.variance)
        return cls(
            operator, *_seen(operator, covariance, size), setting.noise, correlation, factors
        )

    def analysed(self, background: Any, values: Any, pattern: Any) -> tuple[Any, Any]:
        """Give the analysis (..., variable), and the chi-square (...) of the innovation.

        The weights w of the innovation d solve (H B H' + R) w = d, by conjugate gradients in units
        of the standard deviations of R, and the analysis is xb + B H' w.
        """
        xp = namespace(background)
        wide, error = self.factors
        present = xp.astype(self.noise.present[pattern], background.dtype)
        weight = present / xp.sqrt(self.noise.variance[pattern] * error)
        distance = (values - self.operator.apply(background)) * weight

        def product(y: Any) -> Any:
            return self._noise(y, present) + wide * weight * self.square(weight * y)

        steps = 2 * distance.shape[-1]
        if isinstance(distance, np.ndarray):
            found = solution(xp, product, distance, steps, TOLERANCE)
        else:
            from daml.schemes.variational import differentiable

            found = differentiable.solved(product, distance, steps, TOLERANCE)
        counts = xp.sum(present, axis=-1)
        square = xp.vecdot(distance, found) / xp.where(counts > 0, counts, np.nan)
        return background + wide * self.cross(weight * found), square

    def _noise(self, y: Any, present: Any) -> Any:
        """Give R y in units of standard deviations; y where a value is missing."""
        if self.correlation is None:
            return y
        return (1 - present) * y + present * ((present * y) @ self.correlation)


def _seen(operator: Any, covariance: Any, size: int) -> tuple[Times, Times]:
    """Give the products with B H' and H B H': as sparse matrices, where B and H give such ones."""
    if hasattr(covariance, "columns") and hasattr(operator, "sparse"):
        matrix = operator.sparse()
        _check_size(covariance.size, covariance, size)
        entries = np.unique(matrix.indices)
        met = matrix[:, entries]
        columns = covariance.columns(entries).matrix
        cross = scipy.sparse.csr_array(columns @ met.T)
        square = scipy.sparse.csr_array(met @ (columns[entries] @ met.T))
        return Sparse(cross).times, Sparse(square).times
    times = partial(_times, covariance)
    _check_size(_size(covariance, size), covariance, size)

    def crossed(y: Any) -> Any:
        return times(operator.adjoint(y))

    return crossed, lambda y: operator.apply(crossed(y))


def _times(covariance: Any, x: Any) -> Any:
    """Give B x, by the root of B where there is no shorter way."""
    if hasattr(covariance, "times"):
        return covariance.times(x)
    return covariance.root(covariance.root_adjoint(x))


def _size(covariance: Any, size: int) -> int:
    """Give the number of variables of B; where it does not say, that of a product."""
    if hasattr(covariance, "size"):
        return int(covariance.size)
    if hasattr(covariance, "root"):
        return int(covariance.root(np.zeros(covariance.control)).shape[-1])
    return int(covariance.times(np.zeros(size)).shape[-1])


def _check_size(found: int, covariance: Any, size: int) -> None:
    if found != size:
        raise InputError(
            f"ThreeDVar: 'background_covariance', a {type(covariance).__name__}, is one of {found} "
            f"variables, and the model has {size}; give a B of as many"
        )
