"""A record whose operator is the same at all times: values, R and what is missing, by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from daml.arrays import read
from daml.labels.datasets import TimeAxis
from daml.labels.space import StateSpace
from daml.observing.noise import TabledNoise
from daml.observing.operators import Operator
from daml.protocols import Observed, Setting
from daml.segments import rows_at_once


@dataclass(frozen=True)
class Record:
    """Observations on every model step; their values are loaded where they are asked for.

    Attributes
    ----------
    variables : tuple of str
        The model's.
    observed : tuple of str
        What is observed.
    operator : ObservationOperator
        H, from a state (..., variable) to (..., observed).
    axis : TimeAxis
        The record's times as model steps.
    source : xarray.Variable (time, observed)
        As given, in memory or not.
    kind : numpy.ndarray (step,) of int
        Which error setting holds: steps that miss the same values and have the same R share one.
    kind_present : numpy.ndarray (kind, observed) of bool
    kind_variance : numpy.ndarray (kind, observed)
        Diagonal of R of each kind; 1 where a value is missing.
    covariance : numpy.ndarray (observed, observed) or None
        R, where errors are correlated.
    mean : numpy.ndarray (observed,)
        Of the values that are there; 0 where there is none.
    variance : numpy.ndarray (observed,)
        Of the values that are there; 1 where they do not vary.
    space : StateSpace
        Where the variables lie, if they do.
    positions : numpy.ndarray (observed, dimension) or None
        Where what is observed lies, if that is known.
    """

    variables: tuple[str, ...]
    observed: tuple[str, ...]
    operator: Operator
    axis: TimeAxis
    source: xr.Variable
    kind: np.ndarray
    kind_present: np.ndarray
    kind_variance: np.ndarray
    covariance: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray
    space: StateSpace
    positions: np.ndarray | None
    period: np.ndarray | None = None
    """Of angles (observed,), see `Observed`."""
    limit: np.ndarray | None = None
    """From where on an innovation is a gross error (observed,), see `Observed`."""

    changes: ClassVar[bool] = False
    """Whether the operator changes in time."""

    @property
    def width(self) -> int:
        """Values that are loaded for a time."""
        return len(self.observed)

    def values(self, steps: np.ndarray) -> np.ndarray:
        """Give the observations (..., observed) at model steps (...), 0 where one is missing."""
        result = self.loaded(self.source, steps).astype(np.float64, copy=False)
        result[~self.kind_present[self.kind[steps]]] = 0.0
        return result

    def loaded(self, source: xr.Variable, steps: np.ndarray) -> np.ndarray:
        """Give a part (time, observed, ...) of the record at steps (...), 0 where there is none."""
        first, stop = int(steps.min()), int(steps.max()) + 1
        inside = slice(*np.searchsorted(self.axis.index, [first, stop]))
        window = np.zeros((stop - first, *source.shape[1:]), dtype=source.dtype)
        window[self.axis.index[inside] - first] = read(source[inside])
        return np.asarray(window[steps - first])

    def apart(self, steps: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Give how many steps lie between two; those of two trajectories are far apart."""
        seams = steps // self.axis.own != others // self.axis.own
        return np.asarray(np.abs(steps - others) + self.axis.length * seams)

    @cached_property
    def noise(self) -> TabledNoise:
        """R and what is missing, by kind; a scheme that writes into it raises."""
        parts = (self.kind_present, self.kind_variance, self.covariance)
        for part in parts:
            if part is not None:
                part.flags.writeable = False
        return TabledNoise(*parts)

    def setting(self, device: str | None = None) -> Setting:
        """Give what a scheme may know before a cycle, on a torch device; None is NumPy."""
        about = self.variables, self.observed, self.operator, self.noise.on(device)
        return Setting(*about, self.space, self.positions)

    def patterns(self, steps: np.ndarray) -> np.ndarray:
        """Give the kinds of model steps (...); a scheme that writes into them raises."""
        kind: np.ndarray = self.kind[steps]
        kind.flags.writeable = False
        return kind

    def ended(self) -> Record:
        """Give the same record with one more kind, in which nothing is observed."""
        nothing = np.zeros((1, len(self.observed)), dtype=bool)
        present = np.concatenate((self.kind_present, nothing))
        variance = np.concatenate((self.kind_variance, np.ones(nothing.shape)))
        return replace(self, kind_present=present, kind_variance=variance)

    def seen(self, steps: np.ndarray, parts: Sequence[slice] | None = None) -> Observed:
        """Give the observations at model steps (...).

        ``parts`` of the last axis are loaded one by one: what lies between them is not.
        """
        apart = [...] if parts is None else [(..., part) for part in parts]
        values = np.concatenate([self.values(steps[part]) for part in apart], axis=steps.ndim - 1)
        row = self.patterns(steps)
        about = self.noise, self.operator, self.positions, self.period, self.limit
        return Observed(values, row, *about)

    def silenced(self, observed: Observed, over: np.ndarray) -> Observed:
        """Give observations of which those ``over`` (...) the end of a record are missing.

        It is one that has :meth:`ended`.
        """
        row = np.where(over, len(self.kind_present) - 1, observed.row)
        return observed._replace(values=np.where(over[..., None], 0.0, observed.values), row=row)

    # What a scheme of the older kind, with start(variables, record), asks of a record.

    def matrices(self, kinds: Any = slice(None)) -> np.ndarray:
        """Give H of kinds (kind, observed, variable); a value that is missing has zeros."""
        found: np.ndarray = self.operator.matrix()[None] * self.kind_present[kinds, :, None]
        return found

    def error_covariances(self, kinds: Any = slice(None)) -> np.ndarray:
        """Give R of kinds (kind, observed, observed); the identity where a value is missing."""
        return np.asarray(self.noise.covariances(kinds))

    @property
    def kind_covariance(self) -> np.ndarray:
        """R of all kinds (kind, observed, observed)."""
        return self.error_covariances()

    def nearest(self, steps: np.ndarray) -> np.ndarray:
        """Give the values (step, observed) that lie nearest in time; 0 where there is none."""
        places = self._nearest_rows(steps)
        result = np.zeros(places.shape)
        at_once = rows_at_once(len(self.observed))
        for first in range(0, len(steps), at_once):
            part = slice(first, first + at_once)
            near = places[part]
            wanted = np.unique(near[near >= 0])
            for start in range(0, len(wanted), at_once):
                rows = wanted[start : start + at_once]
                here = (near >= rows[0]) & (near <= rows[-1])
                values = read(self.source[rows])
                place = np.searchsorted(rows, near[here])
                result[part][here] = values[place, np.nonzero(here)[1]]
        return result

    def _nearest_rows(self, steps: np.ndarray) -> np.ndarray:
        """Give the row of the source of each nearest value (step, observed); -1 for none."""
        found = np.full((len(steps), len(self.observed)), -1, dtype=np.int64)
        groups = np.unique(np.packbits(self.kind_present, axis=0), axis=1, return_inverse=True)[1]
        for number in range(int(groups.max()) + 1):
            places = np.flatnonzero(groups == number)  # what is there at the same times
            present = np.flatnonzero(self.kind_present[self.kind, places[0]])
            if len(present):
                after = np.clip(np.searchsorted(present, steps), 0, len(present) - 1)
                before = np.clip(after - 1, 0, None)
                nearer = self.apart(present[before], steps) <= self.apart(present[after], steps)
                near = present[np.where(nearer, before, after)]
                found[:, places] = np.searchsorted(self.axis.index, near)[:, None]
        return found
