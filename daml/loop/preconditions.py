"""What must fit together in a loop: a model, a scheme, an emulator and a record of observations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.arrays import fetch, home, put
from daml.emulators.own import is_users
from daml.errors import InputError
from daml.labels.datasets import first_time, names
from daml.labels.space import StateSpace
from daml.observing.records import Record, read
from daml.pairing import check_scheme, knows_covariance, offered
from daml.protocols import Observed, Run
from daml.running.checks import check_model
from daml.running.cycle import cycle
from daml.running.ensemble_start import first_states
from daml.running.first_guess import FirstGuess
from daml.training.held_out import HeldOut, longer

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Array, CycleTrained, Emulator, Memory, Model, Scheme

STEPS = 30
"""Steps of the trial."""


def check_loop(model: Model, scheme: Scheme, observations: xr.Dataset) -> None:
    """Refuse what cannot run in a loop, and a scheme that ignores the model's forecasts.

    A scheme that steps a model of its own gives the same analyses whichever model the loop
    trains. On the first steps of the record its analyses are compared with those from forecasts
    that are changed a little.

    Raises
    ------
    InputError
        If model, scheme or observations are wrong, or the analyses are the same.
    """
    check_model(model, first_time(observations))
    if not is_users(scheme):  # daml's own use the forecasts
        return
    space = StateSpace.of(model)
    check_scheme(scheme, model, space)
    if getattr(scheme, "open", ()):  # it cannot run before it is tuned
        return
    how = tuple(model.variables), model.dt, getattr(model, "time_unit", "s")
    record = read(observations, *how, space=space)
    first = FirstGuess(model, record, record.axis.grid(), None)
    steps = np.arange(min(STEPS, record.axis.length))[:, None]
    spread = np.std(record.nearest(steps[:, 0]), axis=0).max() or 1.0
    tried, device = offered(scheme, record), home(model)
    setting = record.setting(device)
    states = first_states(model, record, first, scheme)

    def analyses(shift: float) -> list[np.ndarray]:
        """Cycle from the same first state, each forecast shifted."""
        x = put(states(steps[0]), device)
        times = np.broadcast_to(first.times[steps[0]][:1], x.shape[:-1])
        memory = model.start(x, times)
        values, pattern, _ = record.seen(steps)
        rows = zip(put(values, device), put(pattern, device), steps, strict=True)
        seen = ((Observed(v, p, setting.noise), Run(s, 0 * s, 0, frozenset())) for v, p, s in rows)
        shifted = cast("Model", _Shifted(model, shift))
        with np.errstate(all="ignore"):
            prepared = tried.prepare(setting)
            return [fetch(u.state) for _, u in cycle(shifted, tried, prepared, x, memory, seen)]

    pairs = zip(analyses(0.0), analyses(0.1 * spread), strict=True)
    if all(np.array_equal(one, two, equal_nan=True) for one, two in pairs):
        name = type(scheme).__name__
        raise InputError(
            f"improve: the analyses of {name} do not depend on the forecasts of the model, so that "
            "no better model would change them; compute them from the 'background' that 'update' "
            "is given, which is the forecast of the model of each pass, not from a model of its own"
        )


class _Shifted:
    """A model whose forecasts are off by a constant."""

    def __init__(self, model: Model, shift: float) -> None:
        self.model, self.shift = model, shift

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        moved, memory = self.model.step(x, memory)
        return moved + self.shift, memory


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
        As the contract says.
    record : Record
        The same, read.
    held_out : HeldOut or None
        The blocks that are not trained on.

    Raises
    ------
    InputError
        If it is too short to train on, or its rows, those held out or the others, hold too few
        values.
    """
    _check_sequences(emulator, record.axis.length, training)
    present = record.kind_present[record.kind]
    given = present, observations, tuple(model.variables)
    _check_values(scheme, *given, None, knows_covariance(model))
    if held_out is None:
        return
    if not present[held_out.judged].any():
        raise InputError(
            f"improve: none of the {held_out.judged.sum()} held-out rows, by which passes are "
            "judged, holds an observation; give a longer record, a larger held_out, or held_out=0 "
            "and a number of passes"
        )
    _check_values(scheme, *given, held_out, True)
    if not present[1:][~held_out.untrained[1:]].any():
        raise InputError(
            f"improve: none of the {(~held_out.untrained).sum()} rows outside the held-out blocks "
            "and their gaps holds an observation, so that there is nothing to train on; give a "
            "longer record, or held_out=0 and a number of passes"
        )


def _check_sequences(emulator: Emulator, steps: int, training: str) -> None:
    """Refuse a record that is shorter than the sequences of a training."""
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
    """Refuse a record whose rows, all or those held out, hold too few values to tune a scheme.

    ``present`` (step, observed) says which values are there. What has none is not estimated from.
    ``knows_covariance`` says whether the model gives a B of its own.
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
        f"{more}, or another background, e.g. ThreeDVar('climatological')"
    )
