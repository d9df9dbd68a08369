"""Fitted emulators, back from disk."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from daml.emulators.lstm import LSTM
from daml.emulators.own import trained
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.ranges import whole
from daml.models.named import described
from daml.protocols import Emulator, Model
from daml.stores.attributes import GIVEN, Attributes, chosen, passes
from daml.stores.opening import loaded, open_tree


@checked
def load_emulator(
    source: xr.DataTree | xr.Dataset | str | Path,
    iteration: int | None = None,
    base: Model | None = None,
    emulator: Emulator | None = None,
) -> Model:
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
    emulator : Emulator, optional
        An emulator of a class of your own, as it was given to the loop. Its ``restored`` takes the
        Dataset that its ``to_dataset`` gave, and returns the fitted emulator.

    Returns
    -------
    Model
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
    if emulator is not None and not hasattr(emulator, "restored"):
        raise InputError(
            f"load_emulator: a {type(emulator).__name__} has no 'restored'; write "
            "restored(self, dataset), which returns the fitted emulator from what 'to_dataset' gave"
        )
    if isinstance(source, xr.Dataset):
        return _restored(source, "load_emulator", base, emulator)
    tree = source if isinstance(source, xr.DataTree) else open_tree(source)
    groups = passes(tree)
    if not groups:
        return _restored(loaded(tree, "/"), "load_emulator", base, emulator)
    if iteration is None:
        choice = chosen(tree)
        if choice == GIVEN:
            return _model_given(tree) if base is None else base
        iteration = -1 if choice is None else int(choice)
    iteration = whole(iteration, "load_emulator: 'iteration'", least=-len(groups))
    if iteration >= len(groups):
        raise InputError(
            f"load_emulator: iteration {iteration} is not there; the experiment has {len(groups)}"
        )
    group = f"{groups[iteration]}/emulator"
    made = _class_of(tree)
    if emulator is not None and made not in (None, type(emulator).__name__):
        raise InputError(
            f"load_emulator: 'emulator' is a {type(emulator).__name__}, but {group!r} holds what a "
            f"{made} gave; give the emulator that was given to the loop"
        )
    return _restored(loaded(tree, group, inherit=True), group, base, emulator, made)


def _class_of(tree: xr.DataTree) -> str | None:
    """Give the class of the emulator that an experiment has trained; None where it is unknown."""
    try:
        found = (Attributes(tree.attrs, "load_emulator").settings("emulator") or {}).get("class")
    except InputError:
        return None
    return found if isinstance(found, str) else None


def _model_given(tree: xr.DataTree) -> Model:
    """Give the model that a loop started from."""
    attrs = Attributes(tree.attrs, "load_emulator")
    own = "the loop chose this model, which is one of your own; give it as 'base'"
    found = described(attrs, "model", own)
    if found is None:
        raise attrs.wrong("model", "a model")
    return found


def _restored(
    dataset: xr.Dataset,
    group: str,
    base: Model | None,
    emulator: Emulator | None,
    made: str | None = None,
) -> Model:
    """Give the emulator that a Dataset holds; one of a user's class restores it itself."""
    if emulator is not None:
        return trained(emulator, "restored", dataset)
    if dataset.attrs.get("emulator") != "LSTM":
        if made is not None and made != "LSTM":
            raise InputError(
                f"load_emulator: {group!r} holds what a {made} gave, a class of your own, which "
                f"daml cannot make; give it: load_emulator(..., emulator={made}(...)), whose "
                "'restored' is called, or open the group with xarray and restore it yourself"
            )
        raise InputError(
            "load_emulator: no emulator is there; give an experiment or a saved LSTM, or, of an "
            "emulator of your own, what its 'to_dataset' gave and the emulator itself as 'emulator'"
        )
    attrs = Attributes(dataset.attrs, group)
    if base is None:
        base = described(attrs, "base", "it corrects a model of your own; give it as 'base'")
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
