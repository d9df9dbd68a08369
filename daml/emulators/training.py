"""Training of a network on sequences cut from a record."""

from __future__ import annotations

import math
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
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate)
    window = torch.arange(plan.length)
    history = np.empty(epochs)
    bar = tqdm(range(epochs), desc="train", unit="epoch", delay=2, disable=None, leave=False)
    for epoch in bar:
        for group in optimiser.param_groups:
            decay = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
            group["lr"] = plan.rate * (0.05 + 0.95 * decay)
        firsts = np.arange(random.integers(slack), len(inputs) - plan.length + 1, plan.length)
        order = torch.as_tensor(random.permutation(firsts))
        total, count = 0.0, 0
        for batch in torch.split(order, plan.batch):
            rows = (batch[:, None] + window).to(inputs.device)
            weight = weights[rows][:, plan.burn_in :, None]
            error = (network(inputs[rows]) - targets[rows])[:, plan.burn_in :]
            loss = (weight * error**2).sum() / (weight.sum() * error.shape[-1]).clamp(min=1.0)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            total, count = total + float(loss.detach()), count + 1
        history[epoch] = total / count
        if not math.isfinite(history[epoch]):
            raise DivergedError(
                f"the training's loss left the finite numbers in epoch {epoch} of {epochs}; "
                "lower learning_rate, or check the analysis for outliers"
            )
        bar.set_postfix(loss=f"{history[epoch]:.4f}")
    return history


def parameters(network: torch.nn.Module) -> dict[str, Any]:
    """Give a network's weights as NumPy arrays."""
    return {k: v.detach().cpu().numpy().copy() for k, v in network.state_dict().items()}
