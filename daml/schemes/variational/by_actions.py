"""The analysis with a B that is given by its actions, solved for in the space of observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse

from daml.arrays import alike, fetch, namespace
from daml.covariances.acting import of_setting, times
from daml.covariances.sparse import Sparse
from daml.errors import InputError
from daml.observing.noise import fetched
from daml.observing.operators import Selection, check_linearised
from daml.protocols import Forecast, ObservationOperator, Observed, Setting
from daml.schemes.variational.conjugate_gradients import solution

TOLERANCE = 1e-12
"""Length of the last residual of conjugate gradients, as a part of the first one."""
MANY = 3
"""Where more than one of so many variables is observed, H B H' is not made as a matrix."""

Times = Callable[[Any], Any]


@dataclass(frozen=True)
class Actions:
    """What a cycle with a B by its actions knows; see :meth:`analysed`."""

    covariance: Any
    """B."""
    size: int
    """Number of variables."""
    prepared: _Prepared | None
    """What is known of H, where it is the same at all times."""
    correlation: Any
    """R (observed, observed) by its standard deviations; None if errors are not correlated."""
    factors: tuple[float, float]
    """On B and on R."""
    owner: str
    """The name of the scheme, for errors."""

    @classmethod
    def of(
        cls, setting: Setting, covariance: Any, factors: tuple[float, float], owner: str
    ) -> Actions:
        """Give it for a setting; ``factors`` multiply B and R.

        Raises
        ------
        InputError
            If B is not one of the variables of the setting, or torch cannot differentiate an H that
            is not linear.
        """
        operator, size = setting.operator, len(setting.variables)
        covariance = of_setting(covariance, setting, owner)
        check_linearised(operator, size)
        noise, correlation = fetched(setting.noise), None
        if noise.covariance is not None:
            deviation = np.sqrt(noise.covariance.diagonal())
            scaled = noise.covariance / (deviation * deviation[:, None])
            correlation = alike(scaled, setting.noise.variance)
        prepared = _prepared(operator, covariance)
        return cls(covariance, size, prepared, correlation, factors, owner)

    def times(self, x: Any) -> Any:
        """Give B x (..., variable) of states (..., variable)."""
        return times(self.covariance, x)

    def analysed(self, background: Any, observed: Observed) -> tuple[Any, Any]:
        """Give the analysis (..., variable) for a linear H, and chi-square (...) of the innovation.

        The weights w of the innovation d solve (H B H' + R) w = d, and the analysis is xb + B H' w.
        """
        cross, square = self.seen(observed.operator)
        distance = observed.values - observed.operator.apply(background)
        weights, size = self.weights(distance, observed, square)
        return background + self.factors[0] * cross(weights), per_value(size, observed)

    def weights(
        self, distance: Any, observed: Observed, square: Times, further: Times | None = None
    ) -> tuple[Any, Any]:
        """Give the w (..., observed) that solves (f H B H' + C + R) w = d, and d' w (...).

        By conjugate gradients in units of the standard deviations of R.

        Parameters
        ----------
        distance : array (..., observed)
            d; what it is where a value is missing does not matter.
        observed : Observed
        square : callable
            Gives H B H' y.
        further : callable, optional
            Gives C y of a further covariance, symmetric; by default there is none.
        """
        xp = namespace(distance)
        wide, error = self.factors
        present = xp.astype(observed.present, distance.dtype)
        weight = present / xp.sqrt(observed.variance * error)

        def product(y: Any) -> Any:
            own = self._noise(y, present) + wide * weight * square(weight * y)
            return own if further is None else own + weight * further(weight * y)

        right, steps = distance * weight, 2 * distance.shape[-1]
        if isinstance(right, np.ndarray):
            found = solution(xp, product, right, steps, TOLERANCE)
        else:
            from daml.schemes.variational import differentiable

            found = xp.zeros_like(right)
            if further is not None:  # its gradient passes through what is left of d
                with xp.no_grad():
                    found = solution(xp, product, right, steps, TOLERANCE)
            left = right if further is None else right - product(found)
            found = found + differentiable.solved(product, left, steps, TOLERANCE)
        return weight * found, xp.vecdot(right, found)

    def innovation_variance(self, forecast: Forecast, observed: Observed) -> Any:
        """Give the diagonal (..., observed) of H B H' + R.

        Raises
        ------
        InputError
            If it does not follow from the actions of B.
        """
        known = self.prepared
        if known is None or known.operator is not observed.operator or known.diagonal is None:
            raise InputError(
                f"{self.owner}: the record asks for a check of gross errors ('gross_error'), and "
                "this B, which is not a matrix, does not predict the size of innovations; leave "
                "it out, or give an ensemble, e.g. daml.schemes.LETKF(20, radius=...)"
            )
        wide, error = self.factors
        return wide * alike(known.diagonal, observed.variance) + error * observed.variance

    def mean_variance(self) -> float:
        """Give the mean of the diagonal of B, roughly: by one product with random signs."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], self.size)
        return self.factors[0] * float(signs @ self.times(signs)) / self.size

    def seen(self, operator: Any) -> tuple[Times, Times]:
        """Give the products with B H' and H B H', of an H that has ``apply`` and ``adjoint``."""
        known = self.prepared
        if known is not None and known.operator is operator and known.cross is not None:
            return known.cross, cast("Times", known.square)

        def cross(y: Any) -> Any:
            return self.times(operator.adjoint(y))

        return cross, partial(_squared, operator, cross)

    def seen_around(self, around: Any, like: Any) -> tuple[Times, Times]:
        """Give the products with B H' and H B H' of an H that is linear around states.

        By the columns of B alone of the variables that H sees there, if these are few: all others
        have zeros in H' y of random y.

        Parameters
        ----------
        around : object
            That H, by ``apply`` and ``adjoint``.
        like : array (..., observed)
            Any array of the shape and the kind of y.
        """
        if not hasattr(self.covariance, "columns"):
            return self.seen(around)
        drawn = np.random.default_rng(0).standard_normal(tuple(like.shape))
        slope = around.adjoint(alike(drawn, like))
        slope = fetch(slope.detach() if hasattr(slope, "detach") else slope)
        entries = np.flatnonzero((slope != 0).reshape(-1, self.size).any(axis=0))
        if len(entries) * MANY > self.size or not len(entries):
            return self.seen(around)
        columns, squares = self._columns(entries)
        chosen = Selection(tuple(entries.tolist()), self.size)

        def cross(y: Any) -> Any:
            return columns.times(chosen.apply(around.adjoint(y)))

        def square(y: Any) -> Any:
            part = squares.times(chosen.apply(around.adjoint(y)))
            return around.apply(chosen.adjoint(part))

        return cross, square

    def _columns(self, entries: np.ndarray) -> tuple[Sparse, Sparse]:
        """Give columns (variable, entry) of B, and their rows (entry, entry), of the last H."""
        last, key = self._last, entries.tobytes()
        if key not in last:
            columns = self.covariance.columns(entries)
            last.clear()
            last[key] = columns, Sparse(scipy.sparse.csr_array(columns.matrix[entries]))
        return last[key]

    @cached_property
    def _last(self) -> dict[bytes, tuple[Sparse, Sparse]]:
        return {}

    def _noise(self, y: Any, present: Any) -> Any:
        """Give R y in units of standard deviations; y where a value is missing."""
        if self.correlation is None:
            return y
        return (1 - present) * y + present * ((present * y) @ self.correlation)


def per_value(square: Any, observed: Observed) -> Any:
    """Give squares (...) by the number of values; NaN, which no gradient passes, without any."""
    xp = namespace(square)
    counts = xp.sum(xp.astype(observed.present, square.dtype), axis=-1)
    alone = xp.ones_like(counts)
    return xp.where(counts > 0, square / xp.where(counts > 0, counts, alone), np.nan * alone)


class _Prepared(NamedTuple):
    """What is known of an H that is the same at all times."""

    operator: ObservationOperator
    cross: Times | None = None
    """Gives B H' y and H B H' y by sparse matrices, where B and H give such ones."""
    square: Times | None = None
    diagonal: Any = None
    """That of H B H' (observed,), where it is known."""


def _prepared(operator: Any, covariance: Any) -> _Prepared | None:
    """Work out what is known of H; None if that changes."""
    if getattr(operator, "changes", False):
        return None
    if not hasattr(operator, "sparse"):
        return _Prepared(operator)
    matrix, diagonal = operator.sparse(), None
    if hasattr(covariance, "variances") and (np.diff(matrix.indptr) == 1).all():
        diagonal = matrix.power(2) @ covariance.variances()
    if not hasattr(covariance, "columns"):
        return _Prepared(operator, diagonal=diagonal)
    entries = np.unique(matrix.indices)
    met, columns = matrix[:, entries], covariance.columns(entries)
    if len(entries) * MANY <= covariance.size:
        # H B H' is far smaller than B H', and conjugate gradients multiply by it alone.
        crossing = scipy.sparse.csr_array(columns.matrix @ met.T)
        cross = Sparse(crossing).times
        squares = scipy.sparse.csr_array(met @ (columns.matrix[entries] @ met.T))
        return _Prepared(operator, cross, Sparse(squares).times, squares.diagonal())
    back = Sparse(scipy.sparse.csr_array(met.T))
    if diagonal is None:
        diagonal = np.asarray((met @ columns.matrix[entries]).multiply(met).sum(axis=1))
    cross = partial(_crossed, columns, back)
    return _Prepared(operator, cross, partial(_squared, operator, cross), diagonal)


def _crossed(columns: Sparse, back: Sparse, y: Any) -> Any:
    """Give B H' y by columns of B, and H'."""
    return columns.times(back.times(y))


def _squared(operator: Any, cross: Times, y: Any) -> Any:
    """Give H B H' y."""
    return operator.apply(cross(y))
