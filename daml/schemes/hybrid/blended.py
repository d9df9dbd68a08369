"""What hybrids share: an ensemble, and a climatology that is blended with its covariance."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self, cast

import numpy as np
import xarray as xr

from daml.covariances.acting import acts, described, matrix, restored
from daml.covariances.dense import check
from daml.errors import InputError
from daml.labels.datasets import names
from daml.protocols import Covariance, CovarianceProduct, Scheme, Setting, Trial
from daml.schemes.ensembles.etkf import ETKF
from daml.stores.opening import check_whole

INNOVATIONS, CLIMATOLOGICAL = "innovations", "climatological"
WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Weights of the climatology that are tried where the best one is searched for."""


@dataclass(frozen=True)
class Blended(ETKF):
    """An ensemble whose mean is analysed with B = beta C + (1 - beta) P.

    P is the covariance of the members, C a constant one. See :class:`daml.schemes.EnVar`.
    """

    _: KW_ONLY
    beta: float | str = 0.5
    background_covariance: xr.DataArray | str | CovarianceProduct | Covariance = CLIMATOLOGICAL

    def __post_init__(self) -> None:
        super().__post_init__()
        name, beta, given = type(self).__name__, self.beta, self.background_covariance
        if isinstance(beta, str):
            if beta != INNOVATIONS:
                raise InputError(
                    f"{name}: 'beta' is {beta!r}; give a number from 0 to 1, or {INNOVATIONS!r} to "
                    "estimate it"
                )
        elif not 0 <= beta <= 1:
            raise InputError(
                f"{name}: 'beta' is {beta}; give a number from 0 (the ensemble's covariance alone) "
                "to 1 (the climatology alone)"
            )
        if isinstance(given, str):
            if given != CLIMATOLOGICAL:
                raise InputError(
                    f"{name}: 'background_covariance' is {given!r}; give an xarray.DataArray "
                    f"(variable, covariable), one by its actions, or {CLIMATOLOGICAL!r}"
                )
            return
        if self._acts:
            return
        given = cast("xr.DataArray", given)
        if "variable" not in given.coords:
            raise InputError(
                f"{name}: 'background_covariance' has no names along 'variable'; see "
                "daml.climatological"
            )
        check(given, names(given), f"{name}: 'background_covariance'")

    @property
    def _acts(self) -> bool:
        """Whether the climatology is given by its actions."""
        return acts(self.background_covariance)

    @property
    def of_climatology(self) -> frozenset[str]:
        """What C requires of the model."""
        given = self.background_covariance
        return frozenset(getattr(given, "needs", ()) if self.beta != 0 else ())

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the settings still to be estimated; empty if there are none."""
        return (*(("background_covariance",) if self._lacks_climatology else ()), *self._sought())

    @property
    def _lacks_climatology(self) -> bool:
        """Whether there is a part of the climatology in B, and the model is still to give it."""
        return isinstance(self.background_covariance, str) and self.beta != 0

    def tuned(self, trial: Trial, before: Scheme | None = None) -> Self:
        """Give the scheme with the climatology of the model and estimates of its open settings.

        A loop keeps the climatology of its first model. See :func:`daml.tuned`.
        """
        scheme = self
        if self._lacks_climatology:
            has = isinstance(before, type(self)) and not isinstance(
                before.background_covariance, str
            )
            known = cast("Self", before).background_covariance if has else trial.climatology()
            scheme = replace(self, background_covariance=known)
        return super(Blended, scheme).tuned(trial, before)

    def to_dataset(self) -> xr.Dataset:
        """Give what an ensemble has to store, the weight of the climatology, and this itself."""
        attrs = {"long_name": "weight of the climatology in B", "units": "1"}
        found = super().to_dataset().assign(beta=((), float(self.beta), attrs))
        if self._acts:
            return found.merge(described(self.background_covariance))
        if not isinstance(self.background_covariance, str):
            found["background_covariance"] = cast("xr.DataArray", self.background_covariance)
        return found

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give this scheme with what ``to_dataset`` stored.

        Raises
        ------
        StoreError
            If a variable is missing or damaged.
        """
        check_whole(dataset, ("beta",), "the scheme that was kept")
        acting = restored(dataset)
        given = dataset.get("background_covariance", self.background_covariance)
        covariance = given if acting is None else acting
        scheme = super().restored(dataset)
        return replace(scheme, beta=float(dataset["beta"]), background_covariance=covariance)

    def climatology(self, setting: Setting) -> np.ndarray | None:
        """Give the constant part of B (variable, variable); None where its weight is 0."""
        given, name = self.background_covariance, type(self).__name__
        if self.beta == 0 or isinstance(given, str):
            return None
        if self._acts:
            return matrix(given, setting, name)
        return check(
            cast("xr.DataArray", given), setting.variables, f"{name}: 'background_covariance'"
        )

    def _numbers(self) -> dict[str, Any]:
        """Give the numbers that may be open, by name."""
        return {**super()._numbers(), "beta": self.beta}

    def _steps(self) -> dict[str, tuple[float, ...]]:
        """Give, for each number that may be open, those that are tried."""
        return {**super()._steps(), "beta": WEIGHTS}
