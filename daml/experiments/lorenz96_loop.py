"""The loop of Goodliff and Miyoshi (2025) on a ring: Lorenz 96 without a part of its damping.

The truth is damped by the cube of each variable and driven more strongly; the imperfect model is
Lorenz 96 as usual. Three of each five variables are observed, as three of the five are in the
paper's own experiment. Networks correct the imperfect model's step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from daml import figures
from daml.emulators import CNN, LSTM
from daml.errors import InputError
from daml.experiments.judged_twin import Twin
from daml.experiments.presets import corrections_of, groups_of, performed
from daml.labels.arguments import check_fields, checked
from daml.labels.ranges import whole
from daml.loop.loop import Loop
from daml.loop.passes import TRAININGS, Pass
from daml.models import Lorenz96
from daml.progress import LOG, duration
from daml.protocols import Array, Emulator, Scheme
from daml.schemes import LETKF, ThreeDVar
from daml.stores.keeper import Keeper
from daml.stores.opening import loaded
from daml.training.held_out import fraction

SPINUP = 500
"""Steps before each record of the truth."""
LEADS = (1, 2, 4, 10, 20)
"""Steps after which forecasts are scored."""


@dataclass(frozen=True)
class Damped(Lorenz96):
    """Lorenz 96 that is damped by the cube of each variable, and driven more strongly.

    dx_i/dt = (x_(i+1) - x_(i-2)) x_(i-1) - x_i - damping x_i^3 + F

    One step of Lorenz 96 with F = 8 and without the cube errs by 0.10 (root mean square, dt =
    0.05), which a constant correction lowers by a fifth. The largest Lyapunov exponent is 0.7; a
    damping of 0.025 with F = 8.5 leaves no chaos.
    """

    forcing: float = 10.0
    damping: float = 0.01

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., n)."""
        return super().tendency(x) - self.damping * x**3


SEEN, AMONG = 3, 5
"""So many variables of each group of so many are observed: x00, x01, x02, x05, ..."""


def observed(n: int) -> list[str]:
    """Give the names of what is observed of n variables."""
    names = Lorenz96(n=n).variables
    return [name for place, name in enumerate(names) if place % AMONG < SEEN]


LEARNERS: dict[str, Callable[..., Any]] = {"LSTM": LSTM, "CNN": CNN}
SCHEMES = ("3DVar", "LETKF")


@dataclass(frozen=True)
class Settings:
    """How much of the experiment is run.

    Attributes
    ----------
    steps, test_steps : int
        Length of the record that is learned from, and of the unseen one, in steps of 0.05.
    passes : int
        Number of passes of each loop on analyses. A training through the cycle is one pass.
    schemes : tuple of str
        "3DVar", with B from innovations, and "LETKF", whose inflation follows from them; both are
        tuned anew for each model.
    learners : tuple of str
        "LSTM" and "CNN"; each corrects the step of the imperfect model.
    trainings : tuple of str
        "analyses" as in the paper, and "cycle": through the assimilation cycle, by 3DVar alone.
    epochs, cycle_epochs : int, optional
        Maximum of each training; default: that of the emulator.
    members, radius
        Of the LETKF: its size, and the half-width of its taper in places of the ring.
    inflation : float, optional
        Of the LETKF; default: found from the innovations of each model.
    held_out : float
        Fraction of the record that is not trained on, by which schemes are tuned for networks.
    skip : int
        Steps at a record's head that the scores leave out.
    n : int
        Number of variables of the ring, 5 or more.

    Raises
    ------
    InputError
        If one is out of range.
    """

    steps: int = 4000
    test_steps: int = 2000
    passes: int = 3
    schemes: tuple[str, ...] = SCHEMES
    learners: tuple[str, ...] = tuple(LEARNERS)
    trainings: tuple[str, ...] = TRAININGS
    epochs: int | None = None
    cycle_epochs: int | None = None
    members: int = 10
    radius: float = 4.0
    inflation: float | None = None
    held_out: float = 0.1
    skip: int = 200
    n: int = 40

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "test_steps", "passes", "members"):
            whole(getattr(self, name), f"lorenz96: {name!r}")
        whole(self.n, "lorenz96: 'n'", least=5)
        for name in ("epochs", "cycle_epochs"):
            if getattr(self, name) is not None:
                whole(getattr(self, name), f"lorenz96: {name!r}")
        known = {"schemes": SCHEMES, "learners": tuple(LEARNERS), "trainings": TRAININGS}
        for name, allowed in known.items():
            given = getattr(self, name)
            if not given or len(set(given)) < len(given) or not set(given) <= set(allowed):
                raise InputError(
                    f"lorenz96: {name!r} is {given}; give some of {', '.join(allowed)}, each once"
                )
        if not self.loops:
            raise InputError(
                "lorenz96: no loop is left: 'cycle' needs 3DVar; give the training 'analyses', or "
                "the scheme '3DVar'"
            )
        fraction(self.held_out)
        if not 0 <= self.skip < min(self.steps, self.test_steps):
            raise InputError(
                f"lorenz96: 'skip' is {self.skip}; give 0 or more, and less than 'steps' and "
                "'test_steps'"
            )

    @property
    def loops(self) -> list[tuple[str, str, str]]:
        """Scheme, learner and training of each loop."""
        every = product(self.schemes, self.learners, self.trainings)
        return [loop for loop in every if loop[0] == "3DVar" or loop[2] == "analyses"]


PRESETS = {
    "smoke": Settings(
        *(2000, 800, 2, ("LETKF",), ("CNN",), ("analyses",)), inflation=1.15, skip=100
    ),
    "fast": Settings(cycle_epochs=20),
    "literal": Settings(100_000, 100_000, 30, skip=1000),
}
"""A minute, ten minutes, and the record and the passes of the paper (days)."""


@checked
def run(
    preset: str | Settings = "fast",
    *,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> xr.DataTree:
    """Run the loop on Lorenz 96 with several schemes, networks and trainings.

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
        Whether to resume a run of the same settings after its last loop.

    Returns
    -------
    xarray.DataTree
        ``/correction/3DVar_CNN_analyses``, ...: for each loop the ``scores`` (iteration) of its
        passes and its last ``emulator``; ``/correction/3DVar_imperfect`` and
        ``/correction/3DVar_perfect``, ...: for each scheme the ``scores`` of the two models.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a training leaves the finite
        numbers.

    References
    ----------
    Goodliff, M. and Miyoshi, T. (2025): Using data assimilation to improve data-driven models.
    EGUsphere, egusphere-2025-933.

    Examples
    --------
    >>> len(PRESETS["fast"].loops), PRESETS["smoke"].loops
    (6, [('LETKF', 'CNN', 'analyses')])
    """
    how: dict[str, Any] = {"store": store, "seed": seed, "overwrite": overwrite}
    return performed(Experiment, "lorenz96", preset, PRESETS, resume=resume, **how)


class Experiment(Twin):
    """Truth and observations of a seed, and the loops on them."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        random = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
        super().__init__(
            *(Lorenz96(n=settings.n), Damped(n=settings.n), observed(settings.n)),
            steps=(settings.steps, settings.test_steps),
            spinup=SPINUP,
            skip=settings.skip,
            random=random,
            leads=[lead for lead in LEADS if lead < settings.test_steps],
        )

    def scheme(self, name: str) -> Scheme:
        """Give a scheme by its name."""
        if name == "3DVar":
            return ThreeDVar("innovations")
        settings = self.settings
        inflation: Any = "innovations" if settings.inflation is None else settings.inflation
        how: dict[str, Any] = {"inflation": inflation, "seed": self.seed}
        return LETKF(settings.members, radius=settings.radius, **how)

    def loop(self, scheme: str, learner: str, training: str) -> Loop:
        """Give a loop by the names of its parts."""
        settings = self.settings
        how = {"epochs": settings.epochs, "cycle_epochs": settings.cycle_epochs}
        emulator: Emulator = LEARNERS[learner](base=self.imperfect, seed=self.seed, **how)
        return Loop(
            *(self.imperfect, self.scheme(scheme), emulator),
            passes=settings.passes if training == "analyses" else 1,
            held_out=settings.held_out,
            training=training,
        )

    def run(self, keep: Keeper) -> None:
        """Run what is left of the loops; keep each as it is done."""
        begun = keep.begun
        there = groups_of(begun)
        first: dict[str, Pass] = {}
        references: dict[str, xr.DataArray] = {}
        for parts in self.settings.loops:
            scheme, group = parts[0], f"correction/{'_'.join(parts)}"
            if group in there:
                continue
            loop, control = self.loop(*parts), f"correction/{scheme}"
            if scheme not in first:
                first[scheme] = next(loop.iterate(self.observations["train"]))
            if begun is not None and f"{control}_perfect" in there:
                references[scheme] = loaded(begun, f"{control}_imperfect/scores")["mfe"]
            elif scheme not in references:
                scores = {
                    "imperfect": self.score(first[scheme], None),
                    "perfect": self.perfect_rmse(self.scheme(scheme)),
                }
                references[scheme] = scores["imperfect"]["mfe"]
                keep({f"{control}_{model}/scores": found for model, found in scores.items()})
            keep(self.passed(group, loop, first[scheme], references[scheme]))

    def passed(
        self, group: str, loop: Loop, first: Pass, reference: xr.DataArray
    ) -> dict[str, xr.Dataset]:
        """Run a loop after the pass of the imperfect model; give its scores and its emulator."""
        rows, done, start = [], first, time.perf_counter()
        for done in loop.iterate(self.observations["train"], first):
            seconds = time.perf_counter() - start
            scores = self.score(done, reference)
            scores["seconds"] = ((), seconds, {"long_name": "time of the pass", "units": "s"})
            rows.append(scores)
            found = float(scores["analysis_rmse"].sel(record="test"))
            name = f"{group.partition('/')[2]}-{done.iteration}"
            LOG.info("lorenz96: %s: rmse=%.3f, %s", name, found, duration(seconds))
            start = time.perf_counter()
        scores = xr.concat(rows, xr.DataArray(np.arange(len(rows)), dims="iteration"))
        emulator = cast("Emulator", done.model).to_dataset()
        return {f"{group}/emulator": emulator, f"{group}/scores": scores}


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Give the scores of all loops in one Dataset.

    Parameters
    ----------
    tree : xarray.DataTree
        Of :func:`run`, finished or not.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``background_rmse`` (variant, iteration, record), ``mfe``,
        ``mfe_reduction`` (variant, iteration, lead), ``seconds`` (variant, iteration), NaN where a
        loop has fewer passes; those of the imperfect and the perfect model as ``imperfect_...`` and
        ``perfect_...`` (variant, ...).

    Raises
    ------
    InputError
        If it holds no loop.
    """
    there = corrections_of(tree, "lorenz96", "loop")
    groups = [group for group in there if not group.endswith(("_imperfect", "_perfect"))]
    if not groups:
        raise InputError("lorenz96: the experiment holds no finished loop; give one that has run")
    parts = []
    for group in groups:
        scores = loaded(tree, f"correction/{group}/scores")
        for model in ("imperfect", "perfect"):
            control = loaded(tree, f"correction/{group.partition('_')[0]}_{model}/scores")
            scores = scores.assign({f"{model}_{n}": control[n] for n in control.data_vars})
        parts.append(scores)
    names = ["{}, {} on {}".format(*group.split("_")) for group in groups]
    names = [name.replace("on cycle", "through the cycle") for name in names]
    variant = xr.DataArray(names, dims="variant", name="variant")
    return xr.concat(parts, variant, join="outer").assign_attrs(emulator="network")


@checked
def table(tree: xr.DataTree) -> str:
    """Give the scores of all loops on the unseen record as text."""
    scores = collect(tree).sel(record="test")
    leads = ", ".join(str(lead) for lead in scores["lead_steps"].values)
    lines = [f"{'loop':<28}pass   RMSE  background  reduction (%) of the error at {leads} dt"]

    def row(name: str, number: str, part: xr.Dataset, prefix: str = "") -> str:
        rmse, background = (
            float(part[f"{prefix}{kind}_rmse"]) for kind in ("analysis", "background")
        )
        gains = "" if prefix else "".join(f"{v:6.0f}" for v in part["mfe_reduction"].values)
        return f"{name:<28}{number:>4}{rmse:7.3f}{background:12.3f}  {gains}".rstrip()

    schemes: list[str] = []
    for name in scores["variant"].values:
        part = scores.sel(variant=name)
        scheme = str(name).partition(",")[0]
        if scheme not in schemes:
            schemes.append(scheme)
            for model in ("imperfect", "perfect"):
                lines.append(row(f"{scheme}, {model} model", "", part, f"{model}_"))
        passes = part.dropna("iteration", subset=["analysis_rmse"])
        for number in passes["iteration"].values:
            lines.append(row(str(name), str(number), passes.sel(iteration=number)))
    return "\n".join(lines)


@checked
def draw(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Draw Figures 2 and 3 of the paper for each loop as PNG and SVG; give the paths.

    Raises
    ------
    InputError, StoreError
        If the experiment holds no loop, or the folder cannot be written.
    """
    scores = collect(tree)
    drawn = {
        "lorenz96_analysis_rmse": figures.analysis_variants(scores),
        "lorenz96_error_reduction": figures.variants(scores.expand_dims(seed=[0])),
    }
    return [path for name, figure in drawn.items() for path in figures.save(figure, folder, name)]
