"""The models that a store names."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, cast

from daml import models
from daml.errors import InputError
from daml.stores.attributes import Attributes, is_whole, shown

if TYPE_CHECKING:
    from daml.protocols import Model


def described(attrs: Attributes, name: str, own: str) -> Model | None:
    """Give the model that settings describe; None where there is none.

    Parameters
    ----------
    name : str
    own : str
        What to do about a model that is none of daml's: its class is looked up among those in
        ``daml.models`` and nowhere else.
    """
    settings = attrs.settings(name)
    if settings is None:
        return None
    class_name = settings.pop("class", None)
    if not isinstance(class_name, str):
        raise attrs.wrong(name, "settings with the name of a 'class'")
    kinds = {n: getattr(models, n) for n in models.__all__}
    kinds = {n: k for n, k in kinds.items() if is_dataclass(k) and not inspect.isabstract(k)}
    if class_name not in kinds or "defined_by" in settings:
        known = ", ".join(kinds)
        raise InputError(
            f"{attrs.group}: {name!r} is a {shown(class_name)}, none of daml's models "
            f"({known}); {own}"
        )
    kinds_of = {f.name: type(f.default) for f in fields(kinds[class_name])}
    for setting, value in settings.items():
        kind = kinds_of.get(setting)
        right = is_whole(value) or (kind is float and isinstance(value, float))
        if kind is None or not (isinstance(value, str) if kind is str else right):
            raise attrs.wrong(name, f"settings of a {class_name} ({setting!r} is {shown(value)})")
    try:
        return cast("Model", kinds[class_name](**settings))
    except InputError as error:
        raise attrs.wrong(name, f"settings of a {class_name} ({error})") from error
