"""The experiment of Goodliff and Miyoshi (2025): a twin experiment, scored pass by pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import xarray as xr

from daml import verification
from daml.covariances.dense import climatological
from daml.emulators import LSTM
from daml.errors import InputError
from daml.experiments.judged_twin import Twin
from daml.labels.ranges import number, whole
from daml.loop.loop import Loop
from daml.loop.passes import Pass, Scored
from daml.models import CoupledLorenz63, Lorenz63, Lorenz96
from daml.progress import Progress
from daml.protocols import Model, Scheme
from daml.running.assimilation import assimilate
from daml.running.forecasting import simulate
from daml.schemes import WAYS, ThreeDVar
from daml.stores.keeper import Keeper

WHOLE = ("steps", "passes", "epochs")
OPTIONAL = ("cycle_epochs", "window")
OBSERVED = ("x0", "x1", "x2")
SPINUP = 2000
SENSITIVITY = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, float("inf"))


class System(NamedTuple):
    """What a twin experiment is about.

    Attributes
    ----------
    imperfect, perfect : Model
        The model to improve, and the one that the truth is from.
    observed : tuple of str
        Variables that are observed, and scored.
    edges : tuple
        Two of them, with the edges of the bins of error maps.
    """

    imperfect: Model
    perfect: Model
    observed: tuple[str, ...]
    edges: tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]


RING = np.linspace(-15.0, 15.0, 31)
SYSTEMS = {
    "lorenz63": System(
        Lorenz63(),
        CoupledLorenz63(),
        OBSERVED,
        (("x0", np.linspace(-20.0, 20.0, 41)), ("x2", np.linspace(0.0, 50.0, 51))),
    ),
    "lorenz96": System(
        Lorenz96(forcing=7.6), Lorenz96(), Lorenz96().variables, (("x00", RING), ("x01", RING))
    ),
}
"""The experiment of the paper, and a ring whose model has a wrong forcing."""


@dataclass(frozen=True)
class Preset:
    """How much of the experiment is run.

    Attributes
    ----------
    steps : int
        Length of the training record and of the test record, in dt.
    passes, epochs, cycle_epochs, warm_start
        Of the loop and of each training.
    skip : int
        Steps at a record's head that the scores leave out.
    max_variance : float
        Largest variance of the climatological B.
    background : {"climatological", "innovations", "model"}
        Which B: the paper's, the same for all passes; one that is estimated anew in each, for
        which a tenth of the record is held out of the training; or what the LSTM predicts, which
        is trained through the cycle then.
    correction : bool
        Whether the LSTM corrects the imperfect model's step, or predicts the increment over the
        last state, as in the paper.
    window : int, optional
        Number of last states that the LSTM sees, instead of carrying its memory.

    Raises
    ------
    InputError
        If one is out of range.
    """

    steps: int = 100_000
    passes: int = 30
    epochs: int = 16
    cycle_epochs: int | None = None
    warm_start: bool = True
    skip: int = 1000
    max_variance: float = 2.0
    background: str = "climatological"
    correction: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        plain: dict[str, object] = {n: whole(getattr(self, n), f"{n!r}") for n in WHOLE}
        given = (n for n in OPTIONAL if getattr(self, n) is not None)
        plain |= {n: whole(getattr(self, n), f"{n!r}") for n in given}
        plain["skip"] = whole(self.skip, "'skip'", least=0, also=", less than steps")
        if self.skip >= self.steps:
            raise InputError(f"'skip' is {self.skip}; give 0 or more, and less than 'steps'")
        needed = "a variance > 0"
        plain["max_variance"] = number(self.max_variance, "'max_variance'", needed, above=0)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.background not in WAYS:
            raise InputError(f"'background' is {self.background!r}; give one of {WAYS}")


class Experiment(Twin):
    """Truth, observations and covariances of a seed, and how a model scores on them.

    ``scheme`` assimilates in place of 3DVar with the preset's B.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        device: str,
        settings: Mapping[str, Any] | None = None,
        *,
        scheme: Scheme | None = None,
        system: str = "lorenz63",
    ) -> None:
        self.preset, self.given_scheme = preset, scheme
        steps, system_of = preset.steps, SYSTEMS[system]
        # The paper's loop is measured with one rate for all passes.
        decay = {"rate_decay": 1.0} if preset.background == "climatological" else {}
        settings = decay | dict(settings or {})
        base = system_of.imperfect if preset.correction else None
        if preset.background == "model":
            settings["covariance"] = "predicted"
        settings |= {n: getattr(preset, n) for n in ("epochs", "cycle_epochs", "window")}
        self.emulator = LSTM(base=base, device=device, seed=seed, **settings)
        random = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
        super().__init__(
            *(system_of.imperfect, system_of.perfect, system_of.observed),
            steps=(steps, steps),
            spinup=SPINUP,
            skip=preset.skip,
            random=random[:4],
        )
        self.edges = system_of.edges
        self.keeps_chi_square = scheme is not None
        self.climate = {
            case: simulate(model, steps=steps, spinup=SPINUP, seed=generator)
            for case, model, generator in (
                ("imperfect", self.imperfect, random[4]),
                ("perfect", self.perfect, random[5]),
            )
        }

    def scheme(self, case: str, max_variance: float) -> ThreeDVar:
        """Give 3DVar with the scaled climatology of the imperfect or the perfect model."""
        largest = None if np.isinf(max_variance) else max_variance
        return ThreeDVar(climatological(self.climate[case], max_variance=largest))

    def run(self, keep: Keeper, sensitivity: bool = True) -> xr.DataTree:
        """Run and score all passes that are left; keep each as it is done.

        Without ``sensitivity`` the models are not scored for other sizes of B.
        """
        passes = self.preset.passes
        background = self.preset.background
        scheme: Scheme = ThreeDVar(background)
        if self.given_scheme is not None:
            scheme = self.given_scheme
        elif background == "climatological":
            scheme = self.scheme("imperfect", self.preset.max_variance)
        loop = Loop(
            self.imperfect,
            scheme,
            self.emulator,
            passes,
            self.preset.warm_start,
            held_out=0.1 if getattr(scheme, "open", ()) else 0.0,
            training="cycle" if background == "model" else "analyses",
        )
        reference: xr.DataArray | None = None
        if keep.begun is not None and "imperfect" in keep.begun.children:
            reference = cast("xr.DataArray", keep.begun["imperfect/scores/mfe"]).load()

        def scored(done: Pass, seconds: float, progress: Progress) -> Scored:
            nonlocal reference
            scores = self.score(done, reference)
            attrs = {"long_name": "time that the pass took, without its scores", "units": "s"}
            scores["seconds"] = ((), seconds, attrs)
            kept = done.datasets()
            found = kept[f"{done.group}/scores"]
            kept[f"{done.group}/scores"] = found.merge(scores, compat="no_conflicts")
            if reference is None:
                progress.say("scoring the perfect model and other sizes of B")
                reference = scores["mfe"]
                kept |= self.given() | {"perfect/scores": self.perfect_scores()}
                kept |= {"sensitivity": self.sensitivity()} if sensitivity else {}
            return Scored(kept, _summary(done, scores))

        loop.go_through(self.observations["train"], keep, "paper", scored)
        return keep.tree()

    def given(self) -> dict[str, xr.Dataset]:
        """Give what the loop starts from, by group."""
        return {
            "observations": self.observations["train"],
            "truth": self.truth["train"],
            "test/observations": self.observations["test"],
            "test/truth": self.truth["test"],
        }

    def perfect_scores(self) -> xr.Dataset:
        """Give the perfect model's RMSE (record)."""
        scheme = self.given_scheme
        if scheme is None and self.preset.background == "climatological":
            scheme = self.scheme("perfect", self.preset.max_variance)
        return self.perfect_rmse(ThreeDVar() if scheme is None else scheme)

    def sensitivity(self) -> xr.Dataset:
        """Give both models' RMSE of the analysis (model, max_variance) for other sizes of B."""
        sizes = np.empty((2, len(SENSITIVITY)))
        models = {"imperfect": self.imperfect, "perfect": self.perfect}
        for row, (case, model) in enumerate(models.items()):
            for column, size in enumerate(SENSITIVITY):
                analysis = assimilate(model, self.observations["test"], self.scheme(case, size))
                sizes[row, column] = self.analysis_rmse("test", analysis).analysis_rmse
        attrs = {"long_name": "RMSE of the analysis, test record", "units": "1"}
        result = xr.Dataset(
            {"analysis_rmse": (("model", "max_variance"), sizes, attrs)},
            coords={"model": list(models), "max_variance": list(SENSITIVITY)},
        )
        attrs = {"long_name": "largest background variance", "units": "1"}
        result["max_variance"].attrs = attrs
        return result

    def score(self, done: Pass, reference: xr.DataArray | None) -> xr.Dataset:
        """Give the scores of a pass; ``reference`` is the imperfect model's forecast error."""
        errors = self.forecast_error(done.model)
        scores = self.scored(done, errors, reference)
        scores["mfe_map"] = verification.error_map(errors, *self.edges)
        return scores


def _summary(done: Pass, scores: xr.Dataset) -> dict[str, str]:
    """Give the scores of a pass, formatted for a report."""
    summary = done.summary() | {
        "analysis_rmse": f"{float(scores.analysis_rmse.sel(record='test')):.4f}"
    }
    if "mfe_reduction" in scores:
        reduction = scores.mfe_reduction
        summary |= {"mfe_reduction": f"{float(reduction[0]):.1f}..{float(reduction[-1]):.1f} %"}
    return summary
