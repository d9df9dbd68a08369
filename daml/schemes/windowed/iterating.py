"""Gauss-Newton iterations in the space of the members of an ensemble."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from daml.arrays import fetch, namespace, taken
from daml.schemes.ensembles.parts import Seen
from daml.schemes.ensembles.transforms import mirror_of, shifted_root
from daml.schemes.matrices import identity, solved
from daml.schemes.windowed.views import Factor, Spectrum

TOLERANCE = 0.05
"""Largest last change of the mean, in standard deviations of the analysis, where iterations end."""


class Ahead(Protocol):
    """Moves members through a window."""

    def __call__(self, members: Any, rows: np.ndarray | None) -> tuple[Any, Any]:
        """Give S and d (see :class:`Seen`) of members (row, member, any) of some states."""
        ...


class Step(NamedTuple):
    """Where a linearisation has its minimum, and how members are drawn together there."""

    weights: Any
    """(..., member)"""
    root: Any
    """T (..., member, member), where T' T is the covariance of the weights."""
    inverse: Any
    """T^-1."""

    @classmethod
    def of(cls, seen: Any, innovation: Any, factor: Factor | None, turned: bool) -> Self:
        """Take a root that keeps the mean of the members: the symmetric one, or Cholesky's.

        Without random turns the symmetric root, which moves each member least, is the better one:
        with another the ensemble loses the truth more often.
        """
        xp = namespace(seen)
        if factor is None and turned:
            return cls._triangular(seen, innovation)
        values, vectors, projected = Spectrum.of(seen, innovation)
        wide = 1.0 if factor is None else factor(values, projected)
        variance = wide / (1 + wide * values)
        weights = (vectors @ (variance * projected)[..., None])[..., 0]
        deviation = xp.sqrt(variance)[..., None, :]
        across = xp.matrix_transpose(vectors)
        return cls(weights, (vectors * deviation) @ across, (vectors / deviation) @ across)

    @classmethod
    def _triangular(cls, seen: Any, innovation: Any) -> Self:
        """With L L' = I + S S', T = V L^-1; it costs a tenth of eigenvectors."""
        across = namespace(seen).matrix_transpose
        lower = shifted_root(seen @ across(seen))
        upside = solved(lower, identity(seen.shape[-2], seen))
        weights = across(upside) @ (upside @ (seen @ innovation[..., None]))
        mirror = mirror_of(upside)[..., None]
        root = upside - 2 * mirror @ (across(mirror) @ upside)
        return cls(weights[..., 0], root, lower - 2 * (lower @ mirror) @ across(mirror))

    @classmethod
    def none(cls, seen: Any) -> Self:
        """Give the step that leaves all members where they are."""
        still = identity(seen.shape[-2], seen) + namespace(seen).zeros_like(seen[..., :1, :1])
        return cls(still[..., 0] * 0, still, still * 1)

    def rows(self, rows: np.ndarray) -> Self:
        """Give the steps of some states of the batch."""
        return type(self)(*(taken(part, rows) for part in self))

    def put(self, rows: np.ndarray, other: Step) -> None:
        """Take the steps of some states from another."""
        for own, part in zip(self, other, strict=True):
            own[rows] = part

    def members(self, mean: Any, anomalies: Any) -> Any:
        """Give the members around the new mean (..., member, any)."""
        scale = (anomalies.shape[-2] - 1) ** 0.5
        return mean[..., None, :] + (self.weights[..., None, :] / scale + self.root) @ anomalies

    def linearised(self, seen: Any, innovation: Any) -> tuple[Any, Any]:
        """Give S and d of the background of what is seen of these members."""
        seen = self.inverse @ seen
        return seen, innovation + (self.weights[..., None, :] @ seen)[..., 0, :]


class Iterated(NamedTuple):
    """The last linearisation, and how the iterations went."""

    part: Seen
    """What is seen of the background's anomalies there; the analysis of the innovation is the next
    iterate."""
    at: Step
    """Where it is linear."""
    iterations: np.ndarray
    """Linearisations (...)."""
    converged: np.ndarray
    """Whether (...) the last one changed no more than the tolerance."""


def iterated(
    first: Seen, ahead: Ahead, most: int, factor: Factor | None, turned: bool = False
) -> Iterated:
    """Give the last of at most so many linearisations around the minimum of the cost.

    The cost of weights w is w' w + |d(w)|^2 with the innovation d of members that lie around mean +
    w' A / sqrt(N - 1). They have the anomalies T A, where T' T = (I + S S')^-1 of the linearisation
    before, so that they are spread as the analysis is; T^-1 of what is seen of them is S.

    ``turned`` says that the members of the analysis are turned at random.

    Each state of a batch ends for itself, and is moved no more then. One linearisation is taken as
    it is, and where nothing is seen there is none to find.
    """
    xp, parts = namespace(first.seen), (first.mean, first.anomalies)
    seen, aim = first.seen + 0, first.innovation + 0
    at, now = Step.none(seen), Step.of(seen, aim, factor, turned)
    active = fetch(xp.any(seen != 0, axis=(-2, -1))) & (most > 1)
    iterations, converged = np.ones(active.shape, int), ~active
    now = now.rows(active)
    for _ in range(most - 1):
        if not active.any():
            break
        rows = None if active.all() else active
        mean, anomalies = (taken(part, active) for part in parts)
        new, target = now.linearised(*ahead(now.members(mean, anomalies), rows))
        after = Step.of(new, target, factor, turned)
        change = fetch(_length(now.inverse, after.weights - now.weights))
        finite, done = np.isfinite(change), change < TOLERANCE
        places = active.copy()
        places[active] = finite
        seen[places], aim[places] = taken(new, finite), taken(target, finite)
        at.put(places, now.rows(finite))
        iterations[active] += 1
        converged[active] = done
        active[active] = finite & ~done
        now = after.rows(finite & ~done)
    return Iterated(first._replace(seen=seen, innovation=aim), at, iterations, converged)


def _length(inverse: Any, change: Any) -> Any:
    """Give the length (...) of changes of weights in standard deviations."""
    xp = namespace(change)
    return xp.sqrt(xp.sum((change[..., None, :] @ inverse) ** 2, axis=(-2, -1)))
