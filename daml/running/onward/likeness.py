"""What the end of a lazy analysis will look like, before anything of it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daml.labels.datasets import step_like
from daml.labels.dates import after
from daml.labels.space import StateSpace
from daml.observing.records import GIVEN, read
from daml.pairing import has_window
from daml.running.checks import typical
from daml.running.onward.going_on import GoingOn
from daml.running.segmented import Cycles
from daml.running.starts.first_guess import FirstGuess
from daml.running.targets import Target
from daml.segments import Cut

if TYPE_CHECKING:
    from daml.observing.functions import Through
    from daml.protocols import Model, Outputs, Scheme


def end_like(
    model: Model,
    scheme: Scheme,
    observations: xr.Dataset,
    labels: xr.Dataset,
    outputs: Outputs,
    function: Through | None,
    space: StateSpace,
    going: GoingOn | None,
) -> xr.Dataset | None:
    """Give the variables of an end with their sizes; their values are of no use.

    They are those of a short run with observations of a typical state, which has as many steps
    after its last window as the record: no value of the record is read. None if that run fails.
    """
    total, skip = labels.sizes["time"], 0 if going is None else going.skip
    shift, window = (scheme.shift, scheme.window) if has_window(scheme) else (1, 0)
    rows = total - shift * max((total - window - 2 * shift) // shift, 0)
    variables, unit = tuple(model.variables), getattr(model, "time_unit", "s")
    state = typical(model, 1)
    try:
        fake = _without_times(observations, model, skip + rows)
        record = read(fake, variables, model.dt, unit, function, space)
        operator = record.seen(np.zeros(1, dtype=np.int64)).operator  # places may change
        seen = np.tile(operator.apply(state), (skip + rows, 1))
        record = replace(record, source=xr.Variable(("time", "variable"), seen))
        start = xr.Dataset({"state": ("variable", state[0])}, {"variable": list(variables)})
        first = FirstGuess(model, record, record.axis.grid(), start)
        spread = np.ones(len(variables))
        cycles = Cycles(model, scheme, record, first, going=going, spread=spread)
        sizes: Mapping[Any, int] = {**labels.sizes, "time": rows}
        shapes = {n: [sizes[dim] for dim in dims] for n, (dims, _) in outputs.items()}
        arrays = {name: np.empty(shape) for name, shape in shapes.items()}
        cycles.run(Cut(rows, rows, 0), Target(arrays))
    except Exception:  # a made-up record may be more than a scheme of a user's bears
        return None
    return None if cycles.end is None else cycles.end.variables()


def _without_times(observations: xr.Dataset, model: Model, rows: int) -> xr.Dataset:
    """Give a record of so many steps with zeros, with the operator and the covariance of one."""
    times = observations["time"].values
    step = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    timed = [name for name, array in observations.variables.items() if "time" in array.dims]
    kept = observations.drop_vars([*timed, "error_variance"], errors="ignore").load()
    size = observations.sizes["variable"]
    found: dict[str, Any] = {"observation": (("time", "variable"), np.zeros((rows, size)))}
    if "error_covariance" not in observations:
        kept = kept.assign(error_variance=("variable", np.ones(size)))
    for name in map(str, {*timed} & {*GIVEN} - {"observation", "error_variance"}):  # places
        first = observations[name].variable.isel(time=[0]).load()
        found[name] = first.isel(time=[0] * rows)
    if "place" in found:  # a slot may be empty at that time
        there = (found["place"] >= 0).any("corner").transpose("time", "variable")
        found["observation"] = there.dims, np.where(there.values, 0.0, np.nan)
    return kept.assign(found).assign_coords(time=after(times[0], np.arange(rows), step))
