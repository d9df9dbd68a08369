"""What schemes for small models share: a model error that may be found from innovations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import shown
from daml.protocols import Scheme, Trial
from daml.schemes.ensembles.inflation import INNOVATIONS
from daml.schemes.ensembles.open_inflation import LEAST, most_likely
from daml.schemes.erring import Erring

S = TypeVar("S", bound="OpenError")

FACTORS = tuple(10.0 ** (power / 3) for power in range(-17, 6))
"""Factors on the variances of the model's climatology, among which that of Q is searched for."""
ATTRS = {"long_name": "variance of the error of a step"}


class OpenError(Erring):
    """A scheme whose ``model_error`` may be "innovations"; see :class:`daml.schemes.SigmaPoint`."""

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the settings still to be estimated from innovations; empty if there are none."""
        return ("model_error",) if isinstance(self.model_error, str) else ()

    def check_error(self) -> None:
        """Refuse a word that is no way to find the model error."""
        if self.open and self.model_error != INNOVATIONS:
            raise InputError(
                f"{type(self).__name__}: 'model_error' is {shown(self.model_error)}; give a "
                f"variance, variances or a covariance, or {INNOVATIONS!r} to estimate it"
            )

    def tuned(self: S, trial: Trial, before: Scheme | None = None) -> S:
        """Give the scheme with the model error estimated from innovations; see :func:`daml.tuned`.

        Q is diagonal, with the variances of the model's climatology times a factor. If the model
        has a ``model_error``, that is used instead.
        """
        if not self.open:
            return self
        if trial.knows_model_error:
            return self.by_model_error
        variances = trial.variances()

        def made(numbers: Mapping[str, float]) -> S:
            return self._with(numbers["model_error"] * variances)

        found = most_likely(trial, made, {"model_error": FACTORS}, _last(before, variances))
        return made(found)

    def values_needed(
        self, observations: xr.Dataset, variables: tuple[str, ...], knows_covariance: bool
    ) -> tuple[int, str] | None:
        """Give the number of values per observed quantity that tuning needs, and its purpose."""
        return (LEAST, "to find 'model_error'") if self.open else None

    def restored(self: S, dataset: xr.Dataset) -> S:
        """Give this scheme with what ``to_dataset`` stored."""
        found = super().restored(dataset)
        return found.by_model_error if found.open else found  # the model's own was taken

    def _with(self: S, error: Any) -> S:
        return cast("S", replace(cast("Any", self), model_error=error))


def _last(before: Any, variances: xr.DataArray) -> dict[str, float] | None:
    """Give the factor that was found before, if any, by its mean ratio to the climatology."""
    given = getattr(before, "model_error", None)
    if not isinstance(given, xr.DataArray) or given.dims != ("variable",):
        return None
    if given.indexes["variable"].tolist() != variances.indexes["variable"].tolist():
        return None
    ratio = np.log(given.values / variances.values)
    return {"model_error": float(np.exp(ratio.mean()))}
