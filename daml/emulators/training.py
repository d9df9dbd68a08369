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
from tqdm.auto import tqdm

from daml.devices import one_core_each
from daml.errors import DivergedError

if TYPE_CHECKING:
    from daml.protocols import Checkpoint

UPDATES = 500
"""Updates that a training makes at least, whatever the record's length."""
EPOCHS = 16
"""Epochs that a training makes at least, unless told otherwise."""
SHARD = 32
"""Sequences that a CPU thread takes of a batch. Fixed: results must not depend on the cores."""


@dataclass(frozen=True)
class Plan:
    """How a training goes through a record: all that an optimiser needs to know.

    Attributes
    ----------
    epochs : int or None
        None: as many as give 16 epochs and 500 updates.
    length : int
        Steps of a sequence.
    batch : int
        Sequences an update.
    rate : float
        Peak learning rate of Adam; a cosine brings it down to 5 %.
    """

    epochs: int | None
    length: int
    batch: int
    rate: float


Tensors = Sequence[torch.Tensor]


class Blocks(NamedTuple):
    """A record in so many parts of one size; ``read`` gives the tensors (time, ...) of one."""

    steps: int
    parts: int
    read: Callable[[int], Tensors]


class Objective(Protocol):
    """What a training makes small: a mean over sequences (sequence, time, ...) of a record."""

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum."""
        ...

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the number of terms in the sum."""
        ...


@dataclass(frozen=True)
class SquareError:
    """Of a network's predictions: inputs, targets (time, variable), weights (time,), 0 skips one.

    The loss leaves out the burn-in at the head of a sequence.
    """

    network: torch.nn.Module
    burn_in: int

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum of the weighted squares."""
        inputs, targets, weights = sequences
        error = self.network(inputs)[:, self.burn_in :] - targets[:, self.burn_in :]
        return torch.sum(weights[:, self.burn_in :, None] * error**2)

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum of the weights."""
        _, targets, weights = sequences
        return torch.sum(weights[:, self.burn_in :]) * targets.shape[-1]


def train(
    network: torch.nn.Module,
    objective: Objective,
    blocks: Blocks,
    plan: Plan,
    seed: Sequence[int],
    checkpoint: Checkpoint | None = None,
) -> np.ndarray:
    """Fit a network in place by truncated back-propagation through time.

    Parameters
    ----------
    network : torch.nn.Module
        Holds what is trained.
    objective : Objective
    blocks : Blocks
        An epoch goes through the blocks in random order, in each through its sequences.
    plan : Plan
    seed : sequence of int
        With the epoch's number it draws the offset and the order of the sequences.
    checkpoint : Checkpoint, optional
        Where to go on from, and to keep the epochs done; the result is the same, bit for bit.

    Returns
    -------
    numpy.ndarray (epoch,)
        Mean of the objective.

    Raises
    ------
    DivergedError
        If the loss leaves the finite numbers.
    """
    size = blocks.steps // blocks.parts
    slack = min(plan.length, size - plan.length + 1)
    per_epoch = math.ceil(max((blocks.steps - slack) // plan.length, 1) / plan.batch)
    epochs = plan.epochs or max(EPOCHS, math.ceil(UPDATES / per_epoch))
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate, fused=True)
    device = next(network.parameters()).device
    shard = SHARD if device.type == "cpu" else plan.batch
    if device.type == "cpu":
        _keep_freed_memory()
    history = np.empty(epochs)
    saved = checkpoint.load() if checkpoint is not None else None
    done = 0 if saved is None else _restore(saved, network, optimiser, history)
    bar = tqdm(range(done, epochs), desc="train", unit="epoch", delay=2, disable=None, leave=False)
    with one_core_each(math.ceil(plan.batch / shard)) as each:
        for epoch in bar:
            decay = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
            optimiser.param_groups[0]["lr"] = plan.rate * (0.05 + 0.95 * decay)
            random = np.random.default_rng([*seed, epoch])
            first = int(random.integers(slack))
            losses = []
            for block in random.permutation(blocks.parts):
                record = blocks.read(int(block))
                sequences = [_sequences(part, first, plan.length) for part in record]
                order = torch.as_tensor(random.permutation(len(sequences[0])), device=device)
                losses += [
                    _update(network, objective, optimiser, sequences, batch, shard, each)
                    for batch in _even(order, plan.batch)
                ]
            history[epoch] = np.mean(losses)
            if not math.isfinite(history[epoch]):
                raise DivergedError(
                    f"the training's loss left the finite numbers in epoch {epoch} of {epochs}; "
                    "lower learning_rate, or check the analysis for outliers"
                )
            bar.set_postfix(loss=f"{history[epoch]:.4f}")
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(_state(network, optimiser, history[: epoch + 1]))
    return history


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: to hand every step's tensors back costs a fifth in faults.

    Said outright: what it learns from the sizes of freed blocks is undone by other libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD, the largest


def _state(
    network: torch.nn.Module, optimiser: torch.optim.Optimizer, history: np.ndarray
) -> dict[str, np.ndarray]:
    """Give all that a training needs to go on after the epochs in ``history``, as arrays."""
    kept = {"history": history}
    for name, weight in network.named_parameters():
        kept[f"weight {name}"] = weight.detach().cpu().numpy()
        for key, value in optimiser.state[weight].items():
            kept[f"{key} {name}"] = value.cpu().numpy()
    return kept


def _restore(
    saved: dict[str, np.ndarray],
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    history: np.ndarray,
) -> int:
    """Put back what `_state` gave; give the number of epochs that are done."""
    done = len(saved["history"])
    history[:done] = saved["history"]
    for name, weight in network.named_parameters():
        for entry, value in saved.items():
            key, _, owner = entry.partition(" ")
            if owner == name and key == "weight":
                weight.data.copy_(torch.as_tensor(value))
            elif owner == name:
                optimiser.state[weight][key] = torch.as_tensor(value, device=weight.device)
    return done


def _sequences(record: torch.Tensor, first: int, length: int) -> torch.Tensor:
    """Cut a record (time, ...) into sequences (sequence, time, ...), without a copy."""
    count = (len(record) - first) // length
    return record[first : first + count * length].view(count, length, *record.shape[1:])


def _even(tensor: torch.Tensor, largest: int) -> tuple[torch.Tensor, ...]:
    """Split into parts of nearly one size, so that no core waits for another."""
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
    """Make one step of the optimiser on a batch of sequences; give its loss.

    The products of one time step are too small to share between cores: parts of the batch go
    side by side, and their gradients are added in a fixed order.
    """
    trained = list(network.parameters())
    chosen = [tensor[batch] for tensor in sequences]
    scale = objective.count(chosen).clamp(min=1.0)

    def gradient(part: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = objective.total(part) / scale
        return loss.detach(), torch.autograd.grad(loss, trained)

    parts = zip(*(_even(tensor, shard) for tensor in chosen), strict=True)
    (total, summed), *others = each(gradient, parts)
    for loss, gradients in others:
        total += loss
        torch._foreach_add_(summed, gradients)
    for weight, found in zip(trained, summed, strict=True):
        weight.grad = found
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    return float(total)
