"""The cycle in time: assimilate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.checks import check_finite, check_model, check_scheme
from daml.devices import fetch, home, put, stacked
from daml.errors import InputError
from daml.first_guess import FirstGuess
from daml.labels import describe
from daml.records import Record, read
from daml.schemes.variational import analysed
from daml.segments import ROWS, Cut, segment_length, side_by_side

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme


def cycle_steps(
    model: Model,
    scheme: Scheme,
    prepared: Memory,
    x: Array,
    memory: Memory,
    seen: Iterable[tuple[Array, Array]],
) -> Iterator[tuple[Array, Array]]:
    """Yield background and analysis (..., variable) of one time after the other.

    A pure function of arrays: with torch tensors gradients pass through it. ``x`` is the first
    background, ``prepared`` what the scheme started from, and ``seen`` gives for each time the
    values (..., observed) and their kind (...), as :class:`daml.protocols.Scheme` says.
    """
    analysis = None
    for values, kind in seen:
        if analysis is not None:
            x, memory = model.step(analysis, memory)
        analysis, prepared = scheme.update(x, values, kind, prepared)
        yield x, analysis


def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float = 0.01,
    initial: xr.Dataset | None = None,
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

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row
        per model step. attrs say segments, spin-up and difference.

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
    check_model(model)
    check_scheme(scheme)
    variables = tuple(model.variables)
    record = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    times = record.axis.grid()
    total = len(times)
    length = segment_length(total) if segments is None else -(-total // segments)
    start = FirstGuess(model, record, times, initial)
    while True:
        cut = Cut(total, length, spinup) if spinup + length < total else Cut(total, total, 0)
        cycle = _Cycle(model, scheme, record, start, cut)
        difference = cycle.run()
        if cut.segments == 1 or difference <= tolerance:
            break
        spinup = max(2 * spinup, 1)
        if segments is not None and spinup + length >= total:
            raise InputError(
                f"assimilate: with {segments} segments the start is not forgotten (difference "
                f"{difference:.3g} standard deviations after {spinup // 2} steps, tolerance "
                f"{tolerance:g}); use segments=1"
            )
    result = analysed(
        times,
        variables,
        cycle.background[:total],
        cycle.analysis[:total],
        record.observed,
        cycle.innovation[:total],
        observations["observation"].attrs,
    )
    result["time"].attrs = dict(observations["time"].attrs)
    result.attrs = {
        "model": str(describe(model)),
        "scheme": str(describe(scheme)),
        "daml_version": __version__,
        "segments": cut.segments,
        "spinup": cut.spinup,
        "segment_difference": difference,
    }
    return result


class _Cycle:
    """One run through a record; a row of its arrays belongs to one segment only.

    The arrays are as long as all segments together: the last may reach beyond the record.
    """

    def __init__(
        self, model: Model, scheme: Scheme, record: Record, start: FirstGuess, cut: Cut
    ) -> None:
        self.model, self.scheme, self.record, self.start = model, scheme, record, start
        self.cut = cut
        self.device = home(model)
        rows, size = cut.segments * cut.length, len(model.variables)
        self.background, self.analysis = np.empty((rows, size)), np.empty((rows, size))
        self.innovation = np.empty((rows, len(record.observed)))
        self.spun = np.full((cut.segments, size), np.inf)
        self.prepared = scheme.start(tuple(model.variables), record)

    def run(self) -> float:
        """Fill the arrays; give the largest difference where segments meet.

        It is counted in standard deviations of the analysis.
        """
        cut, model = self.cut, self.model
        with (
            side_by_side(model, cut) as (groups, each),
            tqdm(
                total=cut.steps * len(groups),
                desc="assimilate",
                delay=2,
                disable=None,
                leave=False,
            ) as bar,
        ):
            list(each(lambda group: self._run(group, bar), groups))
        analysis, times = self.analysis[: cut.total], self.start.times
        check_finite(analysis, times, model.variables, f"the cycle of {type(model).__name__}")
        ends = self.analysis[cut.length - 1 : (cut.segments - 1) * cut.length : cut.length]
        spread = _spread(analysis)
        apart = np.abs(ends - self.spun[1:]) / np.where(spread > 0, spread, 1.0)
        return float(np.max(apart, initial=0.0))

    def _run(self, group: np.ndarray, bar: tqdm[Any]) -> None:
        """Run the segments of a group side by side, a block of time after the other."""
        cut, record = self.cut, self.record
        starts = np.maximum(group * cut.length - cut.spinup, 0)
        ahead = np.arange(cut.steps)[:, None]
        loaded: list[np.ndarray] = []

        def seen() -> Iterator[tuple[Array, Array]]:
            for block in cut.blocks(group):
                steps = np.minimum(starts + ahead[block], cut.total - 1)
                loaded[:] = record.values(steps), record.kind[steps]
                yield from zip(*(put(part, self.device) for part in loaded), strict=True)

        with np.errstate(all="ignore"):
            x = put(self.start.state(starts), self.device)
            memory = self.model.start(x, self.start.times[starts])
            pairs = cycle_steps(self.model, self.scheme, self.prepared, x, memory, seen())
            for block in cut.blocks(group):
                found = []
                for _ in ahead[block]:
                    found.append(next(pairs))
                    bar.update()
                background, analysis = (fetch(stacked(p)) for p in zip(*found, strict=True))
                self._keep(group, starts, block.start, background, analysis, *loaded)

    def _keep(
        self,
        group: np.ndarray,
        starts: np.ndarray,
        done: int,
        background: np.ndarray,
        analysis: np.ndarray,
        values: np.ndarray,
        kind: np.ndarray,
    ) -> None:
        """Sort a block (step, segment, variable), ``done`` steps after the start, into rows."""
        cut, record = self.cut, self.record
        distance = values - record.operator.apply(background)
        innovation = np.where(record.kind_present[kind], distance, np.nan)
        parts = (
            (self.background, background),
            (self.analysis, analysis),
            (self.innovation, innovation),
        )
        early = group * cut.length - starts
        for spinup in np.unique(early):
            members = np.flatnonzero(early == spinup)
            side = slice(members[0], members[-1] + 1)
            first = max(spinup - done, 0)
            stop = min(spinup + cut.length - done, len(values))
            for rows, part in parts if first < stop else ():
                place = slice(done + first - spinup, done + stop - spinup)
                shaped = rows.reshape(cut.segments, cut.length, rows.shape[-1])
                shaped[group[side], place] = part[first:stop, side].swapaxes(0, 1)
            last = spinup - 1 - done
            if 0 <= last < len(values):
                self.spun[group[side]] = analysis[last, side]


def _spread(states: np.ndarray) -> np.ndarray:
    """Give the standard deviation (variable,) of states (time, variable), a window at a time."""
    mean = states.mean(axis=0)
    squares = [
        ((states[first : first + ROWS] - mean) ** 2).sum(axis=0)
        for first in range(0, len(states), ROWS)
    ]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / len(states)))
