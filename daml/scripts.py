"""Models that the command line names: daml's own, or a class in a user's script."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from daml.errors import InputError, first_line
from daml.models import CoupledLorenz63, Lorenz63, Lorenz96
from daml.running.checks import check_settings


def load_model(name: str) -> Any:
    """Give the model of a name, or an instance of a class in a script.

    Parameters
    ----------
    name : str
        "lorenz63", "coupled-lorenz63", "lorenz96", or FILE.py:CLASS. The class is called without
        arguments.

    Raises
    ------
    InputError
        If the name is unknown, the script cannot be run, or it has no such class.
    """
    known: dict[str, Any] = {
        "lorenz63": Lorenz63,
        "coupled-lorenz63": CoupledLorenz63,
        "lorenz96": Lorenz96,
    }
    if name in known:
        return known[name]()
    path, colon, kind = name.rpartition(":")
    if not colon:
        raise InputError(f"--model {name!r} is unknown; give {', '.join(known)}, or FILE.py:CLASS")
    if not Path(path).is_file():
        raise InputError(f"--model: the script {path} does not exist; check its path")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--model: {path} is not a Python script; give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise InputError(
            f"--model: {path} ends the program when it is imported; put what it runs under: "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:
        raise InputError(
            f"--model: running {path} failed with {type(error).__name__}: {first_line(error)}; "
            "correct it"
        ) from error
    if not hasattr(module, kind):
        raise InputError(f"--model: {path} has no class {kind!r}; check the name")
    try:
        model = getattr(module, kind)()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model: {kind}() failed with {type(error).__name__}: {first_line(error)}; the class "
            "must work without arguments"
        ) from error
    check_settings(model)  # its step is tried at the times of the record
    return model
