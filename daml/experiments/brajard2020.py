"""The experiment of Brajard et al. (2020): a network learns Lorenz 96 from sparse observations.

A network of convolutions knows nothing of the model. It is trained first on observations that are
interpolated, then in turn on the analyses of an ensemble filter whose model it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from daml import figures, verification
from daml.emulators import CNN
from daml.errors import DivergedError, InputError
from daml.experiments.at_random import interpolated, observe_at_random
from daml.experiments.attractors import exponents, spectra
from daml.experiments.presets import check_settings, groups_of, performed, timed
from daml.labels.arguments import checked
from daml.labels.ranges import whole
from daml.models import Lorenz96
from daml.progress import LOG, duration
from daml.running.assimilation import assimilate
from daml.running.forecasting import forecast, simulate
from daml.schemes import EnKFN
from daml.stores.keeper import Keeper
from daml.stores.opening import loaded

LYAPUNOV = 0.6
"""Lyapunov time of the model in its units of time: its largest exponent is 1.67."""
SPINUP = 500
"""Steps before each record of the truth."""
APART = 1000
"""Steps of a segment: in shorter ones, whose number saves a network no time, spin-ups cost more."""


@dataclass(frozen=True)
class Settings:
    """How much of the experiment is run, and what the source leaves to choose.

    Attributes
    ----------
    steps : int
        Length of the record that is learned from, in dt.
    test_steps : int
        Length of the record that forecasts are judged on.
    passes : int
        Number of passes; each assimilates with the network and trains it on the analyses.
    first_epochs, epochs : int
        Of the training on interpolated observations, and of each pass.
    observed : int
        Variables that are observed at each time, of 40.
    fewer : tuple of int
        Other numbers of observed variables, for each of which the passes are made, too.
    members : int
        Of the ensemble.
    sigma : float
        Standard deviation of the errors of observations.
    model_error : float
        Variance that is added to each variable of each member in each step.
    variance_floor : float
        Targets are weighted by 1 / (analysis variance + this).
    learning_rate : float
        Peak rate of each training.
    skip : int
        Steps at a record's head that the scores leave out.
    exponents : int
        Number of Lyapunov exponents of the truth and of the last network, the largest ones.

    Raises
    ------
    InputError
        If one is out of range.
    """

    steps: int = 4000
    test_steps: int = 1000
    passes: int = 8
    first_epochs: int = 40
    epochs: int = 20
    observed: int = 20
    fewer: tuple[int, ...] = (12, 16)
    members: int = 30
    sigma: float = 1.0
    model_error: float = 0.05
    variance_floor: float = 0.01
    learning_rate: float = 4e-3
    skip: int = 100
    exponents: int = 40

    def __post_init__(self) -> None:
        check_settings(self)
        names = ("steps", "test_steps", "passes", "first_epochs", "epochs", "observed", "members")
        for name in (*names, "exponents"):
            whole(getattr(self, name), f"brajard2020: {name!r}")
        size = Lorenz96().n
        for count in (self.observed, *self.fewer):
            if not 1 <= count <= size:
                raise InputError(
                    f"brajard2020: {count} of {size} variables are to be observed; give 1 to {size}"
                )
        if self.exponents > size:
            raise InputError(f"brajard2020: 'exponents' is {self.exponents}; give {size} at most")
        if self.skip >= self.steps:
            raise InputError(f"brajard2020: 'skip' is {self.skip}; give less than 'steps'")


PRESETS = {
    "smoke": Settings(800, 400, 2, 60, 30, fewer=(30,)),
    "fast": Settings(),
    "literal": Settings(40_000, 5000, 40, fewer=()),
}
"""A minute, ten minutes, and the size of the source (hours)."""


@checked
def run(
    preset: str | Settings = "fast",
    *,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Run the experiment of Brajard et al. (2020).

    Parameters
    ----------
    preset : {"smoke", "fast", "literal"} or Settings
        Size of the experiment.
    store : str or path, optional
        Zarr store to write; default: in memory.
    seed : int
        Of the truth, the observations, the ensemble and the network.
    overwrite : bool
        Whether to replace an existing store, if daml wrote it.
    resume : bool
        Whether to resume a run of the same settings after its last pass.

    Returns
    -------
    xarray.DataTree
        ``/initial`` and ``/iteration/0000``, ... with the network (``emulator``) and its
        ``scores``; ``/observed/12``, ... with the scores of the passes where another number of
        variables was observed; ``/perfect/scores`` of the true model; ``/result`` with power
        spectra and Lyapunov exponents.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a training leaves the finite
        numbers.

    References
    ----------
    Brajard, J., Carrassi, A., Bocquet, M. and Bertino, L. (2020): Combining data assimilation and
    machine learning to emulate a dynamical model from sparse and noisy observations: a case study
    with the Lorenz 96 model. J. Comput. Sci. 44, 101171.

    Examples
    --------
    >>> PRESETS["literal"].passes
    40
    """
    how: dict[str, Any] = {"store": store, "seed": seed, "overwrite": overwrite}
    return performed(Experiment, "brajard2020", preset, PRESETS, resume=resume, **how)


class Experiment:
    """Truth and observations of a seed, and how a network scores on them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed, self.model = settings, seed, Lorenz96()
        train, test = (int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(2))
        self.truth = simulate(self.model, steps=settings.steps, spinup=SPINUP, seed=train)
        self.test = simulate(self.model, steps=settings.test_steps, spinup=SPINUP, seed=test)
        longest = min(100, settings.test_steps // 2)
        self.leads = [lead for lead in (1, 2, 4, *range(6, 101, 6)) if lead <= longest]
        self.scheme = EnKFN(settings.members, model_error=settings.model_error, seed=seed)

    def record(self, observed: int) -> xr.Dataset:
        """Give the observations of so many variables at each time."""
        return observe_at_random(self.truth, observed, self.settings.sigma, self.seed + 1)

    def run(self, keep: Keeper) -> None:
        """Make what is left of the passes; keep each as it is done."""
        begun = keep.begun
        there = groups_of(begun)
        if "perfect" not in there:
            record = self.record(self.settings.observed)
            perfect = assimilate(self.model, record, EnKFN(self.settings.members, seed=self.seed))
            scores = self.analysed(perfect).merge(self.forecasts(self.model))
            keep({"truth": self.truth, "observations": record, "perfect/scores": scores})
        emulator = None
        for group, emulator, scores in self.passes(self.settings.observed, begun):
            keep({f"{group}/emulator": emulator.to_dataset(), f"{group}/scores": scores})
        for count in self.settings.fewer:
            if f"observed/{count}" not in there:
                keep({f"observed/{count}": self.scores_of(count)})
        if emulator is not None and "result" not in there:
            models = {"truth": self.model, "CNN": emulator}
            free = spectra(models, self.test.isel(time=0), self.settings.test_steps)
            grown = exponents(models, self.truth, self.settings.exponents, self.settings.test_steps)
            keep({"result": free.merge(grown)})

    def passes(
        self, observed: int, begun: xr.DataTree | None = None
    ) -> Iterator[tuple[str, CNN, xr.Dataset]]:
        """Yield the group, the network and the scores of the first training, and of each pass."""
        settings, record, start = self.settings, self.record(observed), time.perf_counter()
        emulator = CNN(
            bilinear=True,
            grid=self.model,
            seed=self.seed,
            epochs=settings.first_epochs,
            learning_rate=settings.learning_rate,
            rate_decay=1.0,
            variance_floor=settings.variance_floor,
        )
        groups = ["initial", *(f"iteration/{number:04d}" for number in range(settings.passes))]
        done = [group for group in groups if begun is not None and f"/{group}" in begun.groups]
        if done and begun is not None:
            emulator = emulator.restored(loaded(begun, f"{done[-1]}/emulator"))
            yield done[-1], emulator, loaded(begun, f"{done[-1]}/scores")
        for group in groups[len(done) :]:
            if group == "initial":
                analysis = interpolated(record)
            else:
                # The analyses of poor networks do not forget their start.
                poor = group == groups[1] or observed < settings.observed
                segments = 1 if poor else -(-settings.steps // APART)
                analysis = assimilate(emulator, record, self.scheme, segments=segments)
                emulator = replace(emulator, epochs=settings.epochs)
            scores = self.analysed(analysis)
            emulator = emulator.fit(analysis)
            scores = scores.merge(self.forecasts(emulator))
            seconds = timed(scores, start, "time of the pass")
            result = f"analysis_rmse={float(scores.analysis_rmse):.3f}"
            LOG.info(
                "brajard2020: %s observed, %s: %s, %s", observed, group, result, duration(seconds)
            )
            yield group, emulator, scores
            start = time.perf_counter()

    def scores_of(self, observed: int) -> xr.Dataset:
        """Give the scores (iteration) of the passes; NaN from the one on whose filter diverges."""
        found: list[xr.Dataset] = []
        try:
            for *_, scores in self.passes(observed):
                found.append(scores)
        except DivergedError as error:
            LOG.info("brajard2020: %s observed: %s", observed, error)
        lost = [xr.full_like(found[-1], np.nan)] * (self.settings.passes + 1 - len(found))
        return xr.concat([*found, *lost], "iteration")

    def analysed(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give RMSE and spread of an analysis."""
        later = analysis.isel(time=slice(self.settings.skip, None))
        error = later["analysis"] - self.truth["state"]
        spread = later["spread"].where(np.isfinite(later["spread"]))
        return xr.Dataset(
            {
                "analysis_rmse": _root_mean_square(error, "RMSE of the analysis"),
                "analysis_spread": _root_mean_square(spread, "spread of the analysis"),
            }
        )

    def forecasts(self, model: Any) -> xr.Dataset:
        """Give the RMSE of forecasts (lead) from true states, and the error of the climate."""
        made = forecast(model, self.test, leads=self.leads, warmup=0)
        found = verification.mfe(verification.forecast_error(made, self.test))
        lead = np.asarray(self.leads) * self.model.dt / LYAPUNOV
        about = {"long_name": "lead time", "units": "Lyapunov times"}
        scores = xr.Dataset(
            {"forecast_rmse": ("lead", found.values, {"long_name": "RMSE of the forecast"})},
            {"lead": ("lead", lead, about)},
        )
        scores["forecast_rmse"].attrs["units"] = "1"
        climate = self.test["state"] - self.test["state"].mean()
        scores["climate_rmse"] = 2**0.5 * _root_mean_square(climate, "of two states at random")
        return scores


def _root_mean_square(array: xr.DataArray, name: str) -> xr.DataArray:
    about = {"long_name": name, "units": "1"}
    return xr.DataArray(float((array**2).mean()) ** 0.5, attrs=about)


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Give the scores of all passes in one Dataset.

    Parameters
    ----------
    tree : xarray.DataTree
        Of :func:`run`, finished or not.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``analysis_spread``, ``seconds`` (iteration), ``forecast_rmse``
        (iteration, lead); iteration 0 is the network that was trained on interpolated
        observations. ``perfect_...`` of the true model; ``fewer_analysis_rmse`` (observed,
        iteration); ``power`` (model, frequency), ``exponent`` and ``standard_error`` (model,
        number) and ``kaplan_yorke_dimension`` (model) of the truth and the last network.

    Raises
    ------
    InputError
        If it holds no pass.
    """
    groups = [group for group in ("initial",) if group in tree.children]
    if "iteration" in tree.children:
        groups += [f"iteration/{name}" for name in sorted(tree["iteration"].children)]
    if not groups:
        raise InputError(
            "brajard2020: the experiment holds no finished pass; give one that has run"
        )
    result = xr.concat([loaded(tree, f"{group}/scores") for group in groups], "iteration")
    result = result.assign_coords(iteration=np.arange(len(groups)))
    perfect = loaded(tree, "perfect/scores")
    result = result.assign({f"perfect_{name}": perfect[name] for name in perfect.data_vars})
    result.attrs = {"observed": int(tree.attrs["observed"]), "dt": Lorenz96().dt}
    if "observed" in tree.children:
        counts = sorted(int(name) for name in tree["observed"].children)
        parts = [loaded(tree, f"observed/{count}")["analysis_rmse"] for count in counts]
        index = xr.DataArray(counts, dims="observed", name="observed")
        found = xr.concat(parts, index).assign_coords(iteration=np.arange(parts[0].size))
        result["fewer_analysis_rmse"] = found
    if "result" in tree.children:
        result = result.merge(loaded(tree, "result"))
    return result


@checked
def table(tree: xr.DataTree) -> str:
    """Give the scores of all passes as text."""
    scores = collect(tree)
    leads = [int(np.abs(scores["lead"].values - wanted).argmin()) for wanted in (0.5, 1.0, 2.0)]
    climate = float(scores["climate_rmse"][0])
    ahead = ", ".join(f"{float(scores['lead'][at]):.2f}" for at in leads)
    lines = [f"pass      RMSE   spread  forecast RMSE / climate at {ahead} Lyapunov times"]
    for name, prefix, at in (
        *(((f"{n - 1}" if n else "initial"), "", n) for n in range(scores.sizes["iteration"])),
        ("truth", "perfect_", None),
    ):
        part = scores if at is None else scores.isel(iteration=at)
        skill = part[f"{prefix}forecast_rmse"].values[leads] / climate
        rmse, spread = (float(part[f"{prefix}analysis_{kind}"]) for kind in ("rmse", "spread"))
        lines.append(
            f"{name:8} {rmse:6.3f}  {spread:6.3f}  " + "  ".join(f"{s:.2f}" for s in skill)
        )
    for part in scores.get("fewer_analysis_rmse", ()):
        lines.append(f"{int(part['observed'])} of 40 observed: RMSE {float(part[-1]):.3f}")
    for part in scores.get("exponent", ()):
        dimension = float(scores["kaplan_yorke_dimension"].sel(model=part["model"]))
        sizes = ", ".join(f"{value:.2f}" for value in part.values[:3])
        lines.append(
            f"Lyapunov exponents, {part['model'].item()}: {sizes}, ...; "
            f"Kaplan-Yorke dimension {dimension:.1f}"
        )
    return "\n".join(lines)


@checked
def draw(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Draw the scores as PNG and SVG; give the paths.

    Raises
    ------
    InputError, StoreError
        If the experiment holds no pass, or the folder cannot be written.
    """
    return list(figures.save(figures.emulation(collect(tree)), folder, "brajard2020"))
