"""Training of a network on sequences cut from a record."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from daml.arrays import one_core_each
from daml.errors import DivergedError
from daml.progress import Progress
from daml.training.plan import EPOCHS, Plan
from daml.training.stopping import Watch

if TYPE_CHECKING:
    from daml.protocols import Checkpoint

LEAST = 1e-12
"""Sum of weights by which a loss is divided at least, where nothing counts."""
REPORT = 60.0
"""Minimum number of seconds between two lines about the epochs of a training."""


Tensors = Sequence[torch.Tensor]


class Blocks(NamedTuple):
    """A record in parts of equal size; ``read`` returns the tensors (time, ...) of one of them.

    Where there are many trajectories, of ``length`` steps each, a part has some of them: its
    tensors are (trajectory, time, ...), and no sequence is of two.
    """

    steps: int
    parts: int
    read: Callable[[int], Tensors]
    length: int | None = None

    def sequences(self, number: int, first: int, length: int) -> list[torch.Tensor]:
        """Cut a part into sequences (sequence, time, ...) of a length, from a first step on."""
        parts = self.read(number)
        if self.length is None:
            return [cut(part, first, length) for part in parts]
        stop = first + (self.length - first) // length * length
        cuts = (part[:, first:stop] for part in parts)
        return [part.reshape(-1, length, *part.shape[2:]) for part in cuts]

    def slack(self, length: int) -> int:
        """Give from how many steps on sequences of a length may begin."""
        size = self.length or self.steps // self.parts
        return min(length, size - length + 1)

    def count(self, length: int) -> int:
        """Give the number of sequences of a length in an epoch, at least about."""
        slack = self.slack(length)
        if self.length is None:
            return max((self.steps - slack) // length, 1)
        return self.steps // self.length * ((self.length - slack + 1) // length)


class Objective(Protocol):
    """What a training minimises: a mean over sequences (sequence, time, ...) of a record."""

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum."""
        ...

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the number of terms in the sum."""
        ...


@dataclass(frozen=True)
class SquareError:
    """The mean squared error of a network's predictions.

    Sequences hold inputs and targets (time, variable), and weights (time,) or (time, variable),
    which are 0 for a target that is skipped. The loss leaves out the burn-in at the start of a
    sequence.
    """

    network: torch.nn.Module
    burn_in: int

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum of the weighted squares."""
        inputs, targets, weights = sequences
        error = self.network(inputs)[:, self.burn_in :] - targets[:, self.burn_in :]
        return torch.sum(_by_variable(weights)[:, self.burn_in :] * error**2)

    def mean(self, sequences: Tensors) -> torch.Tensor:
        """Give the mean."""
        return self.total(sequences) / self.count(sequences).clamp(min=LEAST)

    def residuals(self, sequences: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the weighted sum of target less prediction (variable,), and of the weights."""
        _, targets, weights = (part[:, self.burn_in :] for part in sequences)
        error = targets - self.network(sequences[0])[:, self.burn_in :]
        weights = _by_variable(weights)
        return torch.sum(weights * error, dim=(0, 1)), torch.sum(weights, dim=(0, 1))

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum of the weights."""
        _, targets, weights = sequences
        counted = torch.sum(weights[:, self.burn_in :])
        return counted * targets.shape[-1] if weights.ndim == 2 else counted


def _by_variable(weights: torch.Tensor) -> torch.Tensor:
    """Give weights (sequence, time, variable); one weight for all variables stands once."""
    return weights[..., None] if weights.ndim == 2 else weights


def train(
    network: torch.nn.Module,
    objective: Objective,
    blocks: Blocks,
    plan: Plan,
    seed: Sequence[int],
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Fit a network in place by truncated back-propagation through time.

    Parameters
    ----------
    network : torch.nn.Module
        Its parameters are trained.
    objective : Objective
    blocks : Blocks
        An epoch goes through the blocks in random order, and in each block through its sequences.
    plan : Plan
    seed : sequence of int
        Together with the number of the epoch it determines the offset and the order of the
        sequences.
    checkpoint : Checkpoint, optional
        Restores the epochs that are done and stores further ones. A training that was interrupted
        gives the same result as one in one go, bit for bit.
    watch : Watch, optional
        Ends the training early, and restores the best weights of the network.

    Returns
    -------
    dict of numpy.ndarray (epoch,)
        ``loss``, the mean of the objective, and the scores of the watch (NaN for epochs that have
        none).

    Raises
    ------
    DivergedError
        If the loss or a gradient is not finite; the message names the epoch and the update.
    """
    slack = blocks.slack(plan.length)
    per_epoch = math.ceil(blocks.count(plan.length) / plan.batch)
    epochs = plan.epochs or min(max(EPOCHS, math.ceil(plan.updates / per_epoch)), plan.most)
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate, fused=True)
    device = next(network.parameters()).device
    shard = plan.shard if device.type == "cpu" else plan.batch
    if device.type == "cpu":
        keep_freed_memory()
    history = _begun(network, optimiser, checkpoint, watch)
    done = len(history)
    scores: dict[str, float] = {}
    with (
        Progress(
            *("train", "epoch", epochs, done),
            at_most=watch is not None,
            every=REPORT,
            delay=2,
            leave=False,
        ) as progress,
        one_core_each(math.ceil(plan.batch / shard)) as each,
    ):
        for epoch in range(done, epochs):
            if watch is not None and watch.over(epochs):
                break
            decay = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
            optimiser.param_groups[0]["lr"] = plan.rate * (0.05 + 0.95 * decay)
            random = np.random.default_rng([*seed, epoch])
            losses: list[float] = []
            for sequences, batch in _batches(blocks, plan, random, slack, device):
                loss = _update(network, objective, optimiser, sequences, batch, shard, each)
                losses.append(loss)
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"the loss of the training is not finite in epoch {epoch} of {epochs}, "
                        f"update {len(losses) - 1}; lower learning_rate, or check the record "
                        "for outliers"
                    )
            seen = {} if watch is None else watch.scores()
            history.append({"loss": float(np.mean(losses))} | seen)
            scores |= history[-1]
            progress.advance({name: f"{value:.4f}" for name, value in scores.items()})
            if checkpoint is not None and checkpoint.due():
                kept = state_of(network, optimiser, table(history))
                checkpoint.save(kept | ({} if watch is None else watch.state()))
    if watch is not None:
        watch.close()
    return table(history)


def _begun(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    checkpoint: Checkpoint | None,
    watch: Watch | None,
) -> list[dict[str, float]]:
    """Go on from a checkpoint, if there is one; give the scores of the epochs that are done."""
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is None:
        if watch is not None:
            watch.begin()
        return []
    if watch is not None:
        watch.restore(saved)
    return restored(saved, network, optimiser)


def _batches(
    blocks: Blocks, plan: Plan, random: np.random.Generator, slack: int, device: torch.device
) -> Iterator[tuple[Tensors, torch.Tensor]]:
    """Yield the sequences of a block, and the numbers of those of a batch, for an epoch."""
    first = int(random.integers(slack))
    for block in random.permutation(blocks.parts):
        sequences = blocks.sequences(int(block), first, plan.length)
        order = torch.as_tensor(random.permutation(len(sequences[0])), device=device)
        for batch in _even(order, plan.batch):
            yield sequences, batch


def table(history: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Give the scores of all epochs as columns."""
    names = dict.fromkeys(name for scores in history for name in scores)
    return {name: np.array([scores.get(name, np.nan) for scores in history]) for name in names}


def keep_freed_memory() -> None:
    """Make glibc keep freed memory.

    Returning the tensors of every step to the system costs a fifth of the time in page faults. The
    thresholds are set explicitly, as other libraries reset those that glibc adapts by itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD, the largest


def state_of(
    network: torch.nn.Module, optimiser: torch.optim.Optimizer, history: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Give the state of a training after the epochs in ``history``, as arrays."""
    kept = {f"history {name}": column for name, column in history.items()}
    for name, weight in network.named_parameters():
        kept[f"weight {name}"] = weight.detach().cpu().numpy()
        for key, value in optimiser.state[weight].items():
            kept[f"{key} {name}"] = value.cpu().numpy()
    return kept


def restored(
    saved: dict[str, np.ndarray], network: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Restore the state that `state_of` gave; give the scores of the epochs that are done."""
    weights = dict(network.named_parameters())
    columns: dict[str, np.ndarray] = {}
    for entry, value in saved.items():
        key, _, name = entry.partition(" ")
        if key == "history":
            columns[name] = value
        elif key == "weight":
            weights[name].data.copy_(torch.as_tensor(value))
        elif name in weights and key != "best":
            weight = weights[name]
            optimiser.state[weight][key] = torch.as_tensor(value, device=weight.device)
    rows = zip(*columns.values(), strict=True)
    scores = (dict(zip(columns, map(float, row), strict=True)) for row in rows)
    return [{name: value for name, value in row.items() if value == value} for row in scores]


def cut(record: torch.Tensor, first: int, length: int) -> torch.Tensor:
    """Cut a record (time, ...) into sequences (sequence, time, ...), without a copy."""
    count = (len(record) - first) // length
    return record[first : first + count * length].view(count, length, *record.shape[1:])


def _even(tensor: torch.Tensor, largest: int) -> tuple[torch.Tensor, ...]:
    """Split into parts of nearly equal size, so that no core waits for another."""
    return torch.tensor_split(tensor, math.ceil(len(tensor) / largest))


def _update(
    network: torch.nn.Module,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    sequences: Tensors,
    batch: torch.Tensor,
    shard: int,
    each: Callable[..., Iterator[Any]],
) -> float:
    """Make one step of the optimiser on a batch of sequences, and give its loss.

    The matrix products of one time step are too small to be split between cores. Instead, parts of
    the batch run in parallel, and their gradients are added in a fixed order. Where the gradient is
    not finite, no step is made and the loss is NaN.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    chosen = [tensor[batch] for tensor in sequences]
    scale = objective.count(chosen).clamp(min=LEAST)

    def gradient(part: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = objective.total(part) / scale
        return loss.detach(), torch.autograd.grad(loss, trained, materialize_grads=True)

    parts = zip(*(_even(tensor, shard) for tensor in chosen), strict=True)
    (total, summed), *others = each(gradient, parts)
    for loss, gradients in others:
        total += loss
        torch._foreach_add_(summed, gradients)
    for weight, found in zip(trained, summed, strict=True):
        weight.grad = found
    size = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    if not torch.isfinite(size):
        return math.nan  # the weights stay finite
    optimiser.step()
    return float(total)
