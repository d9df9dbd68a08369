"""The experiment of Goodliff and Miyoshi (2025): a twin experiment, scored pass by pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import verification
from daml.assimilation import assimilate
from daml.covariance import climatological
from daml.cycle import Cycle, Keeper, Pass
from daml.emulators import LSTM
from daml.forecasting import forecast, simulate
from daml.models import CoupledLorenz63, Lorenz63
from daml.observations import observe
from daml.protocols import Model
from daml.schemes import ThreeDVar

OBSERVED = ("x0", "x1", "x2")
SPINUP = 2000
SENSITIVITY = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, float("inf"))
EDGES = (("x0", np.linspace(-20.0, 20.0, 41)), ("x2", np.linspace(0.0, 50.0, 51)))


@dataclass(frozen=True)
class Preset:
    """How much of the experiment is run.

    Attributes
    ----------
    steps : int
        Length of the training record and of the test record, in dt.
    passes, epochs, warm_start
        Of the loop and of each training.
    skip : int
        Steps at a record's head that the scores leave out.
    max_variance : float
        Largest variance of B.
    """

    steps: int = 100_000
    passes: int = 30
    epochs: int = 16
    warm_start: bool = True
    skip: int = 1000
    max_variance: float = 2.0


class Experiment:
    """Truth, observations and covariances of a seed, and how a model scores on them."""

    def __init__(self, preset: Preset, seed: int, device: str) -> None:
        self.preset = preset
        self.imperfect, self.perfect = Lorenz63(), CoupledLorenz63()
        self.emulator = LSTM(epochs=preset.epochs, device=device, seed=seed)
        random = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
        steps = preset.steps

        def free(model: Model, generator: np.random.Generator) -> xr.Dataset:
            return simulate(model, steps=steps, spinup=SPINUP, seed=generator)

        records = ("train", "test")
        self.truth = {r: free(self.perfect, g) for r, g in zip(records, random[:2], strict=True)}
        self.observations = {
            r: observe(self.truth[r], variables=OBSERVED, seed=g)
            for r, g in zip(records, random[2:4], strict=True)
        }
        self.climate = {
            "imperfect": free(self.imperfect, random[4]),
            "perfect": free(self.perfect, random[5]),
        }

    def scheme(self, case: str, max_variance: float) -> ThreeDVar:
        """Give 3DVar with the scaled climatology of the imperfect or the perfect model."""
        largest = None if np.isinf(max_variance) else max_variance
        return ThreeDVar(climatological(self.climate[case], max_variance=largest))

    def analysis_rmse(self, record: str, analysis: xr.Dataset) -> xr.Dataset:
        """Give RMSE of analysis and background over the observed variables."""
        return verification.analysis_error(
            analysis, self.truth[record], skip=self.preset.skip, variables=OBSERVED
        )

    def forecast_error(self, model: Model) -> xr.Dataset:
        """Give the errors of forecasts from the test record's true states."""
        return verification.forecast_error(forecast(model, self.truth["test"]), self.truth["test"])

    def run(self, keep: Keeper) -> xr.DataTree:
        """Run and score all passes; keep each as it is done."""
        passes = self.preset.passes
        scheme = self.scheme("imperfect", self.preset.max_variance)
        cycle = Cycle(self.imperfect, scheme, self.emulator, passes, self.preset.warm_start)
        scores = self.references()
        with tqdm(total=passes, desc="LSTM-n", unit="pass", disable=None) as bar:
            start = time.perf_counter()
            for done in cycle.iterate(self.observations["train"]):
                if done.iteration < 0:
                    for group, dataset in self.given().items():
                        keep(dataset, group)
                    scores = self.score_imperfect(done, scores)
                else:
                    self.score(done, scheme, scores)
                    scores["seconds"][done.iteration] = time.perf_counter() - start
                    loss = float(done.model.history.loss[-1])  # type: ignore[attr-defined]
                    bar.set_postfix(loss=f"{loss:.4f}")
                    bar.update()
                scores.attrs["finished"] = int(done.iteration == passes - 1)
                keep.all(done.datasets() | {"scores": scores})
                start = time.perf_counter()
        return keep.tree()

    def given(self) -> dict[str, xr.Dataset]:
        """Give what the loop starts from, by group."""
        return {
            "observations": self.observations["train"],
            "truth": self.truth["train"],
            "test/observations": self.observations["test"],
            "test/truth": self.truth["test"],
        }

    def references(self) -> xr.Dataset:
        """Give the perfect model's scores, and both models' for other sizes of B."""
        result = xr.Dataset(attrs={"max_variance": self.preset.max_variance})
        result.attrs["skip"] = self.preset.skip
        scheme = self.scheme("perfect", self.preset.max_variance)
        for name, part in self._both(lambda r: self._cycle(self.perfect, scheme, r)).items():
            result[f"perfect_{name}"] = part
        sizes = np.empty((2, len(SENSITIVITY)))
        models = {"imperfect": self.imperfect, "perfect": self.perfect}
        for row, (case, model) in enumerate(models.items()):
            for column, size in enumerate(SENSITIVITY):
                analysis = assimilate(model, self.observations["test"], self.scheme(case, size))
                sizes[row, column] = self.analysis_rmse("test", analysis).analysis_rmse
        result["sensitivity_analysis_rmse"] = (
            ("model", "max_variance"),
            sizes,
            {"long_name": "RMSE of the analysis on the test record", "units": "1"},
        )
        result = result.assign_coords(model=list(models), max_variance=list(SENSITIVITY))
        named = {"long_name": "largest background variance", "units": "1"}
        result["max_variance"].attrs = named
        return result

    def _cycle(self, model: Model, scheme: ThreeDVar, record: str) -> xr.Dataset:
        return self.analysis_rmse(record, assimilate(model, self.observations[record], scheme))

    def _both(self, score: Callable[[str], xr.Dataset]) -> xr.Dataset:
        parts = [score(r) for r in self.truth]
        names = xr.DataArray(list(self.truth), dims="record", name="record")
        return xr.concat(parts, names)

    def score_imperfect(self, done: Pass, scores: xr.Dataset) -> xr.Dataset:
        """Add the imperfect model's scores, and room for those of LSTM-n."""
        scheme = self.scheme("imperfect", self.preset.max_variance)
        for name, part in self._both(lambda r: self._cycle(done.model, scheme, r)).items():
            scores[f"imperfect_{name}"] = part
        errors = self.forecast_error(done.model)
        scores["imperfect_mfe"] = verification.mfe(errors)
        passes = self.preset.passes
        scores = scores.assign_coords(
            iteration=np.arange(passes),
            case=["imperfect", "LSTM-0", f"LSTM-{passes - 1}"][: 2 + (passes > 1)],
        )
        for name in ("analysis_rmse", "background_rmse"):
            like = scores[f"imperfect_{name}"]
            scores[name] = (like * np.nan).expand_dims(iteration=passes, axis=-1).copy()
            scores[name].attrs = like.attrs
        for name, like in (
            ("mfe", scores["imperfect_mfe"]),
            ("mfe_reduction", verification.reduction(*2 * [scores["imperfect_mfe"]])),
        ):
            scores[name] = (like * np.nan).expand_dims(iteration=passes).copy()
            scores[name].attrs = like.attrs
        plot = verification.error_map(errors, *EDGES)
        scores["mfe_map"] = (plot * np.nan).expand_dims(case=scores.sizes["case"]).copy()
        scores["mfe_map"].attrs = plot.attrs
        scores["mfe_map"][0] = plot
        seconds = {"long_name": "time that the pass took", "units": "s"}
        scores["seconds"] = ("iteration", np.full(passes, np.nan), seconds)
        return scores

    def score(self, done: Pass, scheme: ThreeDVar, scores: xr.Dataset) -> None:
        """Fill in the scores of LSTM-n."""
        test = assimilate(done.model, self.observations["test"], scheme)
        for record, analysis in (("train", done.analysis), ("test", test)):
            found = self.analysis_rmse(record, analysis)
            for name in ("analysis_rmse", "background_rmse"):
                scores[name].loc[{"record": record, "iteration": done.iteration}] = found[name]
        errors = self.forecast_error(done.model)
        error = verification.mfe(errors)
        scores["mfe"][done.iteration] = error
        scores["mfe_reduction"][done.iteration] = verification.reduction(
            error, scores["imperfect_mfe"]
        )
        case = f"LSTM-{done.iteration}"
        if case in scores.indexes["case"]:
            scores["mfe_map"].loc[{"case": case}] = verification.error_map(errors, *EDGES)
