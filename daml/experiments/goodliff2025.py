"""The experiment of Goodliff and Miyoshi (2025): presets, run and figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from daml import __version__, figures
from daml.arrays import check_device
from daml.errors import InputError
from daml.experiments.beyond import go_beyond
from daml.experiments.reporting import collect, collect_innovations, is_twin
from daml.experiments.twin import Experiment, Preset
from daml.labels.arguments import checked
from daml.labels.ranges import seed as whole_seed
from daml.progress import LOG
from daml.stores.keeper import keeper
from daml.stores.store import Store

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
    epochs: int | None = None,
    window: int | None = None,
    warm_start: bool | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    resume: bool = False,
    beyond: bool = False,
) -> xr.DataTree:
    """Run the experiment, or open the store of a finished run.

    Parameters
    ----------
    preset : {"smoke", "fast", "literal"}
        Size of the experiment: one minute, the default, or the cost of the paper's.
    store : str or path, optional
        Zarr store to write; default: in memory.
    seed : int
        Seed of truth, noise, climatologies and training.
    passes, epochs : int, optional
        Number of passes, and of epochs of each training, instead of the preset's.
    window : int, optional
        Number of last states that the LSTM sees. Default: it carries its memory along the record.
    warm_start : bool, optional
        Whether each training starts from the weights of the one before, instead of the preset's.
    device : str
        Device on which torch computes.
    overwrite : bool
        Whether to replace an existing store, if daml wrote it.
    resume : bool
        Whether to resume a run of the same settings; ``passes`` may differ, as in
        :meth:`daml.Loop.run`.
    beyond : bool
        Whether to train through the cycle afterwards, which goes beyond the paper: an LSTM
        (:meth:`daml.LSTM.fit_cycle`), and a model with hidden variables
        (:class:`daml.emulators.Augmented`); also if the experiment in the store is finished.

    Returns
    -------
    xarray.DataTree
        The experiment; :func:`daml.reports.collect` gathers the scores of its passes.

    Raises
    ------
    InputError, StoreError, DivergedError
        If a setting is unknown, the store holds another run, or a pass gives numbers that are not
        finite.

    Examples
    --------
    >>> PRESETS["fast"].passes
    30
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; give one of {', '.join(PRESETS)}")
    given: dict[str, Any] = {"passes": passes, "epochs": epochs, "window": window}
    given["warm_start"] = warm_start
    chosen = replace(PRESETS[preset], **{k: v for k, v in given.items() if v is not None})
    if beyond and chosen.window is not None:
        raise InputError(
            f"paper: 'window' is {window} with 'beyond', which needs an LSTM with a memory; "
            "leave one of them out"
        )
    seed, device = whole_seed(seed, "paper: 'seed'"), check_device(device, "paper")
    attrs = {"daml_version": __version__, "preset": preset, "seed": seed, "device": device}
    attrs |= {k: int(v) if isinstance(v, bool) else v for k, v in asdict(chosen).items()}
    finished = store is not None and not overwrite and _finished(Store(store), chosen.passes)
    keep = keeper(
        *(store, attrs),
        overwrite=overwrite,
        resume=resume or finished,
        may_change=("passes",),
    )
    with keep.open():
        if finished and not beyond:
            return keep.tree()
        LOG.info("paper: preset %s: drawing records of %s steps", preset, f"{chosen.steps:,}")
        experiment = Experiment(chosen, seed, device)
        tree = experiment.run(keep)
        return go_beyond(experiment, keep) if beyond else tree


def _finished(store: Store, passes: int) -> bool:
    """Whether the store was made with so many passes, and all are there."""
    if not store.made() or store.root()["attributes"].get("passes") != passes:
        return False
    return passes == sum(bool(re.fullmatch(r"iteration/\d+", name)) for name in store.groups())


@checked
def draw(
    source: xr.DataTree | xr.Dataset, folder: str | Path, only: int | None = None
) -> list[Path]:
    """Draw an experiment, or the scores of one, as PNG and SVG; give the paths.

    For a twin experiment these are Figures 1 to 4 of the paper, for a record without a truth the
    loop and the innovations, for variants of the experiment their Figures 3, side by side.

    Parameters
    ----------
    source : xarray.DataTree or xarray.Dataset
        An experiment, or what :func:`daml.reports.collect` or :func:`daml.reports.published` gave.
    folder : str or path
        Folder for the files.
    only : int, optional
        Number of the only figure to draw. Default: all.

    Raises
    ------
    InputError
        If the experiment holds no pass yet, or the source has no such scores or figure.
    StoreError
        If the folder cannot be written.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from daml.reports import published
    >>> [path.name for path in draw(published("seed_0"), mkdtemp(), only=3)]
    ['figure_3_error_reduction.png', 'figure_3_error_reduction.svg']
    """
    known = _figures(source)
    if only is not None and only not in known:
        raise InputError(f"figure {only} is unknown; give one of {', '.join(map(str, known))}")
    wanted = {number: known[number] for number in (known if only is None else [only])}
    drawn = {f"figure_{number}_{name}": make() for number, (name, make) in wanted.items()}
    return [path for name, figure in drawn.items() for path in figures.save(figure, folder, name)]


def _figures(source: xr.DataTree | xr.Dataset) -> dict[int, tuple[str, Callable[[], Figure]]]:
    """Give name and drawing of each figure of an experiment or of scores, by its number."""
    loop: dict[int, tuple[str, Callable[[], Figure]]] = {1: ("loop", figures.loop_diagram)}
    if isinstance(source, xr.DataTree) and not is_twin(source):
        found = collect_innovations(source)
        return loop | {2: ("innovations", lambda: figures.innovations(found))}
    scores = collect(source) if isinstance(source, xr.DataTree) else source
    if "variant" in scores.dims:
        return {3: ("variants", lambda: figures.variants(scores))}
    return loop | {
        2: ("analysis_rmse", lambda: figures.analysis_rmse(scores)),
        3: ("error_reduction", lambda: figures.error_reduction(scores)),
        4: ("error_maps", lambda: figures.error_maps(scores)),
    }
