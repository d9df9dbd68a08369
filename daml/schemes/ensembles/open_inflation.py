"""Finds the inflation of an ensemble, and the size of R, by the likelihood of innovations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daml.errors import DivergedError, InputError
from daml.labels.trajectories import numbers_of
from daml.protocols import Trial

LEAST = 50
"""Times with observations that are needed."""
ROUGH, PART = 1_000, 20_000
"""Numbers of observation times on which the first values are looked for, and from which they are
refined. A scheme that was tuned before starts from its values, on the whole record."""
APART = 3
"""Of so many steps one is tried at first."""
ROUNDS = 4
"""Searches at most along each of several open numbers."""
YOUNG = 100
"""Rows at the start of a record, or of each trajectory, that are not counted, unless it is short:
ensembles that have only just started differ from those that follow."""
Made = Callable[[Mapping[str, float]], Any]
"""Gives the scheme with numbers for what is open."""


def most_likely(
    trial: Trial,
    made: Made,
    steps: Mapping[str, tuple[float, ...]],
    before: Mapping[str, float] | None,
) -> dict[str, float]:
    """Give the numbers with which the innovations are most likely.

    The logarithm of the probability that each analysis gives to its innovations grows where
    forecasts are accurate, and where their spread is right. It is compared between steps of each
    number: first every third one on a short part of the record, then neighbours of the best one,
    until it is higher than both; a parabola through the three gives the number. Steps at which the
    model diverges are the worst.

    Parameters
    ----------
    trial : Trial
    made : callable
    steps : mapping of str to tuple of float
        For each open number those that are tried, increasing.
    before : mapping of str to float, optional
        Numbers that were found for a similar model, to start from.

    Raises
    ------
    InputError
        If there are too few observations, or the cycle stays finite for none of the numbers.
    """
    times = int(trial.observations["observation"].notnull().any("variable").sum())
    if times < LEAST:
        raise InputError(
            f"tuned: {times} times with observations are too few to find "
            f"{' and '.join(map(repr, steps))} from; give {LEAST} or more, or numbers"
        )
    if before is None:
        scores = _Scores(_part(trial, ROUGH), made, steps)
        at = scores.best({name: range(1, len(tried), APART) for name, tried in steps.items()})
        if scores.trial is not trial:
            scores = _Scores(_part(trial, PART), made, steps)
    else:
        at = {name: int(np.abs(np.subtract(steps[name], before[name])).argmin()) for name in steps}
        scores = _Scores(trial, made, steps)
    for _ in range(ROUNDS if len(steps) > 1 else 1):
        last = dict(at)
        for name in steps:
            at = scores.climbed(at, name)
        if at == last:
            break
    if scores.of(at) == -np.inf:
        raise InputError(
            f"tuned: the cycle of {trial.model} diverges with every "
            f"{' and '.join(map(repr, steps))} that was tried; check the model's dt and units, "
            "or give more members"
        )
    return {name: scores.between(at, name) for name in steps}


def _part(trial: Trial, times: int) -> Trial:
    return trial.shortened(times) if trial.observations.sizes["time"] > times else trial


@dataclass
class _Scores:
    """Mean log-likelihoods of innovations, each worked out once."""

    trial: Trial
    made: Made
    steps: Mapping[str, tuple[float, ...]]
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def of(self, at: Mapping[str, int]) -> float:
        """Give the score of places among the steps."""
        key = tuple(at[name] for name in self.steps)
        if key not in self.known:
            numbers = {name: tried[at[name]] for name, tried in self.steps.items()}
            self.known[key] = self._worked_out(numbers)
        return self.known[key]

    def _worked_out(self, numbers: Mapping[str, float]) -> float:
        try:
            with warnings.catch_warnings():  # that some of what is tried loses the observations
                warnings.simplefilter("ignore", UserWarning)
                judged = self.trial.judged(self.trial.run(self.made(numbers)))
        except DivergedError:
            return -np.inf
        values, trajectory = judged["log_likelihood"].values, numbers_of(judged)
        places = np.arange(len(values)) - np.searchsorted(trajectory, trajectory)
        old = places >= np.minimum(YOUNG, np.bincount(trajectory)[trajectory] // 4)
        return float(values[old].mean())

    def best(self, places: Mapping[str, range]) -> dict[str, int]:
        """Give the places of the highest score, out of all that are named."""
        grid = np.stack(np.meshgrid(*places.values(), indexing="ij"), axis=-1)
        tried = [
            dict(zip(places, row, strict=True)) for row in grid.reshape(-1, len(places)).tolist()
        ]
        return max(tried, key=self.of)

    def climbed(self, at: dict[str, int], name: str) -> dict[str, int]:
        """Give the places after a climb along one number to a place above its neighbours."""
        while True:
            near = [{**at, name: at[name] + move} for move in (1, -1)]
            better = max((n for n in near if self._exists(n, name)), key=self.of)
            if self.of(better) <= self.of(at):
                return at
            at = better

    def between(self, at: dict[str, int], name: str) -> float:
        """Give the number at the top of a parabola through a place and its neighbours."""
        tried, place = self.steps[name], at[name]
        around = [{**at, name: place + move} for move in (-1, 0, 1)]
        if not all(self._exists(one, name) for one in around):
            return tried[place]
        low, top, high = (self.of(one) for one in around)
        curve = low - 2 * top + high
        shift = (low - high) / (2 * curve) if np.isfinite(curve) and curve < 0 else 0.0
        return float(np.interp(place + shift, range(len(tried)), tried))

    def _exists(self, at: Mapping[str, int], name: str) -> bool:
        return 0 <= at[name] < len(self.steps[name])
