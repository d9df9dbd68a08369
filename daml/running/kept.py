"""What is kept of the steps of a cycle: the mean and the spread of an ensemble, and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from array_api_compat import array_namespace

from daml.arrays import fetch, stacked
from daml.errors import InputError
from daml.labels.datasets import ANALYSED, SPREAD
from daml.observing.records import Record
from daml.protocols import Outputs, Update
from daml.running.checks import check_analysis, check_finite
from daml.schemes.calling import gathered

if TYPE_CHECKING:
    from daml.protocols import Array, Model, Scheme

MOMENTS = ("background", "background_spread", "analysis", "spread", "equivalent")
"""What a scheme whose members have different weights gives of them."""


def outputs_of(scheme: Scheme) -> Outputs:
    """Give all variables of an analysis by a scheme."""
    spread = {} if getattr(scheme, "members", None) is None else SPREAD
    return {**ANALYSED, **spread, **getattr(scheme, "outputs", {})}


class Kept:
    """Turns what a cycle yields into the arrays of an analysis."""

    def __init__(self, model: Model, scheme: Scheme, record: Record, times: np.ndarray) -> None:
        self.model, self.scheme, self.record, self.times = model, scheme, record, times
        self.members: int | None = getattr(scheme, "members", None)
        self.outputs: Outputs = getattr(scheme, "outputs", {})
        self.seen = {n for n, (dims, _) in self.outputs.items() if "observed" in dims}

    def of_step(self, background: Array, update: Update) -> dict[str, Array]:
        """Give what is kept of a step; of an ensemble its mean and its standard deviation."""
        kept = {"background": background, "analysis": update.state, **update.extras}
        if self.members is None:
            return kept
        if update.moments:
            self._check(update.moments)
            return kept | dict(update.moments)
        xp = array_namespace(background)
        kept["equivalent"] = xp.mean(self.record.operator.apply(background), axis=-2)
        for name, spread in (("background", "background_spread"), ("analysis", "spread")):
            members = kept[name]
            kept[name] = xp.mean(members, axis=-2)
            kept[spread] = xp.std(members, axis=-2, correction=1)
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
        values: np.ndarray,
        pattern: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Give a block of the cycle as arrays (step, segment, ...) by name."""
        own = ("equivalent", *SPREAD) if self.members is not None else ()
        names = ("background", "analysis", *own)
        parts = {name: fetch(stacked([kept[name] for kept in found])) for name in names}
        what = f"the cycle of {type(self.model).__name__}"
        times, scheme = self.times[steps], type(self.scheme).__name__
        if not np.isfinite(parts["analysis"]).all():
            check_analysis(scheme, parts["background"], parts["analysis"], times)
            check_finite(parts["analysis"], times, self.model.variables, what)
        equivalent = parts.pop("equivalent", None)
        if equivalent is None:
            equivalent = self.record.operator.apply(parts["background"])
        parts["innovation"] = values - equivalent
        sizes = {"variable": parts["analysis"].shape[-1], "observed": values.shape[-1]}
        for name, (dims, _) in self.outputs.items():
            shape = (*values.shape[1:-1], *(sizes[dim] for dim in dims[1:]))
            parts[name] = gathered(self.scheme, name, dims, shape, found)
        present = self.record.noise.present[pattern]
        for name in ("innovation", *self.seen):
            parts[name] = np.where(present, parts[name], np.nan)
        return parts
