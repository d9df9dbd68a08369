"""Blocks of time that a loop keeps from training, and what they say of its passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.ranges import number

BLOCKS = 20
"""Blocks of a long record."""
SHORT = 50
"""Steps of a block at least, and of a gap at most."""
MOST = 0.3
"""Largest part that is held out."""
DRAWS = 1000
"""Samples of the bootstrap."""
PATIENCE = 3
"""Passes that a loop waits for a gain."""
LEVEL = 0.05
"""Largest probability that there is no gain, for one that counts."""


def fraction(held_out: float) -> float:
    """Give the part of a record that is held out, as Python's number.

    Raises
    ------
    InputError
        If it is out of range.
    """
    if isinstance(held_out, Real) and held_out == 0:
        return 0.0
    needed = f"a fraction in (0, {MOST}], or 0 for none"
    return number(held_out, "'held_out'", needed, above=0, most=MOST)


@dataclass(frozen=True)
class HeldOut:
    """Which rows of a record are judged, and which are not trained on.

    Parameters
    ----------
    steps : int
        Rows of the record.
    fraction : float
        Part of them that is judged: blocks, evenly spread. A gap on either side is neither
        trained on nor judged.

    Raises
    ------
    InputError
        If the fraction is out of range or the record too short.

    Examples
    --------
    >>> held_out = HeldOut(10_000, 0.1)
    >>> int(held_out.judged.sum()), int(held_out.untrained.sum())
    (1000, 3000)
    """

    steps: int
    fraction: float

    def __post_init__(self) -> None:
        fraction(self.fraction)
        if self.steps * self.fraction < 2 * SHORT:
            raise InputError(
                f"a record of {self.steps} steps is too short to hold out {self.fraction:.0%} of "
                f"it; give more than {round(2 * SHORT / self.fraction)} steps, or held_out=0 "
                "and a number of passes"
            )

    @property
    def blocks(self) -> np.ndarray:
        """First and last row but one (block, 2)."""
        judged = self.steps * self.fraction
        count = int(min(judged // SHORT, BLOCKS))
        middle = (np.arange(count) + 0.5) * self.steps / count
        first = (middle - judged / count / 2).astype(int)
        return np.stack((first, first + int(judged / count)), axis=1)

    @property
    def judged(self) -> np.ndarray:
        """Whether a row (time,) is judged."""
        return self._rows(0)

    @property
    def untrained(self) -> np.ndarray:
        """Whether a row (time,) is kept from training."""
        blocks = self.blocks
        return self._rows(min(SHORT, int(blocks[0, 1] - blocks[0, 0])))

    def _rows(self, gap: int) -> np.ndarray:
        rows = np.zeros(self.steps, dtype=bool)
        for first, stop in self.blocks:
            rows[max(first - gap, 0) : stop + gap] = True
        return rows

    def masked(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give an analysis to train on: what is held out counts as not observed there."""
        trained = xr.DataArray(~self.untrained, dims="time")
        return analysis.assign(innovation=analysis["innovation"].where(trained))


def score(errors: xr.DataArray) -> xr.DataArray:
    """Give what passes are compared by: the mean log of the mean squared error of each lead.

    Parameters
    ----------
    errors : xarray.DataArray (..., block, lead)
        Mean squared innovations of the held-out blocks.
    """
    return cast("xr.DataArray", np.log(errors.mean("block"))).mean("lead") / 2


def gain(before: xr.DataArray, after: xr.DataArray, seed: int = 0) -> tuple[float, float]:
    """Give by how much a pass is better than another, and the probability that it is not.

    Parameters
    ----------
    before, after : xarray.DataArray (block, lead)
        Mean squared innovations of the held-out blocks.
    seed : int
        Of the bootstrap, which draws blocks: what lies in one hangs together in time.

    Returns
    -------
    gain, probability : float
        The gain as a part of the innovation's RMSE.

    Examples
    --------
    >>> import xarray as xr
    >>> one = xr.DataArray([[1.0], [1.2], [0.9]], dims=("block", "lead"))
    >>> found, probability = gain(one, 0.81 * one)
    >>> round(found, 3), probability
    (0.1, 0.0)
    """
    drawn = np.random.default_rng(seed).integers(before.sizes["block"], size=(DRAWS, len(before)))
    rows = xr.DataArray(drawn, dims=("draw", "block"))
    differences = score(before.isel(block=rows)) - score(after.isel(block=rows))
    found = 1 - math.exp(float(score(after) - score(before)))
    return found, float((differences <= 0).mean())


def settled(errors: xr.DataArray) -> bool:
    """Whether the last passes brought no gain over those before that a bootstrap would see.

    Parameters
    ----------
    errors : xarray.DataArray (iteration, block, lead)
        Mean squared innovations of the held-out blocks, of all passes so far.
    """
    before, after = errors[:-PATIENCE], errors[-PATIENCE:]
    if not before.sizes["iteration"]:
        return False
    return gain(best(before), best(after))[1] > LEVEL


def best(errors: xr.DataArray) -> xr.DataArray:
    """Give the errors (block, lead) of the best of some passes."""
    return errors.isel(iteration=int(np.argmin(score(errors).values)))


def chosen(errors: xr.DataArray, imperfect: xr.DataArray) -> dict[str, object]:
    """Say which pass is the best and why, for the attrs of an experiment.

    Parameters
    ----------
    errors : xarray.DataArray (iteration, block, lead)
    imperfect : xarray.DataArray (block, lead)
        Of the model that the loop started from.
    """
    found = best(errors)
    number = int(found["iteration"].item())
    part, probability = gain(imperfect, found)
    told = f"{part:.1%} below" if part > 0 else f"{-part:.1%} above"
    return {
        "chosen": number,
        "chosen_because": f"least RMSE of held-out innovations of {errors.sizes['iteration']} "
        f"passes, over leads of 1 to {found.sizes['lead']} dt; {told} that of the model given "
        f"(no gain: probability {probability:.3f})",
    }
