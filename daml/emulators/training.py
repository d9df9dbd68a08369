"""Training of a network on sequences cut from a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from daml.errors import DivergedError

UPDATES = 1000
"""Updates that a training makes at least, whatever the record's length."""
EPOCHS = 30
"""Epochs that a training makes at least, unless told otherwise."""
SHARD = 16
"""Sequences that a CPU thread takes of a batch. Fixed: results must not depend on the cores."""


@dataclass(frozen=True)
class Plan:
    """How a training goes through a record: all that an optimiser needs to know.

    Attributes
    ----------
    epochs : int or None
        None: as many as give 30 epochs and 1,000 updates.
    length : int
        Steps of a sequence.
    burn_in : int
        Steps at its head that the loss leaves out.
    batch : int
        Sequences an update.
    rate : float
        Peak learning rate of Adam; a cosine brings it down to 5 %.
    """

    epochs: int | None
    length: int
    burn_in: int
    batch: int
    rate: float


def train(
    network: torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    plan: Plan,
    random: np.random.Generator,
) -> np.ndarray:
    """Fit a network in place by truncated back-propagation through time.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(inputs)`` (batch, time, variable) gives predictions of the same shape.
    inputs, targets : torch.Tensor (time, variable)
        Standardised.
    weights : torch.Tensor (time,)
        0 where a target is skipped, else 1.
    plan : Plan
    random : numpy.random.Generator
        Draws the offset and the order of the sequences in each epoch.

    Returns
    -------
    numpy.ndarray (epoch,)
        Mean loss, in standard deviations squared.

    Raises
    ------
    DivergedError
        If the loss leaves the finite numbers.
    """
    slack = min(plan.length, len(inputs) - plan.length + 1)
    per_epoch = math.ceil(max((len(inputs) - slack) // plan.length, 1) / plan.batch)
    epochs = plan.epochs or max(EPOCHS, math.ceil(UPDATES / per_epoch))
    trained = list(network.parameters())
    optimiser = torch.optim.Adam(trained, lr=plan.rate, fused=True)
    window = torch.arange(plan.length)
    history = np.empty(epochs)

    def gradient(rows: torch.Tensor, scale: torch.Tensor) -> tuple[float, tuple[torch.Tensor, ...]]:
        rows = rows.to(inputs.device)
        weight = weights[rows][:, plan.burn_in :, None]
        error = (network(inputs[rows]) - targets[rows])[:, plan.burn_in :]
        loss = (weight * error**2).sum() / scale
        return float(loss.detach()), torch.autograd.grad(loss, trained)

    bar = tqdm(range(epochs), desc="train", unit="epoch", delay=2, disable=None, leave=False)
    with _threads(plan.batch if inputs.device.type == "cpu" else 1) as each:
        for epoch in bar:
            decay = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
            optimiser.param_groups[0]["lr"] = plan.rate * (0.05 + 0.95 * decay)
            firsts = np.arange(random.integers(slack), len(inputs) - plan.length + 1, plan.length)
            order = torch.as_tensor(random.permutation(firsts))
            losses = []
            for batch in torch.split(order, plan.batch):
                rows = batch[:, None] + window
                seen = weights[rows.to(inputs.device)][:, plan.burn_in :].sum()
                scale = (seen * targets.shape[-1]).clamp(min=1.0)
                parts = torch.split(rows, SHARD) if inputs.device.type == "cpu" else (rows,)
                found = list(each(lambda part, scale=scale: gradient(part, scale), parts))
                for place, weight in enumerate(trained):
                    weight.grad = sum(part[place] for _, part in found)
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimiser.step()
                losses.append(sum(loss for loss, _ in found))
            history[epoch] = np.mean(losses)
            if not math.isfinite(history[epoch]):
                raise DivergedError(
                    f"the training's loss left the finite numbers in epoch {epoch} of {epochs}; "
                    "lower learning_rate, or check the analysis for outliers"
                )
            bar.set_postfix(loss=f"{history[epoch]:.4f}")
    return history


@contextmanager
def _threads(batch: int) -> Iterator[Callable[..., Any]]:
    """Give a ``map`` over threads that compute on one core each.

    The products of one time step are too small to share between cores: parts of a batch side by
    side took 20 ms an update where torch's own threads took 32 (32 sequences of 100 steps).
    """
    before = torch.get_num_threads()
    workers = min(before, math.ceil(batch / SHARD))
    # One large block, freed, tells glibc to keep freed memory: handing every step's tensors back
    # to the system took a fifth of the time, in page faults.
    torch.empty(31 << 18)
    torch.set_num_threads(1)  # BLAS minds the main thread's number, too.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            torch.set_num_threads(before)


def parameters(network: torch.nn.Module) -> dict[str, Any]:
    """Give a network's weights as NumPy arrays."""
    return {k: v.detach().cpu().numpy().copy() for k, v in network.state_dict().items()}
