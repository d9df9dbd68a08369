"""The errors of observations, and what they are of, as plain matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import xarray as xr
from array_api_compat import device

from daml.arrays import fetch, namespace, put
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import names
from daml.observing.operators import read_operator
from daml.protocols import Noise


@dataclass(frozen=True)
class TabledNoise:
    """R and what is missing, by pattern, NumPy's or torch's; see :class:`daml.protocols.Noise`."""

    present: Any
    variance: Any
    covariance: Any = None
    host: TabledNoise | None = None
    """The same in NumPy, of tables on a device."""

    def covariances(self, patterns: Any = slice(None)) -> Any:
        """Give R (..., observed, observed) of patterns (...); the identity where one is missing.

        A record may have as many patterns as rows: ask for a few at a time.
        """
        present, variance = self.present[patterns], self.variance[patterns]
        xp = namespace(variance)
        eye = xp.eye(present.shape[-1], dtype=variance.dtype, device=device(present))
        if self.covariance is None:
            return variance[..., None] * eye
        return xp.where(present[..., :, None] & present[..., None, :], self.covariance, eye)

    def whitened(self, values: Any, patterns: Any) -> Any:
        """Give R^(-1/2) v of values (..., row, observed), with a pattern (...) each; 0 if missing.

        R^(-1/2) is the inverse of R's triangular root.
        """
        xp = namespace(values)
        present = self.present[patterns][..., None, :]
        if self.covariance is None:
            deviation = xp.sqrt(self.variance[patterns])[..., None, :]
            return values / xp.where(present, deviation, math.inf)
        masked = xp.where(present, values, xp.zeros_like(values))
        root = xp.linalg.cholesky(self.covariances(patterns))
        return xp.matrix_transpose(xp.linalg.solve(root, xp.matrix_transpose(masked)))

    def log_deviation(self, patterns: Any) -> Any:
        """Give the log of the root of R's determinant (...), of the values that are there."""
        xp = namespace(self.variance)
        if self.covariance is None:
            return xp.sum(xp.log(self.variance[patterns]), axis=-1) / 2
        root = xp.linalg.cholesky(self.covariances(patterns))
        return xp.sum(xp.log(xp.linalg.diagonal(root)), axis=-1)

    def on(self, device: str | None) -> TabledNoise:
        """Give the same on a torch device; None leaves it in NumPy."""
        if device is None:
            return self
        parts = (self.present, self.variance, self.covariance)
        present, variance, covariance = (
            None if part is None else put(part.copy(), device) for part in parts
        )
        return TabledNoise(present, variance, covariance, self)


def fetched(noise: Noise) -> TabledNoise:
    """Give the same tables in NumPy."""
    host = getattr(noise, "host", None)
    if host is not None:
        return cast("TabledNoise", host)
    covariance = None if noise.covariance is None else fetch(noise.covariance)
    return TabledNoise(fetch(noise.present), fetch(noise.variance), covariance)


@checked
def observing(observations: xr.Dataset, variables: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Give H (observed, variable), and R (observed, observed), of a record.

    A variance that changes in time counts by its mean over the values that are there; where none
    is there, it is 1.
    """
    if not {"error_variance", "error_covariance"} & set(observations.data_vars):
        raise InputError("observations need 'error_variance' or 'error_covariance'; give one")
    if "error_covariance" in observations:
        error = observations["error_covariance"].transpose("variable", "covariable").values
    else:
        variance = observations["error_variance"]
        if "time" in variance.dims:
            there = observations["observation"].notnull() & np.isfinite(variance)
            variance = variance.where(there).mean("time")
        error = np.diag(variance.where(np.isfinite(variance), 1.0).values.astype(np.float64))
    operator = read_operator(observations, names(observations), tuple(variables))
    return operator.matrix(), error
