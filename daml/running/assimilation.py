"""The cycle in time: assimilate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.arrays import home, put
from daml.errors import InputError, StepError
from daml.labels.arguments import checked
from daml.labels.datasets import (
    check_dims,
    check_names,
    first_time,
    names,
    time_axis,
)
from daml.labels.descriptions import description
from daml.labels.space import StateSpace
from daml.observing.functions import described, seen_through
from daml.observing.records import GIVEN, Record, read
from daml.pairing import check_scheme, offered
from daml.protocols import Observed, Run
from daml.running.checks import check_model, typical
from daml.running.cycle import cycle
from daml.running.ensemble_start import first_states
from daml.running.first_guess import FirstGuess
from daml.running.kept import Kept, outputs_of
from daml.running.moments import Moments, joined, moments
from daml.running.targets import Room, Target
from daml.schemes.calling import prepared
from daml.segments import Cut, rows_at_once, segment_length, side_by_side
from daml.stores.filling import filled

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

TOLERANCE, ENSEMBLE_TOLERANCE = 0.01, 0.5
"""Largest difference where segments meet: see `_Cycles.run`."""
CHUNK_SEGMENTS = 32
"""Segments in a chunk on disk, of few variables: groups of segments end with a chunk then."""


@checked
def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float | None = None,
    initial: xr.Dataset | None = None,
    operator: Callable[[Any], Any] | None = None,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Cycle a model through a record: analysis, step, analysis, ...

    Long records are cut into segments that run as one batch, each starting ``spinup`` steps
    early. Where the spin-up of a segment meets the end of the one before, the largest difference
    of the two analyses, in standard deviations of the record, is known: above ``tolerance`` the
    spin-up is doubled.

    Parameters
    ----------
    model : Model
        Gives the background.
    observations : xarray.Dataset
        As the contract says; their times are whole steps of the model.
    scheme : Scheme
        Gives the analysis.
    segments : int, optional
        How many; 1 is the exact sequential run. Unless given, as many as the root of the
        record's length, but each of 100 to 500 steps; where the start is forgotten too slowly
        for that, the sequential run.
    spinup : int
        Model steps by which a segment starts early, at first.
    tolerance : float, optional
        Largest difference between segments, in standard deviations of a variable's analysis
        (default: 0.01). Two runs of an ensemble never become equal: there it is the mean squared
        difference in units of the mean variance of the analysis's members (default: 0.5).
    initial : xarray.Dataset, optional
        ``state`` (variable): the background at the first time. Unless given, the nearest values
        observed, and the model's climate for what is never observed.
    operator : callable, optional
        H as a function of states (..., variable) to what is observed (..., observed), linear or
        not, in place of the observations' own. With ``ThreeDVar`` torch differentiates one that is
        not linear.
    store : str or path, optional
        A new Zarr store that takes the result part by part, so that memory does not grow with
        the record; the observations may be larger than memory, too.

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row
        per model step; and the scheme's own ``outputs``. ``chi_square`` (time) is 1 in the mean
        where the scheme is right about the size of the innovations. A scheme that asks the model
        for B also gives the standard deviations that it expects, ``background_spread`` and
        ``innovation_spread``, ``normalized_innovation``, whose variance is 1 where they are right,
        and ``log_likelihood`` (time). attrs say segments, spin-up and difference. With
        ``store`` opened lazily; of observations that are Dask's lazy, too, and computed as a whole
        (attrs without those).

    Raises
    ------
    InputError
        If model or observations break the contract, or if ``segments`` were asked for and the
        start is not forgotten.
    DivergedError
        If the cycle leaves the finite numbers.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=500, spinup=500)
    >>> B = daml.climatological(truth, max_variance=2)
    >>> daml.assimilate(model, daml.observe(truth), daml.ThreeDVar(B)).analysis.shape
    (500, 3)
    """
    if segments is not None and segments < 1:
        raise InputError(f"assimilate: 'segments' is {segments}; give 1 or more")
    if spinup < 0:
        raise InputError(f"assimilate: 'spinup' is {spinup}; give 0 or more")
    return assimilated(
        *(model, observations, scheme),
        segments=segments,
        spinup=spinup,
        tolerance=tolerance,
        initial=initial,
        operator=operator,
        store=store,
    )


def assimilated(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    record: Record | None = None,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float | None = None,
    initial: xr.Dataset | None = None,
    operator: Callable[[Any], Any] | None = None,
    store: str | Path | None = None,
) -> xr.Dataset:
    """Do the work of :func:`assimilate`; with a ``record``, what was read of the observations."""
    check_model(model, first_time(observations))
    space = StateSpace.of(model) if record is None else record.space
    check_scheme(scheme, model, space)
    variables = tuple(model.variables)
    unit = getattr(model, "time_unit", "s")
    axis = time_axis(observations, "observation", model.dt, unit) if record is None else record.axis
    times = axis.grid()
    check_dims(observations, "observation", ("variable",))
    check_names(observations, "observation")
    total = len(times)
    length = segment_length(total) if segments is None else -(-total // segments)
    labels = _labels(model, scheme, observations, times, operator)
    observations, function = seen_through(
        observations, operator, variables, typical(model), "assimilate"
    )

    def run(arrays: Mapping[str, Any], *source: xr.Dataset) -> dict[str, Any]:
        seen = record or read(source[0], variables, model.dt, unit, function, space)
        cycles = _Cycles(model, scheme, seen, FirstGuess(model, seen, times, initial))
        return _joined(cycles, Cut(total, length, spinup), tolerance, segments, Target(arrays))

    units = {"units": observations["observation"].attrs.get("units", "1")}
    source = observations[[name for name in GIVEN if name in observations]]
    filling = {n: (dims, units | dict(told)) for n, (dims, told) in outputs_of(scheme).items()}
    chunk = _chunk(length, total, max(len(variables), labels.sizes["observed"]))
    # What was read already is there to be computed on at once.
    lazily = source if record is None else None
    return filled(labels, filling, run, store, chunk, source=lazily)


def _joined(
    cycles: _Cycles, cut: Cut, tolerance: float | None, segments: int | None, target: Target
) -> dict[str, Any]:
    """Cycle until the start of the segments is forgotten; give what attrs say of it.

    ``cut`` has the first spin-up, and ``segments`` is how many were asked for.
    """
    total, length, early = cut.total, cut.length, cut.spinup
    if tolerance is None:
        tolerance = TOLERANCE if cycles.members is None else ENSEMBLE_TOLERANCE
    while True:
        cut = Cut(total, length, early) if early + length < total else Cut(total, total, 0)
        difference = cycles.run(cut, target)
        if cut.segments == 1 or difference <= tolerance:
            break
        early = max(2 * early, 1)
        if segments is not None and early + length >= total:
            raise InputError(
                f"assimilate: with {segments} segments the start is not forgotten (difference "
                f"{difference:.3g} after {early // 2} steps, tolerance {tolerance:g}); use "
                "segments=1"
            )
    return {"segments": cut.segments, "spinup": cut.spinup, "segment_difference": difference}


def _chunk(length: int, total: int, size: int) -> int:
    """Give the rows of ``size`` values in a chunk of a store, by the length of a segment."""
    fitting = rows_at_once(size)
    return min(CHUNK_SEGMENTS * length, fitting) if length < total else fitting


def _labels(
    model: Model,
    scheme: Scheme,
    observations: xr.Dataset,
    times: np.ndarray,
    operator: Callable[[Any], Any] | None,
) -> xr.Dataset:
    """Give the coordinates and the attributes of an analysis."""
    by = (
        {} if operator is None else {"operator": described(operator, observations, model.variables)}
    )
    return xr.Dataset(
        coords={
            "time": ("time", times, observations["time"].attrs),
            "variable": list(model.variables),
            "observed": list(names(observations)),
        },
        attrs={
            "model": description(model, "model", exact=False),
            "scheme": description(scheme, "scheme", exact=False),
            **by,
            "daml_version": __version__,
        },
    )


class _Cycles:
    """A model and a scheme on a record, run in segments."""

    def __init__(self, model: Model, scheme: Scheme, record: Record, start: FirstGuess) -> None:
        self.model, self.record, self.start = model, record, start
        self.device = home(model)
        self.scheme = offered(scheme, record)
        self.kept = Kept(model, scheme, record, start.times)
        self.setting = record.setting(self.device)
        self.prepared = prepared(self.scheme, self.setting)
        self.members = self.kept.members
        self.first = first_states(model, record, start, scheme)

    def run(self, cut: Cut, target: Target) -> float:
        """Fill the target; give the difference where segments meet.

        It is the largest one, in standard deviations of the analysis. Ensembles never forget their
        start to rounding: theirs is the mean square, in units of the analysis's own variance.
        """
        with (
            side_by_side(self.model, cut, self.members or 1) as (groups, each),
            tqdm(
                total=cut.steps * len(groups),
                desc="assimilate",
                delay=2,
                disable=None,
                leave=False,
            ) as bar,
        ):
            seams = list(each(lambda group: self._run(cut, group, target, bar), groups))
        ends, spun, found = zip(*seams, strict=True)
        _, spread = joined(found)
        apart = np.abs(np.concatenate(ends)[:-1] - np.concatenate(spun)[1:])
        if self.members is not None and len(apart):
            own = target.mean_square("spread", cut)
            return float((np.mean(apart**2, axis=0) / own).mean())
        return float(np.max(apart / spread, initial=0.0))

    def _run(
        self, cut: Cut, group: np.ndarray, target: Target, bar: tqdm[Any]
    ) -> tuple[np.ndarray, np.ndarray, Moments]:
        """Run the segments of a group side by side, a block of time after the other.

        Give their last analyses, those at the end of their spin-ups, and the moments of all.
        """
        record, room = self.record, target.room(group, cut)
        size = len(self.model.variables)
        starts = np.maximum(group * cut.length - cut.spinup, 0)
        early = group * cut.length - starts
        ahead = np.arange(cut.steps)[:, None]
        noise, wanted = self.setting.noise, frozenset(self.kept.outputs)
        loaded: list[np.ndarray] = []

        def seen() -> Iterator[tuple[Observed, Run]]:
            for block in cut.blocks(group, size):
                steps = np.minimum(starts + ahead[block], cut.total - 1)
                values, pattern, _ = record.seen(steps)
                loaded[:] = steps, values, pattern
                moved = (put(part, self.device) for part in (values, pattern))
                ages = range(block.start, block.stop)
                for value, row, step, age in zip(*moved, steps, ages, strict=True):
                    yield Observed(value, row, noise), Run(step, group, age, wanted)

        spun = np.full((len(group), size), np.inf)
        with np.errstate(all="ignore"):
            x = put(self.first(starts), self.device)
            times = self.start.times[starts]
            if self.members is not None:
                times = np.repeat(times[:, None], self.members, axis=1)
            memory = self.model.start(x, times)
            pairs = cycle(self.model, self.scheme, self.prepared, x, memory, seen())
            for block in cut.blocks(group, size):
                found = []
                for _ in ahead[block]:
                    try:
                        found.append(self.kept.of_step(*next(pairs)))
                    except StepError as error:
                        times = self.start.times[loaded[0][len(found)]]
                        raise error.at(block.start + len(found), times) from error.__cause__
                    bar.update()
                parts = self.kept.block(found, *loaded)
                _sort(parts, early, block.start, cut.length, room)
                last = early - 1 - block.start
                inside = (last >= 0) & (last < len(loaded[0]))
                spun[inside] = parts["analysis"][last[inside], inside]
        nothing = np.zeros(spun.shape[1])
        ends, seen_moments = spun, (0, nothing, nothing)
        if cut.segments > 1:
            ends, seen_moments = room["analysis"][:, -1].copy(), moments(room["analysis"])
        target.close(group, cut, room)
        return ends, spun, seen_moments


def _sort(
    parts: dict[str, np.ndarray], early: np.ndarray, done: int, length: int, room: Room
) -> None:
    """Put a block (step, segment, width), ``done`` steps after the start, into its room.

    ``early`` says how many steps of spin-up each segment has.
    """
    for spinup in np.unique(early):
        members = np.flatnonzero(early == spinup)
        side = slice(members[0], members[-1] + 1)
        first = max(spinup - done, 0)
        stop = min(spinup + length - done, len(parts["analysis"]))
        if first < stop:
            place = slice(done + first - spinup, done + stop - spinup)
            for name, part in parts.items():
                room[name][side, place] = part[first:stop, side].swapaxes(0, 1)
