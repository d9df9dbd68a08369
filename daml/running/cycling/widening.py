"""The error of a step as a root: members are spread by it, and nothing is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daml.arrays import member_mean, namespace
from daml.schemes.ensembles.roots import root_times
from daml.schemes.matrices import identity

if TYPE_CHECKING:
    from daml.protocols import Array

LEAST = 1e-12
"""Variances of an ensemble below this part of the largest one are rounding."""


def widened(x: Array, root: Array) -> Array:
    """Widen the anomalies A of members so that their covariance P becomes P + E Q E.

    E is the projection on the space of the anomalies: directions in which the ensemble has no
    spread get none. With N members the anomalies become (I + (N - 1) G G')^(1/2) A, where the
    columns of A' G are E Q^(1/2). The mean stays.

    Parameters
    ----------
    x : array (..., member, variable)
    root : array (variable, variable) or (variable,)
        The symmetric root of Q, or deviations.

    References
    ----------
    Raanes, P. N., Carrassi, A. and Bertino, L. (2015): Extending the square root method to account
    for additive forecast noise in ensemble methods. Mon. Wea. Rev. 143, 3857-3873; "Sqrt-Core".
    """
    xp, members = namespace(x), x.shape[-2]
    mean = member_mean(x)[..., None, :]
    anomalies = x - mean
    squares = anomalies @ xp.matrix_transpose(anomalies)
    sound = xp.all(xp.isfinite(squares), axis=(-2, -1), keepdims=True)
    anomalies, squares = (xp.where(sound, part, 0.0) for part in (anomalies, squares))
    error = anomalies * root if root.ndim == 1 else anomalies @ root
    shares = _inverse(squares) @ error
    grown = _grown((members - 1) * (shares @ xp.matrix_transpose(shares)), anomalies)
    return mean + xp.where(sound, grown, xp.nan)  # an ensemble that has left the numbers is lost


def _inverse(gram: Any) -> Any:
    """Give the pseudo-inverse of A A' (..., member, member)."""
    xp = namespace(gram)
    if getattr(gram, "requires_grad", False):
        return xp.linalg.pinv(gram, rtol=LEAST, hermitian=True)
    values, vectors = xp.linalg.eigh(gram)
    there = values > LEAST * values[..., -1:]
    inverse = xp.where(there, 1 / xp.where(there, values, 1.0), 0.0)
    return (vectors * inverse[..., None, :]) @ xp.matrix_transpose(vectors)


def _grown(matrix: Any, anomalies: Any) -> Any:
    """Give (I + C)^(1/2) A, the symmetric root, of C (..., member, member)."""
    xp = namespace(matrix)
    if getattr(matrix, "requires_grad", False):  # eigenvectors have no gradient if values meet
        return (identity(matrix.shape[-1], matrix) + matrix) @ root_times(matrix, anomalies)
    values, vectors = xp.linalg.eigh(matrix)
    roots = xp.sqrt(1 + xp.where(values > 0, values, 0.0))
    return (vectors * roots[..., None, :]) @ (xp.matrix_transpose(vectors) @ anomalies)
