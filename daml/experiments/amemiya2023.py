"""The experiment of Amemiya et al. (2023): networks correct a model that lacks the fast scale.

The truth is Lorenz 96 with two scales, the model has the slow one alone. Corrections are learned
from the analyses of an ensemble filter of that model, and judged by the analyses that the filter
makes with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from sklearn.linear_model import Ridge

from daml import figures
from daml.emulators import CNN, LSTM, RNN, Augmented, Regression
from daml.errors import DivergedError, InputError
from daml.experiments.at_random import observe_at_random
from daml.experiments.presets import check_settings, corrections_of, groups_of, performed, timed
from daml.labels.arguments import checked
from daml.labels.ranges import whole
from daml.models import Lorenz96, TwoScaleLorenz96
from daml.progress import LOG, duration
from daml.protocols import Model, Scheme
from daml.running.assimilation import assimilate
from daml.running.forecasting import simulate
from daml.schemes import LETKF, Additive, SigmaPoint, half_width
from daml.stores.keeper import Keeper
from daml.stores.opening import loaded

SIGMA, ASSUMED = 0.1, 0.1
"""Standard deviation of the errors of observations, and the variance that the source's filter takes
them to have: its code uses one number for both."""
SPINUP = 500
"""Steps before each record of the truth."""
PUBLISHED = {
    "none": (0.0870, 0.1558),
    "linear": (0.0825, 0.1275),
    "dense": (0.0762, 0.1132),
    "LSTM": (0.0692, 0.1045),
    "RNN": (0.0699, 0.1036),
}
"""RMSE of the analysis where 8 and where 6 variables are observed."""
FACTORS = 1.0, 3.0, 10.0, 30.0
"""Factors on the model error of a filter by sigma points, which are tried."""


@dataclass(frozen=True)
class Settings:
    """How much of the experiment is run.

    Attributes
    ----------
    steps, test_steps : int
        Length of the record that is learned from, and of the one that is scored, in steps of 0.05.
    substeps : int
        Runge-Kutta steps of the truth in each of them.
    observed : tuple of int
        Numbers of slow variables that are observed at each time, 8 or 6 that are drawn anew.
    epochs : int
        Maximum of each training; a tenth of the record ends it earlier.
    updates : int
        Of a training with hidden variables through the filter; 0 leaves it out.
    members : int
        Of the ensemble.
    skip : int
        Steps at a record's head that the scores leave out.
    scales : tuple of float
        Variances of the noise that is added to each member after each analysis, which are tried.

    Raises
    ------
    InputError
        If one is out of range.
    """

    steps: int = 10_000
    test_steps: int = 4000
    substeps: int = 20
    observed: tuple[int, ...] = (8, 6)
    epochs: int = 60
    updates: int = 0
    members: int = 10
    skip: int = 100
    scales: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("steps", "test_steps", "substeps", "epochs", "members"):
            whole(getattr(self, name), f"amemiya2023: {name!r}")
        whole(self.updates, "amemiya2023: 'updates'", least=0)
        if not self.observed or not set(self.observed) <= {6, 8}:
            raise InputError(f"amemiya2023: 'observed' is {self.observed}; give numbers of 6 and 8")
        if not 0 <= self.skip < self.test_steps:
            raise InputError(f"amemiya2023: 'skip' is {self.skip}; give less than 'test_steps'")


PRESETS = {
    "smoke": Settings(1500, 600, observed=(8,), epochs=4),
    "fast": Settings(),
    "literal": Settings(40_000, 10_000, 50, updates=500),
}
"""A minute, ten minutes, and the size of the source with hidden variables beside it (hours)."""


@checked
def run(
    preset: str | Settings = "fast",
    *,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Run the experiment of Amemiya et al. (2023).

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
        ``/correction/8_none``, ``/correction/8_linear``, ...: for each number of observed variables
        and each correction its ``scores``, and the ``emulator`` where there is one.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a training leaves the finite
        numbers.

    References
    ----------
    Amemiya, A., Shlok, M. and Miyoshi, T. (2023): Application of recurrent neural networks to
    model bias correction: idealized experiments with the Lorenz-96 model. J. Adv. Model. Earth
    Syst. 15, e2022MS003164.

    Examples
    --------
    >>> PRESETS["literal"].steps
    40000
    """
    how: dict[str, Any] = {"store": store, "seed": seed, "overwrite": overwrite}
    return performed(Experiment, "amemiya2023", preset, PRESETS, resume=resume, **how)


class Experiment:
    """Truth and observations of a seed, and how corrections of the model score on them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.model = Lorenz96(dt=0.05, substeps=10, n=8, forcing=20.0)
        perfect = TwoScaleLorenz96(substeps=settings.substeps)
        random = np.random.SeedSequence(seed).generate_state(2)
        lengths = {"train": settings.steps, "test": settings.test_steps}
        self.truth = {
            name: simulate(perfect, steps=steps, spinup=SPINUP, seed=int(number))
            .sel(variable=list(self.model.variables))
            for (name, steps), number in zip(lengths.items(), random, strict=True)
        }  # fmt: skip

    def record(self, name: str, observed: int) -> xr.Dataset:
        """Give the observations of so many slow variables, which are drawn anew at each time."""
        seed = self.seed + 1 + (name == "test")
        return observe_at_random(self.truth[name], observed, SIGMA, seed)

    def scheme(self, scale: float) -> Scheme:
        """Give the source's filter with the noise of a variance added after each analysis."""
        names = list(self.model.variables)
        noise = xr.DataArray(np.ones(len(names)), {"variable": names}, "variable")
        return LETKF(
            self.settings.members,
            radius=half_width(1.0),
            inflation=Additive(noise, scale),
            error_factor=ASSUMED / SIGMA**2,
            seed=self.seed,
        )

    def run(self, keep: Keeper) -> None:
        """Score what is left of the corrections; keep each as it is done."""
        done = keep.begun
        there = groups_of(done)
        for observed in self.settings.observed:
            groups = {name: f"correction/{observed}_{name}" for name in self.corrections()}
            if there.issuperset(groups.values()):
                continue
            if done is not None and groups["none"] in there:
                scores = loaded(done, f"{groups['none']}/scores")
            else:
                scores = self.scored(self.model, observed, "none", time.perf_counter())
                keep({f"{groups['none']}/scores": scores})
            scheme = self.scheme(float(scores["analysis_rmse"].idxmin("scale")))
            analysis = assimilate(self.model, self.record("train", observed), scheme)
            for name, group in groups.items():
                if name != "none" and group not in there:
                    start = time.perf_counter()
                    emulator = self.corrections()[name](analysis, observed)
                    scores = self.scored(emulator, observed, name, start)
                    keep({f"{group}/emulator": emulator.to_dataset(), f"{group}/scores": scores})

    def scored(self, model: Model, observed: int, name: str, start: float) -> xr.Dataset:
        """Give the scores of a correction that was begun at a time."""
        scores = (self.swept_points if name == "hidden" else self.swept)(model, observed)
        seconds = timed(scores, start)
        best = float(scores["analysis_rmse"].min())
        LOG.info("amemiya2023: %s_%s: rmse=%.4f, %s", observed, name, best, duration(seconds))
        return scores

    def corrections(self) -> dict[str, Callable[[xr.Dataset, int], Any]]:
        """Give how each correction is made of the analyses and the number of observed variables."""
        how: dict[str, Any] = {"base": self.model, "seed": self.seed}
        settings = self.settings
        trained = {"epochs": settings.epochs, **how}

        def hidden(analysis: xr.Dataset, observed: int) -> Augmented:
            made = Augmented(2, units=48, reach=3, updates=settings.updates, **how)
            begun = made.begin(analysis, held_out=0.1)
            return begun.fit_cycle(self.record("train", observed), SigmaPoint())

        found: dict[str, Callable[[xr.Dataset, int], Any]] = {
            "none": lambda analysis, observed: None,
            "linear": lambda analysis, observed: Regression(Ridge(1.0), **how).fit(analysis),
            "dense": lambda analysis, observed: CNN((32, 32), **trained).fit(
                analysis, held_out=0.1
            ),
            "LSTM": lambda analysis, observed: LSTM(hidden=64, **trained).fit(
                analysis, held_out=0.1
            ),
            "RNN": lambda analysis, observed: RNN(hidden=64, **trained).fit(analysis, held_out=0.1),
        }
        return found | ({"hidden": hidden} if settings.updates else {})

    def swept(self, model: Model, observed: int) -> xr.Dataset:
        """Give the RMSE (scale) of the analyses of the test record; NaN where the filter fails."""
        scales = self.settings.scales
        found = [self.rmse(model, observed, self.scheme(scale)) for scale in scales]
        return _scores(found, scales, "variance of the noise added")

    def swept_points(self, model: Model, observed: int) -> xr.Dataset:
        """Give the RMSE (scale) of a filter by sigma points; and ``right`` with the true R."""
        error = np.asarray(cast("Any", model).model_error)
        record = self.record("test", observed)
        assumed = record.assign(error_variance=record["error_variance"] * ASSUMED / SIGMA**2)
        found = [
            self.rmse(model, observed, SigmaPoint(model_error=error * factor), assumed)
            for factor in FACTORS
        ]
        scores = _scores(found, FACTORS, "factor on the model error")
        right = self.rmse(model, observed, SigmaPoint())
        about = {"long_name": "RMSE of the analysis with the true R", "units": "1"}
        return scores.assign(right=((), right, about))

    def rmse(
        self, model: Model, observed: int, scheme: Scheme, record: xr.Dataset | None = None
    ) -> float:
        """Give the mean over time of the root mean square error over the slow variables."""
        record = self.record("test", observed) if record is None else record
        try:
            analysis = assimilate(model, record, scheme)["analysis"]
        except DivergedError:
            return np.nan
        error = analysis.sel(variable=list(self.model.variables)) - self.truth["test"]["state"]
        later = error.isel(time=slice(self.settings.skip, None))
        return float(np.sqrt((later**2).mean("variable")).mean())


def _scores(found: list[float], tried: tuple[float, ...], name: str) -> xr.Dataset:
    about = {"long_name": "RMSE of the analysis", "units": "1"}
    scale = ("scale", list(tried), {"long_name": name, "units": "1"})
    return xr.Dataset({"analysis_rmse": ("scale", found, about)}, {"scale": scale})


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Give the best score of each correction in one Dataset.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``scale``, ``seconds`` and ``published_rmse`` (observed, correction), and
        ``right_rmse`` where hidden variables were trained; NaN where there is none.

    Raises
    ------
    InputError
        If it holds no score.
    """
    groups = corrections_of(tree, "amemiya2023")
    pairs = [(int(group.partition("_")[0]), group.partition("_")[2]) for group in groups]
    observed = list(dict.fromkeys(number for number, _ in pairs))
    names = list(dict.fromkeys(name for _, name in pairs))
    kinds = ("analysis_rmse", "scale", "seconds", "right_rmse", "published_rmse")
    values = {kind: np.full((len(observed), len(names)), np.nan) for kind in kinds}
    for group, (number, name) in zip(groups, pairs, strict=True):
        scores = loaded(tree, f"correction/{group}/scores")
        at = observed.index(number), names.index(name)
        values["analysis_rmse"][at] = scores["analysis_rmse"].min()
        values["scale"][at] = scores["analysis_rmse"].idxmin("scale")
        values["seconds"][at] = scores["seconds"]
        if "right" in scores:
            values["right_rmse"][at] = scores["right"]
        if name in PUBLISHED:
            values["published_rmse"][at] = PUBLISHED[name][(8, 6).index(number)]
    dims, coords = ("observed", "correction"), {"observed": observed, "correction": names}
    result = xr.Dataset({kind: (dims, value) for kind, value in values.items()}, coords)
    result["analysis_rmse"].attrs = {"long_name": "RMSE of the analysis", "units": "1"}
    return result


@checked
def table(tree: xr.DataTree) -> str:
    """Give published and measured scores as text."""
    scores = collect(tree)
    lines = ["observed  correction  published  measured  best scale"]
    for number in scores["observed"].values:
        for name in scores["correction"].values:
            row = scores.sel(observed=number, correction=name)
            found = float(row["analysis_rmse"])
            if np.isnan(found):
                continue
            given = float(row["published_rmse"])
            source = "-" if np.isnan(given) else f"{given:.4f}"
            scale = float(row["scale"])
            lines.append(f"{number:<8}  {name:<10}  {source:<9}  {found:<8.4f}  {scale:g}")
            if np.isfinite(row["right_rmse"]):
                right = float(row["right_rmse"])
                lines.append(f"{number:<8}  {name:<10}  -          {right:<8.4f}  with the true R")
    return "\n".join(lines)


@checked
def draw(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Draw the scores as PNG and SVG; give the paths.

    Raises
    ------
    InputError, StoreError
        If the experiment holds no score, or the folder cannot be written.
    """
    return list(figures.save(figures.corrections(collect(tree)), folder, "amemiya2023"))
