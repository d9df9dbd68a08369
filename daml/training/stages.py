"""Training of a network on streams: cycles that are carried on, in stages of one budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from daml.arrays import one_core
from daml.errors import DivergedError
from daml.progress import Progress
from daml.training.engine import REPORT, keep_freed_memory, restored, state_of, table
from daml.training.stopping import Watch
from daml.training.streams import Streams

if TYPE_CHECKING:
    from daml.protocols import Checkpoint

JUDGED = 25
"""Updates after which the held-out blocks are looked at."""
WARM = 20
"""Updates over which the rate of a stage rises."""
LAST = 0.02
"""Part of the rate that is left at the end of a stage."""
VARIED = 0.2
"""By which part of itself the length of a stretch varies from update to update."""
HOPELESS = 20
"""Updates in a row without a gradient, after which a training is given up."""


class Stage(NamedTuple):
    """A part of a training."""

    updates: int
    length: int
    """Steps through which gradients pass, on average."""
    rate: float
    error_rate: float
    """Factor on the rate for the model error; 0 keeps it as it is."""
    narrowed: float
    """Factor on the standard deviations of the model error at the start."""


def teach(
    network: torch.nn.Module,
    streams: Streams,
    stages: Sequence[Stage],
    watch: Watch | None,
    seed: Sequence[int],
    checkpoint: Checkpoint | None = None,
) -> dict[str, np.ndarray]:
    """Train a network in place on the likelihood of the innovations of streams.

    Parameters
    ----------
    network : torch.nn.Module
        Parameters whose names begin with "error" are those of the model error.
    streams : Streams
    stages : sequence of Stage
    watch : Watch, optional
        Judges the network now and then, and restores its best weights at the end.
    seed : sequence of int
        Decides, with the number of the update, the length of its stretch.
    checkpoint : Checkpoint, optional

    Returns
    -------
    dict of numpy.ndarray (epoch,)
        ``loss`` and the scores of the watch, for each ``JUDGED`` updates.

    Raises
    ------
    DivergedError
        If no gradient is finite for many updates in a row, or if the forecasts are worth less than
        the mean and the covariance of the record at the end of the first stage, or of any stage
        that nothing judges.
    """
    total, ignorance = sum(stage.updates for stage in stages), streams.course.ignorance
    training = _Training(network, streams, watch, _optimiser(network, stages[0]))
    saved = None if checkpoint is None else checkpoint.load()
    if saved is not None:
        training.restore(saved, [stage for stage, _ in _places(stages)])
    done = training.updates
    keep_freed_memory()
    with (
        Progress("train", "update", total, done, every=REPORT, delay=2, leave=False) as progress,
        one_core(),
    ):
        for number, (stage, place) in enumerate(_places(stages)):
            if number < done:
                continue
            if watch is not None and watch.over(total // JUDGED):
                break
            training.update(stage, place, np.random.default_rng([*seed, number]))
            # Later stages may fail: the held-out blocks, if there are any, pick what was before.
            ended = place + 1 == stage.updates and (stage is stages[0] or watch is None)
            if training.vain >= HOPELESS or (ended and not training.loss < ignorance):
                raise DivergedError(
                    f"the training lost the observations in its {streams.count} cycles, at update "
                    f"{number} of {total}: forecasts predict observations worse (loss "
                    f"{training.loss:.3g}) than the mean and the covariance of the record do "
                    f"({ignorance:.3g}); check the model's dt, and the names, units and errors of "
                    "the observations, or give a longer record or observations more often"
                )
            if training.updates % JUDGED == 0 or training.updates == total:
                training.judge()
            progress.advance({n: f"{v:.4f}" for n, v in training.scores.items()})
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(training.saved())
    if watch is not None:
        watch.close()
    return table(training.history)


@dataclass
class _Training:
    """How far a training is."""

    network: torch.nn.Module
    streams: Streams
    watch: Watch | None
    optimiser: torch.optim.Optimizer
    updates: int = 0
    vain: int = 0
    """Updates in a row without a gradient, or after which all streams were lost."""
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the updates since the last entry of the history."""

    @property
    def scores(self) -> dict[str, float]:
        """The last entry of the history."""
        return self.history[-1] if self.history else {}

    @property
    def loss(self) -> float:
        """The mean loss of the last updates; NaN if none was finite."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        last = self.scores.get("loss", math.nan) if not self.losses else math.nan
        return math.fsum(finite) / len(finite) if finite else last

    def update(self, stage: Stage, place: int, random: np.random.Generator) -> None:
        """Make one update, at a place in a stage."""
        if place == 0 and self.updates:
            self.optimiser = _optimiser(self.network, stage)
        if place == 0:
            _narrow(self.network, stage.narrowed)
        length = round(stage.length * random.uniform(1 - VARIED, 1 + VARIED))
        rate = stage.rate * _share(place, stage.updates)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.streams.make_room(length, random)
        loss, lost = _update(self.network, self.streams, self.optimiser, length)
        self.losses.append(loss)
        self.updates += 1
        is_vain = not math.isfinite(loss) or lost == self.streams.count
        self.vain = self.vain + 1 if is_vain else 0

    def judge(self) -> None:
        """Add an entry to the history."""
        loss = self.loss
        self.history.append({"loss": loss} | ({} if self.watch is None else self.watch.scores()))
        self.losses = []

    def saved(self) -> dict[str, np.ndarray]:
        """Give what a checkpoint keeps."""
        kept = state_of(self.network, self.optimiser, table(self.history)) | self.streams.saved()
        kept |= {} if self.watch is None else self.watch.state()
        counts = np.array([self.updates, self.vain])
        return kept | {"training counts": counts, "training losses": np.array(self.losses)}

    def restore(self, saved: dict[str, np.ndarray], stages: Sequence[Stage]) -> None:
        """Go on from what ``saved`` gave; ``stages`` has the stage of each update."""
        self.updates, self.vain = saved["training counts"].tolist()
        self.losses = saved["training losses"].tolist()
        self.optimiser = _optimiser(self.network, stages[self.updates - 1])
        self.history = restored(saved, self.network, self.optimiser)
        self.streams.restore(saved)
        if self.watch is not None:
            self.watch.restore(saved)


def _places(stages: Sequence[Stage]) -> Iterator[tuple[Stage, int]]:
    for stage in stages:
        for place in range(stage.updates):
            yield stage, place


def _share(place: int, updates: int) -> float:
    """Give the part of the rate at a place in a stage: it rises, and falls along a cosine."""
    decay = LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * place / updates))
    return min((place + 1) / WARM, 1.0) * decay


def _optimiser(network: torch.nn.Module, stage: Stage) -> torch.optim.Adam:
    named = list(network.named_parameters())
    errors = [weight for name, weight in named if name.startswith("error")]
    others = [weight for name, weight in named if not name.startswith("error")]
    groups = [{"params": others, "factor": 1.0}, {"params": errors, "factor": stage.error_rate}]
    return torch.optim.Adam(groups, lr=stage.rate, fused=True)


def _narrow(network: torch.nn.Module, factor: float) -> None:
    with torch.no_grad():
        scale: Any = network.error_scale
        scale.add_(math.log(factor))


def _update(
    network: torch.nn.Module,
    streams: Streams,
    optimiser: torch.optim.Optimizer,
    length: int,
) -> tuple[float, int]:
    """Make one step of the optimiser; give its loss, and how many streams were lost.

    Where the gradient is not finite, no step is made and the loss is NaN.
    """
    trained = list(network.parameters())
    loss, done = streams.run(length)
    found = torch.autograd.grad(loss, trained, materialize_grads=True)
    for weight, gradient in zip(trained, found, strict=True):
        weight.grad = gradient
    size = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    finite = bool(torch.isfinite(size))
    if finite:
        optimiser.step()
    lost = streams.carry_on(done, length)
    return (float(loss.detach()) if finite else math.nan), lost
