"""A pass of the loop: a model, its analysis, and its scores on the held-out observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import xarray as xr

from daml.emulators.own import called, dataset_of, history, trained
from daml.errors import InputError
from daml.labels.datasets import check_dims, names
from daml.labels.trajectories import in_a_row
from daml.loop.choosing import settled
from daml.loop.judging import SQUARES, Judge
from daml.progress import Progress
from daml.protocols import Emulator, Model, Scheme
from daml.stores.attributes import passes
from daml.stores.opening import loaded
from daml.verification.scores import innovation_statistics

TRAININGS = ("analyses", "cycle")
"""What an emulator is trained on: analyses, or the innovations of its own cycle."""


@dataclass(frozen=True)
class Pass:
    """One pass of a loop."""

    iteration: int
    """0 for the first emulator, -1 for the imperfect model."""
    model: Model
    analysis: xr.Dataset
    scheme: Scheme
    """The scheme that gave the analysis, with nothing open."""
    judged: xr.Dataset | None = None
    """Scores on the held-out observations."""
    errors: xr.DataArray | None = None
    """Mean squared held-out innovations (iteration, origin, block, horizon) of all passes."""
    given: xr.Dataset | None = None
    """The analysis by the imperfect model, from which forecasts of all models are scored, too."""
    judge: Judge | None = None

    @property
    def group(self) -> str:
        """The group of the pass in an experiment."""
        return "imperfect" if self.iteration < 0 else f"iteration/{self.iteration:04d}"

    def datasets(self) -> dict[str, xr.Dataset]:
        """Give the Datasets to keep of the pass, by group."""
        kept = {self.group: self.analysis}
        scores = innovation_statistics(in_a_row(self.analysis))
        kept[f"{self.group}/scores"] = scores if self.judged is None else scores.merge(self.judged)
        if hasattr(self.scheme, "to_dataset"):
            kept[f"{self.group}/scheme"] = _kept(self.scheme, names(self.analysis))
        if self.iteration >= 0:
            kept[f"{self.group}/emulator"] = cast("Emulator", self.model).to_dataset()
            training = history(self.model)
            if training is not None:
                kept[f"{self.group}/training"] = training
        return kept

    def report(self, progress: Progress, scores: dict[str, str]) -> None:
        """Report that the pass is done."""
        if self.iteration >= 0:
            progress.advance(scores, f"{type(self.model).__name__}-{self.iteration}")
            return
        found = (f"{name} {value}" for name, value in scores.items())
        progress.say(", ".join(["model given", *found]))

    def summary(self) -> dict[str, str]:
        """Give the loss and the held-out error of the pass, formatted for a report."""
        summary = {}
        training = history(self.model)
        loss = np.empty(0) if training is None else training.get("loss", np.empty(0))
        if loss.ndim == 1 and loss.size and loss.dtype.kind in "fiu":
            summary["loss"] = f"{float(loss[-1]):.4f}"
        if self.judged is not None:
            summary["held_out_rmse"] = f"{float(self.judged.held_out_rmse[0]):.4f}"
        return summary


class Scored(NamedTuple):
    """The Datasets to keep of a pass, by group, and the scores to report."""

    datasets: dict[str, xr.Dataset]
    summary: dict[str, str]


def _kept(scheme: Scheme, variables: tuple[str, ...]) -> xr.Dataset:
    """Give the ``to_dataset`` of a scheme, for the variables of the model.

    Raises
    ------
    InputError
        If it is not a Dataset, or lacks some of the variables.
    """
    found = dataset_of(scheme)
    for dim in {"variable", "covariable"} & set(found.indexes):
        if not set(variables) <= set(found.indexes[dim]):
            raise InputError(
                f"{type(scheme).__name__}: 'to_dataset' gave {dim!r} without all variables of the "
                f"model {variables}; name each, or give the dimension another name"
            )
        found = found.sel({dim: list(variables)})  # a B that is given may have more
    return found


def joined(errors: xr.DataArray | None, judged: xr.Dataset, iteration: int) -> xr.DataArray:
    """Append the held-out errors of a pass to those of the passes before."""
    new = judged[SQUARES].expand_dims(iteration=[iteration])
    new["origin"] = [str(name) for name in new["origin"].values]  # zarr's own kind of text
    return new if errors is None else xr.concat((errors, new), "iteration")


def reported(title: str, passes: int, last: Pass | None, at_most: bool = False) -> Progress:
    """Start the report of a number of passes, of which ``last`` is the last one that is done."""
    done = 0 if last is None else last.iteration + 1
    progress = Progress(title, "pass", passes, done, at_most=at_most)
    begun = f"{done} already done" if last is not None else "assimilating with the model given"
    progress.say(f"{'at most ' * at_most}{passes} pass{'es' * (passes > 1)}, {begun}")
    return progress


def check_passes(done: Pass | None, passes: int | str, most: int) -> None:
    """Refuse to resume a run with more passes than a run with ``passes`` in one go makes.

    Parameters
    ----------
    done : Pass or None
        The last pass that was made.
    passes : int or "auto"
    most : int
        Maximum number of passes.

    Raises
    ------
    InputError
        If more were made.
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
    """Give the Datasets that a loop is given and writes unchanged, by name.

    Raises
    ------
    InputError
        If the Dataset of observations has no ``observation`` (time, variable).
    """
    check_dims(observations, "observation", ("time", "variable"))
    covariance = getattr(scheme, "background_covariance", None)
    if not isinstance(covariance, xr.DataArray):
        return {"observations": observations}
    return {"observations": observations, "scheme": covariance.to_dataset(name="B")}


def restored(tree: xr.DataTree, model: Model, scheme: Scheme, emulator: Emulator) -> Pass | None:
    """Give the last pass of an experiment that is resumed; None if it has none.

    Raises
    ------
    InputError
        If the emulator or the scheme cannot be restored.
    """
    if "imperfect" not in tree.children:
        return None
    groups = passes(tree)
    last = groups[-1] if groups else "imperfect"
    if groups:
        if not hasattr(emulator, "restored"):
            raise InputError(
                f"Loop: a {type(emulator).__name__} cannot be resumed: it has no 'restored'; write "
                "restored(self, dataset), which returns the fitted emulator"
            )
        weights = loaded(tree, f"{last}/emulator", inherit=True)
        model = trained(emulator, "restored", weights)
    if hasattr(scheme, "to_dataset"):
        if not hasattr(scheme, "restored"):
            raise InputError(
                f"Loop: a {type(scheme).__name__} cannot be resumed: it has 'to_dataset' but no "
                "'restored'; write restored(self, dataset), which returns the scheme"
            )
        scheme = called(scheme, "restored", loaded(tree, f"{last}/scheme", inherit=True))
    errors = None
    for iteration, group in enumerate(groups):
        scores = loaded(tree, f"{group}/scores")
        if SQUARES in scores:
            errors = joined(errors, scores, iteration)
    analysis = loaded(tree, last, ("background", "analysis"))
    given = loaded(tree, "imperfect", ("background", "analysis")) if groups else analysis
    return Pass(len(groups) - 1, model, analysis, scheme, None, errors, given)
