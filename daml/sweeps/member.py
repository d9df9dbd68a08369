"""A member of a sweep: one twin experiment with parameters of its own."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
import xarray as xr

from daml.emulators import LSTM
from daml.errors import InputError, first_line
from daml.experiments.reporting import collect
from daml.experiments.twin import Experiment, Preset
from daml.loop.judging import SQUARES
from daml.progress import silenced
from daml.stores.keeper import InMemory

SETTINGS = (
    "hidden",
    "layers",
    "sequence_length",
    "burn_in",
    "batch_size",
    "learning_rate",
)
"""Parameters that are the LSTM's; all others are the preset's."""
SCORES = (
    *("analysis_rmse", "background_rmse", "mfe", "mfe_reduction"),
    *(SQUARES, "chi_square", "pass_seconds"),
)
NEEDED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _known() -> dict[str, Any]:
    """Give the type of each parameter, by name."""
    preset, settings = get_type_hints(Preset), get_type_hints(LSTM)
    return {f.name: preset[f.name] for f in fields(Preset)} | {n: settings[n] for n in SETTINGS}


PARAMETERS = _known()
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Preset)}
DEFAULTS |= {f.name: f.default for f in fields(LSTM) if f.name in SETTINGS}


def checked(name: str, value: Any, where: str) -> Any:
    """Give a parameter's value in its own type.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : object
        NumPy's numbers pass, and a whole number where a number is needed.
    where : str
        Begins the error.

    Raises
    ------
    InputError
        If there is no such parameter, or the value is of another type.

    Examples
    --------
    >>> checked("max_variance", 2, "grid")
    2.0
    """
    if name not in PARAMETERS:
        raise InputError(f"{where}: {name!r} is unknown; give one of {', '.join(PARAMETERS)}")
    allowed = get_args(PARAMETERS[name]) or (PARAMETERS[name],)
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) is int and float in allowed:
        plain = float(plain)
    if type(plain) not in allowed or plain != plain:
        kind = type(plain).__name__
        raise InputError(f"{where}: {name!r} is {plain!r} ({kind}); give {NEEDED[allowed[0]]}")
    return plain


@dataclass(frozen=True)
class Member:
    """One experiment of a sweep.

    Attributes
    ----------
    parameters : mapping of str
        A value for each of ``PARAMETERS``.
    seed : int
        Tells members apart that have the same parameters.
    """

    parameters: Mapping[str, Any]
    seed: int

    @cached_property
    def key(self) -> str:
        """A name that follows from the seed and from the parameters that are no defaults."""
        own = {k: v for k, v in self.parameters.items() if v != DEFAULTS[k]}
        content = json.dumps({"parameters": own, "seed": self.seed}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def drawn(self) -> int:
        """The seed of its experiment, from the key: the same in whatever sweep it is."""
        return int(self.key, 16)

    @property
    def preset(self) -> Preset:
        """How much of the experiment it runs."""
        return Preset(**{f.name: self.parameters[f.name] for f in fields(Preset)})

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of its LSTM."""
        return {name: self.parameters[name] for name in SETTINGS}

    def check(self) -> None:
        """Refuse values out of range.

        Raises
        ------
        InputError
            As the preset or the LSTM says it.
        """
        LSTM(epochs=self.preset.epochs, window=self.preset.window, **self.settings)

    def told(self, error: str = "", seconds: float = np.nan) -> xr.Dataset:
        """Give what is known of it without any score: its parameters, how it ended."""
        content = {
            "error": ((), np.array(error, dtype=object), {"long_name": "why the member failed"}),
            "seconds": ((), seconds, {"long_name": "time that the member took", "units": "s"}),
            "experiment_seed": ((), self.drawn, {"long_name": "seed of the member's experiment"}),
        }
        attrs = {k: v for k, v in self.parameters.items() if v is not None} | {"seed": self.seed}
        return xr.Dataset(
            content, attrs={k: int(v) if type(v) is bool else v for k, v in attrs.items()}
        )


def run(member: Member, device: str = "cpu") -> xr.Dataset:
    """Run a member and give its scores; an error of it is told, not raised.

    Parameters
    ----------
    member : Member
    device : str
        Of the LSTM.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``background_rmse`` (iteration, record), ``mfe``, ``mfe_reduction``
        (iteration, lead), ``pass_seconds`` (iteration), ``held_out_square_error`` (iteration,
        block, lead), where something was held out; the same of the imperfect and the perfect
        model as far as they have them; ``error``, ``seconds``, ``experiment_seed``; of one that
        failed the last three only.

    Examples
    --------
    >>> short = {"steps": 400, "passes": 1, "epochs": 1, "hidden": 4, "skip": 10}
    >>> result = run(Member(DEFAULTS | short, seed=0))
    >>> result.analysis_rmse.sizes["iteration"], result.error.item()
    (1, '')
    """
    start = time.perf_counter()
    try:
        with _one_core(), silenced():
            preset = member.preset
            attrs = {"max_variance": preset.max_variance, "skip": preset.skip}
            experiment = Experiment(preset, member.drawn, device, member.settings)
            scores = collect(experiment.run(InMemory(dict(attrs)), sensitivity=False))
            scores = scores.rename({f"{c}seconds": f"{c}pass_seconds" for c in ("", "imperfect_")})
    except Exception as error:
        return member.told(
            f"{type(error).__name__}: {first_line(error)}", time.perf_counter() - start
        )
    names = [n for p in ("", "imperfect_", "perfect_") for n in (p + s for s in SCORES)]
    told = member.told(seconds=time.perf_counter() - start)
    return scores[[n for n in names if n in scores]].merge(told).assign_attrs(told.attrs)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep torch to one thread: members share a machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
