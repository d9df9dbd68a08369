"""What goes beyond the paper: trainings through the cycle, and how far any model can come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import xarray as xr

from daml import verification
from daml.emulators import LSTM, Augmented
from daml.experiments.twin import Experiment
from daml.loop.loop import Loop
from daml.loop.passes import Pass
from daml.models.enclosing import Around
from daml.progress import LOG, duration
from daml.protocols import Emulator, Model, Scheme
from daml.running.assimilation import assimilate
from daml.running.forecasting import forecast
from daml.running.tuning import tuned
from daml.schemes import ETKF, SigmaPoint, ThreeDVar
from daml.stores.keeper import Keeper

HIDDEN_VARIABLES = 2
UPDATES = 3
"""Updates of a training of hidden variables for each epoch that a preset allows."""
FLOORS: dict[str, Scheme] = {
    "ETKF": ETKF(20, inflation=1.01, rotate=True),
    "sigma points": SigmaPoint(),
}
"""Filters of the perfect model; the second one is the best that is known."""


@dataclass(frozen=True)
class Hiding(Around):
    """A model some of whose variables are hidden: no record has them."""

    model: Model
    hidden_names: tuple[str, ...]


def go_beyond(experiment: Experiment, keep: Keeper) -> xr.DataTree:
    """Train through the cycle, which the paper does not; keep what is not there yet."""
    tree = keep.tree()
    reference = cast("xr.DataArray", tree["imperfect/scores/mfe"].load())
    there = tree["beyond"].children if "beyond" in tree.children else ()
    for name, trained in TRAININGS.items():
        if name in there:
            continue
        LOG.info("paper: beyond the paper, training through the cycle: %s", name)
        start = time.perf_counter()
        done = trained(experiment)
        seconds = time.perf_counter() - start
        scores = experiment.score(done, reference)
        attrs = {"long_name": "time from the imperfect model to this", "units": "s"}
        scores["seconds"] = ((), seconds, attrs)
        emulated = cast("Emulator", done.model).to_dataset()
        LOG.info("paper: trained through the cycle in %s: %s", duration(seconds), name)
        keep({f"beyond/{name}": emulated, f"beyond/{name}/scores": scores})
    if "floor" not in tree.children:
        LOG.info("paper: filtering with the perfect model")
        keep({"floor/scores": floor(experiment, reference)})
    return keep.tree()


def lstm(experiment: Experiment, base: Model | None) -> Pass:
    """Give an LSTM that predicts B, with a base that it corrects or alone."""
    emulator = replace(
        experiment.emulator, base=base, covariance="predicted", rate_decay=LSTM.rate_decay
    )
    way = ThreeDVar("model"), emulator
    loop = Loop(experiment.imperfect, *way, passes=1, training="cycle")
    *_, done = loop.iterate(experiment.observations["train"])
    return done


def hidden(experiment: Experiment) -> Pass:
    """Give the imperfect model with hidden variables."""
    seen, scheme = experiment.observations["train"], SigmaPoint()
    _, analysis = tuned(ThreeDVar("innovations"), experiment.imperfect, seen)
    epochs, given = experiment.preset.cycle_epochs, experiment.emulator
    emulator = Augmented(
        hidden_variables=HIDDEN_VARIABLES,
        updates=None if epochs is None else UPDATES * epochs,
        base=experiment.imperfect,
        device=given.device,
        seed=given.seed,
    )
    model = emulator.begin(analysis, held_out=0.1).fit_cycle(seen, scheme)
    return Pass(0, model, assimilate(model, seen, scheme), scheme)


TRAININGS: dict[str, Callable[[Experiment], Pass]] = {
    "correction": lambda experiment: lstm(experiment, experiment.imperfect),
    "LSTM": lambda experiment: lstm(experiment, None),
    "hidden": hidden,
}


def floor(experiment: Experiment, reference: xr.DataArray) -> xr.Dataset:
    """Give the scores of the perfect model: the errors that no training can go below.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse`` and ``background_rmse`` (filter, record) of its filters, and
        ``mfe_reduction`` (lead) of its forecasts from the observed variables of the truth, along
        which the other ones are filtered.
    """
    model, seen = experiment.perfect, experiment.observations
    record = xr.DataArray(list(seen), dims="record", name="record")
    rows = []
    for scheme in FLOORS.values():
        parts = [experiment.analysis_rmse(r, assimilate(model, seen[r], scheme)) for r in seen]
        rows.append(xr.concat(parts, record))
    scores = xr.concat(rows, xr.DataArray(list(FLOORS), dims="filter", name="filter"))
    truth = experiment.truth["test"]
    unseen = tuple(v for v in model.variables if v not in experiment.observed)
    given = truth.sel(variable=list(experiment.observed))
    made = forecast(cast("Model", Hiding(model, unseen)), given)
    errors = verification.mfe(verification.forecast_error(made, given))
    return scores.assign(mfe_reduction=verification.reduction(errors, reference))
