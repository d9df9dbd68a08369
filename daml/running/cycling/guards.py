"""What a cycle does with observations before its scheme sees them: of angles, and gross errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from daml.arrays import member_mean, namespace
from daml.errors import InputError
from daml.observing.batches import restricted
from daml.observing.guarded import facing, limits
from daml.protocols import Forecast, Observed, Outputs, Run
from daml.segments import own_steps

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Array, Memory, Scheme

YOUNG = 80
"""Steps from a start on, more where observations are rare, in which no value is left out: a
background that is no better than the nearest observations cannot judge them."""
REJECTED = "rejected"
"""The variable of an analysis that says which values were left out."""
GROSS: Outputs = {
    REJECTED: (("time", "observed"), {"long_name": "1 where a gross error was left out"})
}
MOST = 0.05
"""Part of the values that may be gross errors: where there are more, it is R or B that is wrong."""

ENOUGH = 400
"""Values of a record that goes on, of which fewer say nothing about R and B."""


class Guard:
    """Compares the observations of each time with the background of a scheme's cycle."""

    def __init__(self, scheme: Any) -> None:
        self.scheme = scheme
        self.members = getattr(scheme, "members", None)
        self.factor = getattr(scheme, "error_factor", 1.0)

    def of(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Memory
    ) -> tuple[Observed, Array | None]:
        """Give the observations that a scheme may use, and which are gross errors (..., observed).

        ``memory`` is that of the scheme.
        """
        state = forecast.state
        if observed.period is None and observed.limit is None:
            return observed, None
        xp, equivalent = namespace(state), observed.operator.apply(state)
        mean = equivalent if self.members is None else member_mean(equivalent)
        if observed.period is not None:
            if self.members is not None and not getattr(observed.operator, "linear", True):
                raise InputError(
                    f"{type(self.scheme).__name__}: the record has a 'period', and 'operator' is "
                    "not linear: the mean of angles that it gives for members is wrong where they "
                    "go beyond a turn; observe what the angle is made of (u and v of a direction), "
                    "or give daml.ThreeDVar"
                )
            observed = facing(observed, mean)
        if observed.limit is None:
            return observed, None
        distance = observed.values - mean
        if run.age < YOUNG * run.pace:
            return observed, distance * 0
        if hasattr(self.scheme, "innovation_variance"):
            variance = self.scheme.innovation_variance(forecast, observed, memory)
        else:
            squares = (equivalent - mean[..., None, :]) ** 2
            many = equivalent.shape[-2]
            variance = member_mean(squares) * (many / (many - 1))
            variance = variance + observed.variance * float(self.factor)
        far = (distance**2 > observed.limit**2 * variance) & (observed.present > 0)
        if bool(xp.any(far)):
            observed = restricted(observed, ~far)
        return observed, xp.astype(far, distance.dtype)


def checks(scheme: Scheme, observations: xr.Dataset) -> bool:
    """Whether a record asks for a check of gross errors.

    Raises
    ------
    InputError
        If it does, and the scheme does not say how large innovations should be.
    """
    if limits(observations) is None:
        return False
    is_ensemble = getattr(scheme, "members", None) is not None
    if not is_ensemble and not hasattr(scheme, "innovation_variance"):
        raise InputError(
            f"{type(scheme).__name__}: the record asks for a check of gross errors "
            "('gross_error'), and the scheme does not predict the size of innovations; give "
            "daml.ThreeDVar or an ensemble, e.g. daml.schemes.ETKF(20), or leave 'gross_error' out"
        )
    return True


def counted(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Count gross errors, and all values (step, segment, 2), of a block (step, segment, ...)."""
    wrong = parts[REJECTED] == 1
    return np.stack([wrong.sum(axis=-1), (wrong | np.isfinite(parts["innovation"])).sum(-1)], -1)


def counted_within(found: Sequence[np.ndarray], early: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum such counts (segment, 2) of blocks over the steps of the segments' own.

    ``early`` and ``rows`` (segment,) are steps of spin-up, and rows of the record after them.
    """
    if not found:
        return np.zeros((len(rows), 2), dtype=np.int64)
    counts = np.concatenate(found)
    own = own_steps(len(counts), early, rows)
    return np.asarray((counts * own[..., None]).sum(axis=0))


def check_rejected(rejected: int, counted: int, scheme: Scheme) -> None:
    """Refuse a cycle in which many of the values that were counted were left out."""
    share = rejected / max(counted, 1)
    if share > MOST:
        raise InputError(
            f"{type(scheme).__name__}: {share:.0%} of the values are more than 'gross_error' "
            "standard deviations of H B H' + R from their background, which gross errors are not: "
            "R ('error_variance') or B (its covariance, or an ensemble's inflation) is too small; "
            "correct it, or leave 'gross_error' out"
        )
