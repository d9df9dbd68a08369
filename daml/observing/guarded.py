"""What a record says of its values besides R: which are angles, and when one is a gross error."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import shown
from daml.labels.fields import forms_of, has_fields

LIMIT, PERIOD = "gross_error", "period"


def limits(observations: xr.Dataset) -> np.ndarray | None:
    """Give how many standard deviations an innovation may have (observed,), infinite if any.

    None if the record does not say.
    """
    return _of(observations, LIMIT, "how many standard deviations of H B H' + R", none=False)


def periods(observations: xr.Dataset) -> np.ndarray | None:
    """Give the lengths (observed,) after which values repeat themselves, infinite if they do not.

    None if the record does not say.
    """
    return _of(observations, PERIOD, "360 for degrees", none=True)


def _of(observations: xr.Dataset, name: str, meaning: str, none: bool) -> np.ndarray | None:
    """Give what a coordinate or a variable, or the attributes of fields, say of each value."""
    size = observations.sizes["variable"]
    if name in observations:
        given = observations[name]
        values = np.asarray(given.values)
        fits = given.dims in ((), ("variable",))
        found = np.broadcast_to(values, (size,)) if fits else values
    else:
        fits, found = True, np.full(size, np.inf)
        said = {"": observations["observation"].attrs}
        if has_fields(observations):
            forms = [f for f in forms_of(observations) if f in observations.coords]
            said |= {field: observations[field].attrs for field in forms}
        if not any(name in attrs for attrs in said.values()):
            return None
        for field, attrs in said.items():
            if name in attrs:
                rows = observations["field"].values == field if field else slice(None)
                found[rows] = values = attrs[name]
    if not fits or found.dtype.kind not in "fiu" or not _positive(found, none):
        raise InputError(
            f"observations: {name!r} is {shown(values.tolist())}; give a number > 0 ({meaning}), "
            "one for all or one along 'variable'"
        )
    found = found.astype(np.float64)
    return np.where(np.isnan(found), np.inf, found)


def _positive(values: np.ndarray, none: bool) -> bool:
    """Whether numbers are positive, or missing where that means none."""
    return bool(((values > 0) | (np.isnan(values.astype(float)) & none)).all())
