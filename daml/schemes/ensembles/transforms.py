"""The analysis of an ensemble by a transform of its members, with a symmetric or any other root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from daml.arrays import namespace
from daml.schemes.ensembles.parts import Seen
from daml.schemes.ensembles.roots import root_times
from daml.schemes.ensembles.weights import Weights
from daml.schemes.matrices import cholesky, identity, log_determinant, solved


class Transform(NamedTuple):
    """What the observations make of an ensemble.

    With A and S the anomalies of the members and of what is seen of them, as in
    :class:`daml.schemes.ensembles.parts.Seen`, and d the innovation of the mean.
    """

    increment: Any
    """d' S' (I + S S')^-1 A / sqrt(N - 1), by which the mean moves (..., variable)."""
    anomalies: Any
    """M A (..., member, variable), where M' M = (I + S S')^-1 and M keeps their mean of 0."""
    square: Any
    """d' (I + S' S)^-1 d (...)."""
    log_determinant: Any
    """Of I + S' S (...)."""
    turned: bool = False
    """Whether M has a random turn."""


def symmetric(part: Seen, factor: Callable[[Any, Any], Any] | None = None) -> Transform:
    """Give the transform with the symmetric root, by eigenvectors in the space of the members.

    ``factor`` gives a squared factor on the anomalies of the background, of the eigenvalues
    (..., member) of S S' and the projections of S d on their vectors.
    """
    xp = namespace(part.seen)
    if getattr(part.seen, "requires_grad", False):
        return _with_gradient(part)
    members = part.seen.shape[-2]
    values, vectors = xp.linalg.eigh(part.seen @ xp.matrix_transpose(part.seen))
    values = xp.where(values > 0, values, xp.zeros_like(values))
    turned = xp.matrix_transpose(vectors)
    projected = (turned @ (part.seen @ part.innovation[..., None]))[..., 0]
    wide = 1.0 if factor is None else factor(values, projected)
    expected = 1 + wide * values
    weights = (vectors @ (wide * projected / expected)[..., None])[..., 0] / (members - 1) ** 0.5
    root = (vectors / xp.sqrt(expected / wide)[..., None, :]) @ turned
    square = xp.vecdot(part.innovation, part.innovation)
    return Transform(
        (weights[..., None, :] @ part.anomalies)[..., 0, :],
        root @ part.anomalies,
        square - xp.sum(wide * projected**2 / expected, axis=-1),
        xp.sum(xp.log(expected), axis=-1),
    )


def _with_gradient(part: Seen) -> Transform:
    """Give the same by products: the gradient of eigenvectors is NaN where eigenvalues meet."""
    weights, seen = Weights.of(part), part.seen
    return Transform(
        weights.increments(part.innovation[..., None, :])[..., 0, :],
        root_times(seen @ seen.mT, part.anomalies),
        weights.square(),
        weights.log_determinant,
    )


def triangular(part: Seen, turns: Any) -> Transform:
    """Give a transform by Cholesky's root, which costs a tenth of eigenvectors.

    The root is not the symmetric one. Turned at random, both have the same law: ``turns``
    (..., member, member) do so.

    References
    ----------
    Andrews, A. (1968): A square root formulation of the Kalman covariance equations. AIAA Journal
    6, 1165-1166; where there are fewer observations than members.
    """
    members, observed = part.seen.shape[-2:]
    return (_of_observations if observed < members else _of_members)(part, turns)


def _of_observations(part: Seen, turns: Any) -> Transform:
    """With C C' = I + S' S the root is M = I - S (C + I)'^-1 C^-1 S'."""
    seen, xp = part.seen, namespace(part.seen)
    across = xp.matrix_transpose(seen)
    root = shifted_root(across @ seen)
    both = xp.concat((across @ part.anomalies, part.innovation[..., None]), axis=-1)
    both = solved(root, both)
    signal, innovation = both[..., :-1], both[..., -1]
    shifted = xp.matrix_transpose(root) + identity(seen.shape[-1], seen)
    pulled = solved(shifted, signal, upper=True)
    return Transform(
        _times(innovation, signal) / (seen.shape[-2] - 1) ** 0.5,
        turns @ (part.anomalies - seen @ pulled),
        xp.vecdot(innovation, innovation),
        log_determinant(root),
        turned=True,
    )


def _of_members(part: Seen, turns: Any) -> Transform:
    """With L L' = I + S S' the root is M = V L^-1, where V reflects L^-1 1 onto -1.

    (1, ..., 1) is an eigenvector of S S' to 0, so that both have the same length. M only changes
    its sign, and keeps the mean of 0.
    """
    xp, seen, members = namespace(part.seen), part.seen, part.seen.shape[-2]
    root = shifted_root(seen @ xp.matrix_transpose(seen))
    inverse = solved(root, identity(members, root))
    pulled = inverse @ (seen @ part.innovation[..., None])
    mirror = mirror_of(inverse)
    reflected = inverse - 2 * mirror[..., None] * _times(mirror, inverse)[..., None, :]
    # One product moves the mean, and makes and turns the members.
    rows = xp.concat((turns @ reflected, xp.matrix_transpose(pulled) @ inverse), axis=-2)
    moved = rows @ part.anomalies
    return Transform(
        moved[..., members, :] / (members - 1) ** 0.5,
        moved[..., :members, :],
        xp.vecdot(part.innovation, part.innovation) - xp.vecdot(pulled[..., 0], pulled[..., 0]),
        log_determinant(root),
        turned=True,
    )


def mirror_of(inverse: Any) -> Any:
    """Give the unit vector (..., member) across which V reflects L^-1 1 onto -1."""
    xp = namespace(inverse)
    mirror = xp.sum(inverse, axis=-1) + 1
    return mirror / xp.sqrt(xp.vecdot(mirror, mirror))[..., None]


def shifted_root(matrix: Any) -> Any:
    """Give the lower triangular root of I + C, for C (..., n, n).

    Rounding of a large C could leave it without a root; one of C that is not finite is
    NaN.
    """
    xp, size = namespace(matrix), matrix.shape[-1]
    traces = xp.sum(xp.linalg.diagonal(matrix), axis=-1)
    least = 1 + size * xp.finfo(matrix.dtype).eps * traces[..., None, None]
    return cholesky(matrix + least * identity(size, matrix))


def _times(row: Any, rows: Any) -> Any:
    """Give the product of rows (..., k) and matrices (..., k, variable)."""
    return (row[..., None, :] @ rows)[..., 0, :]
