"""Loads the schemes of an experiment, with what the loop found for them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import xarray as xr

from daml import schemes
from daml.emulators.own import called
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.protocols import Scheme
from daml.stores.attributes import Attributes, pass_of
from daml.stores.opening import loaded, open_tree


@checked
def load_scheme(
    source: xr.DataTree | str | Path,
    iteration: int | None = None,
    scheme: Scheme | None = None,
) -> Scheme:
    """Load the scheme of a pass, with the B and other settings that the loop tuned for it.

    Parameters
    ----------
    source : xarray.DataTree, str or path
        An experiment (tree or store).
    iteration : int, optional
        Number of the pass; -1 is the last. Default: the pass that the loop chose, or the last if
        nothing was held out. If the loop chose the imperfect model, the scheme of this model.
    scheme : Scheme, optional
        A scheme of a class of your own, as it was given to the loop. Its ``restored`` is called
        with the Dataset that its ``to_dataset`` gave.

    Returns
    -------
    Scheme
        Ready for :func:`daml.assimilate` with the model of that pass.

    Raises
    ------
    InputError
        If the source holds no such pass or scheme, or its attributes were changed.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=1000, spinup=500))
    >>> emulator = daml.LSTM(hidden=4, epochs=1)
    >>> tree = daml.improve(model, seen, emulator=emulator, passes=1, held_out=0)
    >>> daml.load_scheme(tree, 0).background_covariance.shape
    (3, 3)
    """
    tree = source if isinstance(source, xr.DataTree) else open_tree(source)
    above = pass_of(tree, iteration, "load_scheme")
    if above is None or above.partition("/")[0] not in tree.children:
        raise InputError("load_scheme: the source is no experiment; give the result of improve")
    group = f"{above}/scheme"
    made = scheme if scheme is not None else _described(tree, above)
    if "scheme" not in tree[above].children and not hasattr(made, "to_dataset"):
        return made  # its settings are all that it is
    if not hasattr(made, "restored"):
        raise InputError(
            f"load_scheme: a {type(made).__name__} has no 'restored'; write "
            "restored(self, dataset), which returns the scheme from what 'to_dataset' gave"
        )
    return cast("Scheme", called(made, "restored", loaded(tree, group, inherit=True)))


def _described(tree: xr.DataTree, above: str) -> Scheme:
    """Give a scheme of daml's with the plain settings of a pass; B is restored afterwards."""
    attrs = Attributes(tree[above].attrs, above)
    settings: dict[str, Any] = attrs.settings("scheme") or {}
    name = str(settings.pop("class", None))
    kind = getattr(schemes, name) if name in schemes.__all__ else None
    if not isinstance(kind, type) or "defined_by" in settings:
        raise InputError(
            f"load_scheme: {above!r} was made by a {name}, a class of your own; give a scheme "
            f"of this class, whose 'restored' daml calls: load_scheme(..., scheme={name}(...))"
        )
    known = {field.name for field in fields(cast("Any", kind))}
    plain = {n: value for n, value in settings.items() if isinstance(value, str | int | float)}
    try:
        return cast("Scheme", kind(**{n: value for n, value in plain.items() if n in known}))
    except InputError as error:
        raise attrs.wrong("scheme", f"settings of a {name} ({error})") from error
