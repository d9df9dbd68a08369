"""Models and schemes that the command line names: daml's, or a class in a user's script."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daml.errors import DamlError, InputError, first_line
from daml.models import (
    CoupledLorenz63,
    KuramotoSivashinsky,
    Lorenz63,
    Lorenz96,
    QuasiGeostrophic,
    TwoScaleLorenz96,
)
from daml.protocols import Scheme
from daml.running.checks import check_settings
from daml.schemes import by_name

MODELS: dict[str, Any] = {
    "lorenz63": Lorenz63,
    "coupled-lorenz63": CoupledLorenz63,
    "lorenz96": Lorenz96,
    "two-scale-lorenz96": TwoScaleLorenz96,
    "kuramoto-sivashinsky": KuramotoSivashinsky,
    "quasi-geostrophic": QuasiGeostrophic,
}
"""Those of daml's models that need no arguments, by their names on the command line."""


def load_model(name: str) -> Any:
    """Give the model of a name, or an instance of a class in a script.

    Parameters
    ----------
    name : str
        A name of `MODELS`, or FILE.py:CLASS. The class is called without arguments.

    Raises
    ------
    InputError
        If the name is unknown, the script cannot be run, or it has no such class.
    """
    if name in MODELS:
        return MODELS[name]()
    kind = load_class(name, "--model", ", ".join(MODELS))
    try:
        model = kind()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model: {kind.__name__}() failed with {type(error).__name__}: {first_line(error)}; "
            "the class must work without arguments"
        ) from error
    check_settings(model)  # its step is tried at the times of the record
    return model


def load_class(name: str, option: str, names: str) -> Any:
    """Give a class in a script.

    Parameters
    ----------
    name : str
        FILE.py:CLASS.
    option : str
        The option that it was given to, for errors.
    names : str
        What else could be given.

    Raises
    ------
    InputError
        If the name is of another form, the script cannot be run, or it has no such class.
    """
    path, colon, kind = name.rpartition(":")
    if not colon:
        raise InputError(f"{option} {name!r} is unknown; give {names}, or FILE.py:CLASS")
    if not Path(path).is_file():
        raise InputError(f"{option}: the script {path} does not exist; check its path")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{option}: {path} is not a Python script; give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise InputError(
            f"{option}: {path} ends the program when it is imported; put what it runs under: "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:
        raise InputError(
            f"{option}: running {path} failed with {type(error).__name__}: {first_line(error)}; "
            "correct it"
        ) from error
    if not isinstance(getattr(module, kind, None), type):
        raise InputError(f"{option}: {path} has no class {kind!r}; check the name")
    return getattr(module, kind)


def load_scheme(name: str, texts: Mapping[str, str], given: Mapping[str, Any]) -> Scheme:
    """Give a scheme of a name, or of a class in a script.

    Parameters
    ----------
    name : str
        A class of ``daml.schemes``, in any case, or FILE.py:CLASS.
    texts, given : mapping of str
        Arguments as they were written, and those that are values already.

    Raises
    ------
    InputError
        If the scheme or an argument is unknown, an argument is missing or has a wrong value, or
        the script cannot be run.
    """
    own = ":" in name
    kind = load_class(name, "--scheme", "") if own else by_name.found(name, "--scheme")
    values = {n: by_name.from_text(kind, n, text, "--scheme") for n, text in texts.items()}
    try:
        scheme: Scheme = by_name.made(kind, {**values, **given}, "--scheme")
    except DamlError:
        raise
    except Exception as error:
        if not own:
            raise
        raise InputError(
            f"--scheme: {kind.__name__}() failed with {type(error).__name__}: {first_line(error)}; "
            "correct it"
        ) from error
    return scheme
