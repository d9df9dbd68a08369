"""Loads fitted emulators from experiments and stores."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import xarray as xr

from daml.emulators.learned import given_of
from daml.emulators.own import trained
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.definitions import is_users
from daml.models.named import described
from daml.protocols import Emulator, Model
from daml.stores.attributes import Attributes, class_of_emulator, pass_of
from daml.stores.opening import loaded, open_tree


@checked
def load_emulator(
    source: xr.DataTree | xr.Dataset | str | Path,
    iteration: int | None = None,
    base: Model | None = None,
    emulator: Emulator | None = None,
) -> Model:
    """Load a fitted emulator from an experiment, or from where it was saved.

    Parameters
    ----------
    source : xarray.DataTree, xarray.Dataset, str or path
        An experiment (tree or store), or what ``save`` wrote.
    iteration : int, optional
        Number of the pass in an experiment (3 for "LSTM-3"); -1 is the last. Default: the pass that
        the loop chose by its held-out observations, or the last if nothing was held out. If the
        loop chose the model that it was given (the attribute ``chosen`` is "given"), that model is
        returned.
    base : Model, optional
        The model that the emulator corrects, if it is not one of daml's own. It is also returned
        if the loop chose the model given.
    emulator : Emulator, optional
        The emulator as it was given to the loop, if a store cannot hold all of it. Either an
        emulator of a class of your own: its ``restored`` is called with the Dataset that
        ``to_dataset`` gave, and returns the fitted emulator. Or a :class:`daml.emulators.Module` or
        :class:`daml.emulators.Regression` with the module or the estimator; settings, and the base
        if it is one of daml's models, come from the store.

    Returns
    -------
    Model
        The fitted emulator, or the model given.

    Raises
    ------
    InputError
        If the source holds no such emulator, or its attributes were changed.
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
    above = pass_of(tree, iteration, "load_emulator")
    if above is None:
        return _restored(loaded(tree, "/"), "load_emulator", base, emulator)
    if above == "imperfect":
        return _model_given(tree) if base is None else base
    group = f"{above}/emulator"
    made = class_of_emulator(tree)
    if emulator is not None and made not in (None, type(emulator).__name__):
        raise InputError(
            f"load_emulator: 'emulator' is a {type(emulator).__name__}, but {group!r} holds a "
            f"{made}; give the emulator that was given to the loop"
        )
    return _restored(loaded(tree, group, inherit=True), group, base, emulator, made)


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
    """Give the emulator in a Dataset; that of a user's class by its own ``restored``."""
    if emulator is not None and is_users(emulator):
        return trained(emulator, "restored", dataset)
    name = dataset.attrs.get("emulator")
    kind = _public(name)
    if kind is None:
        if made is not None and _public(made) is None:
            raise InputError(
                f"load_emulator: {group!r} holds a {made}, a class of your own; give an "
                "emulator of this class, whose 'restored' daml calls: load_emulator(..., "
                f"emulator={made}(...)); or open the group with xarray and restore it yourself"
            )
        raise InputError(
            "load_emulator: the source holds no emulator; give an experiment or a saved emulator, "
            "or the 'to_dataset' of an emulator of your own together with emulator=MyEmulator(...)"
        )
    own: Any = emulator
    if own is None:
        lacking = given_of(kind)
        if lacking:
            raise InputError(
                f"load_emulator: {group!r} holds a {name}, whose {lacking[0]!r} no store can hold; "
                f"give it: load_emulator(..., emulator={name}({lacking[0]}))"
            )
        own = kind()
    elif type(own) is not kind:
        raise InputError(
            f"load_emulator: 'emulator' is a {type(own).__name__}, but {group!r} holds a "
            f"{name}; give the emulator that was given to the loop"
        )
    if base is None:
        base = own.base
    if base is None:
        attrs = Attributes(dataset.attrs, group)
        base = described(attrs, "base", "it corrects a model of your own; give it as 'base'")
    return cast("Model", replace(own, base=base).restored(dataset))


def _public(name: object) -> Any:
    """Give the class in ``daml.emulators`` with a name; None if there is none."""
    public = import_module("daml.emulators")
    kind = getattr(public, str(name)) if name in public.__all__ else None
    return kind if isinstance(kind, type) else None
