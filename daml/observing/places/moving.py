"""A record whose places change in time, such as that of ships, tracks and satellites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from daml.errors import InputError
from daml.labels.datasets import check_names, is_hidden, names
from daml.labels.space import StateSpace
from daml.observing.batches import restricted
from daml.observing.fixed import Record
from daml.observing.noise import TabledNoise
from daml.observing.places.interpolation import Changing, Interpolation
from daml.observing.places.pointwise import Group, PointFunctions, Pointwise, groups_of
from daml.protocols import ObservationOperator, Observed

DIMS = ("time", "variable", "corner")


@dataclass(eq=False)
class Track:
    """The places of a record at each time, in memory or not.

    Attributes
    ----------
    variance : xarray.Variable (time, observed)
        Of the errors.
    places : xarray.Variable (time, observed, corner) of int
        The variables around each value, by their row in ``order``; -1 where it is missing.
    weights : xarray.Variable (time, observed, corner)
        Those of the interpolation.
    where : xarray.Variable (time, observed, dimension) or None
        The positions of the values, if they are known.
    order : numpy.ndarray (model_variable,) of int
        The place of each variable of the record in a state of the model.
    size : int
        Number of the model's variables.
    touched : numpy.ndarray (variable,) of int
        At how many times each variable is seen; counted as the record is read.
    groups : tuple of Group
        The slots that are seen through functions.
    functions : PointFunctions or None
        These functions, if there are any.
    spare : tuple of numpy.ndarray (observed, corner)
        Places and weights of such slots where nothing is observed; found as the record is read.
    """

    variance: xr.Variable
    places: xr.Variable
    weights: xr.Variable
    where: xr.Variable | None
    order: np.ndarray
    size: int
    touched: np.ndarray
    groups: tuple[Group, ...] = ()
    functions: PointFunctions | None = None
    spare: tuple[np.ndarray, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.places.shape[1:]
        self.spare = np.zeros(shape, dtype=np.int64), np.zeros(shape)

    @property
    def width(self) -> int:
        """Numbers for a time."""
        _, observed, corners = self.places.shape
        dimensions = 0 if self.where is None else self.where.shape[2]
        return int(observed * (2 + 2 * corners + dimensions))

    def check(self, rows: slice, present: np.ndarray) -> None:
        """Refuse rows of which a value that is ``present`` (row, observed) has no place."""
        places, weights = np.asarray(self.places[rows].values), self.weights[rows].values
        inside = (places >= 0) & (places < len(self.order)) & np.isfinite(weights)
        counts = np.where(inside, weights, 1.0) != 0
        wrong = present & (~(inside | ~counts).all(axis=-1) | ~(counts & inside).any(axis=-1))
        if wrong.any():
            time, place = np.argwhere(wrong)[0]
            raise InputError(
                f"observations: the value of {place} at time {rows.start + time} has no 'place' "
                f"among the {len(self.order)} variables of the model, or a 'weight' that is not "
                "finite; make the record by daml.from_points"
            )
        if self.functions is not None:
            self._keep_spare(places, weights, present)
        at, observed, corner = np.nonzero(counts & inside & present[..., None])
        seen = np.unique(at * len(self.order) + places[at, observed, corner]) % len(self.order)
        np.add.at(self.touched, self.order[seen], 1)

    def _keep_spare(self, places: np.ndarray, weights: np.ndarray, present: np.ndarray) -> None:
        """Keep a place of each function, for slots at times when they have none."""
        for group in self.groups:
            slots = list(group.slots)
            found = np.argwhere(present[:, slots])
            if len(found) and not self.spare[1][slots].any():
                time, slot = found[0]
                self.spare[0][slots] = np.maximum(places[time, slots[slot]], 0)
                self.spare[1][slots] = weights[time, slots[slot]]

    def operator(
        self, places: np.ndarray, weights: np.ndarray, present: np.ndarray
    ) -> ObservationOperator:
        """Give H of places and weights (..., observed, corner), where ``present``."""
        there = present[..., None] & (places >= 0)
        places, weights = np.where(there, places, 0), np.where(there, weights, 0.0)
        if self.functions is None:
            return Interpolation(self.order[places], weights, self.size)
        # A function is not asked for fields of 0 where nothing is observed.
        absent = ~present[..., None]
        places = self.order[np.where(absent, self.spare[0], places)]
        around = Interpolation(places, np.where(absent, self.spare[1], weights), self.size)
        return Pointwise(around, self.parts, present, self.groups, self.functions)

    @property
    def parts(self) -> int:
        """Fields of a function at most."""
        return max((len(group.fields) for group in self.groups), default=1)


def moves(observations: xr.Dataset) -> bool:
    """Whether the places of a record change in time."""
    return isinstance(observations, xr.Dataset) and "place" in observations


def track_of(
    observations: xr.Dataset,
    variables: tuple[str, ...],
    space: StateSpace,
    functions: PointFunctions | None = None,
) -> Track:
    """Give the places of a record that :func:`moves`.

    Raises
    ------
    InputError
        If a part is missing or has other dimensions, or the model has other variables.
    """
    for name in ("place", "weight"):
        if name not in observations or set(observations[name].dims) != set(DIMS):
            given = tuple(observations[name].dims) if name in observations else "missing"
            raise InputError(
                f"observations: {name!r} is {given}; give {DIMS}, as daml.from_points does"
            )
    if "error_variance" not in observations:
        raise InputError(
            "observations: their places change in time, and they have no 'error_variance' (time, "
            "variable); correlated errors need fixed places"
        )
    check_names(observations, "place", "model_variable")
    given = names(observations, "model_variable")
    unseen = {name for name in variables if is_hidden(name)} - set(given)
    if set(given) | unseen != set(variables):
        raise InputError(
            f"observations: their places are among {len(given)} variables of a model, from "
            f"{given[0]!r} on, and this model has {len(variables)}, from {variables[0]!r} on; make "
            "the record for this model: daml.from_points(table, model)"
        )
    variance = observations["error_variance"].broadcast_like(observations["observation"])
    where, dims = None, ("time", "variable", "dimension")
    if "position" in observations and space.positions is not None:
        given_places = observations["position"]
        if set(given_places.dims) != set(dims) or (
            given_places.sizes["dimension"] != space.positions.shape[1]
        ):
            raise InputError(
                f"observations: 'position' has the dimensions {given_places.dims}; give {dims}, "
                f"{space.positions.shape[1]} numbers for each, as the model's positions have"
            )
        where = given_places.variable.transpose(*dims)
    return Track(
        variance.variable.transpose("time", "variable"),
        observations["place"].variable.transpose(*DIMS),
        observations["weight"].variable.transpose(*DIMS),
        where,
        space.places(given),
        len(variables),
        np.zeros(len(variables), dtype=np.int64),
        groups_of(observations, functions),
        functions,
    )


@dataclass(frozen=True)
class MovingRecord(Record):
    """Observations whose places change: H and R are loaded for the steps that are asked for.

    ``kind`` says which values are missing alone, and ``kind_variance`` is NaN.
    """

    _: KW_ONLY
    track: Track

    changes: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Values that are loaded for a time."""
        return self.track.width

    @cached_property
    def noise(self) -> TabledNoise:
        """Tables without a row: each time has a noise of its own."""
        shape = 0, len(self.observed)
        return TabledNoise(np.zeros(shape, dtype=bool), np.zeros(shape))

    def seen(self, steps: np.ndarray, parts: Sequence[slice] | None = None) -> Observed:
        """Give the observations at model steps (...); see :meth:`Record.seen`."""
        apart = [...] if parts is None else [(..., part) for part in parts]

        def loaded(source: xr.Variable) -> np.ndarray:
            found = [self.loaded(source, steps[part]) for part in apart]
            return np.concatenate(found, axis=steps.ndim - 1)

        return self._observed(loaded, self.kind_present[self.kind[steps]])

    def placed(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Give where the values of steps (step,) lie, by the names of a record.

        A ``place`` is that of a variable in a state of the model, or -1.
        """
        there = self.kind_present[self.kind[steps]][..., None]
        places = np.where(there, self.loaded(self.track.places, steps), -1)
        places = np.where(places >= 0, self.track.order[places], -1)
        found = {"place": places, "weight": self.loaded(self.track.weights, steps) * there}
        if self.track.where is not None:
            found["position"] = np.where(there, self.loaded(self.track.where, steps), np.nan)
        return found

    def around(self, steps: np.ndarray, count: int) -> Iterator[Observed]:
        """Give the observations at so many times nearest to steps (step,), the nearest one last.

        Times without a value do not count.
        """
        some = np.asarray(self.kind_present.any(axis=1))
        times = np.flatnonzero(some[self.kind])
        steps = steps[:, None]
        away = self.apart(times, steps) + 0.25 * (times > steps)  # equal: the first
        count = min(count, len(times))
        near = np.argpartition(away, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(away, near, axis=1), axis=1)
        for at in times[np.take_along_axis(near, order, axis=1)].T:
            yield self.seen(at)

    def tried(self) -> MovingRecord:
        """Give the record with H at one time, on which it is tried, if it is not linear."""
        functions = self.track.functions
        if functions is None:
            return self
        first = int(np.argmax(np.asarray(self.kind_present.any(axis=1))[self.kind]))
        trial = self.seen(np.array([first])).operator
        return replace(self, operator=Changing(False, trial, functions.call))

    def silenced(self, observed: Observed, over: np.ndarray) -> Observed:
        """Give observations of which those ``over`` (...) the end of a record are missing."""
        return restricted(observed, ~over[..., None])

    def _observed(self, loaded: Any, present: np.ndarray) -> Observed:
        """Give what is observed by what loads a part (time, observed, ...) of the record."""
        track, size = self.track, present.shape[-1]
        variance = np.where(present, loaded(track.variance), 1.0)
        noise = TabledNoise(present.reshape(-1, size), variance.reshape(-1, size))
        row = np.arange(len(noise.present)).reshape(present.shape[:-1])
        values = np.where(present, loaded(self.source), 0.0)
        operator = track.operator(loaded(track.places), loaded(track.weights), present)
        where = None
        if track.where is not None:
            where = np.where(present[..., None], loaded(track.where), np.nan)
        about = noise, operator, where, self.period, self.limit
        return Observed(values, row, *about, tabled=False)
