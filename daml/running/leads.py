"""What forecasts start from, and how they are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml import __version__
from daml.errors import InputError
from daml.labels.datasets import (
    TimeAxis,
    check_dims,
    step_like,
    time_axis,
)
from daml.labels.dates import MONTHS, is_calendar
from daml.labels.descriptions import description
from daml.labels.doors import coordinates

if TYPE_CHECKING:
    from daml.protocols import Model


MEMBERS = "analysis_members"
"""What an analysis calls its members."""


def record_of(model: Model, initial: xr.Dataset, warmup: int) -> tuple[str, TimeAxis]:
    """Give the name of the states to start from, and their times; refuse what is no record."""
    name = "state" if "state" in initial else "analysis"
    name = MEMBERS if name == "analysis" and MEMBERS in initial else name
    axis = time_axis(initial, name, model.dt, getattr(model, "time_unit", "s"))
    check_dims(initial, name, ("variable",))
    extra = [d for d in initial[name].dims if d not in ("time", "variable", "member")]
    if extra:
        raise InputError(f"forecast: {name!r} has the further dimension {extra[0]!r}; select one")
    if axis.length != len(axis.times):
        raise InputError(f"forecast: {name!r} has gaps in time; fill them first")
    if axis.length <= warmup:
        raise InputError(
            f"forecast: {axis.length} states are too few for a warm-up of {warmup}; give more of "
            "them, or a smaller 'warmup' (0 for a model without a memory)"
        )
    return name, axis


def model_steps(leads: int | Sequence[int], warmup: int = 0, what: str = "forecast") -> list[int]:
    """Give the model steps to forecast, increasing; an error begins with ``what``."""
    steps = list(range(1, leads + 1)) if isinstance(leads, int) else sorted(set(leads))
    if not steps or steps[0] < 1:
        raise InputError(f"{what}: 'leads' is {leads}; give model steps >= 1")
    if warmup < 0:
        raise InputError(f"forecast: 'warmup' is {warmup}; give 0 or more")
    return steps


def labels_of_leads(
    model: Model, times: np.ndarray, warmup: int, steps: list[int], initial: xr.Dataset
) -> xr.Dataset:
    """Give the coordinates and the attributes of forecasts."""
    step_length = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    unit = {}
    if is_calendar(step_length):
        step_length, unit = int(step_length.astype(np.int64)), {"units": MONTHS}
    return xr.Dataset(
        coords={
            "start": times[warmup:],
            "lead": ("lead", np.array(steps) * step_length, {"long_name": "lead", **unit}),
            "lead_steps": ("lead", steps, {"long_name": "lead in model steps"}),
            "variable": list(model.variables),
            **coordinates(model.variables, model, initial),
        },
        attrs={
            "model": description(model, "model", exact=False),
            "warmup": warmup,
            "daml_version": __version__,
        },
    )
