"""The cycle in time: assimilate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.arrays import fetch, home, put, stacked
from daml.errors import DamlError, InputError, StepError, first_line
from daml.labels.arguments import checked
from daml.labels.datasets import ANALYSED, check_dims, check_names, first_time, names, time_axis
from daml.labels.descriptions import description
from daml.observing.functions import described, seen_through
from daml.observing.records import GIVEN, Record, read
from daml.running.checks import check_finite, check_model, check_scheme, typical
from daml.running.first_guess import FirstGuess
from daml.running.moments import Moments, joined, moments
from daml.running.stepping import advance
from daml.running.targets import Room, Target
from daml.schemes.observing import EXPECTED
from daml.segments import Cut, rows_at_once, segment_length, side_by_side
from daml.stores.filling import filled

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

CHUNK_SEGMENTS = 32
"""Segments in a chunk on disk, of few variables: groups of segments end with a chunk then."""
SEEN = {name for name, (dims, _) in (ANALYSED | EXPECTED).items() if "observed" in dims}
"""Of what is observed: NaN where it is not."""


def cycle_steps(
    model: Model,
    scheme: Scheme,
    prepared: Memory,
    x: Array,
    memory: Memory,
    seen: Iterable[tuple[Array, Array]],
) -> Iterator[tuple[Array, ...]]:
    """Yield background and analysis (..., variable) of one time after the other.

    A pure function of arrays: with torch tensors gradients pass through it. ``x`` is the first
    background, ``prepared`` what the scheme started from, and ``seen`` gives for each time the
    values (..., observed) and their kind (...), as :class:`daml.protocols.Scheme` says. Where the
    scheme asks the model for B, what it expects follows: as ``daml.schemes.observing.EXPECTED``.
    """
    asks = getattr(scheme, "asks_model", False)
    analysis = None
    for values, kind in seen:
        if analysis is not None:
            x, memory = advance(model, analysis, memory)
        if asks:
            covariance = model.background_covariance(memory)  # type: ignore[attr-defined]
            prepared, analysis, *expected = scheme.update_with(  # type: ignore[attr-defined]
                x, values, kind, prepared, covariance
            )
            yield x, analysis, *expected
        else:
            analysis, prepared = _updated(scheme, x, values, kind, prepared)
            yield x, analysis


def _updated(
    scheme: Scheme, x: Array, values: Array, kind: Array, prepared: Memory
) -> tuple[Array, Memory]:
    """Give analysis and memory of a scheme; refuse what is no analysis."""
    name = type(scheme).__name__
    try:
        # A copy: a scheme that writes into its argument must not change the background.
        found = scheme.update(x.copy() if isinstance(x, np.ndarray) else x, values, kind, prepared)
        analysis, prepared = found
    except DamlError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: 'update' failed ({type(error).__name__}: {first_line(error)}); it must give "
            f"(analysis, memory) for backgrounds (..., variable), here of shape {tuple(x.shape)}"
        ) from error
    if type(analysis) is not type(x) or analysis.shape != x.shape:
        shape = tuple(getattr(analysis, "shape", ()))
        raise InputError(
            f"{name}: 'update' turned backgrounds of shape {tuple(x.shape)} into a "
            f"{type(analysis).__name__} of shape {shape}; give the analysis in the same kind and "
            "shape of array"
        )
    return analysis, prepared


@checked
def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float = 0.01,
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
    tolerance : float
        Largest difference between segments, in standard deviations of a variable's analysis.
    initial : xarray.Dataset, optional
        ``state`` (variable): the background at the first time. Unless given, the nearest values
        observed, and the model's climate for what is never observed.
    operator : callable, optional
        H as a function of states (..., variable) to what is observed (..., observed), linear or
        not, in place of the observations' own. ``ThreeDVar`` takes linear ones only.
    store : str or path, optional
        A new Zarr store that takes the result part by part, so that memory does not grow with
        the record; the observations may be larger than memory, too.

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row
        per model step; of a scheme that asks the model for B also the standard deviations that it
        expects, ``background_spread`` and ``innovation_spread``, and ``normalized_innovation``,
        whose variance is 1 where they are right. attrs say segments, spin-up and difference. With
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
    check_model(model, first_time(observations))
    check_scheme(scheme, model)
    variables = tuple(model.variables)
    unit = getattr(model, "time_unit", "s")
    times = time_axis(observations, "observation", model.dt, unit).grid()
    check_dims(observations, "observation", ("variable",))
    check_names(observations, "observation")
    total = len(times)
    length = segment_length(total) if segments is None else -(-total // segments)
    labels = _labels(model, scheme, observations, times, operator)
    observations, seen = seen_through(
        observations, operator, variables, typical(model), "assimilate"
    )

    def run(arrays: Mapping[str, Any], observations: xr.Dataset) -> dict[str, Any]:
        """Cycle until the start of the segments is forgotten; give what attrs say of it."""
        record = read(observations, variables, model.dt, unit, seen)
        cycle = _Cycle(model, scheme, record, FirstGuess(model, record, times, initial))
        early = spinup
        while True:
            cut = Cut(total, length, early) if early + length < total else Cut(total, total, 0)
            difference = cycle.run(cut, Target(arrays))
            if cut.segments == 1 or difference <= tolerance:
                break
            early = max(2 * early, 1)
            if segments is not None and early + length >= total:
                raise InputError(
                    f"assimilate: with {segments} segments the start is not forgotten (difference "
                    f"{difference:.3g} standard deviations after {early // 2} steps, tolerance "
                    f"{tolerance:g}); use segments=1"
                )
        return {
            "segments": cut.segments,
            "spinup": cut.spinup,
            "segment_difference": difference,
        }

    units = {"units": observations["observation"].attrs.get("units", "1")}
    observed = observations[[name for name in GIVEN if name in observations]]
    wanted = ANALYSED | (EXPECTED if getattr(scheme, "asks_model", False) else {})
    filling = {name: (dims, units | told) for name, (dims, told) in wanted.items()}
    chunk = _chunk(length, total, max(len(variables), labels.sizes["observed"]))
    return filled(labels, filling, run, store, chunk, source=observed)


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


class _Cycle:
    """A model and a scheme on a record, run in segments."""

    def __init__(self, model: Model, scheme: Scheme, record: Record, start: FirstGuess) -> None:
        self.model, self.scheme, self.record, self.start = model, scheme, record, start
        self.device = home(model)
        self.prepared = scheme.start(tuple(model.variables), record)

    def run(self, cut: Cut, target: Target) -> float:
        """Fill the target; give the largest difference where segments meet.

        It is counted in standard deviations of the analysis.
        """
        with (
            side_by_side(self.model, cut) as (groups, each),
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
        loaded: list[np.ndarray] = []

        def seen() -> Iterator[tuple[Array, Array]]:
            for block in cut.blocks(group, size):
                steps = np.minimum(starts + ahead[block], cut.total - 1)
                loaded[:] = steps, record.values(steps), record.kind[steps]
                yield from zip(*(put(part, self.device) for part in loaded[1:]), strict=True)

        spun = np.full((len(group), size), np.inf)
        with np.errstate(all="ignore"):
            x = put(self.start.state(starts), self.device)
            memory = self.model.start(x, self.start.times[starts])
            pairs = cycle_steps(self.model, self.scheme, self.prepared, x, memory, seen())
            for block in cut.blocks(group, size):
                found = []
                for _ in ahead[block]:
                    try:
                        found.append(next(pairs))
                    except StepError as error:
                        times = self.start.times[loaded[0][len(found)]]
                        raise error.at(block.start + len(found), times) from error.__cause__
                    bar.update()
                columns = (fetch(stacked(part)) for part in zip(*found, strict=True))
                background, analysis, *expected = columns
                steps, values, kind = loaded
                what = f"the cycle of {type(self.model).__name__}"
                check_finite(analysis, self.start.times[steps], self.model.variables, what)
                distance = values - record.operator.apply(background)
                parts = {"background": background, "analysis": analysis, "innovation": distance}
                parts |= dict(zip(EXPECTED, expected, strict=False))
                for name in SEEN & parts.keys():
                    parts[name] = np.where(record.kind_present[kind], parts[name], np.nan)
                _sort(parts, early, block.start, cut.length, room)
                last = early - 1 - block.start
                inside = (last >= 0) & (last < len(steps))
                spun[inside] = analysis[last[inside], inside]
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
