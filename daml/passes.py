"""A pass of the loop: a model, the analysis that it gives, and what held-out observations say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.assimilation import assimilate
from daml.emulators.own import check_kept, history, trained
from daml.errors import InputError
from daml.heldout import CHOICE, HeldOut, gain, settled
from daml.innovations import Pairs, observed_pairs
from daml.judging import SQUARES, Judge
from daml.keeping import TrainingCheckpoint
from daml.labels import check_dims, names
from daml.opening import loaded
from daml.pairing import check_length
from daml.progress import Progress
from daml.protocols import Emulator, Model, Scheme
from daml.records import Record, read
from daml.schemes import ThreeDVar
from daml.store import Store
from daml.stored import passes
from daml.tuning import estimated
from daml.verification import innovation_statistics

ROUNDS = 3
"""Rounds in which the mean increment of a correction is found."""
TRAININGS = ("analyses", "cycle")
"""What an emulator is trained on: analyses, or the innovations of the cycle that it is part of."""


@dataclass(frozen=True)
class Pass:
    """One pass of a loop."""

    iteration: int
    """0 for LSTM-0; -1 for the imperfect model, which nothing was trained for."""
    model: Model
    analysis: xr.Dataset
    scheme: Scheme
    """With the B that gave the analysis."""
    judged: xr.Dataset | None = None
    """Scores on the held-out observations."""
    errors: xr.DataArray | None = None
    """Mean squared held-out innovations (iteration, origin, block, horizon), LSTM-0's first."""
    given: xr.Dataset | None = None
    """The analysis of the imperfect model, from which all models are judged."""
    judge: Judge | None = None

    @property
    def group(self) -> str:
        """Where it lives in an experiment."""
        return "imperfect" if self.iteration < 0 else f"iteration/{self.iteration:04d}"

    def datasets(self) -> dict[str, xr.Dataset]:
        """Give what is kept of the pass, by group."""
        kept = {self.group: self.analysis}
        scores = innovation_statistics(self.analysis)
        kept[f"{self.group}/scores"] = scores if self.judged is None else scores.merge(self.judged)
        if isinstance(self.scheme, ThreeDVar):
            told = {"long_name": "factor on the error covariance R", "units": "1"}
            found = xr.Dataset({"error_factor": ((), float(self.scheme.error_factor), told)})
            if not self.scheme.asks_model:  # which keeps what it knows of B
                variables = list(names(self.analysis))  # a B that is given may have more
                covariance = cast("xr.DataArray", self.scheme.background_covariance)
                covariance = covariance.sel(variable=variables, covariable=variables)
                found["background_covariance"] = covariance
            kept[f"{self.group}/scheme"] = found
        if self.iteration >= 0:
            kept[f"{self.group}/emulator"] = cast("Emulator", self.model).to_dataset()
            training = history(self.model)
            if training is not None:
                kept[f"{self.group}/training"] = training
        return kept

    def report(self, progress: Progress, scores: dict[str, str]) -> None:
        """Report that the pass is done."""
        if self.iteration >= 0:
            progress.advance(scores, f"LSTM-{self.iteration}")
            return
        found = (f"{name} {value}" for name, value in scores.items())
        progress.say(", ".join(["model given", *found]))

    def told(self) -> dict[str, str]:
        """Give its loss and its held-out error, formatted for a report."""
        told = {}
        training = history(self.model)
        loss = np.empty(0) if training is None else training.get("loss", np.empty(0))
        if loss.ndim == 1 and loss.size and loss.dtype.kind in "fiu":
            told["loss"] = f"{float(loss[-1]):.4f}"
        if self.judged is not None:
            told["held_out_rmse"] = f"{float(self.judged.held_out_rmse[0]):.4f}"
        return told


@dataclass(frozen=True)
class Assimilator:
    """Makes passes of models: the same observations, scheme and held-out blocks for all."""

    observations: xr.Dataset
    scheme: Scheme
    held_out: HeldOut | None
    way: str
    record: Record
    """The observations, read."""

    @classmethod
    def of(
        cls,
        model: Model,
        observations: xr.Dataset,
        scheme: Scheme,
        emulator: Emulator,
        fraction: float,
        way: str,
    ) -> Assimilator:
        """Hold out a fraction of the record, or none if it is 0.

        Raises
        ------
        InputError
            If the record is too short.
        """
        unit = getattr(model, "time_unit", "s")
        record = read(observations, tuple(model.variables), model.dt, unit)
        held_out = HeldOut(record.axis.length, fraction) if fraction else None
        check_length(model, scheme, emulator, observations, record, held_out, way)
        return cls(observations, scheme, held_out, way, record)

    @cached_property
    def _pairs(self) -> Pairs:
        """Covariance and number of pairs of the observations, which one reading gives."""
        return observed_pairs(self.observations)

    def _tuned(
        self,
        scheme: Scheme,
        model: Model,
        before: ThreeDVar | None = None,
        rows: np.ndarray | None = None,
    ) -> tuple[Scheme, xr.Dataset]:
        return estimated(scheme, model, self.observations, lambda: self._pairs, before, rows)

    def first(self, model: Model) -> Pass:
        """Give the pass of the model that the loop starts from."""
        scheme, analysis = self._tuned(self.scheme, model)
        analysis = analysis.load()
        made = self.resumed(Pass(-1, model, analysis, scheme, given=analysis), model)
        if made.judge is None:
            return made
        return replace(made, judged=made.judge.scores(model, scheme, analysis, analysis))

    def resumed(self, done: Pass, model: Model) -> Pass:
        """Give a pass with the judge of all that follow, which asks the model given."""
        if self.held_out is None or done.given is None:
            return done
        found = self._pairs[0], self.record, self.held_out, self.observations
        made = Judge.of(model, done.given, *found)
        return replace(done, judge=made)

    def after(self, before: Pass, model: Model) -> Pass:
        """Give the pass of an emulator that was trained on the one before."""
        known = before.scheme if isinstance(before.scheme, ThreeDVar) else None
        rows = None if self.held_out is None else self.held_out.judged
        scheme, analysis = self._tuned(self.scheme, model, known, rows)
        number, given, judge = before.iteration + 1, before.given, before.judge
        made = Pass(number, model, analysis.load(), scheme, given=given, judge=judge)
        if judge is None or given is None:
            return made
        judged = judge.scores(model, scheme, made.analysis, given)
        return replace(made, judged=judged, errors=_joined(before.errors, judged, number))

    def trained(self, emulator: Emulator, done: Pass, store: Store | None) -> Emulator:
        """Train an emulator on a pass that is done; with checkpoints, where it takes them."""
        number = done.iteration + 1
        if self.way == "analyses" or getattr(emulator, "fitted", None) is None:
            corrects = getattr(emulator, "base", None) is not None and hasattr(emulator, "begin")
            if corrects and getattr(emulator, "fitted", None) is None:
                emulator, done = self._begun(emulator, done)
            if self.way == "analyses" or not corrects:
                given, how = self._judged(emulator.fit, done)
                given = _ordered(given, emulator)
                kept = _checkpoint(emulator.fit, store, number, "analyses")
                emulator = trained(emulator, "fit", given, **how, **kept)
        if self.way == "cycle":
            how = {"held_out": 0.0 if self.held_out is None else self.held_out.fraction}
            train = emulator.fit_cycle  # type: ignore[attr-defined]
            how |= _checkpoint(train, store, number, "cycle")
            emulator = trained(emulator, "fit_cycle", self.observations, done.scheme, **how)
        check_kept(emulator, done.analysis, store)
        return emulator

    def _begun(self, emulator: Emulator, done: Pass) -> tuple[Emulator, Pass]:
        """Give a correction by the mean increment alone, and the pass of the model given with it.

        Analyses follow the model that made them, so that their increments show a part of its mean
        error only; a few rounds show nearly all of it.
        """
        fraction = 0.0 if self.held_out is None else self.held_out.fraction
        for _ in range(ROUNDS):
            analysis = _ordered(done.analysis, emulator)
            emulator = trained(emulator, "begin", analysis, held_out=fraction)
            known = done.scheme if isinstance(done.scheme, ThreeDVar) else None
            scheme, analysis = self._tuned(self.start, emulator, known)
            done = replace(done, analysis=analysis.load(), scheme=scheme)
        return emulator, done

    @property
    def start(self) -> Scheme:
        """The scheme as long as nothing is trained that knows a B of its own."""
        if isinstance(self.scheme, ThreeDVar) and self.scheme.asks_model:
            return replace(self.scheme, background_covariance="innovations")
        return self.scheme

    def _judged(self, fit: Callable[..., Any], done: Pass) -> tuple[xr.Dataset, dict[str, Any]]:
        """Give an analysis to train on, and how the training is to judge itself."""
        if self.held_out is None or done.judge is None:
            return done.analysis, {}
        known = _parameters(fit)
        if "held_out" not in known:
            return self.held_out.masked(done.analysis), {}
        how: dict[str, Any] = {"held_out": self.held_out.fraction}
        if "better" in known:
            how["better"] = lambda before, after: self._better(done, before, after)
        return done.analysis, how

    def _better(self, done: Pass, before: Model, after: Model) -> bool:
        """Whether forecasts from a model's own analyses, by the B known so far, are clearly better.

        The simpler model stays unless they are: what a network learns from few analyses is in part
        how to filter their noise, which hides that it is no better model.
        """
        judge = cast("Judge", done.judge)
        pair = (
            judge.errors(model, assimilate(model, self.observations, done.scheme))
            for model in (before, after)
        )
        return gain(*pair)[1] < CHOICE


def _ordered(analysis: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    """Give an analysis with its variables in the order of an emulator that names the same ones.

    One that is not fitted may name none: its base does then, if it has one.
    """
    there = names(analysis)
    for one in (emulator, getattr(emulator, "base", None)):
        try:
            wanted = tuple(one.variables)  # type: ignore[union-attr]
        except Exception:  # each says in its own way that it is not fitted yet
            continue
        return analysis.sel(variable=list(wanted)) if set(wanted) == set(there) else analysis
    return analysis


def _parameters(train: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(train).parameters
    except ValueError:  # compiled code that does not say
        return ()


def _checkpoint(
    train: Callable[..., Any], store: Store | None, iteration: int, training: str
) -> dict[str, TrainingCheckpoint]:
    if store is None or "checkpoint" not in _parameters(train):
        return {}
    return {"checkpoint": TrainingCheckpoint(store, iteration, training)}


def _joined(errors: xr.DataArray | None, judged: xr.Dataset, iteration: int) -> xr.DataArray:
    """Give the held-out errors of all passes, those of one more at the end."""
    new = judged[SQUARES].expand_dims(iteration=[iteration])
    new["origin"] = [str(name) for name in new["origin"].values]  # a store has texts of its own
    return new if errors is None else xr.concat((errors, new), "iteration")


def reported(title: str, passes: int, last: Pass | None, at_most: bool = False) -> Progress:
    """Start to report so many passes, of which ``last`` is the last one that is done."""
    done = 0 if last is None else last.iteration + 1
    progress = Progress(title, "pass", passes, done, at_most=at_most)
    begun = f"{done} already done" if last is not None else "assimilating with the model given"
    progress.say(f"{'at most ' * at_most}{passes} pass{'es' * (passes > 1)}, {begun}")
    return progress


def check_passes(done: Pass | None, passes: int | str, most: int) -> None:
    """Refuse to resume after more passes than a run with ``passes`` in one go makes.

    Parameters
    ----------
    done : Pass or None
        The last one that is done.
    passes : int or "auto"
    most : int
        Maximum number of passes.

    Raises
    ------
    InputError
        If there are more.
    """
    made = 0 if done is None else done.iteration + 1
    errors = done.errors if done is not None and passes == "auto" else None
    if errors is not None:
        most = next((n for n in range(1, made) if settled(errors[:n])), most)
    if made > most:
        raise InputError(
            f"resume: the store holds {made} passes, and passes={passes!r} ends after {most}; give "
            f"passes={made} or more, or another store"
        )


def given_to(observations: xr.Dataset, scheme: Scheme) -> dict[str, xr.Dataset]:
    """Give what a loop is given and writes as it is, by name.

    Raises
    ------
    InputError
        If the observations are none.
    """
    check_dims(observations, "observation", ("time", "variable"))
    covariance = getattr(scheme, "background_covariance", None)
    if not isinstance(covariance, xr.DataArray):
        return {"observations": observations}
    return {"observations": observations, "scheme": covariance.to_dataset(name="B")}


def restored(tree: xr.DataTree, model: Model, scheme: Scheme, emulator: Emulator) -> Pass | None:
    """Give the last pass of an experiment, to go on after it; None where there is none.

    Raises
    ------
    InputError
        If the emulator cannot be restored.
    """
    if "imperfect" not in tree.children:
        return None
    groups = passes(tree)
    last = groups[-1] if groups else "imperfect"
    if groups:
        if not hasattr(emulator, "restored"):
            raise InputError(
                f"Cycle: a {type(emulator).__name__} cannot be resumed: it has no 'restored'"
            )
        weights = loaded(tree, f"{last}/emulator", inherit=True)
        model = trained(emulator, "restored", weights)
    if isinstance(scheme, ThreeDVar):
        whole = (
            ("error_factor",) if scheme.asks_model else ("error_factor", "background_covariance")
        )
        kept = loaded(tree, f"{last}/scheme", whole, inherit=True)
        covariance = kept.get("background_covariance", scheme.background_covariance)
        factor = float(kept["error_factor"])
        scheme = replace(scheme, background_covariance=covariance, error_factor=factor)
    errors = None
    for iteration, group in enumerate(groups):
        scores = loaded(tree, f"{group}/scores")
        if SQUARES in scores:
            errors = _joined(errors, scores, iteration)
    analysis = loaded(tree, last, ("background", "analysis"))
    given = loaded(tree, "imperfect", ("background", "analysis")) if groups else analysis
    return Pass(len(groups) - 1, model, analysis, scheme, None, errors, given)
