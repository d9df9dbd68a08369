"""How an LSTM is fitted: to analyses, or through the cycle to observations."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import xarray as xr

from daml.emulators.bases import check_differentiable
from daml.emulators.cycling import Course, Innovations
from daml.emulators.examples import Examples
from daml.emulators.fitted import Fitted
from daml.emulators.settings import check_sequences
from daml.emulators.training import Blocks, Plan, SquareError, Tensors, train
from daml.errors import InputError
from daml.schemes.observing import Observing

if TYPE_CHECKING:
    from daml.emulators.lstm import LSTM
    from daml.protocols import Checkpoint
    from daml.schemes import ThreeDVar

UPDATES, MOST = 500, 500
CYCLE_UPDATES, CYCLE_MOST = 1200, 800
"""Updates at least, and epochs at most, unless told: on analyses, and through the cycle."""
BASE_UPDATES = 800
"""The same where a base is corrected: there is less to learn, and more begins to fit the noise."""
SHARD, CYCLE_SHARD = 32, 100
"""Sequences a thread: what measured best, for the layers at once and for steps one by one."""
LEAST_RATE = 0.2
"""What is left of the learning rate after many trainings, at least."""


def fitted_to(emulator: LSTM, analysis: xr.Dataset, checkpoint: Checkpoint | None) -> Fitted:
    """Give what a training on analyses finds, as :meth:`daml.LSTM.fit` says."""
    examples = Examples(analysis, emulator.sequence_length, emulator.base)
    variables, (dt, unit) = examples.variables, examples.step
    network = emulator.network(len(variables))
    known = emulator.fitted
    if known is None:
        known = Fitted(variables, dt, unit, *examples.scaling(), network)
    if (known.variables, known.dt) != (variables, dt):
        raise InputError(
            f"LSTM.fit: fitted before to {known.variables} with dt {known.dt}, given "
            f"{variables} with dt {dt}; start from an LSTM that is not fitted"
        )
    network.load_state_dict(known.network.state_dict())

    @lru_cache(maxsize=1)  # a record in one block is put there once
    def tensors(number: int) -> Tensors:
        states, increments, weights = examples[number]
        parts = (
            (states - known.mean) / known.spread,
            (increments - known.increment_mean) / known.increment_spread,
            weights,
        )
        return [torch.as_tensor(p, dtype=torch.float32, device=emulator.device) for p in parts]

    rate = emulator.learning_rate * max(emulator.rate_decay**known.trainings, LEAST_RATE)
    length, batch = emulator.sequence_length, emulator.batch_size
    plan = Plan(emulator.epochs, length, batch, UPDATES, MOST, SHARD, rate)
    blocks = Blocks(examples.steps, len(examples), tensors)
    objective = SquareError(network, emulator.burn_in)
    seed = (emulator.seed, known.trainings)
    losses = train(network, objective, blocks, plan, seed, checkpoint)
    return known.after(network, losses)


def fitted_through_cycle(
    emulator: LSTM,
    observations: xr.Dataset,
    scheme: ThreeDVar,
    length: int,
    burn_in: int,
    batch: int,
    rate: float,
    held_out: float,
    checkpoint: Checkpoint | None,
) -> Fitted:
    """Give what a training through the cycle finds, as :meth:`daml.LSTM.fit_cycle` says."""
    check_sequences("fit_cycle", length, burn_in, rate, batch)
    updates = CYCLE_UPDATES if emulator.base is None else BASE_UPDATES
    sizes = length, batch, updates, CYCLE_MOST, CYCLE_SHARD
    plan = Plan(emulator.cycle_epochs, *sizes, rate)
    if emulator.base is not None:
        check_differentiable(emulator.base)
    known, network = emulator.known, emulator.network(len(emulator.variables))
    network.load_state_dict(known.network.state_dict())
    like, fixed = torch.zeros((), device=emulator.device), None
    if emulator.covariance is None:
        fixed = like.new_tensor(scheme.given(known.variables))
    elif known.covariance_root is None:
        known = known.starting(scheme.given(known.variables))
    opened = replace(emulator, fitted=known.single(network))
    course = Course(opened, observations, held_out, like)
    observing = Observing.of(course.record, float(scheme.error_factor)).like(like)
    objective = Innovations(lambda: opened, observing, fixed, burn_in)
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
