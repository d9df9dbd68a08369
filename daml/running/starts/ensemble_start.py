"""The ensemble that a cycle starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from daml.observing.operators import Selection
from daml.observing.records import Record
from daml.randomness import Stream, normal, ranks
from daml.running.starts.along_tracks import Along
from daml.running.starts.first_guess import FirstGuess
from daml.running.starts.free_states import FreeStates

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

TIMES = 50
"""Times of a record whose places change, at which it is found out how well states are known."""


@dataclass(frozen=True)
class EnsembleStart:
    """Members around the first guess, as wide as it is uncertain.

    Each variable is drawn by itself, with the variance that its climate and the nearest
    observation leave together: 1 / v = 1 / c + sum of H^2 / R. The model brings the members onto
    its attractor in the spin-up.
    """

    model: Model
    record: Record
    guess: FirstGuess
    spread: np.ndarray | None = None
    """The standard deviations (variable,) of the model's climate. Default: what the model gives as
    its ``climate_spread``, or else those of free runs."""
    given: np.ndarray | None = None
    """The standard deviations (variable,) of a first ensemble, where the cycle started before."""

    @property
    def known(self) -> np.ndarray | None:
        """The standard deviations (variable,) of a first ensemble, if they were needed so far."""
        return self.given if self.given is not None else vars(self).get("deviation")

    def states(self, scheme: Scheme) -> Callable[[np.ndarray], np.ndarray]:
        """Give what makes the states, or the ensembles of a scheme, to start from at rows."""
        members = getattr(scheme, "members", None)
        if members is None:
            return self.guess.state
        place = getattr(scheme, "first_members", None)
        if place is None:
            return partial(self._drawn, members, getattr(scheme, "seed", 0))
        return lambda rows: np.asarray(place(self.guess.state(rows), self.deviation))

    @cached_property
    def deviation(self) -> np.ndarray:
        """The standard deviation (variable,) of a first ensemble."""
        if self.given is not None:
            return self.given
        spread = self.spread
        if spread is None:
            spread = getattr(self.model, "climate_spread", None)
        if spread is not None:
            spread = np.asarray(spread, dtype=np.float64)
        else:
            free = FreeStates(self.model, self.record, self.guess.times).states
            spread = free.std(axis=0)
        precision = 1 / np.where(spread > 0, spread, 1.0) ** 2
        if self.guess.runs is None and isinstance(self.guess.fit, Along):
            return self._along(self.guess.fit, precision)
        if self.guess.runs is None:
            # The mean of 1 / R weighted by itself: of what says next to nothing there may be any.
            rows = np.bincount(self.record.kind, minlength=len(self.record.kind_present))
            sharp = np.where(self.record.kind_present, 1 / self.record.kind_variance, 0.0)
            total = rows @ sharp
            seen = rows @ sharp**2 / np.where(total > 0, total, 1.0)
            # Of values that are all alike the mean is the same, whatever their number.
            least = np.where(sharp > 0, sharp, np.inf).min(axis=0)
            seen = np.clip(seen, np.minimum(least, sharp.max(axis=0)), sharp.max(axis=0))
            precision = precision + self._squares(seen)
        return np.asarray(1 / np.sqrt(precision))

    def _along(self, track: Along, precision: np.ndarray) -> np.ndarray:
        """Give the same where places change: the root of the mean variance over some times."""
        rows = np.unique(np.linspace(0, self.record.axis.length - 1, TIMES).astype(np.int64))
        return np.asarray(np.sqrt(track.variances(rows, precision).mean(axis=0)))

    def _squares(self, weights: np.ndarray) -> np.ndarray:
        """Give the sum of H^2 (variable,) over what is observed, by weights (observed,)."""
        operator = self.record.operator
        if not isinstance(operator, Selection):
            return np.asarray(weights @ operator.matrix() ** 2)
        found = np.zeros(operator.size)
        np.add.at(found, list(operator.places), weights)
        return found

    def _drawn(self, members: int, seed: int, rows: np.ndarray) -> np.ndarray:
        """Give the ensembles (row, member, variable) to start from at each row."""
        shape = members, len(self.model.variables)
        drawn = normal(seed, rows, shape, Stream.FIRST)
        drawn -= drawn.mean(axis=1, keepdims=True)
        named = drawn[..., ranks(self.model.variables)]
        return np.asarray(self.guess.state(rows)[:, None] + self.deviation * named)
