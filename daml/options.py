"""Options that several commands have, and the scheme that they name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from daml.errors import InputError

if TYPE_CHECKING:
    from daml.protocols import Model

DEVICE = click.option(
    "--device",
    default="cpu",
    metavar="[cpu|cuda]",
    help="Device on which torch computes.",
)
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace an existing store, if daml wrote it."
)
RESUME = click.option(
    "--resume", is_flag=True, help="Resume the run in the store. --passes may then be raised."
)
MODEL = click.option(
    "--model",
    required=True,
    metavar="[NAME|FILE.py:CLASS]",
    help="Model to use: one of daml's by its name (daml models lists them), or a class in a script "
    "of yours.",
)
STORE = click.option(
    "--store", required=True, metavar="PATH", help="Zarr store to write; a path or a URL."
)
FORCINGS = click.option(
    "--forcings",
    default=None,
    metavar="PATH",
    help="NetCDF file or Zarr store with known inputs of the model in time, one variable for each.",
)
ONE_MODEL = click.option(
    "--model",
    default=None,
    metavar="[NAME|FILE.py:CLASS]",
    help="Model to use: one of daml's by its name (daml models lists them), or a class in a script "
    "of yours.",
)
EMULATOR = click.option(
    "--emulator",
    default=None,
    metavar="STORE",
    help="Model to use instead: the chosen emulator in a store of daml improve.",
)
COMMON: dict[str, dict[str, Any]] = {
    "members": {"metavar": "NUMBER", "help": "Number of members of an ensemble scheme."},
    "inflation": {
        "metavar": "VALUE",
        "help": "Factor on the anomalies of the members of an ensemble, or another inflation such "
        'as "RTPS(0.9)".',
    },
    "rotate/--no-rotate": {
        "default": None,
        "help": "Whether the anomalies of an ensemble are rotated at random after each analysis.",
    },
    "radius": {
        "metavar": "NUMBER",
        "help": "Half-width of the taper of a local scheme, in the unit of the model's positions.",
    },
}
"""Arguments of schemes that have an option of their own; --set takes any."""


def one_model(model: str | None, emulator: str | None, command: str) -> Model:
    """Give the model that one of two options names."""
    import daml
    from daml.scripts import load_model

    if (model is None) == (emulator is None):
        raise InputError(
            f"{command}: give one of --model, such as lorenz63, and --emulator, a store of daml "
            "improve"
        )
    made: Model = load_model(model) if model is not None else daml.load_emulator(str(emulator))
    return made


def with_scheme(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a scheme, and the scheme as its argument ``scheme``.

    It is None where no scheme is named.
    """

    @functools.wraps(command)
    def called(scheme: str | None, settings: tuple[str, ...], **rest: Any) -> None:
        common = {name.partition("/")[0]: rest.pop(name.partition("/")[0]) for name in COMMON}
        given = {name: value for name, value in common.items() if value is not None}
        command(scheme=_scheme(scheme, settings, given), **rest)

    options = [
        click.option(
            "--scheme",
            default=None,
            metavar="[NAME|FILE.py:CLASS]",
            help="Scheme that assimilates: one of daml's by its name (daml schemes lists them), or "
            "a class in a script of yours.",
        ),
        *(click.option(f"--{name}", default=option.pop("default", None), **option)
          for name, option in ((name, dict(option)) for name, option in COMMON.items())),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any argument of the scheme, such as --set radius=7.28. It may be repeated.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        called = option(called)
    return called


def _scheme(name: str | None, settings: tuple[str, ...], given: dict[str, Any]) -> Any:
    """Give the scheme that the options name; None where they name none."""
    texts = pairs(settings)
    if name is None:
        extra = [f"--{n}" for n in given] + ["--set"] * bool(texts)
        if extra:
            raise InputError(
                f"{extra[0]} is an option of a scheme, and none is given; add one, such as "
                "--scheme etkf (daml schemes lists them)"
            )
        return None
    twice = [n for n in texts if n in given]
    if twice:
        raise InputError(f"--set {twice[0]} and --{twice[0]} are given; leave one of them out")
    from daml.scripts import load_scheme

    texts |= {n: value for n, value in given.items() if isinstance(value, str)}
    return load_scheme(name, texts, {n: v for n, v in given.items() if n not in texts})


def pairs(settings: tuple[str, ...], example: str = "radius=7.28") -> dict[str, str]:
    """Give the values by name of texts NAME=VALUE.

    Raises
    ------
    InputError
        If one is of another form, or given twice.
    """
    found: dict[str, str] = {}
    for text in settings:
        written, sign, value = text.partition("=")
        name = written.strip().replace("-", "_")
        if not sign or not name:
            raise InputError(f"--set is {text!r}; give NAME=VALUE, such as --set {example}")
        if name in found:
            raise InputError(f"--set {name} is given twice; leave one of them out")
        found[name] = value.strip()
    return found
