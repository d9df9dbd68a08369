"""What a record says of its values besides R: which are angles, and when one is a gross error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daml.arrays import namespace
from daml.errors import InputError
from daml.labels.arguments import shown
from daml.labels.fields import forms_of, has_fields

if TYPE_CHECKING:
    from daml.protocols import Observed

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


def unwound(distance: Any, period: Any) -> Any:
    """Give differences (..., observed) of angles within half a period on either side of 0."""
    if period is None:
        return distance
    xp = namespace(distance)
    turns = xp.round(distance / period)  # 0 where the period is infinite
    return distance - xp.where(turns == 0, xp.zeros_like(turns), turns * period)


def facing(observed: Observed, equivalent: Any) -> Observed:
    """Give observations whose angles are on the turn nearest to their equivalents."""
    if observed.period is None:
        return observed
    distance = unwound(observed.values - equivalent, observed.period)
    return observed._replace(values=equivalent + distance)


def _of(observations: xr.Dataset, name: str, meaning: str, none: bool) -> np.ndarray | None:
    """Give what a coordinate or a variable, or the attributes of fields, say of each value."""
    said = _said(observations, name)
    found = np.full(observations.sizes["variable"], np.inf)
    for values, rows in said:
        fits = values.dims in ((), ("variable",)) and values.dtype.kind in "fiu"
        if not fits or not _positive(values.values, none):
            raise InputError(
                f"observations: {name!r} is {shown(values.values.tolist())}; give a number > 0 "
                f"({meaning}), one for all or one along 'variable'"
            )
        found[rows] = values
    return np.where(np.isnan(found), np.inf, found) if said else None


def _said(observations: xr.Dataset, name: str) -> list[tuple[xr.Variable, Any]]:
    """Give what is said by a name, and of which values (observed,)."""
    if name in observations:
        return [(observations[name].variable, slice(None))]
    found = [(observations["observation"].attrs, slice(None))]
    if has_fields(observations):
        forms = [field for field in forms_of(observations) if field in observations.coords]
        of = observations["field"].values
        found += [(observations[field].attrs, of == field) for field in forms]
    return [(xr.Variable((), attrs[name]), rows) for attrs, rows in found if name in attrs]


def _positive(values: np.ndarray, none: bool) -> bool:
    """Whether numbers are positive, or missing where that means none."""
    return bool(((values > 0) | (np.isnan(values.astype(float)) & none)).all())
