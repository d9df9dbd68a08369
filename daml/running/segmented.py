"""A model and a scheme on a record, run in segments side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from tqdm.auto import tqdm

from daml.arrays import home, put
from daml.errors import StepError
from daml.observing.batches import picked, placed
from daml.observing.records import Record
from daml.pairing import certain, has_window, offered
from daml.protocols import Observed, Run, Update
from daml.running.cycling.cycle import cycle
from daml.running.cycling.ending import NO_ENDING, Ending
from daml.running.cycling.steps import given_error
from daml.running.cycling.watching import Seen, Watching
from daml.running.grouped import Places, all_of
from daml.running.kept import Kept, is_watched
from daml.running.lost import JUDGED, MOST, judged, known, pooled
from daml.running.moments import FAR, Moments, apart, joined, moments
from daml.running.onward.ends import End, taken
from daml.running.onward.going_on import GoingOn
from daml.running.onward.placing import Placing
from daml.running.onward.resuming import resumed
from daml.running.starts.early import SPINUP, first_spinup
from daml.running.starts.ensemble_start import EnsembleStart
from daml.running.starts.first_guess import FirstGuess
from daml.running.targets import Room, Target, pick, sort
from daml.schemes.calling import prepared
from daml.schemes.smoothing import Smoother
from daml.segments import Cut, consecutive, side_by_side

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

Loaded = tuple[np.ndarray, Observed, Observed]
"""Steps of the record of a block, and what is observed: in NumPy, and where the cycle computes."""


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
    distance: tuple[float, int]
    """Sum and number of the steps' :func:`~daml.running.lost.distances`."""


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
    seen: Seen
    end: End | None
    """Where the record ends, of the group that comes there."""


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
        going: GoingOn | None = None,
        spread: np.ndarray | None = None,
    ) -> None:
        shift = scheme.shift if has_window(scheme) else None
        self.going, self.end = going, None if going is None else going.end
        self.places = Placing(shift) if going is None else going.places(shift)
        self.pace = first_spinup(record) / SPINUP if going is None else going.pace
        self.windowed = has_window(scheme)
        if self.windowed:  # the last window may end after the record
            record = record.ended()
        self.model, self.record, self.start = model, record, start
        self.device = home(model)
        self.scheme = offered(scheme, record)
        self.kept = Kept(model, scheme, record, start.times, keep_members, lag > 0)
        self.lag, self.keep_members = lag, keep_members
        self.error = given_error(self.scheme, model) if lag else None
        given, self.before = (going.deviation, going.watched) if going else (None, None)
        self.uncertain = EnsembleStart(model, record, start, spread, given)
        setting = record.setting(self.device)
        self.setting = setting._replace(deviation=lambda: self.uncertain.deviation)
        self.prepared = prepared(self.scheme, self.setting)
        self.members = self.kept.members
        self.first = self.uncertain.states(scheme)
        self.is_watched = is_watched(scheme)
        self.counts = pooled(record, self.before)

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
            wide, groups = len(groups[0]), self.places.groups(groups)
            what = "smooth" if self.lag else "assimilate"
            found = all_of(self._run, cut, groups, Places(target, bar, each, what))
            ends = np.concatenate([part.ends for part in found])
            width = np.concatenate([part.width for part in found])
            spun = np.concatenate([part.spun for part in found])
            lost = np.concatenate([part.lost for part in found])
            seen = Seen(*map(np.concatenate, zip(*[part.seen for part in found], strict=True)))
            spread = joined([part.spread for part in found])[1]
            again = lost > 0
            if self.is_watched:
                bad = apart(ends, spun, width, spread, self.members is not None) >= FAR
                again[1:] |= bad
                again[:-1] |= bad
            # The record's head has no earlier start, and a filter that is lost for the most part
            # has no use for one.
            again[0] = False
            again &= lost.sum() <= MOST * cut.total
            longer = replace(cut, spinup=2 * cut.spinup)
            some = longer.groups(wide, np.flatnonzero(again))
            runs = all_of(self._run, longer, some, Places(target, bar, map, what))
            self.end = next((p.end for p in (*runs[::-1], *found[::-1]) if p.end), self.end)
            for group, part in zip(some, runs, strict=True):
                ends[group], spun[group], lost[group] = part.ends, part.spun, part.lost
                width[group] = part.width
                for all_of_it, own in zip(seen, part.seen, strict=True):
                    all_of_it[group] = own
        between = apart(ends, spun, width, spread, self.members is not None)
        sound = between[(lost[:-1] == 0) & (lost[1:] == 0)]
        judge = np.max if self.members is None else np.mean
        share = lost.sum() / cut.total if self.is_watched else None
        difference = float(judge(sound)) if len(sound) else 0.0
        rejected = tuple(seen.rejected.sum(axis=0).tolist())
        parts = int(again.sum()), seen.unconverged.sum() / cut.total, rejected
        squares, steps = seen.distance.sum(axis=0)
        return Joined(difference, share, *parts, (float(squares), int(steps)))

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
        stop = self.places.skip + cut.total
        for block in cut.blocks(group, self.kept.size):
            places = range(block.start, block.stop)
            ahead = starts + np.arange(block.start, block.stop)[:, None]
            steps = np.minimum(ahead, stop - 1)
            observed = self.record.seen(steps, consecutive(group))
            if self.windowed:
                observed = self.record.silenced(observed, ahead >= stop)
            moved = placed(observed, self.setting, self.device)
            loaded.append((steps, observed, moved))
            for row, (step, done) in enumerate(zip(steps, places, strict=True)):
                yield picked(moved, row), self._at(group, step, done)

    def _at(self, group: np.ndarray, steps: np.ndarray, done: int) -> Run:
        """Give the position of segments at steps (segment,) of the record, after some of theirs."""
        where = steps + self.places.origin, group, self.places.aged(group, done)
        return Run(*where, self.kept.wanted, self.pace)

    def _cycle(
        self, group: np.ndarray, starts: np.ndarray, seen: Iterable[Any], ending: Ending
    ) -> Iterator[tuple[Array, Update]]:
        """Give the cycle of the segments of a group."""
        how = self.model, self.scheme
        if self.going is None or not self.places.is_head(group):
            return cycle(*how, self.prepared, *self._begun(starts), seen, ending=ending)
        before = []
        for step in np.arange(self.places.begin)[:, None]:
            observed = placed(self.record.seen(step), self.setting, self.device)
            before.append((observed, self._at(group, step, int(step[0]) - self.places.begin)))
        how_far = self.going, self.model, self.prepared, before, self.device
        x, memory, known, past = resumed(*how_far)
        return cycle(*how, known, x, memory, seen, Update(x), past, ending)

    def _ending(self, cut: Cut, group: np.ndarray, starts: np.ndarray) -> Ending:
        """Give what takes where the cycle stands at the record's end, if a group comes there."""
        if self.lag or group[-1] + 1 < cut.segments:
            return NO_ENDING
        done = self.places.skip + cut.total - 1 - int(starts[-1])
        age = self.places.aged(group, self.places.last(group, done))
        about = self.members, self.prepared, type(self.scheme).__name__
        return Ending(age, lambda stand: taken(stand, *about))

    def _ended(self, cut: Cut, group: np.ndarray, starts: np.ndarray, ending: Ending) -> End:
        """Give the end of the record when its last segments have run."""
        places, stop = self.places, self.places.skip + cut.total
        found, age = cast("End", ending.taken), ending.age
        done = age - places.aged(group, 0) + int(starts[-1])
        if self.going is not None and ending.taken is None:  # the window is not yet whole
            found, age, done = self.going.end, self.places.age - 1, places.begin - 1
        facts: dict[str, Any] = {"step": places.origin + stop - 1}
        if ending.taken is not None:
            facts["state_time"] = self.start.times[done - found.window]
        facts |= {} if self.uncertain.known is None else {"deviation": self.uncertain.known}
        facts |= {"counts": self.counts, "signs": self.signs} if self.is_watched else {}
        rows = np.arange(done + 1 - found.window if self.windowed else stop, stop)
        return found.at((age, self.pace), facts, self.record, self.start.times[:stop], rows)

    def _lost(
        self, cut: Cut, group: np.ndarray, found: np.ndarray, early: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Give 1 where segments are lost, otherwise 0 (segment, step), of the signs of all."""
        before = self.before if self.places.is_head(group) else None
        young = before is not None and self.places.aged(group, cut.total) < JUDGED
        is_lost, last = judged(found, early, rows, cut, before)
        if group[-1] + 1 == cut.segments:
            self.signs = last
        return 0 * is_lost if young else is_lost  # a few steps since the first start say nothing

    def _run(self, cut: Cut, group: np.ndarray, room: Room, bar: tqdm[Any]) -> _Segments:
        """Run the segments of a group side by side, a block of time after the other."""
        cut, starts = self.places.of(cut, group)
        early = self.places.skip + group * cut.length - starts
        ahead = np.arange(cut.steps)[:, None]
        loaded: deque[Loaded] = deque()  # a window may reach into the next block
        watching = Watching(known(self.counts), self.is_watched)
        spun, ends, width = np.full((3, len(group), len(self.model.variables)), np.inf)
        last = early + cut.length - 1
        at_ends = (spun, "analysis", early - 1), (ends, "analysis", last), (width, "spread", last)
        how = self.scheme, self.lag, self.error, self.keep_members
        smoother = Smoother(*how) if self.lag else None
        with np.errstate(all="ignore"):
            seen = self._seen(cut, group, starts, loaded)
            ending = self._ending(cut, group, starts)
            pairs = self._cycle(group, starts, seen, ending)
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
                watching.add(parts)
                pick(parts, block.start, at_ends)
                done = block.start
                if smoother is not None:
                    within = starts + ahead[block] < cut.total
                    done, parts = smoother.done, smoother.after(parts, within)
                sort(parts, early, done, cut.length, room)
            if smoother is not None:
                done, parts = smoother.done, smoother.rest()
                sort(parts, early, done, cut.length, room)
        nothing, lost = np.zeros(spun.shape[1]), np.zeros(len(group))
        rows = np.minimum(cut.length, cut.total - group * cut.length)
        if self.is_watched:
            is_lost = self._lost(cut, group, watching.signs(), early, rows)
            room["lost"][:, : is_lost.shape[1]] = is_lost
            lost = is_lost.sum(axis=1)
        spread = moments(room["analysis"]) if cut.segments > 1 else (0, nothing, nothing)
        end = None if ending is NO_ENDING else self._ended(cut, group, starts, ending)
        return _Segments(ends, width, spun, spread, lost, watching.within(early, rows), end)
