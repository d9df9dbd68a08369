"""Covariances by their actions: of the variables of a model, and as they come back from a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from daml.covariances.by_distance import Localised
from daml.covariances.diffusion import Diffusion
from daml.covariances.stationary import Stationary
from daml.errors import InputError
from daml.protocols import Setting

KINDS: dict[str, Any] = {
    "stationary": Stationary,
    "localised": Localised,
    "diffusion": Diffusion,
}
"""The class of each variable of a store."""


def acts(covariance: Any) -> bool:
    """Whether a B is given by its actions."""
    return hasattr(covariance, "times") or hasattr(covariance, "root_adjoint")


def of_setting(covariance: Any, setting: Setting, owner: str) -> Any:
    """Give a covariance by its actions as that of the variables of a model.

    Raises
    ------
    InputError
        If it is of another number of variables, or does not know where they lie. It begins with
        ``owner``.
    """
    size = len(setting.variables)
    if hasattr(covariance, "placed"):
        covariance = covariance.placed(setting.space)
    found = _size(covariance, size)
    if found != size:
        raise InputError(
            f"{owner}: 'background_covariance', a {type(covariance).__name__}, is for {found} "
            f"variables, and the model has {size}; give a B for {size} variables"
        )
    return covariance


def times(covariance: Any, x: Any) -> Any:
    """Give B x (..., variable), by the root of B where there is no shorter way."""
    if hasattr(covariance, "times"):
        return covariance.times(x)
    return covariance.root(covariance.root_adjoint(x))


def matrix(covariance: Any, setting: Setting, owner: str) -> np.ndarray:
    """Give a covariance by its actions as a matrix (variable, variable), of few variables.

    Raises
    ------
    InputError
        If it is none of the variables, or not positive definite.
    """
    covariance, size = of_setting(covariance, setting, owner), len(setting.variables)
    found: np.ndarray = np.asarray(times(covariance, np.eye(size)))
    try:
        np.linalg.cholesky(found)
    except np.linalg.LinAlgError:
        raise InputError(
            f"{owner}: 'background_covariance', a {type(covariance).__name__}, is not positive "
            "definite within rounding errors, and its matrix is needed here; give a shorter "
            "correlation length, 'groups' for variables that lie at one place, or method='cg' "
            "if the scheme has it"
        ) from None
    return found


def _size(covariance: Any, size: int) -> int:
    """Give the number of variables of B; where it does not say, that of a product."""
    if hasattr(covariance, "size"):
        return int(covariance.size)
    if hasattr(covariance, "root"):
        return int(covariance.root(np.zeros(covariance.control)).shape[-1])
    return int(covariance.times(np.zeros(size)).shape[-1])


def described(covariance: Any) -> xr.Dataset:
    """Give what a store keeps of a covariance by its actions; nothing if it does not say."""
    return covariance.to_dataset() if hasattr(covariance, "to_dataset") else xr.Dataset()


def restored(dataset: xr.Dataset) -> Any:
    """Give the covariance that a store has; None if it has none of daml's own."""
    for name, kind in KINDS.items():
        if name in dataset:
            return kind.restored(dataset)
    return None
