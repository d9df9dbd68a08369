"""The B and the factor on R that are given to a variational scheme: what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from daml.covariances.acting import acts
from daml.covariances.dense import check
from daml.errors import InputError
from daml.labels.datasets import names


def check_given(covariance: Any, ways: Sequence[str], name: str) -> None:
    """Refuse a B that is no covariance with names, and a word that is none of ``ways``.

    Raises
    ------
    InputError
        It begins with ``name``.
    """
    if isinstance(covariance, str):
        if covariance not in ways:
            raise InputError(
                f"{name}: 'background_covariance' is {covariance!r}; give one of {tuple(ways)} or "
                "an xarray.DataArray"
            )
        return
    if acts(covariance):
        return
    if not isinstance(covariance, xr.DataArray) or "variable" not in covariance.coords:
        raise InputError(
            f"{name}: 'background_covariance' must be an xarray.DataArray (variable, "
            f"covariable) with names, a {type(covariance).__name__} was given; see "
            "daml.climatological"
        )
    check(covariance, names(covariance), "background_covariance")


def check_factor(factor: Any, name: str, argument: str = "error_factor") -> None:
    """Refuse a factor that is neither positive nor "estimated"."""
    if factor != "estimated" and (isinstance(factor, str) or not 0 < factor < np.inf):
        raise InputError(f"{name}: {argument!r} is {factor!r}; give a factor > 0, or 'estimated'")


def matrix_of(covariance: Any, variables: tuple[str, ...], name: str) -> np.ndarray:
    """Give B (variable, variable) as a matrix.

    Raises
    ------
    InputError
        If it is still to be estimated, or lacks some of the variables.
    """
    if isinstance(covariance, str):
        raise InputError(
            f"{name}: B is still {covariance!r}; have it estimated: "
            "scheme, analysis = daml.tuned(scheme, model, observations)"
        )
    return check(covariance, variables, "background_covariance")
