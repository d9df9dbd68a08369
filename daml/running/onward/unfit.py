"""Analyses that do not go on: without an end, or of another model or scheme."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.descriptions import description
from daml.pairing import has_window, sized
from daml.running.onward.ends import End

if TYPE_CHECKING:
    from daml.protocols import Model, Scheme

START_ANEW = (
    "or start anew from its last analysis: "
    "initial=result[['analysis']].rename(analysis='state').isel(time=-1)"
)


class Asked(NamedTuple):
    """The function that is given an analysis with its end, for errors."""

    function: str
    argument: str
    otherwise: str
    """What to do instead."""


ASSIMILATE = Asked("assimilate", "initial", START_ANEW)
HISTORY = "losses"
"""The setting of an emulator that changes no step."""


ROWS = ("observation", "error_variance", "observation_time")
NEEDED = ("state_time", "step", "cycle", "state")
"""What each end has, besides its time."""


def check_end(end: End | None, initial: xr.Dataset, asked: Asked = ASSIMILATE) -> End:
    """Give the end of an analysis; refuse one that has none, or that is of another time.

    Raises
    ------
    InputError
        If it cannot be gone on from.
    """
    function, argument, otherwise = asked
    if end is None:
        raise InputError(
            f"{function}: {argument!r} is an analysis without its end (a smoothed one, one of "
            "an older daml, or without its variables 'end_...'); give the complete result of "
            f"daml.assimilate, {otherwise}"
        )
    if isinstance(end.plan, str):
        raise InputError(f"{function}: {argument!r} cannot be continued: {end.plan}, {otherwise}")
    ends_at = np.asarray(end.facts["time"])
    if not ends_at.ndim and ends_at != ends_at:
        raise InputError(
            f"{function}: the end of {argument!r} is not known, because its observations were in "
            "Dask arrays and the memory of its scheme or model changed its form; make it with "
            f"store=, or with observations in memory (ds.load()), {otherwise}"
        )
    last = np.atleast_1d(initial["time"].values)[-1:] if "time" in initial else np.array([])
    if ends_at.ndim or not (last == ends_at).all():
        when = "several times" if ends_at.ndim else str(ends_at)
        raise InputError(
            f"{function}: {argument!r} ends at {last[0]}, and its variables 'end_...' are of "
            f"{when}: it was cut, or joined with another; give the last result as daml.assimilate "
            f"gave it, {otherwise}"
        )
    return end


def check_whole_end(end: End, model: Model, scheme: Scheme) -> None:
    """Refuse an end that has lost a part, or whose parts do not fit model and scheme."""
    members = getattr(sized(scheme, model), "members", None)
    shape = (*(() if members is None else (members,)), len(model.variables))
    check_parts(end, shape, ASSIMILATE, scheme)


def check_parts(
    end: End, shape: tuple[int, ...], asked: Asked, scheme: Scheme | None = None
) -> None:
    """Refuse an end that has lost a part, or whose state has another shape.

    With a ``scheme`` also one that has lost observations of its window.
    """
    facts = end.facts
    lacking = [name for name in NEEDED if name not in facts]
    wrong = "end_step" if not isinstance(end.plan, dict) else ""
    if lacking:
        wrong = f"end_{lacking[0]}"
    elif np.shape(facts["cycle"]) != (3,) or not np.isfinite(facts["cycle"]).all():
        wrong = "end_cycle"
    elif np.shape(facts["state"]) != shape or not np.isfinite(facts["state"]).all():
        wrong = "end_state"
    elif scheme is not None and has_window(scheme):
        window, rows = end.window, len(facts.get("observation", ()))
        if rows < window or any(len(facts.get(name, ())) != rows for name in ROWS if rows):
            wrong = "end_observation"
    if wrong:
        raise InputError(
            f"{asked.function}: {asked.argument!r} has lost {wrong!r}, or its values, or was "
            f"changed; give the result as daml.assimilate gave it, {asked.otherwise}"
        )


def check_same(
    initial: xr.Dataset, model: Model, scheme: Scheme | None, asked: Asked = ASSIMILATE
) -> None:
    """Refuse another model or scheme than those of an analysis; name both.

    Without a ``scheme`` the model alone is compared.

    Raises
    ------
    InputError
        If one differs in its class or in a setting.
    """
    for what, given in (("model", model), ("scheme", scheme)):
        if given is None:
            continue
        own = _settings(json.loads(description(given, what, exact=False)))
        try:
            there = _settings(json.loads(initial.attrs[what]))
        except (KeyError, TypeError, ValueError):
            there = {}
        if there != own:
            before, now = _difference(there, own)
            raise InputError(
                f"{asked.function}: {asked.argument!r} was made with the {what} {before}, and "
                f"{now} is given; give the same, {asked.otherwise}"
            )


def _settings(described: Any) -> Any:
    """Give a description without the record of its training, which an emulator may lose."""
    if not isinstance(described, dict):
        return described
    if described.get("class") == "Forced":  # a model with forcings, which are other ones tomorrow
        return _settings(described.get("model"))
    return {name: _settings(part) for name, part in described.items() if name != HISTORY}


def _difference(there: dict[str, Any], own: dict[str, Any]) -> tuple[str, str]:
    """Say what two descriptions are of, with the first setting that differs."""
    kinds = [str(described.get("class", "unknown")) for described in (there, own)]
    if kinds[0] != kinds[1]:
        return kinds[0], kinds[1]
    differing = [key for key in sorted({*there, *own}) if there.get(key) != own.get(key)]
    name = differing[0]
    pair = [described.get(name) for described in (there, own)]
    if any(isinstance(value, (dict, list)) for value in pair):
        return f"{kinds[0]} with another {name!r}", f"{kinds[1]} with a different one"
    return f"{kinds[0]}({name}={pair[0]!r})", f"{kinds[1]}({name}={pair[1]!r})"
