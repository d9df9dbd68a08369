"""The errors of observations, and what they are of, as plain matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.datasets import names
from daml.observing.operators import read_operator


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
