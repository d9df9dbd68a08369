"""Training of a network on streams: cycles that are carried on, in stages of one budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    seed: int,
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
    seed : int
        Decides, with the number of the update, the length of its stretch.
    checkpoint : Checkpoint, optional

    Returns
    -------
    dict of numpy.ndarray (epoch,)
        ``loss`` and the scores of the watch, for each ``JUDGED`` updates.

    Raises
    ------
    DivergedError
        If all streams are lost, or no gradient is finite, for many updates in a row.
    """
    total = sum(stage.updates for stage in stages)
    history: list[dict[str, float]] = []
    losses: list[float] = []
    vain = 0
    optimiser = _optimiser(network, stages[0])
    keep_freed_memory()
    with (
        Progress("train", "update", total, 0, every=REPORT, delay=2, leave=False) as progress,
        one_core(),
    ):
        for number, (stage, place) in enumerate(_places(stages)):
            if place == 0 and number:
                optimiser = _optimiser(network, stage)
            if place == 0:
                _narrow(network, stage.narrowed)
            random = np.random.default_rng([seed, number])
            length = round(stage.length * random.uniform(1 - VARIED, 1 + VARIED))
            rate = stage.rate * _share(place, stage.updates)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            streams.make_room(length, random)
            loss, lost = _update(network, streams, optimiser, length)
            losses.append(loss)
            vain = vain + 1 if not math.isfinite(loss) or lost == streams.count else 0
            if vain >= HOPELESS:
                raise DivergedError(
                    f"the training lost the observations in all of its {streams.count} cycles, at "
                    f"update {number} of {total}; check the model's dt and the units and errors of "
                    "the observations, or give more of them"
                )
            if (number + 1) % JUDGED == 0 or number + 1 == total:
                seen = {} if watch is None else watch.scores()
                history.append({"loss": float(np.nanmean(losses))} | seen)
                losses = []
            progress.advance({n: f"{v:.4f}" for n, v in (history or [{}])[-1].items()})
            if watch is not None and watch.over(total // JUDGED):
                break
    if watch is not None:
        watch.close()
    return table(history)


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
