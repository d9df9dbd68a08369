"""Cycles that go on from update to update of a training, so that none forgets what it has found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from daml.arrays import fetch, member_mean
from daml.observing.batches import picked
from daml.pairing import certain
from daml.protocols import Run, Update
from daml.running.cycling.cycle import cycle
from daml.running.starts.ensemble_start import EnsembleStart
from daml.training.through_cycle import Course, Innovations

APART = 1.0
"""Nats a value by which a stream may be less likely than the middle one, before it is dropped."""
OLD = 1000
"""Age of a stream as its scheme sees it: its start is long ago."""
KEPT = 0.9
"""Part of the climate that an update keeps."""


class Stretch(NamedTuple):
    """What some streams did in an update."""

    state: torch.Tensor
    """Analyses (stream, member, variable) at the last step."""
    loss: torch.Tensor
    """Negative log-likelihood a value (stream,)."""


@dataclass
class Streams:
    """Cycles along a record, evenly spread at first, each with its ensemble.

    The memory of a base starts anew in each update, at the time that a stream has come to. A stream
    that loses the observations, or comes to the end of the record, or of its trajectory, starts
    again from the nearest observations and the climate of the other streams.

    Parameters
    ----------
    course : Course
        The record, and which rows count.
    objective : Innovations
        The model, the scheme and what it needs, in tensors.
    count : int
        Number of streams.
    climate, spread : numpy.ndarray (variable,)
        First mean and standard deviations of the climate.
    """

    course: Course
    objective: Innovations
    count: int
    climate: np.ndarray
    spread: np.ndarray

    def __post_init__(self) -> None:
        self.steps = len(self.course.tensors[0])
        self.rows = (np.arange(self.count) * self.steps) // self.count
        self.state = self._begun(self.rows)

    def saved(self) -> dict[str, np.ndarray]:
        """Give what a checkpoint keeps: where the streams are, and their climate."""
        parts = {"rows": self.rows, "climate": self.climate, "spread": self.spread}
        return {
            f"stream {n}": np.array(a) for n, a in (parts | {"state": fetch(self.state)}).items()
        }

    def restore(self, saved: dict[str, np.ndarray]) -> None:
        """Go on from what ``saved`` gave."""
        self.rows, self.climate, self.spread, state = (
            saved[f"stream {name}"] for name in ("rows", "climate", "spread", "state")
        )
        self.state = self.objective.like.new_tensor(state)

    def first(self, rows: np.ndarray) -> np.ndarray:
        """Give the members (row, member, variable) of cycles that start at rows of the record."""
        course = self.course
        if course.guess.runs is None:
            course.guess.climate = self.climate
        start = EnsembleStart(course.model, course.record, course.guess, self.spread)
        return start.states(self.objective.scheme)(rows)

    def judging(self, burn_in: int) -> Innovations:
        """Give the objective of sequences of the record that start as streams do."""
        start: dict[str, Any] = {"first": self.first, "deviation": lambda: self.spread}
        return replace(self.objective, burn_in=burn_in, **start)

    def _begun(self, rows: np.ndarray) -> torch.Tensor:
        return self.objective.like.new_tensor(self.first(rows))

    def run(self, length: int) -> tuple[torch.Tensor, Stretch]:
        """Cycle all streams on; give the loss that is to be made small, and what they did."""
        objective = self.objective
        _, kind, _, counts, _ = self.course.tensors
        rows = self.rows[:, None] + np.arange(1, length + 1)
        kind, counts = kind[rows], counts[rows]
        segment, wanted = np.zeros(len(rows), dtype=np.int64), frozenset({"log_likelihood"})
        seen = (
            (
                picked(objective.whole, rows[:, step]),
                Run(rows[:, step], segment, OLD, wanted),
            )
            for step in range(length)
        )
        model, state = objective.model(), self.state
        times = np.broadcast_to(self.course.guess.times[self.rows][:, None], state.shape[:-1])
        given = state, certain(model).start(state, times), seen, Update(state)
        updates = [u for _, u in cycle(model, objective.scheme, objective.prepared, *given)]
        likelihood = torch.stack([u.extras["log_likelihood"] for u in updates], dim=1)
        present = objective.present.sum(-1)[kind]
        loss = -likelihood.detach().sum(1) / present.sum(1).clamp(min=1.0)
        counts = counts * self._sound(loss)[:, None]
        total = -torch.where(counts > 0, likelihood, 0.0).sum()
        done = Stretch(updates[-1].state.detach(), loss)
        return total / (counts * present).sum().clamp(min=1.0), done

    def _sound(self, loss: torch.Tensor) -> torch.Tensor:
        """Whether streams follow the observations about as well as the middle one does."""
        return loss < torch.nanmedian(loss) + APART

    def carry_on(self, done: Stretch, length: int) -> int:
        """Go on from where all streams came; start the lost ones again, and give their number."""
        self.state, self.rows = done.state, self.rows + length
        lost = ~fetch(self._sound(done.loss))
        if not lost.all():
            found = fetch(member_mean(self.state))[~lost]
            self.climate = KEPT * self.climate + (1 - KEPT) * found.mean(axis=0)
            variance = KEPT * self.spread**2 + (1 - KEPT) * found.var(axis=0)
            self.spread = np.sqrt(variance)
        self.restart(lost, self.rows[lost])
        return int(lost.sum())

    def make_room(self, length: int, random: np.random.Generator) -> None:
        """Start the streams again elsewhere that come to the end of the record, or to a seam."""
        own = self.course.own
        starts = own - length  # rows of a trajectory from which there is room
        ended = self.rows % own >= starts
        drawn = random.integers(0, self.steps // own * starts, ended.sum())
        self.restart(ended, drawn // starts * own + drawn % starts)

    def restart(self, which: np.ndarray, rows: np.ndarray) -> None:
        """Start streams (stream,) again at rows of the record."""
        if not which.any():
            return
        state = self._begun(rows)
        self.rows[which] = rows
        self.state = self.state.clone()
        self.state[which] = state
