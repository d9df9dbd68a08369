"""Makes the passes of a loop: trains on one pass and assimilates with the trained emulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.emulators.own import check_kept, trained
from daml.labels.datasets import names
from daml.labels.forcings import Forcings
from daml.labels.space import StateSpace
from daml.loop.choosing import CHOICE, gain
from daml.loop.judging import Judge
from daml.loop.passes import TRAININGS, Pass, joined
from daml.loop.preconditions import check_length, parameters
from daml.models.forced import lent
from daml.observing.functions import Function, Through
from daml.observing.records import Readings
from daml.pairing import check_lag
from daml.protocols import CycleTrained, Emulator, Model, Scheme
from daml.running.assimilation import analysed
from daml.running.tuning import estimated
from daml.schemes.estimation import Pairs, observed_pairs
from daml.stores.keeper import TrainingCheckpoint
from daml.stores.store import Store
from daml.training.held_out import HeldOut

ROUNDS = 3
"""Rounds of assimilation in which the mean increment of a correction is estimated."""


@dataclass(frozen=True)
class Assimilator:
    """Makes the passes of a loop, all with the same observations, scheme and held-out blocks."""

    observations: xr.Dataset
    scheme: Scheme
    held_out: HeldOut | None
    way: str
    readings: Readings
    """The observations, read once."""
    smooths: bool = False
    """Whether an emulator is trained on smoothed analyses."""
    lag: int | None = None
    """Of the smoother."""
    forcings: xr.Dataset | None = None
    """What emulators are given to train with."""
    table: Forcings | None = None
    """The same, as models step with it."""

    @classmethod
    def of(
        cls,
        model: Model,
        observations: xr.Dataset,
        scheme: Scheme,
        emulator: Emulator,
        fraction: float,
        way: str,
        smooths: bool = False,
        lag: int | None = None,
        function: Through | None = None,
        forcings: xr.Dataset | None = None,
        table: Forcings | None = None,
    ) -> Assimilator:
        """Hold out a fraction of the record, or none if it is 0.

        ``function`` is H, of the variables of ``model``, where that is not a matrix.

        Raises
        ------
        InputError
            If the record is too short.
        """
        variables = tuple(model.variables)
        readings = Readings(observations, StateSpace.of(model), function, variables)
        record = readings.of(model)
        axis, rows = record.axis, readings.observations
        held_out = HeldOut(axis.length, fraction, axis.many) if fraction else None
        check_length(model, scheme, emulator, rows, record, held_out, way)
        if smooths:
            check_lag(lag, axis.own, scheme, "improve: targets='smoothed'")
        how = smooths, lag, forcings, table
        return cls(observations, scheme, held_out, way, readings, *how)

    @cached_property
    def _pairs(self) -> Pairs:
        """Covariance and number of pairs of the observations, computed once."""
        return observed_pairs(self.readings.observations)

    def _analysed(self, model: Model, scheme: Scheme) -> xr.Dataset:
        return analysed(lent(model, self.table), self.readings, scheme)

    def _targets(self, done: Pass) -> xr.Dataset:
        """Give the analysis of a pass to train on: that of the scheme, or the smoothed one."""
        if not self.smooths:
            return done.analysis
        driven, segments = lent(done.model, self.table), 1 if self.lag is None else None
        how: dict[str, Any] = {"segments": segments, "lag": self.lag}
        return analysed(driven, self.readings, done.scheme, **how).load()

    def _tuned(
        self,
        scheme: Scheme,
        model: Model,
        before: Scheme | None = None,
        rows: np.ndarray | None = None,
    ) -> tuple[Scheme, xr.Dataset]:
        driven = lent(model, self.table)
        return estimated(scheme, driven, self.readings, lambda: self._pairs, before, rows)

    def first(self, model: Model) -> Pass:
        """Give the first pass, that of the model given."""
        scheme, analysis = self._tuned(self.scheme, model)
        analysis = analysis.load()
        made = self.resumed(Pass(-1, model, analysis, scheme, given=analysis), model)
        if made.judge is None:
            return made
        driven = lent(model, self.table)
        return replace(made, judged=made.judge.scores(driven, analysis, analysis))

    def resumed(self, done: Pass, model: Model) -> Pass:
        """Give a pass with the judge for all later passes, which is made from the model given."""
        if self.held_out is None or done.given is None:
            return done
        record = self.readings.of(model)
        spread = record.variance if record.changes else self._pairs[0].diagonal()
        found = spread, record, self.held_out, self.readings
        made = Judge.of(lent(model, self.table), done.given, *found)
        return replace(done, judge=made)

    def after(self, before: Pass, model: Model) -> Pass:
        """Give the pass of an emulator that was trained on the pass before."""
        rows = None if self.held_out is None else self.held_out.judged
        scheme, analysis = self._tuned(self.scheme, model, before.scheme, rows)
        number, given, judge = before.iteration + 1, before.given, before.judge
        made = Pass(number, model, analysis.load(), scheme, given=given, judge=judge)
        if judge is None or given is None:
            return made
        judged = judge.scores(lent(model, self.table), made.analysis, given)
        return replace(made, judged=judged, errors=joined(before.errors, judged, number))

    def trained(self, emulator: Emulator, done: Pass, store: Store | None) -> Emulator:
        """Train an emulator on a pass that is done; with checkpoints if it takes them."""
        number = done.iteration + 1
        if self.way == "analyses" or getattr(emulator, "fitted", None) is None:
            once = "analyses" not in getattr(emulator, "trainings", TRAININGS)
            corrects = hasattr(emulator, "begin")
            corrects &= once or getattr(emulator, "base", None) is not None
            if corrects and getattr(emulator, "fitted", None) is None:
                emulator, done = self._begun(emulator, done, 1 if once else ROUNDS)
            if self.way == "analyses" or not corrects:
                given, how = self._judged(emulator.fit, done)
                given = _ordered(given, emulator)
                kept = _checkpoint(emulator.fit, store, number, "analyses")
                kept |= self._further(emulator.fit)
                emulator = trained(emulator, "fit", given, **how, **kept)
        if self.way == "cycle":
            how = {"held_out": 0.0 if self.held_out is None else self.held_out.fraction}
            train = cast("CycleTrained", emulator).fit_cycle
            if self.readings.function is not None:
                how["operator"] = cast("Function", self.readings.of(emulator).operator).call
            how |= _checkpoint(train, store, number, "cycle") | self._further(train)
            emulator = trained(emulator, "fit_cycle", self.observations, done.scheme, **how)
        check_kept(emulator, done.analysis, store)
        return emulator

    def _begun(self, emulator: Emulator, done: Pass, rounds: int) -> tuple[Emulator, Pass]:
        """Give the emulator that adds the mean increment alone, and the pass with its analyses.

        Analyses follow the model that made them, so that their increments show only a part of its
        mean error; a few rounds show nearly all of it. One round gives the scaling alone, and needs
        no analysis afterwards.
        """
        fraction = 0.0 if self.held_out is None else self.held_out.fraction
        for _ in range(rounds):
            analysis = _ordered(self._targets(done), emulator)
            further = self._further(cast("Any", emulator).begin)
            emulator = trained(emulator, "begin", analysis, held_out=fraction, **further)
            if rounds == 1:
                break
            scheme, analysis = self._tuned(self.scheme, emulator, done.scheme)
            done = replace(done, analysis=analysis.load(), scheme=scheme)
        return emulator, done

    def _further(self, train: Callable[..., Any]) -> dict[str, Any]:
        """Give the forcings to a training that takes them."""
        takes = self.forcings is not None and "forcings" in parameters(train)
        return {"forcings": self.forcings} if takes else {}

    def _judged(self, fit: Callable[..., Any], done: Pass) -> tuple[xr.Dataset, dict[str, Any]]:
        """Give the analysis to train on, and the arguments by which the training scores itself."""
        analysis = self._targets(done)
        if self.held_out is None or done.judge is None:
            return analysis, {}
        known = parameters(fit)
        if "held_out" not in known:
            return self.held_out.masked(analysis), {}
        how: dict[str, Any] = {"held_out": self.held_out.fraction}
        if "better" in known:
            how["better"] = lambda before, after: self._better(done, before, after)
        return analysis, how

    def _better(self, done: Pass, before: Model, after: Model) -> bool:
        """Whether a model's forecasts from its own analyses are clearly better than another's.

        Both assimilate with the scheme of the pass that is done. Unless they are better, the
        simpler model stays: from few analyses a network learns in part how to filter their noise,
        which hides that it is not the better model.
        """
        judge = cast("Judge", done.judge)
        pair = (
            judge.errors(lent(model, self.table), self._analysed(model, done.scheme))
            for model in (before, after)
        )
        return gain(*pair)[1] < CHOICE


def _ordered(analysis: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    """Give an analysis with its variables in the order of an emulator with the same names.

    An emulator that is not fitted may have no names; those of its base are used then, if it has
    one.
    """
    there = names(analysis)
    for one in (emulator, getattr(emulator, "base", None)):
        try:
            wanted = tuple(one.variables)  # type: ignore[union-attr]
        except Exception:  # not fitted yet, which each class reports in its own way
            continue
        turned = wanted != there and set(wanted) == set(there)
        return analysis.sel(variable=list(wanted)) if turned else analysis
    return analysis


def _checkpoint(
    train: Callable[..., Any], store: Store | None, iteration: int, training: str
) -> dict[str, Any]:
    if store is None or "checkpoint" not in parameters(train):
        return {}
    return {"checkpoint": TrainingCheckpoint(store, iteration, training)}
