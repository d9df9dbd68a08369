"""Chooses the best pass of a loop by its held-out errors, and says when passes gain no more."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import xarray as xr
from scipy.stats import t

from daml.training.held_out import HeldOut

PATIENCE = 3
"""Number of passes without a gain after which a loop stops."""
LEVEL = 0.05
"""Largest probability of no gain at which a loop still continues."""
CHOICE = 0.01
"""Largest probability of no gain at which a pass replaces the model given, for all passes."""
FEWEST = 5
"""Number of blocks below which only gains above twice their spread over blocks are significant."""


def score(errors: xr.DataArray) -> xr.DataArray:
    """Give the score by which models are compared: the mean log of the root mean squared error.

    Parameters
    ----------
    errors : xarray.DataArray (..., block, horizon)
        Mean squared innovations of the held-out blocks.
    """
    return cast("xr.DataArray", np.log(errors.mean("block"))).mean("horizon") / 2


def gain(before: xr.DataArray, after: xr.DataArray) -> tuple[float, float]:
    """Give by how much the second model is better than the first, and the probability of no gain.

    Parameters
    ----------
    before, after : xarray.DataArray (block, horizon)
        Mean squared innovations of the held-out blocks.

    Returns
    -------
    gain, probability : float
        The gain as a fraction of the RMSE of the innovations, and the probability by a t-test of
        the log ratio of the errors over the blocks. Each block counts once, as the errors in a
        block are correlated in time. Logs are used because single forecasts that fail would
        dominate the errors themselves.

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
        Mean squared innovations of the held-out blocks, for all passes so far.
    """
    before, after = errors[:-PATIENCE], errors[-PATIENCE:]
    if not before.sizes["iteration"]:
        return False
    return not gain(_own(best(before)), _own(best(after)))[1] <= LEVEL


def best(errors: xr.DataArray) -> xr.DataArray:
    """Give the errors (origin, block, horizon) of the pass with the best score.

    Scored are the forecasts that start from its own analyses.
    """
    return errors.isel(iteration=int(np.argmin(score(_own(errors)).values)))


def _own(errors: xr.DataArray) -> xr.DataArray:
    """Give the errors of the forecasts that start from a model's own analyses."""
    return errors.sel(origin="own", drop=True)


def chosen(errors: xr.DataArray, given: xr.DataArray, name: str) -> dict[str, object]:
    """Give the attributes of an experiment that say which model was chosen, and why.

    The best pass is chosen if it forecasts better than the model given from its own analyses, by a
    t-test at the level of 1 % divided by the number of passes, and no worse from the analyses of
    the model given. Otherwise the model given is chosen.

    Parameters
    ----------
    errors : xarray.DataArray (iteration, origin, block, horizon)
    given : xarray.DataArray (origin, block, horizon)
        The errors of the model that the loop started from.
    name : str
        The name of the emulators, that of their class.
    """
    found, count = best(errors), errors.sizes["iteration"]
    number, level = int(found["iteration"]), CHOICE / count
    part, probability = gain(_own(given), _own(found))
    other = gain(*(e.sel(origin="given", drop=True) for e in (given, found)))[0]
    gains = [f"{p:.1%} below" if p > 0 else f"{-p:.1%} above" for p in (part, other)]
    because = (
        f"held-out innovations of {name}-{number}, the least of {count} passes: RMSE of forecasts "
        f"from its own analyses {gains[0]} that of the model given (no gain: probability "
        f"{probability:.2g}, needed {level:.2g}), from the given model's analyses {gains[1]}"
    )
    better = part > 0 and other > 0 and probability < level
    return {"chosen": number if better else "given", "chosen_because": because}


def too_short(errors: xr.DataArray, held_out: HeldOut) -> str:
    """Give the advice that a record is too short to choose a pass; "" if it is long enough.

    The fewer blocks there are, the larger a gain must be for the test of :func:`chosen`: 30 to 60
    times its spread over the blocks if there are two blocks, twice its spread if there are five.

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
    enough = held_out.more(FEWEST * blocks / max(count, 1))
    return (
        f"the record of {held_out.steps} steps is too short to tell, as it makes {count} held-out "
        f"block{'s' * (count != 1)} with observations and {FEWEST} are needed; give {enough}"
    )
