"""Fits models with hidden variables: their start to analyses, the rest through the cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from daml.emulators.hidden.taught import Taught
from daml.observing.functions import seen_through
from daml.pairing import offered, sized
from daml.running.checks import typical
from daml.training.bases import check_differentiable
from daml.training.error_size import fit_error_size
from daml.training.examples import Examples
from daml.training.held_out import HeldOut
from daml.training.stages import Stage, teach
from daml.training.streams import Streams
from daml.training.through_cycle import Course, Innovations

if TYPE_CHECKING:
    from daml.emulators.hidden.augmented import Augmented
    from daml.protocols import Checkpoint, Scheme

STAGES = (
    Stage(updates=600, length=40, rate=1e-2, error_rate=1.0, narrowed=1.0),
    Stage(updates=400, length=50, rate=4e-3, error_rate=2.0, narrowed=0.3),
    Stage(updates=140, length=60, rate=1.5e-3, error_rate=0.0, narrowed=0.35),
)
MOST, FEWEST, APART = 200, 16, 50
"""Streams at most, divided by the places that share weights, as each place teaches them, but not
below the second number; and steps of the record for each at least."""
BURN_IN, JUDGED = 200, 400
"""Steps of a held-out sequence: those at its start that are not judged, and all."""


def begun(emulator: Augmented, analysis: xr.Dataset, held_out: float) -> Taught:
    """Give the mean increment over the base, and the scaling; see :meth:`Augmented.begin`."""
    examples = Examples(analysis, 2, emulator.base, held_out, owner=type(emulator).__name__)
    mean, spread, increment_mean, increment_spread = examples.scaling()
    network = emulator.network(len(mean), 0)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    network.requires_grad_(False)
    dt, unit = examples.step
    scaling = mean, spread, increment_mean, increment_spread
    known = Taught(examples.variables, dt, unit, *scaling, network)
    return replace(known, climate=mean, climate_spread=spread)


def through_cycle(
    emulator: Augmented,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    held_out: float,
    operator: Callable[[Any], Any] | None,
    checkpoint: Checkpoint | None,
) -> Taught:
    """Give the result of a training through the cycle; see :meth:`Augmented.fit_cycle`."""
    if emulator.base is not None:
        check_differentiable(emulator.base)
    known, added = emulator.known, emulator.hidden_names
    if known.trainings == 0:
        network = emulator.network(len(known.variables) + len(added), len(added))
        known = known.widened(added, network)
    else:
        network = emulator.network(len(known.variables), len(added))
        network.load_state_dict(known.network.state_dict())
    opened = replace(emulator, fitted=replace(known, network=network))
    like = torch.zeros((), dtype=torch.float64, device=emulator.device)
    about = opened.variables, typical(opened), "fit_cycle"
    observations, function = seen_through(observations, operator, *about)
    course = Course(opened, observations, held_out, like, operator=function)
    scheme = sized(offered(scheme, course.record), opened)
    objective = Innovations(lambda: opened, scheme, course.record, like, BURN_IN)
    most = max(MOST // network.copies, FEWEST)
    count = int(np.clip(len(course.tensors[0]) // APART, 1, most))
    streams = Streams(course, objective, count, known.climate, known.climate_spread)
    watch = course.watch(network, streams.judging(BURN_IN), JUDGED)
    stages = scaled(STAGES, emulator.updates)
    losses = teach(network, streams, stages, watch, emulator.seed, checkpoint)
    fit_error_size(network.error_scale, network.error_groups, streams)
    found = replace(known, climate=streams.climate, climate_spread=streams.spread)
    return found.after(network, losses)


def scaled(stages: tuple[Stage, ...], updates: int | None) -> tuple[Stage, ...]:
    """Give stages that share a number of updates as they are."""
    if updates is None:
        return stages
    total = sum(stage.updates for stage in stages)
    shares = [max(round(stage.updates * updates / total), 1) for stage in stages]
    return tuple(s._replace(updates=n) for s, n in zip(stages, shares, strict=True))
