"""The Kalman gain of an ensemble, in the smaller of two spaces: of members, or of observations."""

from __future__ import annotations

from typing import Any, NamedTuple

from daml.arrays import namespace
from daml.schemes.ensembles.parts import Seen
from daml.schemes.matrices import identity, log_determinant


class Weights(NamedTuple):
    """What turns innovations into weights of the members' anomalies.

    With S (member, observed) as in :class:`daml.schemes.ensembles.parts.Seen`, an innovation d
    moves the state by d' (I + S' S)^-1 S' A / sqrt(N - 1), which equals
    d' S' (I + S S')^-1 A / sqrt(N - 1).
    """

    part: Seen
    matrix: Any
    """I + S' S (..., observed, observed), or I + S S' (..., member, member) where that is less."""
    few: bool
    """Whether there are no more observations than members."""
    log_determinant: Any
    """Of both matrices (...)."""

    @classmethod
    def of(cls, part: Seen) -> Weights:
        """Work out the matrix of what an ensemble sees."""
        seen, xp = part.seen, namespace(part.seen)
        members, observed = seen.shape[-2:]
        few, turned = observed <= members, xp.matrix_transpose(seen)
        product = turned @ seen if few else seen @ turned
        matrix = identity(min(members, observed), seen) + product
        return cls(part, matrix, few, log_determinant(xp.linalg.cholesky(matrix)))

    def increments(self, rows: Any) -> Any:
        """Give K d (..., row, variable) of innovations (..., row, observed) in units of errors."""
        seen, xp = self.part.seen, namespace(rows)
        turned, members = xp.matrix_transpose(seen), seen.shape[-2]
        anomalies = self.part.anomalies / (members - 1) ** 0.5
        if self.few:
            return self._solved(rows) @ (turned @ anomalies)
        return self._solved(rows @ turned) @ anomalies

    def mean(self) -> Any:
        """Give the mean of the analysis (..., variable)."""
        return self.part.mean + self.increments(self.part.innovation[..., None, :])[..., 0, :]

    def square(self) -> Any:
        """Give d' (I + S' S)^-1 d (...) of the innovation of the mean."""
        xp = namespace(self.part.seen)
        row = self.part.innovation[..., None, :]
        if self.few:
            return xp.sum(self._solved(row) * row, axis=(-2, -1))
        signal = row @ xp.matrix_transpose(self.part.seen)
        explained = xp.sum(self._solved(signal) * signal, axis=(-2, -1))
        return xp.sum(row**2, axis=(-2, -1)) - explained

    def _solved(self, rows: Any) -> Any:
        """Give rows times the inverse of the matrix, which is symmetric."""
        xp = namespace(rows)
        return xp.matrix_transpose(xp.linalg.solve(self.matrix, xp.matrix_transpose(rows)))
