"""How the errors of a record are given, and its kinds: rows with the same R and missing values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from daml.covariances.dense import check as check_covariance
from daml.errors import InputError
from daml.labels.datasets import check_dtype


@dataclass
class Errors:
    """Counts the error settings of a record as its rows come.

    ``variance`` is None for a full covariance, else (variable) or (time, variable).
    """

    observed: tuple[str, ...]
    covariance: np.ndarray | None
    variance: xr.Variable | None
    apart: bool = False
    """Whether the variances of a time are no part of its kind, but loaded when they are used."""
    known: dict[bytes, int] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether variances change in time."""
        return self.variance is not None and self.variance.ndim == 2

    def number(self, values: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Give the setting of each row and which of its values (row, observed) are there."""
        present = np.isfinite(values)
        if self.variance is not None:
            part = self.variance[rows] if self.timed else self.variance
            variance = np.asarray(part.values, dtype=np.float64)
            if self.timed:
                self._check(variance, present)
            present &= ~np.isposinf(variance)
        if self.timed and not self.apart:
            keys = np.where(present, variance, np.inf).view(np.uint64)
        else:
            packed = np.packbits(np.ascontiguousarray(present), axis=1)
            keys = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
        return self._count(keys), present

    def _count(self, keys: np.ndarray) -> np.ndarray:
        """Give keys (row, word) their numbers; most rows repeat the one before."""
        fresh = np.ones(len(keys), dtype=bool)
        fresh[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        runs = keys[fresh]
        if runs.shape[1] == 1:
            distinct, place = np.unique(runs[:, 0], return_inverse=True)
        else:
            distinct, place = np.unique(runs, axis=0, return_inverse=True)
        numbers = [self.known.setdefault(key.tobytes(), len(self.known)) for key in distinct]
        return np.asarray(np.array(numbers)[place.ravel()][np.cumsum(fresh) - 1])

    def _check(self, variance: np.ndarray, needed: np.ndarray) -> None:
        wrong = needed & ~(variance > 0)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise InputError(
                f"observations: 'error_variance' is {variance[at]:g} for variable "
                f"{self.observed[at[-1]]!r}; give a variance > 0"
            )

    def kinds(self, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give what is present, and the diagonal of R, (kind, observed) of each kind.

        ``seen`` (observed,) says what has a value anywhere: only there a variance is needed.
        """
        if self.timed and not self.apart:
            rows = np.array([np.frombuffer(key) for key in self.known])
            present = np.isfinite(rows)
            return present, np.where(present, rows, 1.0)
        words = np.array([np.frombuffer(key, np.uint8) for key in self.known])
        present = np.unpackbits(words, axis=1)[:, : len(self.observed)].astype(bool)
        if self.apart:
            return present, np.full(present.shape, np.nan)
        if self.variance is None:
            variance = np.diagonal(np.asarray(self.covariance))
        else:
            variance = np.asarray(self.variance.values, dtype=np.float64)
            self._check(variance[None], seen[None])
        return present, np.where(present, variance, 1.0)


def errors_of(
    observations: xr.Dataset, observed: tuple[str, ...], *, apart: bool = False
) -> Errors:
    """Read how the error is given: a covariance, or variances that may change in time."""
    has = [v for v in ("error_variance", "error_covariance") if v in observations]
    if len(has) != 1:
        found = "both are there" if has else "neither is there"
        raise InputError(
            f"observations need 'error_variance' or 'error_covariance' ({found}); give one, e.g. "
            "ds.assign(error_variance=('variable', [...]))"
        )
    if has == ["error_covariance"]:
        matrix = check_covariance(observations["error_covariance"], observed, "'error_covariance'")
        return Errors(observed, matrix, None)
    array = observations["error_variance"]
    if set(array.dims) not in ({"variable"}, {"time", "variable"}):
        raise InputError(
            f"'error_variance' has the dimensions {array.dims}; give (variable) or (time, variable)"
        )
    check_dtype(array, "error_variance")
    return Errors(observed, None, array.variable.transpose(..., "variable"), apart)
