"""What is kept of a cycle: its labels; of its steps mean and spread of an ensemble, and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml import __version__
from daml.arrays import fetch, member_mean, on_its_own, stacked
from daml.errors import InputError, name_of
from daml.labels.datasets import ANALYSED, DEVIATIONS, MEMBERS, SPREAD, names
from daml.labels.descriptions import description
from daml.labels.doors import coordinates
from daml.observing.functions import Given, described
from daml.observing.guarded import unwound
from daml.observing.records import Record
from daml.pairing import has_window
from daml.protocols import Observed, Outputs, Update
from daml.running.checks import check_analysis, check_finite
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.guards import GROSS, REJECTED
from daml.running.lost import LOST
from daml.schemes.calling import gathered

if TYPE_CHECKING:
    from daml.protocols import Array, Model, Scheme

MOMENTS = ("background", "background_spread", "analysis", "spread", "equivalent")
"""What a scheme whose members have different weights gives of them."""


def outputs_of(scheme: Scheme, keep_members: bool = False, *, checks: bool = False) -> Outputs:
    """Give all variables of an analysis by a scheme; with the members of an ensemble, if asked.

    ``checks`` says that gross errors are left out.
    """
    spread = {} if getattr(scheme, "members", None) is None else SPREAD
    members = MEMBERS if keep_members else {}
    lost = LOST if is_watched(scheme) else {}
    gross = GROSS if checks else {}
    return {**ANALYSED, **spread, **members, **getattr(scheme, "outputs", {}), **gross, **lost}


def labels_of(
    model: Model,
    scheme: Scheme,
    observations: xr.Dataset,
    times: np.ndarray,
    operator: Given | None,
    keep_members: bool,
) -> xr.Dataset:
    """Give the coordinates and the attributes of an analysis."""
    window = {"left_over": (len(times) - 1) % scheme.shift} if has_window(scheme) else {}
    members = {"member": np.arange(getattr(scheme, "members", 0))} if keep_members else {}
    bounds = Bounds.of(model)
    by = (
        {} if operator is None else {"operator": described(operator, observations, model.variables)}
    )
    return xr.Dataset(
        coords={
            "time": ("time", times, observations["time"].attrs),
            "variable": list(model.variables),
            "observed": list(names(observations)),
            **members,
            **coordinates(model.variables, model, observations),
        },
        attrs={
            "model": description(model, "model", exact=False),
            "scheme": description(scheme, "scheme", exact=False),
            **by,
            **window,
            **({} if bounds is None else {"bounds": bounds.text}),
            "daml_version": __version__,
        },
    )


def is_watched(scheme: Scheme) -> bool:
    """Whether it is judged if a scheme loses the observations: one that says how sure it is."""
    is_ensemble = getattr(scheme, "members", None) is not None
    return is_ensemble and "chi_square" in getattr(scheme, "outputs", {})


class Kept:
    """Turns what a cycle yields into the arrays of an analysis."""

    def __init__(
        self,
        model: Model,
        scheme: Scheme,
        record: Record,
        times: np.ndarray,
        keep_members: bool = False,
        smooths: bool = False,
    ) -> None:
        self.model, self.scheme, self.record, self.times = model, scheme, record, times
        self.members: int | None = getattr(scheme, "members", None)
        self.outputs: Outputs = getattr(scheme, "outputs", {})
        self.seen = {n for n, (dims, _) in self.outputs.items() if "observed" in dims}
        if record.limit is not None:
            self.outputs = {**self.outputs, **GROSS}
        spreads = [name for name in SPREAD if name not in self.outputs]
        self.own = () if self.members is None else ("equivalent", *spreads)
        """Of an ensemble, what follows from its members."""
        self.unbiased = self.members / (self.members - 1) if self.members else 1.0
        rows, self.wanted = 1, frozenset(self.outputs)
        if self.members is not None and (keep_members or smooths):
            self.own, rows = (*self.own, *MEMBERS), self.members
        elif smooths:
            self.own, rows = (*self.own, *DEVIATIONS), len(model.variables)
            self.wanted |= set(DEVIATIONS)
        self.size = max(len(model.variables) * rows, record.width)
        """Values of a step and segment in the largest array."""

    def of_step(self, background: Array, update: Update, observed: Observed) -> dict[str, Array]:
        """Give what is kept of a step; of an ensemble its mean and its standard deviation."""
        kept = {"background": background, "analysis": update.state, **update.extras}
        if self.members is None:
            return kept
        if update.moments:
            self._check(update.moments)
            return kept | dict(update.moments)
        kept["equivalent"] = member_mean(observed.operator.apply(background))
        for name, spread in (("background", "background_spread"), ("analysis", "spread")):
            members = kept[name]
            kept[name] = member_mean(members)
            if spread in self.own:
                squares = (members - kept[name][..., None, :]) ** 2
                kept[spread] = (member_mean(squares) * self.unbiased) ** 0.5
            if f"{name}_members" in self.own:
                kept[f"{name}_members"] = on_its_own(members)  # beside them lies what they carry
        return kept

    def _check(self, moments: Mapping[str, Array]) -> None:
        """Refuse moments of which some are missing."""
        lacking = [name for name in MOMENTS if name not in moments]
        if lacking:
            raise InputError(
                f"{type(self.scheme).__name__}: 'update' gave no {lacking[0]!r} in the moments of "
                f"Update; give all of {MOMENTS}, or none where the members have the same weight"
            )

    def block(
        self,
        found: list[dict[str, Array]],
        steps: np.ndarray,
        observed: Observed,
    ) -> dict[str, np.ndarray]:
        """Give a block of the cycle as arrays (step, segment, ...) by name."""
        names = ("background", "analysis", *self.own)
        for name in set(names) - found[0].keys():
            raise InputError(
                f"{type(self.scheme).__name__}: 'update' gave no {name!r}, which a smoother needs; "
                "give it in the extras of Update, or no 'gives_deviations'"
            )
        parts = {name: fetch(stacked([kept[name] for kept in found])) for name in names}
        what = f"the cycle of {name_of(self.model)}"
        times, scheme = self.times[steps], type(self.scheme).__name__
        if not np.isfinite(parts["analysis"]).all():
            check_analysis(scheme, parts["background"], parts["analysis"], times)
            check_finite(parts["analysis"], times, self.model.variables, what)
        equivalent = parts.pop("equivalent", None)
        if equivalent is None:
            equivalent = observed.operator.apply(parts["background"])
        values = observed.values
        parts["innovation"] = unwound(values - equivalent, observed.period)
        sizes = {"variable": parts["analysis"].shape[-1], "observed": values.shape[-1]}
        for name, (dims, _) in self.outputs.items():
            shape = (*values.shape[1:-1], *(sizes[dim] for dim in dims[1:]))
            parts[name] = gathered(self.scheme, name, dims, shape, found)
        for name in ("innovation", *self.seen):
            parts[name] = np.where(observed.present, parts[name], np.nan)
        if REJECTED in parts:
            parts["innovation"][parts[REJECTED] == 1] = np.nan
        return parts
