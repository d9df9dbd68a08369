"""The experiment of Goodliff and Miyoshi (2025): presets, run and figures."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import xarray as xr

from daml import __version__, figures
from daml.arguments import checked
from daml.errors import InputError
from daml.experiment import Experiment, Preset
from daml.keeping import Keeper
from daml.reports import collect, collect_innovations, is_twin
from daml.store import Store

PRESETS = {
    "smoke": Preset(steps=4000, passes=3, cycle_epochs=20, skip=200),
    "fast": Preset(),
    "literal": Preset(epochs=500, warm_start=False),
}


@checked
def run(
    preset: str = "fast",
    *,
    store: str | Path | None = None,
    seed: int = 0,
    passes: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    resume: bool = False,
    beyond: bool = False,
) -> xr.DataTree:
    """Run the experiment, or open the store where it was finished.

    Parameters
    ----------
    preset : {"smoke", "fast", "literal"}
        A minute, the default, or the paper's own cost.
    store : str or path, optional
        A Zarr store; in memory, unless given.
    seed : int
        Of truth, noise, climatologies and training.
    passes : int, optional
        In place of the preset's.
    device : str
        Of the LSTM.
    overwrite : bool
        Whether a store of daml's that exists may go.
    resume : bool
        Go on with a store where an equal run was interrupted.
    beyond : bool
        After it, train through the cycle (:meth:`daml.LSTM.fit_cycle`), also in a store where the
        experiment is finished; which goes beyond the paper.

    Returns
    -------
    xarray.DataTree
        The contract's experiment; :func:`daml.reports.collect` gathers the scores of its passes.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a pass breaks.

    Examples
    --------
    >>> PRESETS["fast"].passes
    30
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; give one of {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    if passes is not None:
        chosen = replace(chosen, passes=passes)
    attrs = {"daml_version": __version__, "preset": preset, "seed": seed, "device": device}
    attrs |= {k: int(v) if isinstance(v, bool) else v for k, v in asdict(chosen).items()}
    finished = store is not None and not overwrite and _finished(Store(store))
    keep = Keeper(store, attrs, overwrite=overwrite, resume=resume or finished)
    with keep.open():
        if finished and not beyond:
            return keep.tree()
        experiment = Experiment(chosen, seed, device)
        tree = experiment.run(keep)
        return experiment.beyond(keep) if beyond else tree


def _finished(store: Store) -> bool:
    """Whether all passes are there."""
    if not store.made():
        return False
    passes = [name for name in store.groups() if re.fullmatch(r"iteration/\d+", name)]
    return bool(len(passes) == store.root()["attributes"].get("passes"))


@checked
def draw(tree: xr.DataTree, folder: str | Path) -> list[Path]:
    """Draw an experiment as PNG and SVG; give the paths.

    A twin experiment gives the paper's Figures 1-4; one without a truth the innovations.

    Raises
    ------
    InputError
        If no pass is there yet.
    StoreError
        If the folder cannot be written.
    """
    drawn = {"figure_1_loop": figures.loop_diagram()}
    if is_twin(tree):
        scores = collect(tree)
        drawn["figure_2_analysis_rmse"] = figures.analysis_rmse(scores)
        drawn["figure_3_error_reduction"] = figures.error_reduction(scores)
        drawn["figure_4_error_maps"] = figures.error_maps(scores)
    else:
        drawn["figure_2_innovations"] = figures.innovations(collect_innovations(tree))
    return [path for name, figure in drawn.items() for path in figures.save(figure, folder, name)]
