"""The start of a model with hidden variables: what analyses say of the variables that are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from daml.emulators.hidden.refusals import check_names
from daml.emulators.hidden.taught import Taught
from daml.labels.forcings import Forcings
from daml.training.engine import Blocks, Tensors, train
from daml.training.examples import Block, Examples
from daml.training.plan import Plan
from daml.training.stopping import Watch

if TYPE_CHECKING:
    from daml.protocols import Checkpoint

LENGTH, BATCH = 20, 64
"""Rows of a record that are read together, and such parts per update."""
UPDATES, MOST, RATE = 1000, 500, 4e-3
"""Updates at least, epochs at most, and the rate of Adam."""


def begun(
    emulator: Any, analysis: xr.Dataset, held_out: float, forcings: Forcings | None = None
) -> Taught:
    """Give the mean increment over the base, and the scaling; see :meth:`Augmented.begin`."""
    name = type(emulator).__name__
    base = emulator.base
    examples = Examples(analysis, 2, base, held_out, owner=name, forcings=forcings)
    check_names(name, "the analysis", examples.variables)
    mean, spread, increment_mean, increment_spread = examples.scaling()
    network = emulator.network(len(mean), 0)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    network.requires_grad_(False)
    dt, unit = examples.step
    scaling = mean, spread, increment_mean, increment_spread
    climate = {"climate": mean, "climate_spread": spread} | examples.forcing_scaling()
    return Taught(examples.variables, dt, unit, *scaling, network, **climate)


@dataclass(frozen=True)
class OneStep:
    """The mean squared error of single steps, in units of the increments' standard deviations.

    Sequences hold states and those that follow (sequence, time, variable), and weights (sequence,
    time), which are 0 for a step that is skipped.
    """

    step: Callable[[torch.Tensor], torch.Tensor]
    spread: torch.Tensor

    def squares(self, sequences: Tensors) -> torch.Tensor:
        """Give the sum of the weighted squares (variable,)."""
        states, following, weights = sequences
        error = (self.step(states) - following) / self.spread
        return torch.sum(weights[..., None] * error**2, dim=(0, 1))

    def total(self, sequences: Tensors) -> torch.Tensor:
        """Give their sum."""
        return self.squares(sequences).sum()

    def mean(self, sequences: Tensors) -> torch.Tensor:
        """Give their mean."""
        return self.total(sequences) / self.count(sequences).clamp(min=1.0)

    def count(self, sequences: Tensors) -> torch.Tensor:
        """Give the number of values that count."""
        return sequences[2].sum() * len(self.spread)


def fitted_to_steps(
    emulator: Any,
    known: Taught,
    analysis: xr.Dataset,
    held_out: float,
    checkpoint: Checkpoint | None,
) -> Taught:
    """Give the result of a training on single steps, without a base."""
    network = emulator.network(len(known.variables), 0)
    opened = replace(emulator, fitted=replace(known, network=network))
    examples = Examples(analysis, LENGTH, None, held_out, owner=type(emulator).__name__)

    def tensors(block: Block) -> Tensors:
        parts = block.states, block.states + block.increments, block.weights
        return [torch.as_tensor(part, device=emulator.device) for part in parts]

    def step(states: torch.Tensor) -> torch.Tensor:
        rows = states.flatten(0, 1)
        moved: torch.Tensor = opened.step(rows)[0]
        return moved.reshape(states.shape)

    @lru_cache(maxsize=1)  # a record in one block is moved to the device once
    def read(number: int) -> Tensors:
        return tensors(examples[number])

    blocks = examples.blocks(read)
    objective = OneStep(step, torch.as_tensor(known.increment_spread, device=emulator.device))
    watch = None
    if held_out:
        parts = [tensors(block) for block in examples.judged(LENGTH, 0)]
        judged = [torch.stack(column) for column in zip(*parts, strict=True)]
        watch = Watch(network, lambda: {"held_out_loss": objective.mean(judged)})
    plan = Plan(None, LENGTH, BATCH, UPDATES, MOST, BATCH, RATE)
    losses = train(network, objective, blocks, plan, (emulator.seed,), checkpoint, watch)
    _set_error(network, objective, blocks)
    network.requires_grad_(False)
    return replace(known, network=network, losses=losses)


def _set_error(network: Any, objective: OneStep, blocks: Blocks) -> None:
    """Let the model error be as large as the error of single steps, times the usual factor."""
    with torch.no_grad():
        squares = torch.zeros_like(objective.spread)
        count = squares.new_zeros(())
        for number in range(blocks.parts):
            rows = [part if blocks.length else part[None] for part in blocks.read(number)]
            squares += objective.squares(rows)
            count += rows[2].sum()
        network.error_scale.copy_(0.5 * torch.log(squares / count))
