"""A record of observations as arrays: read once for its error settings, then a window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import TimeAxis, check_dims, check_dtype, check_names, check_values, names
from daml.labels.datasets import time_axis as read_time
from daml.labels.space import StateSpace
from daml.observing.functions import Function
from daml.observing.guarded import LIMIT, PERIOD, limits, periods
from daml.observing.kinds import errors_of
from daml.observing.noise import TabledNoise
from daml.observing.operators import Operator, read_operator
from daml.observing.positions import observed_positions
from daml.protocols import Model, Observed, Setting
from daml.segments import rows_at_once

GIVEN = (
    "observation",
    "error_variance",
    "error_covariance",
    "operator",
    "position",
    *(LIMIT, PERIOD),
)
"""What a record may hold; everything else in its Dataset is ignored."""


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

    def values(self, steps: np.ndarray) -> np.ndarray:
        """Give the observations (..., observed) at model steps (...), 0 where one is missing."""
        first, stop = int(steps.min()), int(steps.max()) + 1
        inside = slice(*np.searchsorted(self.axis.index, [first, stop]))
        window: np.ndarray = np.zeros((stop - first, len(self.observed)))
        window[self.axis.index[inside] - first] = self.source[inside].values
        result: np.ndarray = window[steps - first]
        result[~self.kind_present[self.kind[steps]]] = 0.0
        return result

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
                loaded = self.source[rows].values
                place = np.searchsorted(rows, near[here])
                result[part][here] = loaded[place, np.nonzero(here)[1]]
        return result

    def _nearest_rows(self, steps: np.ndarray) -> np.ndarray:
        """Give the row of the source of each nearest value (step, observed); -1 for none."""
        found = np.full((len(steps), len(self.observed)), -1, dtype=np.int64)
        for place in range(len(self.observed)):
            present = np.flatnonzero(self.kind_present[self.kind, place])
            if len(present):
                after = np.clip(np.searchsorted(present, steps), 0, len(present) - 1)
                before = np.clip(after - 1, 0, None)
                nearer = np.abs(present[before] - steps) <= np.abs(present[after] - steps)
                near = present[np.where(nearer, before, after)]
                found[:, place] = np.searchsorted(self.axis.index, near)
        return found


def read(
    observations: xr.Dataset,
    variables: tuple[str, ...],
    dt: Any,
    time_unit: str = "s",
    operator: Operator | None = None,
    space: StateSpace | None = None,
) -> Record:
    """Check observations against the contract, a window at a time.

    Parameters
    ----------
    observations : xarray.Dataset
        ``observation`` (time, variable), NaN where missing; ``error_variance`` (variable) or
        (time, variable), or ``error_covariance`` (variable, covariable); optionally
        ``operator`` (variable, model_variable). An infinite variance means missing.
    variables : tuple of str
        The model's.
    dt : float or numpy.timedelta64
        The model's step.
    time_unit : str
        What a float dt counts on datetime64 times.
    operator : ObservationOperator, optional
        H, in place of what the observations say.
    space : StateSpace, optional
        Where the variables lie.

    Raises
    ------
    InputError
        If the observations break the contract; the text names variable or dimension.
    """
    axis = read_time(observations, "observation", dt, time_unit)
    check_dims(observations, "observation", ("variable",))
    check_names(observations, "observation")
    array = observations["observation"]
    check_dtype(array, "observation")
    extra = [d for d in array.dims if d not in ("time", "variable")]
    if extra:
        raise InputError(f"'observation' has the further dimension {extra[0]!r}; select one entry")
    source = array.variable.transpose("time", "variable")
    observed = names(observations)
    if operator is None:
        operator = read_operator(observations, observed, variables)
    errors = errors_of(observations, observed)
    number = np.empty(len(axis.index), dtype=np.int32)
    seen, total = np.zeros(len(observed), dtype=np.int64), np.zeros(len(observed))
    squares, origin = np.zeros(len(observed)), np.zeros(len(observed))
    step = rows_at_once(len(observed))
    for first in range(0, len(number), step):
        rows = slice(first, first + step)
        values = np.asarray(source[rows].values, dtype=np.float64)
        check_values(values, "observation", observed)
        number[rows], present = errors.number(values, rows)
        seen += present.sum(axis=0)
        total += np.where(present, values, 0.0).sum(axis=0)
        if not first:  # squares of large values would lose their variance to rounding
            origin = total / np.maximum(seen, 1)
        squares += np.where(present, (values - origin) ** 2, 0.0).sum(axis=0)
    if not seen.any():
        raise InputError("'observation' holds no value at all, only missing ones; give some")
    kind_present, kind_variance = errors.kinds(seen > 0)
    kind = number
    if axis.length > len(number):
        kind = np.full(axis.length, len(kind_present), dtype=np.int32)
        kind[axis.index] = number
        kind_present = np.concatenate((kind_present, np.zeros((1, len(observed)), bool)))
        kind_variance = np.concatenate((kind_variance, np.ones((1, len(observed)))))
    mean = total / np.maximum(seen, 1)
    variance = squares / np.maximum(seen, 1) - np.where(seen > 0, (mean - origin) ** 2, 0.0)
    spread = mean, np.where(variance > 0, variance, 1.0)
    how = kind_present, kind_variance, errors.covariance
    space = space or StateSpace(variables)
    where = space, observed_positions(observations, operator, space)
    said = periods(observations), limits(observations)
    return Record(variables, observed, operator, axis, source, kind, *how, *spread, *where, *said)


class Readings:
    """Observations that are read once for each order of a model's variables.

    ``space`` says where the variables lie of models that do not say it themselves: of emulators.
    ``function`` is H where that is a function of states whose variables are in the order of
    ``variables``.
    """

    def __init__(
        self,
        observations: xr.Dataset,
        space: StateSpace | None = None,
        function: Function | None = None,
        variables: tuple[str, ...] = (),
    ) -> None:
        self.observations, self.space = observations, space
        self.function, self.variables = function, variables
        self.found: dict[tuple[Any, ...], Record] = {}

    def of(self, model: Model) -> Record:
        """Give the record as a model's."""
        how = tuple(model.variables), model.dt, getattr(model, "time_unit", "s")
        if how not in self.found:
            space = StateSpace.of(model)
            same = self.space is not None and set(self.space.names) == set(space.names)
            if space.positions is None and self.space is not None and same:
                space = self.space.ordered(space.names)
            function = operator_for(self.function, self.variables, how[0])
            self.found[how] = read(self.observations, *how, function, space)
        return self.found[how]

    def part(self, observations: xr.Dataset) -> Readings:
        """Give the same for a part of the observations."""
        return Readings(observations, self.space, self.function, self.variables)


def operator_for(
    function: Function | None, variables: tuple[str, ...], wanted: tuple[str, ...]
) -> Function | None:
    """Give a function of states in one order of variables for states in another."""
    if function is None or variables == wanted:
        return function
    return function.reordered([wanted.index(name) for name in variables], len(wanted))
