"""A member of a sweep: one twin experiment with parameters of its own."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from operator import or_
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
import xarray as xr

from daml.emulators import LSTM
from daml.errors import InputError, first_line
from daml.experiments.reporting import collect
from daml.experiments.twin import SYSTEMS, Experiment, Preset
from daml.labels.space import StateSpace
from daml.loop.judging import SQUARES
from daml.pairing import check_memory, check_scheme, sized
from daml.progress import silenced
from daml.protocols import Scheme
from daml.schemes import by_name
from daml.stores.keeper import InMemory

SETTINGS = (
    "hidden",
    "layers",
    "sequence_length",
    "burn_in",
    "batch_size",
    "learning_rate",
)
"""Parameters that are the LSTM's."""
SCORES = (
    *("analysis_rmse", "background_rmse", "mfe", "mfe_reduction"),
    *(SQUARES, "chi_square", "pass_seconds"),
)
NEEDED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
PLAIN = {kind.__name__: kind for kind in NEEDED}


def _of_schemes() -> dict[str, Any]:
    """Give the types of the arguments of all schemes, by name; the seed is the member's."""
    found: dict[str, list[Any]] = {}
    for kind in by_name.known().values():
        for name, field in by_name.arguments(kind).items():
            found.setdefault(name, []).extend(by_name.kinds_of(field))
    types = {n: dict.fromkeys(PLAIN[k] for k in kinds if k in PLAIN) for n, kinds in found.items()}
    return {n: reduce(or_, of, None) for n, of in types.items() if of and n != "seed"}


def _known() -> dict[str, Any]:
    """Give the type of each parameter, by name."""
    preset, settings = get_type_hints(Preset), get_type_hints(LSTM)
    known = {f.name: preset[f.name] for f in fields(Preset)} | {n: settings[n] for n in SETTINGS}
    return known | {n: kind for n, kind in LATER.items() if n not in known}


LATER = {"system": str, "scheme": str | None, **_of_schemes()}
"""The system, the scheme and its arguments. A store says nothing of those that are defaults, so
that sweeps from before these parameters go on."""
OF_SCHEMES = set(_of_schemes()) - {f.name for f in fields(Preset)} - set(SETTINGS)
PARAMETERS = _known()
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Preset)}
DEFAULTS |= {f.name: f.default for f in fields(LSTM) if f.name in SETTINGS}
DEFAULTS |= {name: None for name in LATER if name not in DEFAULTS} | {"system": "lorenz63"}


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
        near = by_name.nearest(str(name), PARAMETERS)
        raise InputError(f"{where}: {name!r} is unknown; {near}give one of {', '.join(PARAMETERS)}")
    allowed = get_args(PARAMETERS[name]) or (PARAMETERS[name],)
    plain = value.item() if isinstance(value, np.generic) else value
    if type(plain) is int and float in allowed:
        plain = float(plain)
    if type(plain) not in allowed or plain != plain:
        kind = type(plain).__name__
        needed = next(NEEDED[kind] for kind in allowed if kind in NEEDED)
        raise InputError(f"{where}: {name!r} is {plain!r} ({kind}); give {needed}")
    if name == "system" and plain not in SYSTEMS:
        near = by_name.nearest(plain, SYSTEMS)
        raise InputError(
            f"{where}: system {plain!r} is unknown; {near}give one of {', '.join(SYSTEMS)}"
        )
    return by_name.found(plain, f"{where}: scheme").__name__ if name == "scheme" else plain


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
        own = {k: v for k, v in self.parameters.items() if v != DEFAULTS[k] and self.applies(k)}
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

    @property
    def kind(self) -> type | None:
        """The class of its scheme; None where that is 3DVar with the preset's B."""
        name = self.parameters["scheme"]
        return None if name is None else by_name.known()[name.lower()]

    def applies(self, name: str) -> bool:
        """Whether a parameter changes anything: an argument that its scheme lacks does not."""
        if name not in OF_SCHEMES:
            return True
        return self.kind is not None and name in by_name.arguments(self.kind)

    @property
    def scheme(self) -> Scheme | None:
        """Its scheme, with the seed of its experiment; None as for ``kind``."""
        if self.kind is None:
            return None
        names = by_name.arguments(self.kind)
        given = {n: self.parameters[n] for n in names if n in OF_SCHEMES}
        given = {
            n: by_name.from_text(self.kind, n, v, "scheme") if isinstance(v, str) else v
            for n, v in given.items()
            if v is not None
        }
        seed = {"seed": self.drawn} if "seed" in names else {}
        scheme: Scheme = by_name.made(self.kind, given | seed, "scheme")
        return scheme

    def check(self) -> None:
        """Refuse values out of range.

        Raises
        ------
        InputError
            As the preset, the LSTM or the scheme says it, or if the scheme does not go with the
            system.
        """
        emulator = LSTM(epochs=self.preset.epochs, window=self.preset.window, **self.settings)
        scheme = self.scheme
        if scheme is None:
            return
        if self.preset.background != DEFAULTS["background"]:
            raise InputError(
                f"'background' is {self.preset.background!r}, the B of the default scheme, and "
                f"'scheme' is {self.parameters['scheme']!r}; leave one of them out"
            )
        model = SYSTEMS[self.parameters["system"]].imperfect
        check_scheme(sized(scheme, model), model, StateSpace.of(model), lambda: False)
        check_memory(scheme, emulator, lambda: True)

    def outcome(self, error: str = "", seconds: float = np.nan) -> xr.Dataset:
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
    """Run a member and give its scores; its error is reported in the result, not raised.

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
            experiment = Experiment(
                *(preset, member.drawn, device, member.settings),
                scheme=member.scheme,
                system=member.parameters["system"],
            )
            scores = collect(experiment.run(InMemory(dict(attrs)), sensitivity=False))
            scores = scores.rename({f"{c}seconds": f"{c}pass_seconds" for c in ("", "imperfect_")})
    except Exception as error:
        return member.outcome(
            f"{type(error).__name__}: {first_line(error)}", time.perf_counter() - start
        )
    names = [n for p in ("", "imperfect_", "perfect_") for n in (p + s for s in SCORES)]
    outcome = member.outcome(seconds=time.perf_counter() - start)
    return scores[[n for n in names if n in scores]].merge(outcome).assign_attrs(outcome.attrs)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep torch to one thread: members share a machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
