"""A model and a scheme on a record, run in segments side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from daml.arrays import home, put
from daml.errors import StepError
from daml.observing.batches import picked, placed
from daml.observing.records import Record
from daml.pairing import certain, has_window, offered
from daml.protocols import Observed, Run
from daml.running.converging import unconverged
from daml.running.cycling.cycle import cycle
from daml.running.cycling.guards import REJECTED, counted, counted_within
from daml.running.cycling.steps import given_error
from daml.running.grouped import Places, all_of
from daml.running.kept import Kept, is_watched
from daml.running.lost import MOST, flags, signs
from daml.running.moments import Moments, joined, moments
from daml.running.starts.ensemble_start import EnsembleStart
from daml.running.starts.first_guess import FirstGuess
from daml.running.targets import Room, Target
from daml.schemes.calling import prepared
from daml.schemes.smoothing import Smoother
from daml.segments import Cut, consecutive, segment_length, side_by_side

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

FAR = 4.0
"""Mean squared difference, in units of the analysis's variance, from which on segments of an
ensemble are run again, and the most that one counts: two that are right differ by 2 if they have
nothing in common. One of them has found the observations too late, or has lost them at its end."""


Loaded = tuple[np.ndarray, Observed, Observed]
"""Steps of the record of a block, and what is observed: in NumPy, and where the cycle computes."""


SPINUP, TIMES = 100, 40
"""Steps of the first spin-up at least, and times with observations in it."""


def first_spinup(record: Record) -> int:
    """Give the model steps by which a segment starts early at first."""
    seen = np.asarray(record.kind_present.any(axis=1))[record.kind]
    return max(SPINUP, round(TIMES * len(seen) / int(seen.sum())))


class Joined(NamedTuple):
    """How well the segments of a record fit together."""

    difference: float
    """Where they meet: see `Cycles.run`."""
    lost: float | None
    """The part of the record in which the filter has lost the observations, if that is judged."""
    restarted: int
    """Segments that were started again."""
    unconverged: float
    """The part of the record in which iterations did not converge."""
    rejected: tuple[int, int]
    """How many values were left out as gross errors, and of how many."""


class _Segments(NamedTuple):
    """What segments that ran side by side leave."""

    ends: np.ndarray
    """The filter's last analyses (segment, variable)."""
    width: np.ndarray
    """Their spread (segment, variable)."""
    spun: np.ndarray
    """The filter's analyses at the end of their spin-ups (segment, variable)."""
    spread: Moments
    lost: np.ndarray
    """Steps (segment,) at which the filter has lost the observations."""
    unconverged: np.ndarray
    """Steps (segment,) at which iterations did not converge."""
    rejected: np.ndarray
    """Values (segment, 2) that were left out as gross errors, and all values."""


class Cycles:
    """A model and a scheme on a record, run in segments."""

    def __init__(
        self,
        model: Model,
        scheme: Scheme,
        record: Record,
        start: FirstGuess,
        keep_members: bool = False,
        lag: int = 0,
    ) -> None:
        self.pace = first_spinup(record) / SPINUP
        self.windowed = has_window(scheme)
        if self.windowed:  # the last window may end after the record
            record = record.ended()
        self.model, self.record, self.start = model, record, start
        self.device = home(model)
        self.scheme = offered(scheme, record)
        self.kept = Kept(model, scheme, record, start.times, keep_members, lag > 0)
        self.lag, self.keep_members = lag, keep_members
        self.error = given_error(self.scheme, model) if lag else None
        uncertain = EnsembleStart(model, record, start)
        setting = record.setting(self.device)
        self.setting = setting._replace(deviation=lambda: uncertain.deviation)
        self.prepared = prepared(self.scheme, self.setting)
        self.members = self.kept.members
        self.first = uncertain.states(scheme)
        self.is_watched = is_watched(scheme)

    def run(self, cut: Cut, target: Target) -> Joined:
        """Fill the target; give the difference where segments meet.

        It is the largest one, in standard deviations of the analysis. Ensembles never forget their
        start to rounding: theirs is the mean square, in units of the analysis's own variance. A
        segment that loses the observations, or is far from its neighbour, is run once more with
        twice the spin-up. One that stays lost is judged no further.
        """
        with (
            side_by_side(self.model, cut, self.members or 1, self.kept.size) as (groups, each),
            tqdm(
                total=cut.steps * len(groups),
                desc="assimilate",
                delay=2,
                disable=None,
                leave=False,
            ) as bar,
        ):
            what = "smooth" if self.lag else "assimilate"
            found = all_of(self._run, cut, groups, Places(target, bar, each, what))
            ends = np.concatenate([part.ends for part in found])
            width = np.concatenate([part.width for part in found])
            spun = np.concatenate([part.spun for part in found])
            lost = np.concatenate([part.lost for part in found])
            early_end = np.concatenate([part.unconverged for part in found])
            rejected = np.concatenate([part.rejected for part in found])
            spread = joined([part.spread for part in found])[1]
            again = lost > 0
            if self.is_watched:
                bad = self._apart(ends, spun, width, spread) >= FAR
                again[1:] |= bad
                again[:-1] |= bad
            # The record's head has no earlier start, and a filter that is lost for the most part
            # has no use for one.
            again[0] = False
            again &= lost.sum() <= MOST * cut.total
            longer = replace(cut, spinup=2 * cut.spinup)
            some = longer.groups(len(groups[0]), np.flatnonzero(again))
            runs = all_of(self._run, longer, some, Places(target, bar, map, what))
            for group, part in zip(some, runs, strict=True):
                ends[group], spun[group], lost[group] = part.ends, part.spun, part.lost
                width[group], early_end[group] = part.width, part.unconverged
                rejected[group] = part.rejected
        apart = self._apart(ends, spun, width, spread)
        sound = apart[(lost[:-1] == 0) & (lost[1:] == 0)]
        judge = np.max if self.members is None else np.mean
        share = lost.sum() / cut.total if self.is_watched else None
        difference = float(judge(sound)) if len(sound) else 0.0
        parts = int(again.sum()), early_end.sum() / cut.total, tuple(rejected.sum(axis=0).tolist())
        return Joined(difference, share, *parts)

    def _apart(
        self, ends: np.ndarray, spun: np.ndarray, width: np.ndarray, spread: np.ndarray
    ) -> np.ndarray:
        """Give the differences (segment - 1,) between the end of each segment and the next's start.

        Each is the largest over all variables; of ensembles the mean square.
        """
        apart = np.abs(ends[:-1] - spun[1:])
        if self.members is None or not len(apart):
            return np.asarray(np.max(apart / spread, axis=1))
        variance = np.mean(width[:-1] ** 2, axis=0)
        squares = np.mean(apart**2 / np.where(variance > 0, variance, 1.0), axis=1)
        return np.asarray(np.minimum(squares, FAR))

    def _begun(self, starts: np.ndarray) -> tuple[Array, Memory]:
        """Give the first states or ensembles at steps (segment,), and the model's memory there."""
        x = put(self.first(starts), self.device)
        times = self.start.times[starts]
        if self.members is not None:
            times = np.repeat(times[:, None], self.members, axis=1)
        return x, certain(self.model).start(x, times)

    def _seen(
        self, cut: Cut, group: np.ndarray, starts: np.ndarray, loaded: deque[Loaded]
    ) -> Iterator[tuple[Observed, Run]]:
        """Yield the observations and the position of each step; put what is loaded in a queue."""
        wanted = self.kept.wanted
        for block in cut.blocks(group, self.kept.size):
            ages = range(block.start, block.stop)
            ahead = starts + np.arange(block.start, block.stop)[:, None]
            steps = np.minimum(ahead, cut.total - 1)
            observed = self.record.seen(steps, consecutive(group))
            if self.windowed:
                observed = self.record.silenced(observed, ahead >= cut.total)
            moved = placed(observed, self.setting, self.device)
            loaded.append((steps, observed, moved))
            for row, (step, age) in enumerate(zip(steps, ages, strict=True)):
                yield picked(moved, row), Run(step, group, age, wanted, self.pace)

    def _run(self, cut: Cut, group: np.ndarray, room: Room, bar: tqdm[Any]) -> _Segments:
        """Run the segments of a group side by side, a block of time after the other."""
        starts = np.maximum(group * cut.length - cut.spinup, 0)
        early = group * cut.length - starts
        ahead = np.arange(cut.steps)[:, None]
        loaded: deque[Loaded] = deque()  # a window may reach into the next block
        watched: list[np.ndarray] = []
        converged: list[np.ndarray] = []
        gross: list[np.ndarray] = []

        spun, ends, width = np.full((3, len(group), len(self.model.variables)), np.inf)
        last = early + cut.length - 1
        at_ends = (spun, "analysis", early - 1), (ends, "analysis", last), (width, "spread", last)
        how = self.scheme, self.lag, self.error, self.keep_members
        smoother = Smoother(*how) if self.lag else None
        with np.errstate(all="ignore"):
            seen = self._seen(cut, group, starts, loaded)
            pairs = cycle(self.model, self.scheme, self.prepared, *self._begun(starts), seen)
            for block in cut.blocks(group, self.kept.size):
                found: list[dict[str, Array]] = []
                for _ in ahead[block]:
                    try:
                        pair = next(pairs)
                        now = picked(loaded[0][-1], len(found))
                        found.append(self.kept.of_step(*pair, now))
                    except StepError as error:
                        times = self.start.times[loaded[0][0][len(found)]]
                        raise error.at(block.start + len(found), times) from error.__cause__
                    bar.update()
                parts = self.kept.block(found, *loaded.popleft()[:2])
                if self.is_watched:
                    watched.append(signs(parts, self.record.variance))
                if "converged" in parts:
                    converged.append(parts["converged"])
                if REJECTED in parts:
                    gross.append(counted(parts))
                _pick(parts, block.start, at_ends)
                done = block.start
                if smoother is not None:
                    within = starts + ahead[block] < cut.total
                    done, parts = smoother.done, smoother.after(parts, within)
                _sort(parts, early, done, cut.length, room)
            if smoother is not None:
                done, parts = smoother.done, smoother.rest()
                _sort(parts, early, done, cut.length, room)
        nothing, lost, early_end = np.zeros(spun.shape[1]), *np.zeros((2, len(group)))
        rows = np.minimum(cut.length, cut.total - group * cut.length)
        if converged:
            early_end = unconverged(np.concatenate(converged), early, rows)
        if self.is_watched:
            piece = min(segment_length(cut.total), cut.length)
            is_lost = flags(np.concatenate(watched, axis=1), early, rows, piece)
            room["lost"][:, : is_lost.shape[1]] = is_lost
            lost = is_lost.sum(axis=1)
        rejected = counted_within(gross, early, rows)
        spread = moments(room["analysis"]) if cut.segments > 1 else (0, nothing, nothing)
        return _Segments(ends, width, spun, spread, lost, early_end, rejected)


def _pick(
    parts: dict[str, np.ndarray],
    done: int,
    picked: Iterable[tuple[np.ndarray, str, np.ndarray]],
) -> None:
    """Keep what a block has of some steps (segment,), by name, in arrays (segment, variable)."""
    for into, name, steps in picked:
        if name in parts:
            at = steps - done
            inside = (at >= 0) & (at < len(parts[name]))
            into[inside] = parts[name][at[inside], inside]


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
