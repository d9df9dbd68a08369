"""Where what is observed lies."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.operators import Operator, Selection


def observed_positions(
    observations: xr.Dataset, operator: Operator, space: StateSpace
) -> np.ndarray | None:
    """Give the positions (observed, dimension) of what is observed; None where nothing says.

    Variables of the model lie where it says. Of everything else the coordinate ``position``
    (variable) or (variable, dimension) counts.

    Raises
    ------
    InputError
        If the coordinate has no finite numbers, or another number of dimensions than the model.
    """
    if space.positions is None:
        return None
    if isinstance(operator, Selection):
        return space.positions[list(operator.places)]
    if "position" not in observations:
        return None
    given = observations["position"]
    further = [dim for dim in given.dims if dim != "variable"]
    wanted = space.positions.shape[1]
    values = given.transpose("variable", ..., missing_dims="ignore").values
    values = values.reshape(*values.shape[:1], -1)
    fits = "variable" in given.dims and len(further) <= 1 and values.shape[1] == wanted
    if not fits or given.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise InputError(
            f"observations: 'position' has the dimensions {given.dims} and the type {given.dtype}; "
            f"give finite numbers (variable) or (variable, dimension), {wanted} for each, as the "
            "model's positions have"
        )
    return np.asarray(values, dtype=np.float64)
