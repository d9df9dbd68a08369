"""Where an analysis ends, as variables of its Dataset: all that a run over later times needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from daml.arrays import fetch
from daml.labels.datasets import names
from daml.observing.places.moving import MovingRecord
from daml.stores.memories import NoArrays, apart

if TYPE_CHECKING:
    from daml.observing.records import Record
    from daml.protocols import Memory
    from daml.running.cycling.ending import Stand

PREFIX = "end_"
STATE = ("end_member", "end_variable")
ROW = ("end_row", "observed")
FACTS: dict[str, tuple[tuple[str, ...], str]] = {
    "time": ((), "last time of the record"),
    "state_time": ((), "time of the state of the end: of a scheme with a window its start"),
    "step": ((), "model step of the last time, counted from the first record's first time"),
    "cycle": (
        ("end_entry",),
        "age of the cycle at the end of its last window; its pace, by how "
        "much longer a start takes than where each step is observed; steps of the window",
    ),
    "state": (STATE, "analysis from which the cycle goes on"),
    "front": (STATE, "state from which the next forecasts start"),
    "errors": (("end_window_step", *STATE), "what is added after each step of the window"),
    "near": (STATE[-1:], "by how much a variable is moved for gradients"),
    "deviation": (STATE[-1:], "standard deviation of the state that the cycle started from"),
    "counts": (("end_moment", "observed"), "number, mean and variance of all observations"),
    "signs": (("end_sign", "end_judged"), "chi-square and relative innovations of the last steps"),
    "observation": (ROW, "observations of the window, and after it"),
    "error_variance": (ROW, "their error variances"),
    "error_covariance": (("observed", "end_covariable"), "the covariance of their errors"),
    "observation_time": (ROW[:1], "their times"),
    "place": ((*ROW, "end_corner"), "the model's variables around each, of places that change"),
    "weight": ((*ROW, "end_corner"), "those of the interpolation"),
    "position": ((*ROW, "end_dimension"), "where they lie"),
}
"""What of an end has a name of its own, with dimensions and a description."""
KEPT = "numbers, arrays, and tuples, named tuples, lists and dicts of them"
PLAN, LACKS = "memory", "lacks"
"""Attributes of ``end_step``: what the memories are made of; or why they were not kept."""


class End(NamedTuple):
    """Where an analysis ends, with the arrays of all that it knows in NumPy."""

    facts: dict[str, Any]
    """By the names of ``FACTS``; what there is not is missing."""
    plan: Any
    """Of the memories of model, scheme and front; a text that says why there is none; None where
    it is damaged."""
    arrays: dict[str, np.ndarray]
    """Those of the memories, by name."""
    observed: tuple[str, ...] = ()
    """Names of what is observed."""

    @classmethod
    def found(cls, result: xr.Dataset) -> End | None:
        """Give the end of an analysis; None where it has none."""
        if f"{PREFIX}step" not in result or f"{PREFIX}time" not in result:
            return None
        step = result[f"{PREFIX}step"]
        try:
            plan = step.attrs.get(LACKS) or json.loads(step.attrs[PLAN])
        except (KeyError, TypeError, ValueError):
            plan = None
        own = [name for name in result.data_vars if str(name).startswith(PREFIX)]
        found = result[own].compute()  # at once: each variable of a lazy result costs all of it
        named = {str(name): found[name].values for name in own}
        facts = {name: named.pop(f"{PREFIX}{name}", None) for name in FACTS}
        facts = {name: part for name, part in facts.items() if part is not None}
        return cls(facts, plan, named, names(result, "observed"))

    def at(
        self,
        cycle: tuple[int, float],
        facts: dict[str, Any],
        record: Record,
        times: np.ndarray,
        rows: np.ndarray,
    ) -> End:
        """Give this end at the last of ``times`` (step,), with further facts about it.

        ``cycle`` is its age and its pace. The observations at ``rows`` of the record are those of
        the window that goes on.
        """
        facts = self.facts | facts | {"time": times[-1], "cycle": np.array([*cycle, self.window])}
        if len(rows):
            there = record.kind_present[record.kind[rows]]
            values = np.where(there, record.values(rows), np.nan)
            variance = record.kind_variance[record.kind[rows]]
            if isinstance(record, MovingRecord):
                variance = record.loaded(record.track.variance, rows)
                facts |= record.placed(rows)
            if self.window:
                values[: self.window] = self.facts["observation"][: self.window]
            facts["observation"] = values
            facts["error_variance"] = np.where(there, variance, np.nan)
            facts["observation_time"] = times[rows]
            if record.covariance is not None:
                facts["error_covariance"] = record.covariance
        return self._replace(facts=facts)

    @property
    def age(self) -> int:
        """Steps from the start of the cycle to the end of its last window, or to the end."""
        return int(self.facts["cycle"][0])

    @property
    def pace(self) -> float:
        """That of the cycle: see :class:`daml.protocols.Run`."""
        return float(self.facts["cycle"][1])

    @property
    def window(self) -> int:
        """Model steps from the state of the end to the end of its window."""
        return int(self.facts["cycle"][2])

    def variables(self) -> xr.Dataset:
        """Give the variables of the end for the Dataset of its analysis."""
        found: dict[str, Any] = {}
        for name, part in self.facts.items():
            array, (dims, about) = np.asarray(part), FACTS[name]
            if dims[-2:] == STATE:  # of one state there are no members
                dims = (*dims[:-2], *STATE[len(dims) - array.ndim :])
            found[PREFIX + name] = dims, array, {"long_name": about}
        for name, array in self.arrays.items():
            dims = tuple(f"{name}_{axis}" for axis in range(array.ndim))
            found[name] = dims, array, {"long_name": "part of a memory at the end"}
        is_kept = not isinstance(self.plan, str)
        memory = {PLAN: json.dumps(self.plan)} if is_kept else {LACKS: self.plan}
        found[f"{PREFIX}step"][2].update(memory)
        return xr.Dataset(found)


def taken(stand: Stand, members: int | None, known: Memory, scheme: str) -> End:
    """Take the last state or ensemble of a batch; ``known`` is what the scheme prepared."""
    history = stand.history
    many = stand.state.shape[0]

    def last(array: np.ndarray) -> np.ndarray:
        """Networks have segments and members in one axis."""
        size = array.shape[0] if array.ndim else 0
        each = 1 if size == many else members if members and size == many * members else size
        return np.array(array[size - each :] if size else array)

    cycle = np.array([np.nan, np.nan, len(history.times)])
    facts: dict[str, Any] = {"state": fetch(stand.state)[-1].copy(), "cycle": cycle}
    if history.times:  # without what was left out as gross errors, and angles on their turn
        seen = [np.where(fetch(o.present), fetch(o.values), np.nan)[-1] for o, _ in history.times]
        facts["observation"] = np.stack(seen)
    if history.near is not None:
        facts["near"] = np.array(history.near)
    if history.errors:
        facts["errors"] = np.stack([fetch(part)[-1] for part in history.errors])
    memories = {"model": stand.memory, "scheme": stand.known}
    if history.front is not None:
        facts["front"] = fetch(history.front[0])[-1].copy()
        memories["front"] = history.front[1]
    arrays: dict[str, np.ndarray] = {}
    plan: dict[str, Any] = {}
    for whose, memory in memories.items():
        before = known if whose == "scheme" else None
        try:
            plan[whose], found = apart(memory, f"{PREFIX}{whose}", before, last)
        except NoArrays as error:
            who = scheme if whose == "scheme" else "the model"
            lacks = f"the memory of {who} holds {error}, and only {KEPT} are kept; make it of these"
            return End(facts, lacks, {})
        arrays |= found
    return End(facts, plan, arrays)
