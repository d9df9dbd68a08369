"""The last analysis of a record as a point from which a model goes on: a state and a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.arrays import alike, fetch, home, put
from daml.covariances.model_error import error_root, of_variables
from daml.errors import InputError, name_of
from daml.labels.datasets import pack, step_like
from daml.labels.dates import offsets
from daml.pairing import certain
from daml.randomness import ranks
from daml.running.cycling.bounds import Bounds
from daml.running.cycling.stepping import advance
from daml.running.cycling.steps import drawn_errors
from daml.running.leads import MEMBERS
from daml.running.onward.ends import End
from daml.running.onward.resuming import point
from daml.running.onward.unfit import Asked

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

CLOSE, ROUNDING = 0.01, 1e-6
"""By how much members may miss the mean and the spread of their analysis, as a part of the spread
and of the value."""


class FreeSteps:
    """The steps of a model beyond its observations; those of members with random errors N(0, Q).

    The errors are those that a cycle draws whose scheme has this ``seed``.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.seed, self.order = certain(model), seed, ranks(model.variables)
        q, self.root = getattr(model, "model_error", None), None
        if q is not None:
            self.root = error_root(of_variables(q, tuple(model.variables), name_of(model)))

    def moved(self, x: Array, memory: Memory, step: int, many: bool) -> tuple[Array, Memory]:
        """Move states (..., variable) to a model step; there are ``many``, members, or one."""
        x, memory = advance(self.model, x, memory)
        if self.root is None or not many:
            return x, memory
        root = alike(self.root, x) if isinstance(self.root, np.ndarray) else self.root
        members = x.reshape(1, -1, x.shape[-1])
        errors = drawn_errors(self.seed, np.array([step]), root, self.order, members)
        return x + errors.reshape(x.shape), memory


def last_point(
    model: Model, analysis: xr.Dataset, end: End, steps: FreeSteps, asked: Asked
) -> tuple[Array, Memory, float | None]:
    """Give the last analysis, the model's memory there, and the weight of a member.

    The state is (1, variable) or (1, member, variable). The weight is that of a squared deviation
    in a covariance; None for one state. Of a scheme with a window the model is moved from its start
    to its end, as the cycle does; from there it goes along the analyses of a shorter window.

    Raises
    ------
    InputError
        If members have not the mean and the spread of the last analysis, or are not known.
    """
    device, variables = home(model), tuple(model.variables)
    time, since = (np.asarray(end.facts[name]) for name in ("time", "state_time"))
    step = step_like(time, model.dt, getattr(model, "time_unit", "s"))
    total = round(float(offsets(time[None], since[()], step)[0]))
    left, first = total - end.window, int(end.facts["step"]) - total
    is_apart = "front" in end.facts
    x, memory = point(end, "front" if is_apart else "model", model, device, asked)
    many = x.ndim > 2
    for place in range(0 if is_apart else end.window):
        x, memory = steps.moved(x, memory, first + place + 1, many)
        if "errors" in end.facts:
            x = x + put(end.facts["errors"][place][None], device)
    bounds = Bounds.of(model)
    x = x if bounds is None else bounds.within(x)
    name = MEMBERS if many else "analysis"
    for row in range(-1 - left, 0):
        if name in analysis:
            own = pack(analysis[[name]].isel(time=[row]), name, variables)[0]
            x = put(np.moveaxis(own, -2, 0), device)
        elif left:
            raise InputError(
                f"{asked.function}: the last {left} steps of {asked.argument!r} are those of a "
                "shorter window, whose members are not part of its end; give a result of "
                f"daml.assimilate(..., keep_members=True), {asked.otherwise}"
            )
        if row < -1:
            x, memory = steps.moved(x, memory, int(end.facts["step"]) + row + 2, many)
    return x, memory, _weight(fetch(x)[0], analysis, variables, asked) if many else None


def _weight(
    members: np.ndarray, analysis: xr.Dataset, variables: tuple[str, ...], asked: Asked
) -> float:
    """Give the weight of the squared deviation of a member (member, variable) in a covariance.

    It follows from the spread of the analysis. Refuse members that do not give mean and spread.
    """
    mean = members.mean(axis=0)
    squares = ((members - mean) ** 2).sum(axis=0)
    last = analysis.isel(time=[-1])
    wanted, usual = pack(last, "analysis", variables)[0][0], 1 / (len(members) - 1)
    spread = np.sqrt(usual * squares)
    if "spread" in analysis:
        spread = pack(last, "spread", variables)[0][0]
    seen = squares > 0
    weight = float(np.median(spread[seen] ** 2 / squares[seen])) if seen.any() else usual
    allowed = CLOSE * spread + ROUNDING * (np.abs(wanted) + spread)
    wrong = np.abs(mean - wanted) > allowed
    wrong |= np.abs(np.sqrt(weight * squares) - spread) > allowed
    if wrong.any():
        raise InputError(
            f"{asked.function}: the members at the end of {asked.argument!r} do not have the mean "
            f"and the spread of its last analysis ({variables[int(np.argmax(wrong))]!r}): they "
            "have different weights, or random errors by another seed within a window; give a "
            f"result of daml.assimilate(..., keep_members=True), or of another scheme, e.g. "
            f"daml.schemes.ETKF(20), {asked.otherwise}"
        )
    return weight
