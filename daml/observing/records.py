"""A record of observations as arrays: read once for its error settings, then a window at a time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import check_dims, check_dtype, check_names, check_values, names
from daml.labels.datasets import time_axis as read_time
from daml.labels.space import StateSpace
from daml.labels.trajectories import in_a_row, parts_of
from daml.observing.fixed import Record
from daml.observing.functions import Through
from daml.observing.guarded import LIMIT, PERIOD, limits, periods
from daml.observing.kinds import errors_of
from daml.observing.operators import Operator, read_operator
from daml.observing.places.interpolation import CHANGING
from daml.observing.places.moving import MovingRecord, moves, track_of
from daml.observing.places.pointwise import PointFunctions
from daml.observing.positions import observed_positions
from daml.protocols import Model
from daml.segments import rows_at_once

__all__ = ["GIVEN", "Readings", "Record", "operator_for", "read"]

GIVEN = (
    *("observation", "error_variance", "error_covariance", "operator", "position"),
    *("place", "weight", "model_variable", LIMIT, PERIOD),
)
"""What a record may hold; everything else in its Dataset is ignored."""


def read(
    observations: xr.Dataset,
    variables: tuple[str, ...],
    dt: Any,
    time_unit: str = "s",
    operator: Operator | PointFunctions | None = None,
    space: StateSpace | None = None,
) -> Record:
    """Check observations against the contract, a window at a time.

    Parameters
    ----------
    observations : xarray.Dataset
        ``observation`` (time, variable), NaN where missing; ``error_variance`` (variable) or
        (time, variable), or ``error_covariance`` (variable, covariable); optionally
        ``operator`` (variable, model_variable), or, of places that change in time, ``place`` and
        ``weight`` (time, variable, corner). An infinite variance means missing.
    variables : tuple of str
        The model's.
    dt : float or numpy.timedelta64
        The model's step.
    time_unit : str
        What a float dt counts on datetime64 times.
    operator : ObservationOperator or PointFunctions, optional
        H, in place of what the observations say; or functions of fields at their points.
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
    observed, track = names(observations), None
    space = space or StateSpace(variables)
    functions = operator if isinstance(operator, PointFunctions) else None
    own = None if isinstance(operator, PointFunctions) else operator
    if moves(observations):
        track, own = track_of(observations, variables, space, functions), CHANGING
    if own is None:
        own = read_operator(observations, observed, variables)
    errors = errors_of(observations, observed, apart=track is not None)
    number = np.empty(len(axis.index), dtype=np.int32)
    seen, total = np.zeros(len(observed), dtype=np.int64), np.zeros(len(observed))
    squares, origin = np.zeros(len(observed)), np.zeros(len(observed))
    step = rows_at_once(len(observed) if track is None else track.width)
    for first in range(0, len(number), step):
        rows = slice(first, first + step)
        values = np.asarray(source[rows].values, dtype=np.float64)
        check_values(values, "observation", observed)
        number[rows], present = errors.number(values, rows)
        if track is not None:
            track.check(rows, present)
        seen += present.sum(axis=0)
        total += np.where(present, values, 0.0).sum(axis=0)
        if not first:  # squares of large values would lose their variance to rounding
            origin = total / np.maximum(seen, 1)
        squares += np.where(present, (values - origin) ** 2, 0.0).sum(axis=0)
    if not seen.any():
        raise InputError("'observation' has only missing values; give a record with values")
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
    about = variables, observed, own, axis, source, kind, *how, *spread, space
    said = periods(observations), limits(observations)
    if track is not None:
        return MovingRecord(*about, None, *said, track=track).tried()
    return Record(*about, observed_positions(observations, own, space), *said)


class Readings:
    """Observations that are read once for each order of a model's variables.

    Of many trajectories, ``observations`` and their record have the rows of all in a row, and
    ``each`` has those of every trajectory, which is a record of its own.

    ``space`` says where the variables lie of models that do not say it themselves: of emulators.
    ``function`` is H where that is a function of states whose variables are in the order of
    ``variables``.
    """

    def __init__(
        self,
        observations: xr.Dataset,
        space: StateSpace | None = None,
        function: Through | None = None,
        variables: tuple[str, ...] = (),
    ) -> None:
        self.given, self.observations, self.space = observations, in_a_row(observations), space
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

    @cached_property
    def each(self) -> list[Readings]:
        """The same of each trajectory; itself of one record."""
        if self.observations is self.given:
            return [self]
        return [self.part(one) for one in parts_of(self.given)]

    def part(self, observations: xr.Dataset) -> Readings:
        """Give the same for a part of the observations."""
        return Readings(observations, self.space, self.function, self.variables)


def operator_for(
    function: Through | None, variables: tuple[str, ...], wanted: tuple[str, ...]
) -> Through | None:
    """Give a function of states in one order of variables for states in another."""
    if function is None or variables == wanted:
        return function
    return function.reordered([wanted.index(name) for name in variables], len(wanted))
