"""Teaches models with hidden variables through the cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from daml.emulators.hidden.corrections import Correction
from daml.emulators.hidden.how_many import Kept, compared
from daml.emulators.hidden.lessons import Lesson
from daml.emulators.hidden.refusals import AUTO, check_fitted, check_teacher
from daml.emulators.hidden.taught import Taught
from daml.labels.forcings import Forcings
from daml.observing.functions import Given
from daml.training.bases import check_differentiable
from daml.training.error_size import fit_error_size
from daml.training.stages import Stage, teach

if TYPE_CHECKING:
    from daml.protocols import Checkpoint, Scheme

STAGES = (
    Stage(updates=600, length=40, rate=1e-2, error_rate=1.0, narrowed=1.0),
    Stage(updates=400, length=50, rate=4e-3, error_rate=2.0, narrowed=0.3),
    Stage(updates=140, length=60, rate=1.5e-3, error_rate=0.0, narrowed=0.35),
)
WIDE = (
    Stage(updates=600, length=40, rate=1e-2, error_rate=1.0, narrowed=1.0),
    Stage(updates=220, length=40, rate=5e-3, error_rate=1.0, narrowed=1.0),
)
"""Of local networks, and through ensembles, which draw model errors: there a model error that is
made narrower loses the record, and one that is fitted at the end gains nothing."""
FURTHER = (
    Stage(updates=400, length=50, rate=4e-3, error_rate=0.0, narrowed=1.0),
    Stage(updates=140, length=60, rate=1.5e-3, error_rate=0.0, narrowed=1.0),
)
"""Of a model that was taught before: the size of its error is known, and fitted at the end."""
SHORT = (Stage(updates=60, length=30, rate=1e-2, error_rate=1.0, narrowed=1.0),)
"""Of each trial of a number of hidden variables."""
FEW = 100
"""Streams of a trial at most."""
HELD_OUT = 0.1
"""Part of the record that judges trials, where the training itself holds nothing out."""


def through_cycle(
    emulator: Any,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    forcings: Forcings | None,
    held_out: float,
    operator: Given | None,
    checkpoint: Checkpoint | None,
) -> Taught:
    """Give the result of a training through the cycle; see :meth:`Augmented.fit_cycle`."""
    kind = type(emulator).__name__
    check_fitted(kind, emulator)
    check_teacher(kind, scheme)
    if emulator.base is not None:
        check_differentiable(emulator.base, emulator.typical_forcing)
    before: Taught = emulator.known
    given: dict[str, Any] = {
        "observations": observations,
        "scheme": scheme,
        "operator": operator,
        "forcings": forcings,
    }
    hidden, numbers = emulator.hidden_variables, before.numbers
    if hidden == AUTO and before.trainings:
        hidden = before.hidden // cast("Correction", before.network).copies
    elif hidden == AUTO:
        kept = None if checkpoint is None else Kept(checkpoint)
        checkpoint, numbers = kept, tried(emulator, held_out=held_out, kept=kept, **given)
        hidden = numbers.attrs["chosen"]
    hidden = cast("int", hidden)
    lesson = Lesson.of(emulator, hidden, held_out=held_out, **given)
    known, streams = lesson.known, lesson.streams
    further = before.trainings > 0 and before.hidden == known.hidden
    narrows = lesson.network.copies == 1 and "model_error" in getattr(scheme, "needs", ())
    first: tuple[Stage, ...] = STAGES if narrows else WIDE
    stages = scaled(FURTHER if further else first, emulator.updates)
    if further and lesson.watch is not None:
        lesson.watch.begin()
    seed = emulator.seed, known.trainings
    losses = teach(lesson.network, streams, stages, lesson.watch, seed, checkpoint)
    if narrows:
        fit_error_size(lesson.network.error_scale, lesson.network.error_groups, streams)
    found = replace(known, climate=streams.climate, climate_spread=streams.spread, numbers=numbers)
    return cast("Taught", found.after(lesson.network, losses))


def tried(
    emulator: Any, *, held_out: float = 0.0, kept: Kept | None = None, **given: Any
) -> xr.Dataset:
    """Try numbers of hidden variables on short trainings; see :func:`how_many.compared`."""
    fraction = held_out or HELD_OUT
    stages = scaled(SHORT, emulator.updates and min(emulator.updates, SHORT[0].updates))

    def score(hidden: int) -> np.ndarray:
        lesson = Lesson.of(emulator, hidden, held_out=fraction, most=FEW, **given)
        teach(lesson.network, lesson.streams, stages, None, (emulator.seed,))
        return lesson.judged(lesson.course.apart(fraction))

    return compared(score, kept)


def scaled(stages: tuple[Stage, ...], updates: int | None) -> tuple[Stage, ...]:
    """Give stages that share a number of updates as they are."""
    if updates is None:
        return stages
    total = sum(stage.updates for stage in stages)
    shares = [max(round(stage.updates * updates / total), 1) for stage in stages]
    return tuple(s._replace(updates=n) for s, n in zip(stages, shares, strict=True))
