"""What an ensemble sees of a window: of each time, and of all that is new together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from daml.arrays import fetch, member_mean, namespace
from daml.observing.batches import picked
from daml.protocols import Forecast, Observed
from daml.schemes.ensembles.parts import Seen, chi_square
from daml.schemes.matrices import cholesky, identity, log_determinant, solved

Factor = Callable[[Any, Any], Any]
"""Gives a squared factor (..., 1) on the background's anomalies, of eigenvalues (..., member) of
S S' and the projections of S d on their vectors."""


class Views(NamedTuple):
    """How the members of a window are compared with the observations of some of its times."""

    observed: tuple[Observed, ...]
    """Of times at which any state of the batch has values, or of the last time alone."""
    places: tuple[int, ...]
    """Where these times lie among those of the window."""
    error_factor: float
    shares: tuple[float, ...]
    """The part of each observation that counts."""

    @classmethod
    def of(
        cls,
        observed: Sequence[Observed],
        error_factor: float = 1.0,
        shares: Sequence[float] | None = None,
    ) -> Views:
        """Look at times of a window, unless nothing was observed or nothing of it counts.

        ``shares`` are the parts of observations that count, 1 unless given.
        """
        counts = [1.0] * len(observed) if shares is None else list(shares)
        seen = [
            place
            for place, (part, share) in enumerate(zip(observed, counts, strict=True))
            if share > 0 and bool(fetch(part.present).any())
        ] or [len(observed) - 1]
        there = tuple(observed[place] for place in seen)
        return cls(there, tuple(seen), error_factor, tuple(counts[k] for k in seen))

    def rows(self, rows: np.ndarray) -> Views:
        """Look at some states of the batch."""
        return self._replace(observed=tuple(picked(part, rows) for part in self.observed))

    def each(self, states: Sequence[Any]) -> list[Seen]:
        """Compare members (..., member, variable) at all times of a window with each time."""
        return [
            Seen.of(Forecast(states[place]), part, self.error_factor)
            for place, part in zip(self.places, self.observed, strict=True)
        ]

    def together(self, parts: Sequence[Seen], anomalies: Any, mean: Any) -> Seen:
        """Give all times as one, with mean and anomalies of the window's start."""
        xp = namespace(anomalies)
        roots = [share**0.5 for share in self.shares]
        pairs = list(zip(roots, parts, strict=True))
        return Seen(
            mean,
            anomalies,
            xp.concat([part.seen * root for root, part in pairs], axis=-1),
            xp.concat([part.innovation * root for root, part in pairs], axis=-1),
            sum((part.width for part in parts[1:]), start=parts[0].width),
        )


def parted(state: Any, carried: Any) -> tuple[Any, Any]:
    """Give mean and anomalies of members (..., member, variable), and of what they carry."""
    xp = namespace(state)
    both = state if carried is None else xp.concat((state, carried), axis=-1)
    mean = member_mean(both)
    return mean, both - mean[..., None, :]


class Solution(NamedTuple):
    """The minimum of w' w + |d - S' w|^2, with S and d of :class:`Seen`."""

    weights: Any
    """w = S (I + S' S)^-1 d = (I + S S')^-1 S d (..., member)."""
    square: Any
    """d' (I + S' S)^-1 d (...), the minimum itself."""
    log_determinant: Any
    """Of I + S' S (...)."""


def solution(seen: Any, innovation: Any) -> Solution:
    """Solve for S (..., member, observed) and d (..., observed), in the smaller space of both."""
    xp, (members, observed) = namespace(seen), seen.shape[-2:]
    across, column = xp.matrix_transpose(seen), innovation[..., None]
    if observed <= members:
        root = cholesky(identity(observed, seen) + across @ seen)
        pulled = solved(root, column)
        back = solved(xp.matrix_transpose(root), pulled, upper=True)
        square, weights = xp.vecdot(pulled[..., 0], pulled[..., 0]), (seen @ back)[..., 0]
        return Solution(weights, square, log_determinant(root))
    root = cholesky(identity(members, seen) + seen @ across)
    pulled = solved(root, seen @ column)
    weights = solved(xp.matrix_transpose(root), pulled, upper=True)[..., 0]
    square = xp.vecdot(innovation, innovation) - xp.vecdot(pulled[..., 0], pulled[..., 0])
    return Solution(weights, square, log_determinant(root))


class Spectrum(NamedTuple):
    """What is seen, in the directions in which the observations tell the members apart."""

    values: Any
    """Eigenvalues (..., member) of S S'."""
    vectors: Any
    """(..., member, member)"""
    projected: Any
    """S d on the vectors (..., member)."""

    @classmethod
    def of(cls, seen: Any, innovation: Any) -> Spectrum:
        """Decompose S S' of S (..., member, observed)."""
        xp = namespace(seen)
        values, vectors = xp.linalg.eigh(seen @ xp.matrix_transpose(seen))
        values = xp.where(values > 0, values, xp.zeros_like(values))
        projected = xp.matrix_transpose(vectors) @ (seen @ innovation[..., None])
        return cls(values, vectors, projected[..., 0])


def outputs(
    forecasts: Sequence[Any],
    observed: Sequence[Observed],
    error_factor: float,
    wanted: frozenset[str],
    factor: Factor | None = None,
) -> dict[str, Any]:
    """Give ``chi_square`` and ``log_likelihood`` of forecasts (..., member, variable) of new times.

    The first is of each time on its own, the second of all together, at the last time. ``factor``
    gives a squared factor on the anomalies, as in ``transforms.symmetric``.
    """
    views = Views.of(observed, error_factor)
    parts, xp = views.each(forecasts), namespace(forecasts[0])
    nothing = xp.zeros_like(parts[0].width)
    found: dict[str, Any] = {}
    whole = views.together(parts, parts[0].anomalies, parts[0].mean)
    if factor is not None:
        values, _, projected = Spectrum.of(whole.seen, whole.innovation)
        wide = xp.sqrt(factor(values, projected))[..., None]
        whole, *parts = (part._replace(seen=part.seen * wide) for part in (whole, *parts))
    if "log_likelihood" in wanted or len(parts) == 1:
        joint = solution(whole.seen, whole.innovation)
        last = -(joint.square + joint.log_determinant) / 2 - whole.width
        found["log_likelihood"] = [nothing] * (len(observed) - 1) + [last]
    if "chi_square" in wanted:
        squares = [xp.full_like(nothing, xp.nan)] * len(observed)
        for place, part in zip(views.places, parts, strict=True):
            own = joint if len(parts) == 1 else solution(part.seen, part.innovation)
            squares[place] = chi_square(observed[place], own.square)["chi_square"]
        found["chi_square"] = squares
    return found
