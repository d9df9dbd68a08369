"""What a training through the cycle works with: a network in an emulator, and the streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import xarray as xr

from daml.emulators.hidden.corrections import Correction
from daml.emulators.hidden.taught import Taught
from daml.errors import InputError
from daml.labels.forcings import Forcings
from daml.models.forced import lent
from daml.observing.functions import Given, seen_through
from daml.pairing import offered, sized
from daml.running.checks import typical
from daml.training.held_out import HeldOut
from daml.training.stopping import Watch
from daml.training.streams import Streams
from daml.training.through_cycle import Course, Innovations

if TYPE_CHECKING:
    from daml.protocols import Scheme

MOST, FEWEST, APART = 200, 16, 50
"""Streams at most, divided by the places that share weights, as each place teaches them, but not
below the second number; and steps of the record for each at least."""
BURN_IN, JUDGED, LEAST = 200, 400, 100
"""Steps of a held-out sequence: those at its start that are not judged, and all; and of a
trajectory at least, whose sequences may be shorter."""


@dataclass(frozen=True)
class Lesson:
    """A network to be trained with a number of hidden variables, and the streams for it.

    The network goes on from the weights of the emulator, where there are any. One that was trained
    without hidden variables is taken over into a wider one.
    """

    known: Taught
    network: Correction
    course: Course
    streams: Streams
    watch: Watch | None

    @classmethod
    def of(
        cls,
        emulator: Any,
        hidden: int,
        observations: xr.Dataset,
        scheme: Scheme,
        held_out: float,
        operator: Given | None,
        most: int = MOST,
        forcings: Forcings | None = None,
    ) -> Lesson:
        """Begin a lesson with at most so many streams."""
        known, network = _begun(emulator, hidden)
        opened = replace(emulator, fitted=replace(known, network=network))
        like = torch.zeros((), dtype=torch.float64, device=emulator.device)
        about = opened.variables, typical(opened), "fit_cycle"
        observations, function = seen_through(observations, operator, *about)
        driven = lent(opened, forcings)
        course = Course(driven, observations, held_out, like, operator=function)
        steps, own = len(course.tensors[0]), course.own
        if steps < JUDGED or own < LEAST:
            one = own == steps
            raise InputError(
                f"{type(emulator).__name__}.fit_cycle: a {'record' if one else 'trajectory'} of "
                f"{own} steps is too short to train on; give {JUDGED if one else LEAST} or more"
                f"{'' if one else f', and {JUDGED} in all'}"
            )
        given = offered(scheme, course.record)
        scheme = sized(getattr(given, "by_model_error", given), opened)
        objective = Innovations(lambda: driven, scheme, course.record, like, BURN_IN)
        most = max(most // network.copies, FEWEST)
        count = int(np.clip(steps // APART, 1, most))
        streams = Streams(course, objective, count, known.climate, known.climate_spread)
        watch = course.watch(network, streams.judging(_early(own)), min(JUDGED, own))
        return cls(known, network, course, streams, watch)

    def judged(self, held_out: HeldOut) -> np.ndarray:
        """Give the negative log-likelihood of a value in each held-out block (block,)."""
        own, early = self.course.own, _early(self.course.own)
        sequences = self.course.judged(held_out, min(JUDGED, own), early)
        with torch.no_grad():
            found = torch.stack(self.streams.judging(early).each(sequences)).cpu().numpy()
        total, count = found.reshape(2, len(held_out.blocks), -1).sum(-1)
        return np.asarray(total[count > 0] / count[count > 0])


def _early(own: int) -> int:
    """Give the steps of a held-out sequence that are not judged, in trajectories of ``own``."""
    return min(BURN_IN, min(JUDGED, own) // 2)


def _begun(emulator: Any, hidden: int) -> tuple[Taught, Correction]:
    known: Taught = emulator.known
    added = emulator.names_of(hidden)
    network = emulator.network(len(known.variables) - known.hidden + len(added), len(added))
    trained = bool(known.network.head.weight.any())
    if known.hidden == len(added):
        if trained:
            network.load_state_dict(known.network.state_dict())
        return known, network
    if known.hidden:
        name = type(emulator).__name__
        raise InputError(
            f"{name}.fit_cycle: 'hidden_variables' is {hidden}, and the {name} was trained with "
            f"{known.hidden // network.copies}; give that number, or start from "
            f"{name}(...).begin(analysis)"
        )
    if trained:
        network.take(cast("Correction", known.network))
    return known.widened(added, network), network
