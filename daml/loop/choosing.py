"""Which pass of a loop is the best by its held-out errors, and whether passes still gain."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import xarray as xr
from scipy.stats import t

from daml.training.held_out import SHORT, HeldOut, longer

PATIENCE = 3
"""Passes that a loop waits for a gain."""
LEVEL = 0.05
"""Largest probability that there is no gain, for one that a loop goes on for."""
CHOICE = 0.01
"""The same for one that the model given is left for, all passes together."""
FEWEST = 5
"""Blocks below which a gain must be larger than twice its spread over the blocks to be seen."""


def score(errors: xr.DataArray) -> xr.DataArray:
    """Give what models are compared by: the mean log of the root mean squared error.

    Parameters
    ----------
    errors : xarray.DataArray (..., block, horizon)
        Mean squared innovations of the held-out blocks.
    """
    return cast("xr.DataArray", np.log(errors.mean("block"))).mean("horizon") / 2


def gain(before: xr.DataArray, after: xr.DataArray) -> tuple[float, float]:
    """Give by how much a model is better than another, and the probability that it is not.

    Parameters
    ----------
    before, after : xarray.DataArray (block, horizon)
        Mean squared innovations of the held-out blocks.

    Returns
    -------
    gain, probability : float
        The gain as a part of the innovation's RMSE; the probability of a t-test of the log ratio
        of the errors over the blocks, each of which counts once, as what lies in a block hangs
        together in time. Logs, as single forecasts that fail dominate the errors themselves.

    Examples
    --------
    >>> import xarray as xr
    >>> one = xr.DataArray([[1.0], [1.2], [0.9]], dims=("block", "horizon"))
    >>> found, probability = gain(one, 0.81 * one)
    >>> round(found, 3), probability < 0.01
    (0.1, True)
    """
    found = 1 - math.exp(float(score(after) - score(before)))
    ratio = cast("xr.DataArray", np.log(after / before))
    difference = ratio.mean("horizon").dropna("block")
    if len(difference) < 2 or not (difference != 0).any():
        return found, 1.0
    with np.errstate(divide="ignore"):
        size = difference.mean() / (difference.std(ddof=1) / math.sqrt(len(difference)))
    return found, float(t.cdf(size, len(difference) - 1))


def settled(errors: xr.DataArray) -> bool:
    """Whether the last passes brought no significant gain over those before.

    Parameters
    ----------
    errors : xarray.DataArray (iteration, origin, block, horizon)
        Mean squared innovations of the held-out blocks, of all passes so far.
    """
    before, after = errors[:-PATIENCE], errors[-PATIENCE:]
    if not before.sizes["iteration"]:
        return False
    return not gain(_own(best(before)), _own(best(after)))[1] <= LEVEL


def best(errors: xr.DataArray) -> xr.DataArray:
    """Give the errors (origin, block, horizon) of the pass with the best own forecasts."""
    return errors.isel(iteration=int(np.argmin(score(_own(errors)).values)))


def _own(errors: xr.DataArray) -> xr.DataArray:
    """Give the errors of the forecasts that start from a model's own analyses."""
    return errors.sel(origin="own", drop=True)


def chosen(errors: xr.DataArray, given: xr.DataArray, name: str) -> dict[str, object]:
    """Say which model is the best and why, for the attrs of an experiment.

    The model given stays unless the best pass forecasts better from its own analyses, by a t-test
    at the level of 1 % divided by the number of passes that it is the best of, and no worse from
    the analyses of the model given.

    Parameters
    ----------
    errors : xarray.DataArray (iteration, origin, block, horizon)
    given : xarray.DataArray (origin, block, horizon)
        Of the model that the loop started from.
    name : str
        What the emulators are called, the name of their class.
    """
    found, count = best(errors), errors.sizes["iteration"]
    number, level = int(found["iteration"]), CHOICE / count
    part, probability = gain(_own(given), _own(found))
    other = gain(*(e.sel(origin="given", drop=True) for e in (given, found)))[0]
    told = [f"{p:.1%} below" if p > 0 else f"{-p:.1%} above" for p in (part, other)]
    because = (
        f"held-out innovations of {name}-{number}, the least of {count} passes: RMSE of forecasts "
        f"from its own analyses {told[0]} that of the model given (no gain: probability "
        f"{probability:.2g}, needed {level:.2g}), from the given model's analyses {told[1]}"
    )
    better = part > 0 and other > 0 and probability < level
    return {"chosen": number if better else "given", "chosen_because": because}


def too_short(errors: xr.DataArray, held_out: HeldOut) -> str:
    """Say that a record is too short to choose a pass, and what is long enough; "" if it is not.

    The fewer blocks there are, the larger a gain must be for the test of :func:`chosen`: of two
    blocks 30 to 60 times its spread over the blocks, of five twice as large.

    Parameters
    ----------
    errors : xarray.DataArray (..., block, horizon)
        Mean squared innovations of the held-out blocks; NaN where a block holds no observation.
    held_out : HeldOut
        The blocks.
    """
    there = errors.notnull().all([d for d in errors.dims if d != "block"])
    count, blocks = int(there.sum()), len(held_out.blocks)
    if count >= FEWEST:
        return ""
    rows = math.ceil(FEWEST * SHORT * blocks / max(count, 1))
    enough = longer(rows, held_out.steps, held_out.fraction)
    return (
        f"the record of {held_out.steps} steps is too short to tell, as it makes {count} held-out "
        f"block{'s' * (count != 1)} with observations and {FEWEST} are needed; give {enough}"
    )
