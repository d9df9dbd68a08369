"""Fits networks: to analyses, or through the assimilation cycle to observations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import xarray as xr

from daml.emulators.fitted import Fitted
from daml.emulators.networks import Network
from daml.emulators.settings import Settings
from daml.errors import InputError
from daml.labels.forcings import Forcings
from daml.models.forced import lent
from daml.observing.functions import Given, seen_through
from daml.pairing import offered, with_model_covariance
from daml.running.checks import typical
from daml.training.bases import check_differentiable
from daml.training.engine import LEAST, Blocks, SquareError, Tensors, train
from daml.training.examples import Block, Examples
from daml.training.plan import Plan, check_sequences
from daml.training.stopping import Watch
from daml.training.through_cycle import Course

if TYPE_CHECKING:
    from daml.protocols import Checkpoint, Scheme

E = TypeVar("E", bound=Settings)
"""An emulator with a network."""
UPDATES, MOST = 500, 500
CYCLE_UPDATES, CYCLE_MOST = 1200, 800
"""Default minimum of updates and maximum of epochs: on analyses, and through the cycle."""
BASE_UPDATES = 800
"""Default minimum of updates through the cycle with a base: more begin to fit the noise."""
SHARD, CYCLE_SHARD = 32, 100
"""Sequences per thread, the fastest that were measured: on analyses, and through the cycle."""
BATCHES, FEWEST, LARGEST = 5, 20, 200
"""Default number of batches per epoch through the cycle, and limits on the size of a batch."""
LEAST_RATE = 0.2
"""Smallest fraction of the learning rate to which ``rate_decay`` lowers it."""


def fitted_to(
    emulator: E,
    analysis: xr.Dataset,
    *,
    forcings: Forcings | None,
    held_out: float,
    better: Callable[[E, E], bool] | None,
    checkpoint: Checkpoint | None,
) -> Fitted:
    """Give the result of a training on analyses; see :meth:`Neural.fit`."""
    examples, known, network = _begun(emulator, analysis, held_out, forcings)
    blocks = examples.blocks(_reader(emulator, examples, known))
    rate = emulator.learning_rate * max(emulator.rate_decay**known.trainings, LEAST_RATE)
    length = emulator.sequence_length
    plan = Plan(
        epochs=emulator.epochs,
        length=length,
        batch=emulator.batch_size,
        updates=UPDATES,
        most=MOST,
        shard=SHARD,
        rate=rate,
    )
    objective = SquareError(network, emulator.burn_in)
    watch = None
    if held_out:
        parts = [_scaled(emulator, known, b) for b in examples.judged(length, emulator.burn_in)]
        judged = [torch.stack(column) for column in zip(*parts, strict=True)]
        watch = Watch(network, lambda: {"held_out_loss": objective.mean(judged)})
    if emulator.base is not None:
        _centre(network, objective, blocks, length)
    start = copy.deepcopy(network)
    seed = (emulator.seed, known.trainings)
    losses = train(network, objective, blocks, plan, seed, checkpoint, watch)
    found, before = known.after(network, losses), known.after(start, losses)
    if better is None or emulator.base is None or start.head.weight.any():
        return found
    pair = (replace(emulator, fitted=fitted) for fitted in (before, found))
    return found if better(*pair) else before


def begun(
    emulator: Settings, analysis: xr.Dataset, held_out: float, forcings: Forcings | None
) -> Fitted:
    """Give a network that adds the mean increment alone; see :meth:`Neural.begin`."""
    examples, known, network = _begun(emulator, analysis, held_out, forcings)
    blocks = examples.blocks(_reader(emulator, examples, known))
    _centre(network, SquareError(network, emulator.burn_in), blocks, emulator.sequence_length)
    network.requires_grad_(False)
    return replace(known, network=network)


def _begun(
    emulator: Settings, analysis: xr.Dataset, held_out: float, forcings: Forcings | None
) -> tuple[Examples, Fitted, Network]:
    """Give the start of a training on analyses: examples, scaling, and a network to train."""
    name = type(emulator).__name__
    length = emulator.sequence_length
    base = emulator.base
    examples = Examples(analysis, length, base, held_out, owner=name, forcings=forcings)
    if emulator.variance_floor is not None and examples.spread is None:
        raise InputError(
            f"{name}.fit: 'variance_floor' is {emulator.variance_floor:g}, and the analysis "
            "has no 'spread' to weight targets by; give an analysis of an ensemble scheme, or "
            "leave 'variance_floor' out"
        )
    variables, (dt, unit) = examples.variables, examples.step
    network = emulator.initial(len(variables), len(examples.columns))
    known = emulator.fitted
    if known is None:
        further = examples.forcing_scaling()
        *states, increments, scale = examples.scaling()
        scaling = *emulator.alike(*states), *emulator.alike(increments, scale)
        known = Fitted(variables, dt, unit, *scaling, network, **further)
    if (known.variables, known.dt) != (variables, dt):
        raise InputError(
            f"{name}.fit: it was fitted to {known.variables} with dt {known.dt}, and is now "
            f"given {variables} with dt {dt}; start from an emulator that is not fitted"
        )
    network.load_state_dict(known.network.state_dict())
    return examples, known, network


def _scaled(emulator: Settings, known: Fitted, block: Block) -> Tensors:
    """Give a block of examples in the units of the network, on its device."""
    inputs = (block.states - known.mean) / known.spread
    further = (block.forcing - known.forcing_mean) / known.forcing_spread
    parts = (
        np.concatenate((inputs, further), axis=-1),
        (block.increments - known.increment_mean) / known.increment_spread,
        block.precision(emulator.variance_floor, known.increment_spread),
    )
    return [torch.as_tensor(p, dtype=torch.float32, device=emulator.device) for p in parts]


def _reader(emulator: Settings, examples: Examples, known: Fitted) -> Callable[[int], Tensors]:
    @lru_cache(maxsize=1)  # a record in one block is moved to the device once
    def read(number: int) -> Tensors:
        return _scaled(emulator, known, examples[number])

    return read


def _centre(network: Network, objective: SquareError, blocks: Blocks, length: int) -> None:
    """Change the network's bias so that the mean error of its predictions is zero.

    Each training thus starts by removing what remains of a constant error of the base.
    """
    with torch.no_grad():
        parts = [
            objective.residuals(blocks.sequences(number, 0, length))
            for number in range(blocks.parts)
        ]
        errors, counts = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
        network.head.bias.add_(errors / counts.clamp(min=LEAST))


def fitted_through_cycle(
    emulator: Settings,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    sequence_length: int,
    burn_in: int,
    batch_size: int | None,
    learning_rate: float,
    forcings: Forcings | None,
    held_out: float,
    operator: Given | None,
    checkpoint: Checkpoint | None,
) -> Fitted:
    """Give the result of a training through the cycle; see :meth:`Neural.fit_cycle`."""
    batch = batch_size
    check_sequences(
        "fit_cycle", sequence_length, burn_in, learning_rate, 1 if batch is None else batch
    )
    updates = CYCLE_UPDATES if emulator.base is None else BASE_UPDATES
    if emulator.base is not None:
        check_differentiable(emulator.base, emulator.typical_forcing)
    known: Fitted = emulator.known
    network = emulator.initial(len(emulator.variables), len(known.columns))
    network.load_state_dict(known.network.state_dict())
    like = torch.zeros((), dtype=torch.float64, device=emulator.device)
    if emulator.covariance is not None:
        scheme, given = with_model_covariance(scheme, "fit_cycle")
        if known.covariance_root is None:  # else the scheme asks the model already, perhaps
            known = known.starting(given(known.variables))
    opened = replace(emulator, fitted=replace(known, network=network))
    about = emulator.variables, typical(opened), "fit_cycle"
    observations, function = seen_through(observations, operator, *about)
    driven = lent(opened, forcings)
    course = Course(driven, observations, held_out, like, operator=function)
    if batch is None:
        sequences = len(course.tensors[0]) // sequence_length
        batch = min(max(sequences // BATCHES, FEWEST), LARGEST)
    plan = Plan(
        epochs=emulator.cycle_epochs,
        length=sequence_length,
        batch=batch,
        updates=updates,
        most=CYCLE_MOST,
        shard=CYCLE_SHARD,
        rate=learning_rate,
    )
    scheme = offered(scheme, course.record)
    objective = course.objective(lambda: driven, scheme, like, burn_in)
    return known.after(
        network,
        train(
            network,
            objective,
            course.blocks(plan.length),
            plan,
            (emulator.seed, known.trainings),
            checkpoint,
            course.watch(network, objective, plan.length),
        ),
    )
