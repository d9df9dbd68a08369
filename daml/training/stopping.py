"""When a training ends: as soon as what it does not see no longer gains."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

PATIENCE = 20
"""Epochs that it waits for a gain, at least."""


class Watch:
    """Judges a network as it is trained, keeps its best weights, and says when to stop.

    Parameters
    ----------
    network : torch.nn.Module
    judge : callable
        Gives scores by name; the first is to be small.
    """

    def __init__(
        self, network: torch.nn.Module, judge: Callable[[], dict[str, torch.Tensor]]
    ) -> None:
        self.network, self.judge = network, judge
        self.least, self.waited = math.inf, 0
        self.weights: dict[str, np.ndarray] = {}

    def begin(self) -> None:
        """Judge the network as it is before the first epoch: a training may make it worse."""
        self._keep()
        self.scores()
        self.waited = 0

    def scores(self) -> dict[str, float]:
        """Give the scores after an epoch."""
        with torch.no_grad():
            found = {name: float(score) for name, score in self.judge().items()}
        score = next(iter(found.values()))
        self.waited += 1
        if score < self.least:
            self.least, self.waited = score, 0
            self._keep()
        return found

    def _keep(self) -> None:
        kept = self.network.state_dict()
        self.weights = {name: weight.cpu().numpy().copy() for name, weight in kept.items()}

    def over(self, epochs: int) -> bool:
        """Whether a training of so many epochs has waited for too long: for a quarter of them."""
        return self.waited >= max(PATIENCE, epochs // 4)

    def close(self) -> None:
        """Put the best weights into the network."""
        self.network.load_state_dict({k: torch.from_numpy(w) for k, w in self.weights.items()})

    def state(self) -> dict[str, np.ndarray]:
        """Give what a checkpoint keeps."""
        kept = {"watch": np.array([self.least, self.waited])}
        return kept | {f"best {name}": weight for name, weight in self.weights.items()}

    def restore(self, saved: dict[str, np.ndarray]) -> None:
        """Put back what `state` gave."""
        self.least, self.waited = float(saved["watch"][0]), int(saved["watch"][1])
        names = [name for name in saved if name.startswith("best ")]
        self.weights = {name.removeprefix("best "): saved[name] for name in names}
