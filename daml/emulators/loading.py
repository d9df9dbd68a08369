"""Fitted emulators, back from disk."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from daml.arguments import checked
from daml.emulators.lstm import LSTM
from daml.errors import InputError
from daml.opening import loaded, open_tree
from daml.protocols import Model
from daml.ranges import whole
from daml.stored import GIVEN, Attributes, chosen, passes


@checked
def load_emulator(
    source: xr.DataTree | xr.Dataset | str | Path,
    iteration: int | None = None,
    base: Model | None = None,
) -> LSTM | Model:
    """Give a fitted emulator back from an experiment or from where it was saved.

    Parameters
    ----------
    source : xarray.DataTree, xarray.Dataset, str or path
        An experiment (tree or store), or what ``save`` wrote.
    iteration : int, optional
        Which LSTM-n of an experiment; -1 is the last. Unless given, the one that the loop chose by
        its held-out observations, or else the last. Where the loop found none better than the
        model that it was given (the attribute ``chosen`` is "given"), that model is returned.
    base : Model, optional
        The model that the emulator corrects, where that is not one of daml's own; it is also the
        model that is returned where the loop chose the one given.

    Returns
    -------
    LSTM or Model
        Ready for assimilate and forecast: the fitted emulator, or the model given.

    Raises
    ------
    InputError
        If the source holds no such emulator, or its attributes are not those that daml wrote.
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
    if isinstance(source, xr.Dataset):
        return _restored(source, "load_emulator", base)
    tree = source if isinstance(source, xr.DataTree) else open_tree(source)
    groups = passes(tree)
    if not groups:
        return _restored(loaded(tree, "/"), "load_emulator", base)
    if iteration is None:
        choice = chosen(tree)
        if choice == GIVEN:
            return base or _model_given(tree)
        iteration = -1 if choice is None else int(choice)
    iteration = whole(iteration, "load_emulator: 'iteration'", least=-len(groups))
    if iteration >= len(groups):
        raise InputError(
            f"load_emulator: iteration {iteration} is not there; the experiment has {len(groups)}"
        )
    group = f"{groups[iteration]}/emulator"
    return _restored(loaded(tree, group, inherit=True), group, base)


def _model_given(tree: xr.DataTree) -> Model:
    """Give the model that a loop started from."""
    attrs = Attributes(tree.attrs, "load_emulator")
    own = "the loop chose this model, which is one of your own; give it as 'base'"
    found = attrs.model("model", own)
    if found is None:
        raise attrs.wrong("model", "a model")
    return found


def _restored(dataset: xr.Dataset, group: str, base: Model | None) -> LSTM:
    """Give the emulator that a Dataset holds."""
    if dataset.attrs.get("emulator") != "LSTM":
        raise InputError("load_emulator: no emulator is there; give an experiment or a saved LSTM")
    attrs = Attributes(dataset.attrs, group)
    if base is None:
        base = attrs.model("base", "it corrects a model of your own; give it as 'base'")
    return replace(_plain(attrs), base=base).restored(dataset)


def _plain(attrs: Attributes) -> LSTM:
    """Give the emulator of the settings kept, without its base, on a device that is here."""
    settings: dict[str, Any] = attrs.settings("settings") or {}
    known = {f.name for f in fields(LSTM)} - {"base", "fitted"}
    for name in settings:
        if name not in known:
            raise attrs.wrong("settings", f"the settings of an LSTM (without {name[:40]!r})")
    if str(settings.get("device")).startswith("cuda") and not torch.cuda.is_available():
        settings["device"] = "cpu"
    try:
        return LSTM(**settings)
    except InputError as error:
        raise attrs.wrong("settings", f"the settings of an LSTM ({error})") from error
