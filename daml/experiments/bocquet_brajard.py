"""The course of Bocquet and Brajard (2022): a network corrects a model that lacks a cubic term.

The truth is Lorenz 96 with a cubic term, another forcing and another friction; the model is Lorenz
96. Half the variables are observed at each time, the even and the odd ones in turn. Corrections are
learned from the analyses of an ensemble filter and through its cycle, and judged by the analyses
that the filter makes with them.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from daml import figures, verification
from daml.arrays import namespace
from daml.emulators import CNN
from daml.errors import DivergedError, InputError
from daml.experiments.presets import check_settings, corrections_of, groups_of, performed, timed
from daml.labels.arguments import checked
from daml.labels.ranges import whole
from daml.models import Lorenz96
from daml.observing.simulated import observe
from daml.progress import LOG, duration
from daml.protocols import Array, Model
from daml.running.assimilation import assimilate
from daml.running.forecasting import forecast, simulate
from daml.schemes import ETKF, EnKFN
from daml.stores.keeper import Keeper
from daml.stores.opening import loaded

SIGMA, MODEL_ERROR = 0.2, 0.015
"""Standard deviation of the errors of observations, and the variance of the model error in a step
of 0.05 that the source's filter takes: 0.3 times the step."""
SPINUP = 1000
"""Steps before each record of the truth."""
PUBLISHED = 0.199, 0.205
"""RMSE and spread of the analysis without a correction."""
LEADS = 1, 4, 16, 33
"""Steps of forecasts; the last one is two Lyapunov times, each 0.82 units of time."""


@dataclass(frozen=True)
class CubicLorenz96(Lorenz96):
    """Lorenz 96 with a cubic term and a friction, the truth of the experiment.

    dx_i/dt = (x_(i+1) - x_(i-2)) x_(i-1) - friction x_i + F + cubic (x_(i-2) x_i (x_(i+1) -
    x_(i-3)) - x_(i-1) x_(i+1) (x_(i+2) - x_(i-2))). So it is in the code of the source, whose text
    has the cubic term of the ring that is turned around.

    Parameters
    ----------
    dt, substeps, time_unit, n, forcing
        See :class:`daml.models.Lorenz96`.
    cubic, friction : float
        The factor on the cubic term, and that on -x.

    Examples
    --------
    >>> CubicLorenz96().tendency(np.ones(40))[0].round(6)
    np.float64(7.49)
    """

    forcing: float = 8.5
    cubic: float = 0.025
    friction: float = 1.01

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., n)."""
        roll = namespace(x).roll
        far, ahead, behind, before, last = (roll(x, by, axis=-1) for by in (-2, -1, 1, 2, 3))
        products = before * x * (ahead - last) - behind * ahead * (far - before)
        own = (ahead - before) * behind - self.friction * x + self.forcing
        return own + self.cubic * products


@dataclass(frozen=True)
class Settings:
    """How much of the experiment is run.

    Attributes
    ----------
    steps, test_steps : int
        Length of the record that is learned from, and of the one that is scored, in steps of 0.05.
    epochs : int
        Maximum of each training on analyses.
    passes : int
        Number of passes; the first network is trained on analyses by the model alone, each
        further one on analyses by the network before.
    cycle_epochs : int
        Of the training through the cycle; 0 leaves it out.
    members : int
        Of the ensemble.
    skip : int
        Steps at a record's head that the scores leave out.
    scales : tuple of float
        Factors on the variance of the model error in the filter, which are tried; the source's own
        is 1.
    held_out : float
        Part of the record, in blocks of time, that ends a training when it no longer gains there.

    Raises
    ------
    InputError
        If one is out of range.
    """

    steps: int = 5000
    test_steps: int = 2500
    epochs: int = 40
    passes: int = 3
    cycle_epochs: int = 10
    members: int = 40
    skip: int = 500
    scales: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    held_out: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("steps", "test_steps", "epochs", "passes", "members"):
            whole(getattr(self, name), f"bocquet_brajard: {name!r}")
        whole(self.cycle_epochs, "bocquet_brajard: 'cycle_epochs'", least=0)
        if 1.0 not in self.scales or min(self.scales) < 0:
            raise InputError(
                f"bocquet_brajard: 'scales' is {self.scales}; give factors >= 0, and 1 among them"
            )
        if not 0 <= self.skip < self.test_steps:
            raise InputError(f"bocquet_brajard: 'skip' is {self.skip}; give less than 'test_steps'")


PRESETS = {
    "smoke": Settings(1500, 800, 20, 1, 0, skip=200, scales=(1.0, 0.1)),
    "fast": Settings(),
    "literal": Settings(5000, 5000, 500, 5, 60, skip=1000, scales=(1.0, 0.3, 0.1, 0.03, 0.01, 0.0)),
}
"""A minute, ten minutes, and the size of the source with further trainings beside it (hours)."""


@checked
def run(
    preset: str | Settings = "fast",
    *,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Run the experiment of Bocquet and Brajard (2022).

    Parameters
    ----------
    preset : {"smoke", "fast", "literal"} or Settings
        Size of the experiment.
    store : str or path, optional
        Zarr store to write; default: in memory.
    seed : int
        Of the truth, the observations, the ensembles and the networks.
    overwrite : bool
        Whether to replace an existing store, if daml wrote it.
    resume : bool
        Whether to resume a run of the same settings after its last correction.

    Returns
    -------
    xarray.DataTree
        ``/correction/none``, ``/correction/pass_1``, ...: for each correction its ``scores``, and
        the ``emulator`` where there is one.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a training leaves the finite
        numbers.

    References
    ----------
    Bocquet, M. and Brajard, J. (2022): Data assimilation, machine learning and dynamical systems.
    Notebooks of the ECMWF course on machine learning,
    https://github.com/marcbocquet/2022-mooc-ecmwf-bocquet-brajard.

    Examples
    --------
    >>> PRESETS["literal"].members
    40
    """
    how: dict[str, Any] = {"store": store, "seed": seed, "overwrite": overwrite}
    return performed(Experiment, "bocquet_brajard", preset, PRESETS, resume=resume, **how)


class Experiment:
    """Truth and observations of a seed, and how corrections of the model score on them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed, self.model = settings, seed, Lorenz96()
        numbers = np.random.SeedSequence(seed).generate_state(2)
        lengths = {"train": settings.steps, "test": settings.test_steps}
        self.truth = {
            name: simulate(CubicLorenz96(), steps=steps, spinup=SPINUP, seed=int(number))
            for (name, steps), number in zip(lengths.items(), numbers, strict=True)
        }
        self.records = {
            name: on_a_checkerboard(truth, SIGMA, seed + number)
            for number, (name, truth) in enumerate(self.truth.items())
        }

    def scheme(self, scale: float, kind: type[ETKF] = EnKFN) -> ETKF:
        """Give the filter with a factor on the source's model error."""
        error = MODEL_ERROR * scale if scale else None
        return kind(self.settings.members, model_error=error, drawn=False, seed=self.seed)

    def run(self, keep: Keeper) -> None:
        """Score what is left of the models; keep each as it is done.

        Each pass, and the training through the cycle, goes on from the model before it, with the
        factor on the model error at which its innovations were most likely.
        """
        begun, settings = keep.begun, self.settings
        there = groups_of(begun)
        passes = [f"pass_{number + 1}" for number in range(settings.passes)]
        last: Any = self.model
        scale = 1.0
        for name in ("none", *passes, *(["cycle"] if settings.cycle_epochs else []), "true"):
            group, start = f"correction/{name}", time.perf_counter()
            if begun is not None and group in there:
                scores = loaded(begun, f"{group}/scores")
                if f"{group}/emulator" in there:
                    last = self.network.restored(loaded(begun, f"{group}/emulator"))
            else:
                kept = {}
                if name in passes:
                    analysis = assimilate(last, self.records["train"], self.scheme(scale))
                    last = self.network.fit(analysis, held_out=settings.held_out)
                elif name == "cycle":
                    last = self.through_cycle(last, scale)
                if name not in ("none", "true"):
                    kept = {f"{group}/emulator": last.to_dataset()}
                scores = self.scored(CubicLorenz96() if name == "true" else last)
                seconds = timed(scores, start)
                rmse = float(scores["analysis_rmse"].min())
                LOG.info("bocquet_brajard: %s: rmse=%.4f, %s", name, rmse, duration(seconds))
                keep({**kept, f"{group}/scores": scores})
            if name != "none":  # the first network is trained on analyses by the source's filter
                scale = float(_likely(scores))

    @property
    def network(self) -> CNN:
        """The network of each pass, before its training."""
        settings = self.settings
        cycle = settings.cycle_epochs or None
        return CNN(base=self.model, seed=self.seed, epochs=settings.epochs, cycle_epochs=cycle)

    def through_cycle(self, emulator: CNN, scale: float) -> CNN:
        """Train a network further through the cycle of an ETKF, on the innovations."""
        how: dict[str, Any] = {"sequence_length": 40, "burn_in": 10, "learning_rate": 1e-3}
        return emulator.fit_cycle(
            self.records["train"], self.scheme(scale, ETKF), held_out=self.settings.held_out, **how
        )

    def scored(self, model: Model) -> xr.Dataset:
        """Give RMSE, spread and likelihood (scale) of the test record, and forecasts (lead)."""
        found = [self.analysed(model, scale) for scale in self.settings.scales]
        about = {"long_name": "factor on the model error", "units": "1"}
        scores = xr.concat(found, xr.DataArray(list(self.settings.scales), dims="scale"))
        scores = scores.assign_coords(scale=("scale", list(self.settings.scales), about))
        leads = [lead for lead in LEADS if lead < self.settings.test_steps]
        truth = self.truth["test"]
        made = forecast(model, truth, leads=leads, warmup=0)
        error = verification.mfe(verification.forecast_error(made, truth))
        named = {"long_name": "RMSE of the forecast", "units": "1"}
        return scores.assign(forecast_rmse=("lead", error.values, named)).assign_coords(lead=leads)

    def analysed(self, model: Model, scale: float) -> xr.Dataset:
        """Give what an analysis of the test record is worth; NaN where the filter fails."""
        rmse = spread = likelihood = np.nan
        with suppress(DivergedError):
            analysis = assimilate(model, self.records["test"], self.scheme(scale))
            later = analysis.isel(time=slice(self.settings.skip, None))
            squares = (later["analysis"] - self.truth["test"]["state"]) ** 2, later["spread"] ** 2
            rmse, spread = (float(np.sqrt(part.mean("variable")).mean()) for part in squares)
            likelihood = float(later["log_likelihood"].mean())
        return xr.Dataset(
            {
                "analysis_rmse": ((), rmse, {"long_name": "analysis RMSE", "units": "1"}),
                "analysis_spread": ((), spread, {"long_name": "analysis spread", "units": "1"}),
                "log_likelihood": ((), likelihood, {"long_name": "log likelihood", "units": "1"}),
            }
        )


def _likely(scores: xr.Dataset) -> xr.DataArray:
    """Give the factor on the model error with which the innovations are most likely."""
    return scores["log_likelihood"].fillna(-np.inf).idxmax("scale")


def on_a_checkerboard(truth: xr.Dataset, sigma: float, seed: int) -> xr.Dataset:
    """Observe even variables at even times, and odd ones at odd times; the others are NaN.

    Parameters
    ----------
    truth : xarray.Dataset
        ``state`` (time, variable).
    sigma : float
        Standard deviation of the errors.
    seed : int
        Of the errors.
    """
    record = observe(truth, error_variance=sigma**2, seed=seed)
    shape = record["observation"].shape
    there = xr.DataArray(np.indices(shape).sum(axis=0) % 2 == 0, dims=record["observation"].dims)
    return record.assign(observation=record["observation"].where(there))


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Give the scores of all models in one Dataset.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``analysis_spread``, ``log_likelihood`` (observed, correction, scale),
        ``forecast_rmse`` (observed, correction, lead), ``seconds`` and ``published_rmse``
        (observed, correction), NaN where none was published; ``likely_scale`` and ``likely_rmse``
        (observed, correction), with the factor at which the innovations are most likely. The
        dimension ``observed`` has one entry, 20.

    Raises
    ------
    InputError
        If it holds no score.
    """
    names = corrections_of(tree, "bocquet_brajard")
    parts = [loaded(tree, f"correction/{name}/scores") for name in names]
    result = xr.concat(parts, xr.DataArray(names, dims="correction", name="correction"))
    likely = _likely(result)
    result["likely_scale"] = likely
    result["likely_rmse"] = result["analysis_rmse"].sel(scale=likely).drop_vars("scale")
    published = [PUBLISHED[0] if name == "none" else np.nan for name in names]
    result["published_rmse"] = ("correction", published)
    return result.expand_dims(observed=[Lorenz96().n // 2])


@checked
def table(tree: xr.DataTree) -> str:
    """Give published and measured scores as text."""
    scores = collect(tree).isel(observed=0)
    leads = ", ".join(str(lead) for lead in scores["lead"].values)
    lines = [
        f"{'model':<10}  RMSE    spread  best    scale  likeliest  scale  "
        f"RMSE of forecasts of {leads} steps",
        f"{'published':<10}  {PUBLISHED[0]:.4f}  {PUBLISHED[1]:.4f}",
    ]
    for name in scores["correction"].values:
        row = scores.sel(correction=name)
        own, best = row.sel(scale=1.0), float(row["analysis_rmse"].idxmin("scale"))
        ahead = "  ".join(f"{value:.3f}" for value in row["forecast_rmse"].values)
        lines.append(
            f"{name:<10}  {float(own['analysis_rmse']):.4f}  {float(own['analysis_spread']):.4f}  "
            f"{float(row['analysis_rmse'].min()):.4f}  {best:<5g}  "
            f"{float(row['likely_rmse']):.4f}     {float(row['likely_scale']):<5g}  {ahead}"
        )
    return "\n".join(lines)


@checked
def draw(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Draw the scores as PNG and SVG; give the paths.

    Raises
    ------
    InputError, StoreError
        If the experiment holds no score, or the folder cannot be written.
    """
    scores = collect(tree)
    scores["analysis_rmse"] = scores["likely_rmse"].assign_attrs(scores["analysis_rmse"].attrs)
    return list(figures.save(figures.corrections(scores), folder, "bocquet_brajard"))
