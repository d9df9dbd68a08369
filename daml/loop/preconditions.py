"""Checks, before a loop, that model, scheme, emulator and observations fit together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.arrays import fetch, home, put
from daml.errors import InputError
from daml.labels.datasets import first_time, names
from daml.labels.definitions import is_users
from daml.labels.forcings import Forcings
from daml.labels.space import StateSpace
from daml.labels.trajectories import in_a_row
from daml.loop.passes import TRAININGS
from daml.models.enclosing import Around
from daml.models.forced import names_of
from daml.observing.batches import picked, placed
from daml.observing.functions import Through
from daml.observing.places.interpolation import CHANGING
from daml.observing.places.moving import moves
from daml.observing.records import Record, read
from daml.pairing import (
    asks_covariance,
    certain,
    check_linear,
    check_memory,
    check_scheme,
    check_smoothed,
    knows_covariance,
    offered,
    sized,
    with_model_covariance,
)
from daml.protocols import Run
from daml.running.checks import check_model, remembers
from daml.running.cycling.cycle import cycle
from daml.running.starts.ensemble_start import EnsembleStart
from daml.running.starts.first_guess import FirstGuess
from daml.schemes.calling import prepared
from daml.training.bases import check_differentiable
from daml.training.held_out import HeldOut, longer

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Array, CycleTrained, Emulator, Memory, Model, Scheme

TARGETS = ("analyses", "smoothed")
"""The records that a training may take."""
STEPS = 30
"""Number of steps in the trial of a scheme."""


def check_loop(
    model: Model, scheme: Scheme, observations: xr.Dataset, function: Through | None = None
) -> None:
    """Refuse what cannot run in a loop, and a scheme that ignores the model's forecasts.

    ``function`` is H where that is not a matrix.

    A scheme that steps a model of its own gives the same analyses for every model of the loop. It
    is found out on the first steps of the record, by forecasts that are changed a little.

    Raises
    ------
    InputError
        If model, scheme or observations are wrong, or the analyses do not change.
    """
    check_model(model, first_time(observations))
    finds = "background_covariance" in getattr(scheme, "open", ())
    if function is not None and (finds or asks_covariance(scheme)):
        check_linear(function, "improve")
    if finds and moves(observations):
        check_linear(CHANGING, "improve")
    if not is_users(scheme):  # daml's own schemes use the forecasts
        return
    space, scheme = StateSpace.of(model), sized(scheme, model)
    check_scheme(scheme, model, space, partial(remembers, certain(model), first_time(observations)))
    if getattr(scheme, "open", ()):  # it cannot run before it is tuned
        return
    how = tuple(model.variables), model.dt, getattr(model, "time_unit", "s")
    record = read(in_a_row(observations), *how, function, space)
    first = FirstGuess(model, record, record.axis.grid(), None)
    steps = np.arange(min(STEPS, record.axis.own))[:, None]
    spread = np.std(record.nearest(steps[:, 0]), axis=0).max() or 1.0
    tried, device = offered(scheme, record), home(model)
    start = EnsembleStart(model, record, first)
    setting = record.setting(device)._replace(deviation=lambda: start.deviation)
    states = start.states(scheme)

    def analyses(shift: float) -> list[np.ndarray]:
        """Cycle from the same first state, each forecast shifted."""
        x = put(states(steps[0]), device)
        times = np.broadcast_to(first.times[steps[0]][:1], x.shape[:-1])
        memory = certain(model).start(x, times)
        whole = placed(record.seen(steps), setting, device)
        runs = (Run(step, 0 * step, 0, frozenset()) for step in steps)
        seen = ((picked(whole, row), run) for row, run in enumerate(runs))
        shifted = cast("Model", _Shifted(certain(model), shift))
        with np.errstate(all="ignore"):
            known = prepared(tried, setting)
            return [fetch(u.state) for _, u in cycle(shifted, tried, known, x, memory, seen)]

    pairs = zip(analyses(0.0), analyses(0.1 * spread), strict=True)
    if all(np.array_equal(one, two, equal_nan=True) for one, two in pairs):
        name = type(scheme).__name__
        raise InputError(
            f"improve: the analyses of {name} do not depend on the forecasts of the model, so that "
            "no better model would change them; compute them from 'forecast.state', which is the "
            "forecast of the model of each pass, not from a model of its own"
        )


def check_emulator(
    emulator: Emulator, training: str, scheme: Scheme, forcings: Forcings | None
) -> None:
    """Refuse an emulator that cannot be trained in a loop, or not with its scheme.

    Raises
    ------
    InputError
        It says what is missing, and what to give in its place.
    """
    if training not in TRAININGS:
        raise InputError(f"Loop: 'training' is {training!r}; give one of {TRAININGS}")
    name = type(emulator).__name__
    trainings = getattr(emulator, "trainings", TRAININGS)
    if training not in trainings:
        raise InputError(
            f"Loop: {name} cannot be trained on {training}; give training={trainings[0]!r}"
        )
    for needed in ("fit", "to_dataset"):
        if not hasattr(emulator, needed):
            raise InputError(
                f"Loop: {name} is not an emulator: it has no {needed!r}; give one, e.g. "
                "daml.LSTM(base=model)"
            )
    cycles = training == "cycle"
    if cycles and not hasattr(emulator, "fit_cycle"):
        raise InputError(
            f"Loop: a {name} cannot be trained through the cycle: it has no 'fit_cycle'; give "
            "training='analyses'"
        )
    check_memory(scheme, emulator, lambda: bool(getattr(emulator, "remembers", False)))
    base = getattr(emulator, "base", None)
    if cycles and base is not None:
        names = names_of(base)
        mean = forcings.of(names).values.mean(axis=0) if forcings is not None and names else None
        check_differentiable(base, mean)
    if cycles and getattr(emulator, "covariance", None) is not None:
        with_model_covariance(scheme, "Loop")
    knows = cycles and getattr(emulator, "covariance", "") is not None
    if asks_covariance(scheme) and not knows:
        raise InputError(
            f"Loop: {type(scheme).__name__} asks the model for B, but the emulator learns none; "
            "give training='cycle' and LSTM(covariance='predicted'), or ThreeDVar('innovations')"
        )


def check_targets(targets: str, lag: int | None, training: str, scheme: Scheme) -> None:
    """Refuse targets of a training that there are not, or that its scheme cannot give.

    Raises
    ------
    InputError
        If they are unknown, smoothed for a training through the cycle or by a scheme of one state,
        if a lag is given for targets that are not smoothed, or if it is not a lag.
    """
    if targets not in TARGETS:
        raise InputError(f"Loop: 'targets' is {targets!r}; give one of {TARGETS}")
    if targets == "analyses":
        if lag is not None:
            raise InputError(
                f"Loop: 'lag' is {lag}, but nothing is smoothed; give targets='smoothed', or "
                "leave it out"
            )
        return
    if training == "cycle":
        raise InputError(
            "Loop: training='cycle' trains on innovations, not on a smoothed record; give "
            "training='analyses', or leave targets out"
        )
    if lag is not None and lag < 1:
        raise InputError(
            f"Loop: 'lag' is {lag}; give 1 model step or more, or None for all that follow"
        )
    check_smoothed(scheme, "Loop: targets='smoothed'")


class _Shifted(Around):
    """A model to whose forecasts a constant is added."""

    def __init__(self, model: Model, shift: float) -> None:
        self.model, self.shift = model, shift

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        moved, memory = self.model.step(x, memory)
        return moved + self.shift, memory


def parameters(train: Callable[..., Any]) -> Collection[str]:
    """Give the names of the arguments that a training takes."""
    try:
        return inspect.signature(train).parameters
    except ValueError:  # compiled code without a signature
        return ()


def check_length(
    model: Model,
    scheme: Scheme,
    emulator: Emulator,
    observations: xr.Dataset,
    record: Record,
    held_out: HeldOut | None,
    training: str,
) -> None:
    """Refuse a record that is too short for a loop, before its first step.

    Parameters
    ----------
    model, scheme, emulator, training
        See :class:`daml.Loop`.
    observations : xarray.Dataset
        ``observation`` (time, variable) and its ``error_variance`` (variable); of many trajectories
        the rows of all.
    record : Record
        The same observations as read.
    held_out : HeldOut or None
        The blocks that are not trained on.

    Raises
    ------
    InputError
        If it is too short to train on, or too few values are held out or left to train on.
    """
    _check_sequences(emulator, record.axis.own, training)
    present = record.kind_present[record.kind]
    given = present, observations, tuple(model.variables)
    _check_values(scheme, *given, None, knows_covariance(model))
    if held_out is None:
        return
    if not present[held_out.judged].any():
        raise InputError(
            f"improve: none of the {held_out.judged.sum()} held-out rows, by which passes are "
            "scored, holds an observation; give a longer record, a larger held_out, or held_out=0 "
            "and a number of passes"
        )
    if getattr(emulator, "learns_model_error", False):  # nothing of it is left to find
        scheme = getattr(scheme, "by_model_error", scheme)
    _check_values(scheme, *given, held_out, True)
    if not present[1:][~held_out.untrained[1:]].any():
        raise InputError(
            f"improve: none of the {(~held_out.untrained).sum()} rows outside the held-out blocks "
            "and their gaps holds an observation, so that there is nothing to train on; give a "
            "longer record, or held_out=0 and a number of passes"
        )


def _check_sequences(emulator: Emulator, steps: int, training: str) -> None:
    """Refuse a record that is shorter than a sequence of the training."""
    length = getattr(emulator, "sequence_length", None)
    on_analyses = training == "analyses" or getattr(emulator, "fitted", None) is None
    if on_analyses and isinstance(length, int) and steps <= length:
        raise InputError(
            f"improve: a record of {steps} steps is too short to train on: the emulator's "
            f"sequence_length is {length}; give more steps than that, or a shorter sequence_length"
        )
    if training != "cycle":
        return
    known = inspect.signature(cast("CycleTrained", emulator).fit_cycle).parameters
    length = known["sequence_length"].default if "sequence_length" in known else None
    if isinstance(length, int) and steps < length:
        raise InputError(
            f"improve: a record of {steps} steps is too short for training='cycle', which needs "
            f"{length} steps or more; give a longer record, or training='analyses'"
        )


def _check_values(
    scheme: Scheme,
    present: np.ndarray,
    observations: xr.Dataset,
    variables: tuple[str, ...],
    held_out: HeldOut | None,
    knows_covariance: bool,
) -> None:
    """Refuse a record with too few values to tune a scheme, in all rows or in the held-out ones.

    ``present`` (step, observed) says which values are present; quantities without any are left
    out. ``knows_covariance`` says whether the model gives a B of its own.
    """
    counts = (present if held_out is None else present[held_out.judged]).sum(axis=0)
    places = np.flatnonzero(counts)
    picked = {d: places for d in ("variable", "covariable") if d in observations.dims}
    given = observations.isel(picked)
    ask = getattr(scheme, "values_needed", None)
    needed = None if ask is None else ask(given, variables, knows_covariance)
    if needed is None:
        return
    enough, purpose = needed
    least = int(counts[places].min())
    if least >= enough:
        return
    name = names(given)[int(np.argmin(counts[places]))]
    if held_out is None:
        where = f"the record of {len(present)} steps holds"
        more = f"a record of about {-(-len(present) * enough // least)} steps or more"
    else:
        rows = int(held_out.judged.sum())
        where = f"the {rows} held-out rows hold"
        more = longer(-(-rows * enough // least), len(present), held_out.fraction)
    raise InputError(
        f"improve: {where} {least} values of {name!r}, and {enough} are needed {purpose}; give "
        f"{more}, or another scheme, e.g. ThreeDVar('climatological') or ETKF(20, inflation=1.05)"
    )
