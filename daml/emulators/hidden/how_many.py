"""How many hidden variables a model needs, by what short trainings gain on held-out blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from daml.progress import LOG, Progress

UNFINISHED = 0.005
"""Standard deviation, in nats a value, of what a short training leaves to a longer one.

It is as much as one per cent of the variance of the innovations. On coupled Lorenz 63 the scores of
two, three and four hidden variables differ by up to 0.005 after short trainings, where long ones
show no difference; the blocks of a record alone would resolve a tenth of that.
"""
FIRST, MOST = 2, 6
"""Numbers up to the first are always tried: an oscillation needs two. None above the last is."""
NUMBERS = ("number_loss", "number_difference", "number_standard_error")
"""What is known of each number that was tried."""


TEXTS = (
    "negative log-likelihood of a held-out value",
    "difference of the negative log-likelihood from the best",
    "standard error of the difference",
)


class Judged(NamedTuple):
    """How well each number did against the best."""

    loss: np.ndarray
    """Negative log-likelihood of a held-out value (number,)."""
    difference: np.ndarray
    """From the best (number,)."""
    error: np.ndarray
    """Standard error of the difference (number,)."""

    @property
    def chosen(self) -> int:
        """The smallest number that is within its standard error of the best."""
        return int(np.argmax(self.difference <= self.error))


def judged(scores: np.ndarray) -> Judged:
    """Compare numbers by the scores (number, block) of their trainings.

    All are judged by the same blocks, whose differences in difficulty they share: the variance of a
    mean difference is that of the paired differences over the number of blocks. To it comes the
    variance of what a short training leaves open, since no block tells of that.
    """
    loss = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), np.inf)
    best = int(np.argmin(loss))
    paired = scores[np.isfinite(loss)] - scores[best]
    error = np.full(len(loss), np.inf)
    blocks = scores.shape[1]
    sampled = paired.var(axis=1, ddof=1) / blocks if blocks > 1 else np.zeros(len(paired))
    error[np.isfinite(loss)] = np.sqrt(sampled + UNFINISHED**2)
    error[best] = 0.0
    return Judged(loss, loss - loss.min(), error)


def compared(score: Callable[[int], np.ndarray]) -> xr.Dataset:
    """Try 0, 1, 2, ... hidden variables, until one more gains nothing.

    Parameters
    ----------
    score : callable
        Takes a number of hidden variables, trains, and returns the negative log-likelihood of a
        value in each held-out block (block,).

    Returns
    -------
    xarray.Dataset
        ``NUMBERS`` (number), and the attribute ``chosen``.
    """
    scores: list[np.ndarray] = []
    with Progress("hidden variables", "number", MOST + 1, at_most=True, leave=False) as progress:
        for number in range(MOST + 1):
            scores.append(score(number))
            found = judged(np.array(scores))
            told = f"{found.loss[-1]:.4f}"
            progress.advance({"held_out_loss": told}, f"{number} hidden variables")
            if number >= FIRST and found.chosen < number:
                break
    columns = zip(NUMBERS, found, strict=True)
    made = described(xr.Dataset({name: ("number", column) for name, column in columns}))
    LOG.info("hidden variables: %s", reason(made))
    return made


def described(numbers: xr.Dataset) -> xr.Dataset:
    """Give scores of numbers with their names and units, and the number that was chosen."""
    made = numbers.assign_coords(number=np.arange(numbers.sizes["number"]))
    made["number"].attrs = {"long_name": "number of hidden variables", "units": "1"}
    for name, text in zip(NUMBERS, TEXTS, strict=True):
        made[name].attrs = {"long_name": text, "units": "1"}
    loss, difference, error = (made[name].values for name in NUMBERS)
    made.attrs = {"chosen": Judged(loss, difference, error).chosen}
    return made


def reason(numbers: xr.Dataset) -> str:
    """Say in a line why a number was chosen."""
    chosen = numbers.attrs["chosen"]
    loss, difference, error = (numbers[name].values for name in NUMBERS)
    best = int(np.argmin(loss))
    tried = ", ".join(f"{number}: {value:.4f}" for number, value in enumerate(loss))
    why = (
        "the best"
        if chosen == best
        else (
            f"{difference[chosen]:.4f} from the best, with a standard error of {error[chosen]:.4f}"
        )
    )
    return f"{chosen}, {why} (held-out loss {tried})"
