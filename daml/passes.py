"""A pass of the loop: a model, the analysis that it gives, and what held-out observations say."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import xarray as xr

from daml.errors import InputError
from daml.heldout import HeldOut
from daml.judging import SQUARES, judge
from daml.keeping import TrainingCheckpoint
from daml.labels import check_dims, names, time_axis
from daml.opening import loaded
from daml.protocols import Emulator, Model, Scheme
from daml.schemes import ThreeDVar
from daml.store import Store
from daml.stored import passes
from daml.tuning import tuned
from daml.verification import innovation_statistics

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
    """Mean squared held-out innovations (iteration, block, lead) of LSTM-0 and all after."""

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
            history = getattr(self.model, "history", None)
            if history is not None:
                kept[f"{self.group}/training"] = history
        return kept

    def told(self) -> dict[str, str]:
        """Say in a few words how good it is."""
        told = {}
        history = getattr(self.model, "history", None)
        if history is not None and len(history.get("loss", ())):
            told["loss"] = f"{float(history.loss[-1]):.4f}"
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

    @classmethod
    def of(
        cls, model: Model, observations: xr.Dataset, scheme: Scheme, fraction: float, way: str
    ) -> Assimilator:
        """Hold out a fraction of the record; none if it is 0."""
        unit = getattr(model, "time_unit", "s")
        steps = time_axis(observations, "observation", model.dt, unit).length
        return cls(observations, scheme, HeldOut(steps, fraction) if fraction else None, way)

    def first(self, model: Model) -> Pass:
        """Give the pass of the model that the loop starts from."""
        return self._made(-1, model, None)

    def after(self, before: Pass, model: Model) -> Pass:
        """Give the pass of an emulator that was trained on the one before."""
        made = self._made(before.iteration + 1, model, before.scheme)
        if made.judged is None:
            return made
        return replace(made, errors=_joined(before.errors, made.judged, made.iteration))

    def trained(self, emulator: Emulator, done: Pass, store: Store | None) -> Emulator:
        """Train an emulator on a pass that is done; with checkpoints, where it takes them."""
        number = done.iteration + 1
        if self.way == "analyses" or getattr(emulator, "fitted", None) is None:
            given = done.analysis if self.held_out is None else self.held_out.masked(done.analysis)
            emulator = emulator.fit(given, **_checkpoint(emulator.fit, store, number, "analyses"))
        if self.way == "analyses":
            return emulator
        train = emulator.fit_cycle  # type: ignore[attr-defined]
        fraction = 0.0 if self.held_out is None else self.held_out.fraction
        kept = _checkpoint(train, store, number, "cycle")
        return cast("Emulator", train(self.observations, done.scheme, held_out=fraction, **kept))

    def _made(self, iteration: int, model: Model, before: Scheme | None) -> Pass:
        scheme, analysis = tuned(
            self.scheme,
            model,
            self.observations,
            before=before if isinstance(before, ThreeDVar) else None,
            rows=None if self.held_out is None else self.held_out.judged,
        )
        judged = None
        if self.held_out is not None:
            judged = judge(model, scheme, analysis, self.observations, self.held_out)
        return Pass(iteration, model, analysis.load(), scheme, judged)


def _checkpoint(
    train: Callable[..., Any], store: Store | None, iteration: int, training: str
) -> dict[str, TrainingCheckpoint]:
    if store is None or "checkpoint" not in inspect.signature(train).parameters:
        return {}
    return {"checkpoint": TrainingCheckpoint(store, iteration, training)}


def _joined(errors: xr.DataArray | None, judged: xr.Dataset, iteration: int) -> xr.DataArray:
    """Give the held-out errors of all passes, those of one more at the end."""
    new = judged[SQUARES].expand_dims(iteration=[iteration])
    return new if errors is None else xr.concat((errors, new), "iteration")


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
        model = emulator.restored(loaded(tree, f"{last}/emulator", inherit=True))
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
    return Pass(len(groups) - 1, model, analysis, scheme, None, errors)
