"""How many hidden variables a model needs, by what short trainings gain on held-out blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daml.errors import DivergedError
from daml.progress import LOG, Progress

if TYPE_CHECKING:
    from daml.protocols import Checkpoint

UNFINISHED = 0.005
"""Standard deviation, in nats a value, of what a short training leaves to a longer one.

It is as much as one per cent of the variance of the innovations. On coupled Lorenz 63 the scores of
two, three and four hidden variables differ by up to 0.005 after short trainings, where long ones
show no difference; the blocks of a record alone would resolve a tenth of that.
"""
FIRST, MOST = 2, 6
"""Numbers up to the first are always tried: an oscillation needs two. None above the last is."""
SCORES = {
    "number_loss": "negative log-likelihood of a held-out value",
    "number_difference": "its difference from the best",
    "number_error": "standard error of the difference from the best",
}
"""What is known of each number that was tried."""
TRIED = "tried "
"""Begins the names of scores in a checkpoint."""


@dataclass
class Kept:
    """A checkpoint of a training that also holds the scores of the numbers tried before it."""

    checkpoint: Checkpoint
    scores: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        saved = self.checkpoint.load() or {}
        tried = {name: array for name, array in saved.items() if name.startswith(TRIED)}
        self.scores = {int(name.removeprefix(TRIED)): array for name, array in tried.items()}

    def load(self) -> dict[str, np.ndarray] | None:
        """Give what the training saved last; None if nothing was saved."""
        saved = self.checkpoint.load() or {}
        return {n: array for n, array in saved.items() if not n.startswith(TRIED)} or None

    def due(self) -> bool:
        """Whether enough time has passed since the last save."""
        return self.checkpoint.due()

    def save(self, arrays: dict[str, np.ndarray]) -> None:
        """Save arrays of the training, and the scores."""
        tried = {f"{TRIED}{number}": array for number, array in self.scores.items()}
        self.checkpoint.save(arrays | tried)


def compared(score: Callable[[int], np.ndarray], kept: Kept | None = None) -> xr.Dataset:
    """Try 0, 1, 2, ... hidden variables, until one more gains nothing.

    Parameters
    ----------
    score : callable
        Takes a number of hidden variables, trains, and returns the negative log-likelihood of a
        value in each held-out block (block,).
    kept : Kept, optional
        Has the scores of the numbers that an interrupted run has tried, and gets the others.

    Returns
    -------
    xarray.Dataset
        See :func:`judged`.

    Raises
    ------
    DivergedError
        If every training lost the observations.
    """
    scores: dict[int, np.ndarray] = {} if kept is None else kept.scores
    with Progress("hidden variables", "number", MOST + 1, at_most=True, leave=False) as progress:
        for number in range(MOST + 1):
            if number not in scores:
                try:
                    scores[number] = score(number)
                except DivergedError:
                    scores[number] = np.array([np.nan])
                if kept is not None and kept.due():
                    kept.save({})
            progress.advance({"held_out_loss": f"{scores[number].mean():.4f}"}, f"{number} hidden")
            if number < FIRST:
                continue
            if not any(map(_sound, scores.values())):
                raise DivergedError(
                    f"the trainings with 0 to {number} hidden variables lost the observations; "
                    "check the model's dt and the units and errors of the observations, or give "
                    "more of them"
                )
            if judged(scores).attrs["chosen"] < number:
                break
    found = judged(scores)
    LOG.info("hidden variables: %s", reason(found))
    return found


def _sound(scores: np.ndarray) -> bool:
    return bool(np.isfinite(scores).all())


def judged(scores: Mapping[int, np.ndarray]) -> xr.Dataset:
    """Compare numbers by the scores (block,) of their trainings; those that were lost are left out.

    All are judged by the same blocks, and share what makes one block harder than another: the
    variance of a mean difference is that of the paired differences, over the number of blocks. To
    it comes the variance of what a short training leaves open, which no block shows.

    Returns
    -------
    xarray.Dataset
        ``number_loss``, ``number_difference`` and ``number_error`` (number). The attribute
        ``chosen`` is the smallest number whose difference from the best is within its standard
        error.

    Examples
    --------
    >>> judged({0: np.array([0.9, 0.8]), 1: np.array([0.61, 0.51]), 2: np.array([0.6, 0.51])})
    ... # doctest: +ELLIPSIS
    <xarray.Dataset> ...
        chosen:   1
    """
    numbers = [number for number, found in scores.items() if _sound(found)]
    table = np.stack([scores[number] for number in numbers])
    loss = table.mean(axis=1)
    best = int(np.argmin(loss))
    blocks = table.shape[1]
    sampled = (table - table[best]).var(axis=1, ddof=min(1, blocks - 1)) / blocks
    error = np.where(loss == loss[best], 0.0, np.sqrt(sampled + UNFINISHED**2))
    columns = zip(SCORES, (loss, loss - loss[best], error), strict=True)
    arrays = {name: ("number", column) for name, column in columns}
    return described(xr.Dataset(arrays, {"number": numbers}))


def described(numbers: xr.Dataset) -> xr.Dataset:
    """Give scores of numbers with their names and units, and the number that is chosen."""
    made = numbers.copy()
    made["number"].attrs = {"long_name": "number of hidden variables", "units": "1"}
    for name, text in SCORES.items():
        made[name].attrs = {"long_name": text, "units": "1"}
    within = made["number_difference"] <= made["number_error"]
    made.attrs = {"chosen": int(made["number"][within][0])}
    return made


def reason(numbers: xr.Dataset) -> str:
    """Say in a line why a number was chosen."""
    chosen = numbers.attrs["chosen"]
    own = numbers.sel(number=chosen)
    away, error = float(own["number_difference"]), float(own["number_error"])
    why = f"{away:.4f} from the best, with a standard error of {error:.4f}" if away else "the best"
    pairs = zip(numbers["number"].values, numbers["number_loss"].values, strict=True)
    return f"{chosen}, {why} (held-out loss {', '.join(f'{n}: {loss:.4f}' for n, loss in pairs)})"
