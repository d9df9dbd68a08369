"""Fitted emulators, back from disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
import xarray as xr

from daml import models
from daml.arguments import checked
from daml.emulators.lstm import LSTM
from daml.errors import InputError, first_line
from daml.opening import loaded, open_tree
from daml.protocols import Model


@checked
def load_emulator(
    source: xr.DataTree | xr.Dataset | str | Path,
    iteration: int | None = None,
    base: Model | None = None,
) -> LSTM:
    """Give a fitted emulator back from an experiment or from where it was saved.

    Parameters
    ----------
    source : xarray.DataTree, xarray.Dataset, str or path
        An experiment (tree or store), or what ``save`` wrote.
    iteration : int, optional
        Which LSTM-n of an experiment; -1 is the last. Unless given, the one that the loop chose by
        its held-out observations, or else the last.
    base : Model, optional
        The model that it corrects, where that is not one of daml's own.

    Returns
    -------
    LSTM
        Fitted: a Model ready for assimilate and forecast.

    Raises
    ------
    InputError
        If the source holds no such emulator.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=200)
    >>> emulator = daml.LSTM(hidden=4, epochs=1).fit(run)
    >>> load_emulator(emulator.to_dataset()).variables
    ('x0', 'x1', 'x2')
    """
    if isinstance(source, (str, Path)):
        source = open_tree(source)
    if isinstance(source, xr.DataTree):
        passes = sorted(source["iteration"].children) if "iteration" in source.children else []
        if passes:
            if iteration is None:
                iteration = int(source.attrs.get("chosen", -1))
            if not -len(passes) <= iteration < len(passes):
                raise InputError(
                    f"load_emulator: iteration {iteration} is not there; the experiment has "
                    f"{len(passes)}"
                )
            group = f"iteration/{passes[iteration]}/emulator"
            source = loaded(source, group, inherit=True)
        else:
            source = loaded(source, "/")
    if source.attrs.get("emulator") != "LSTM":
        raise InputError("load_emulator: no emulator is there; give an experiment or a saved LSTM")
    try:
        settings, told = (json.loads(source.attrs[name]) for name in ("settings", "base"))
        if settings["device"].startswith("cuda") and not torch.cuda.is_available():
            settings["device"] = "cpu"
        plain = LSTM(**settings)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"load_emulator: its attributes are not those that daml wrote ({first_line(error)}); "
            "restore them from a copy"
        ) from error
    if told is not None and base is None:
        kind = getattr(models, told.pop("class"), None)
        if kind is None:
            raise InputError("load_emulator: it corrects a model of your own; give it as 'base'")
        base = kind(**told)
    return replace(plain, base=base).restored(source)
