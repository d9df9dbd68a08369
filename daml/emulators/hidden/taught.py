"""What a training of a model with hidden variables gives, from which the next one starts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from daml.emulators.fitted import Fitted
from daml.emulators.hidden.corrections import Correction
from daml.emulators.hidden.how_many import SCORES, described, reason
from daml.emulators.networks import Network
from daml.labels.datasets import is_hidden, names

STEP = 0.2
"""Size of the increments of a hidden variable, whose standard deviation is about 1."""
ERROR = 0.6
"""First size of the model error of a variable, as a part of the increments'."""


@dataclass(frozen=True)
class Taught(Fitted):
    """Weights, scaling, and the climate of all variables, the hidden ones included."""

    climate: np.ndarray = field(kw_only=True)
    climate_spread: np.ndarray = field(kw_only=True)
    """Mean and standard deviation (variable,) of the analyses of the training."""

    numbers: xr.Dataset | None = None
    """Scores of the numbers of hidden variables that were tried."""

    @cached_property
    def hidden(self) -> int:
        """Number of hidden variables; each step asks for it."""
        return sum(is_hidden(name) for name in self.variables)

    def widened(self, added: tuple[str, ...], network: Correction) -> Taught:
        """Give the start of a training with hidden variables, out of one that has none."""
        zero, one = np.zeros(len(added)), np.ones(len(added))
        parts = {
            "mean": (self.mean, zero),
            "spread": (self.spread, one),
            "increment_mean": (self.increment_mean, zero),
            "increment_spread": (self.increment_spread, STEP * one),
            "climate": (self.mean, zero),
            "climate_spread": (self.spread, one),
        }
        joined: dict[str, Any] = {
            name: network.shared(np.concatenate(pair)) for name, pair in parts.items()
        }
        return replace(self, variables=(*self.variables, *added), network=network, **joined)

    @cached_property
    def error_scale(self) -> torch.Tensor:
        """First standard deviations (variable,) of the model error."""
        scale = self.increment_spread.copy()
        scale[: len(scale) - self.hidden] *= ERROR
        with torch.inference_mode(False):
            return torch.as_tensor(scale, device=self.network.head.weight.device)

    def model_error(self) -> torch.Tensor:
        """Give Q (variable, variable); a gradient passes to its free entries."""
        network: Correction = self.network  # type: ignore[assignment]
        root = network.error_root(self.error_scale)
        return root @ root.T

    def to_dataset(self) -> xr.Dataset:
        """Give weights, scaling and climate as plain arrays."""
        result = super().to_dataset()
        for name in ("climate", "climate_spread"):
            result[name] = ("variable", getattr(self, name))
        if self.numbers is not None:
            result = result.assign(self.numbers.data_vars)
        return result

    def summary(self) -> dict[str, object]:
        """Give a short description of the result for notebooks."""
        summary = super().summary()
        if self.numbers is not None:
            summary["hidden variables"] = reason(self.numbers)
        return summary

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, network: Network, name: str) -> Taught:
        """Restore the result that ``to_dataset`` gave, with its weights in ``network``."""
        found = Fitted.from_dataset(dataset, network, name)
        given: dict[str, Any] = {f.name: getattr(found, f.name) for f in fields(found)}
        climate: dict[str, Any] = {n: dataset[n].values for n in ("climate", "climate_spread")}
        tried = dataset[list(SCORES)] if all(n in dataset for n in SCORES) else None
        return cls(**given, **climate, numbers=None if tried is None else described(tried))


def hidden_of(dataset: xr.Dataset) -> int:
    """Give the number of hidden variables of a Dataset that ``Taught.to_dataset`` gave."""
    return sum(is_hidden(name) for name in names(dataset))
