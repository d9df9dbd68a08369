"""What observations see of a covariance of states, and the analysis that follows."""

from __future__ import annotations

from typing import Any, NamedTuple

from daml.arrays import namespace
from daml.protocols import Observed
from daml.schemes.ensembles.parts import Seen
from daml.schemes.ensembles.roots import root_times
from daml.schemes.matrices import cholesky, identity, log_determinant, solved


class Look(NamedTuple):
    """How the observations of a time see covariances of states."""

    observed: Observed
    factor: float
    """On R."""
    tangent: Any
    """Of an H that is not linear (..., observed, variable); None of another."""

    @classmethod
    def of(cls, observed: Observed, factor: float, at: Any) -> Look:
        """Look at covariances of states around ``at`` (..., variable)."""
        operator = observed.operator
        return cls(observed, factor, None if operator.linear else operator.tangent(at))

    def rows(self, rows: Any) -> Any:
        """Give R^(-1/2) H x (..., row, observed) of rows x (..., row, variable)."""
        xp = namespace(rows)
        if self.tangent is not None:
            seen = rows @ xp.matrix_transpose(self.tangent)
        else:
            shape = (*self.observed.row.shape, *rows.shape[-2:])
            seen = self.observed.operator.apply(xp.broadcast_to(rows, shape))
        return self.observed.whitened(seen) / self.factor**0.5

    def sees(self, covariance: Any) -> Sees:
        """Look at B (..., variable, variable)."""
        cross = self.rows(covariance)
        return Sees(cross, self.rows(namespace(cross).matrix_transpose(cross)))


class Sees(NamedTuple):
    """What observations see of a covariance B, in units of their errors: with G = R^(-1/2) H."""

    cross: Any
    """B G' (..., variable, observed)."""
    square: Any
    """G B G' (..., observed, observed)."""


class Solved(NamedTuple):
    """The weights of the observations in an analysis."""

    weights: Any
    """(I + S)^-1 d (..., observed)."""
    square: Any
    """d' (I + S)^-1 d (...)."""
    log_determinant: Any
    """Of I + S (...)."""

    @classmethod
    def of(cls, square: Any, innovation: Any) -> Solved:
        """Solve for an S (..., observed, observed) and d (..., observed) in units of errors."""
        xp = namespace(square)
        root = cholesky(identity(square.shape[-1], square) + square)
        half = solved(root, innovation[..., None])
        weights = solved(xp.matrix_transpose(root), half, upper=True)[..., 0]
        half = half[..., 0]
        return cls(weights, xp.vecdot(half, half), log_determinant(root))


def covariance(one: Any, other: Any) -> Any:
    """Give the covariances (..., variable, variable) of two times, of anomalies (..., member, any).

    Rows are those of ``one``.
    """
    return namespace(one).matrix_transpose(one) @ other / (one.shape[-2] - 1)


def narrowed(part: Seen, cross: Any, square: Any) -> Any:
    """Give the anomalies (..., member, variable) of an analysis by a square root of its gain.

    With ``cross`` and ``square`` as in :class:`Sees`, M = I + ``square``, and S the anomalies of
    R^(-1/2) H(x), those of x become A - S (M + M^(1/2))^-1 cross'. Where B is the covariance of the
    members this is the symmetric root of an ETKF.

    References
    ----------
    Whitaker, J. S. and Hamill, T. M. (2002): Ensemble data assimilation without perturbed
    observations. Mon. Wea. Rev. 130, 1913-1924; equation 10.
    """
    xp, scale = namespace(square), (part.seen.shape[-2] - 1) ** 0.5
    eye = identity(square.shape[-1], square)
    total = eye + square
    signal = xp.matrix_transpose(part.seen) * scale
    pulled = xp.linalg.solve(total + total @ root_times(square, eye + 0 * square), signal)
    return part.anomalies - xp.matrix_transpose(cross @ pulled)


def informed(anomalies: Any, cross: Any) -> Any:
    """Give the square (..., variable) of what observations see through each variable.

    It is in units of their errors: of ``cross`` as in :func:`narrowed`, divided by the variances of
    the anomalies.
    """
    xp = namespace(anomalies)
    variance = xp.sum(anomalies**2, axis=-2) / (anomalies.shape[-2] - 1)
    return xp.sum(cross**2, axis=-1) / xp.where(variance > 0, variance, xp.inf)
