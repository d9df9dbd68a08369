"""Covariances by their actions, as they come back from a store."""

from __future__ import annotations

from typing import Any

import xarray as xr

from daml.covariances.by_distance import Localised
from daml.covariances.stationary import Stationary

KINDS: dict[str, Any] = {"stationary": Stationary, "localised": Localised}
"""The class of each variable of a store."""


def acts(covariance: Any) -> bool:
    """Whether a B is given by its actions."""
    return hasattr(covariance, "times") or hasattr(covariance, "root_adjoint")


def described(covariance: Any) -> xr.Dataset:
    """Give what a store keeps of a covariance by its actions; nothing if it does not say."""
    return covariance.to_dataset() if hasattr(covariance, "to_dataset") else xr.Dataset()


def restored(dataset: xr.Dataset) -> Any:
    """Give the covariance that a store has; None if it has none of daml's own."""
    for name, kind in KINDS.items():
        if name in dataset:
            return kind.restored(dataset)
    return None
