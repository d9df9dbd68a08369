"""A model with forcings, known inputs in time, as a model that looks them up by itself."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from daml.arrays import alike
from daml.errors import DamlError, InputError, StepError, first_line, name_of
from daml.labels.arguments import checked, shown
from daml.labels.forcings import Forcings, Schedule
from daml.models.enclosing import Around

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model

OF_MEMORY = ("packed", "unpacked", "background_covariance")
"""Methods of a model whose first argument is its memory."""


@checked
def forced(model: Model, forcings: xr.Dataset) -> Model:
    """Attach its forcings to a model, so that its steps no longer need them as an argument.

    Functions with an argument ``forcings``, such as :func:`daml.simulate`, do this themselves.
    Attach forcings for functions without this argument.

    Parameters
    ----------
    model : Model
        Its attribute ``forcings`` has the names of the inputs of ``step(x, memory, forcing)``.
    forcings : xarray.Dataset
        One data variable for each of these names: a series (time), or a field (time, ...), all
        points of which are inputs of a step. Forcings are interpolated linearly in time; a step
        takes the values at the time at which it starts.

    Returns
    -------
    Model
        The model with its forcings. Its memory is a clock and the memory of the given model, and it
        has all other attributes of the given model.

    Raises
    ------
    InputError
        If the model takes no forcings, or if one is missing or has missing values.

    Examples
    --------
    >>> import daml
    >>> class Tank:
    ...     variables, dt, forcings = ("level",), 1.0, ("inflow",)
    ...
    ...     def start(self, x, time=None):
    ...         return None
    ...
    ...     def step(self, x, memory, forcing):
    ...         return 0.5 * x + forcing, memory
    >>> inflow = xr.Dataset({"inflow": ("time", [8.0, 0.0, 0.0])}, {"time": [0.0, 1.0, 2.0]})
    >>> empty = xr.Dataset({"state": ("variable", [0.0])}, {"variable": ["level"], "time": 0.0})
    >>> daml.simulate(forced(Tank(), inflow), steps=4, initial=empty).state.values.ravel()
    array([0., 8., 4., 2.])
    """
    return given(model, forcings, "forced")


def names_of(model: object) -> tuple[str, ...]:
    """Give the names of the forcings that a model takes; refuse what are no names."""
    found = getattr(model, "forcings", ())
    names = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise InputError(
            f"{name_of(model)}: 'forcings' is {names if len(names) > 1 else shown(found)}; "
            "give a tuple of different names, such as ('wind',)"
        )
    return names


def given(model: Model, forcings: xr.Dataset | None, what: str) -> Model:
    """Give a model with its forcings, where it takes some; the text begins with ``what``.

    Raises
    ------
    InputError
        If it takes some and none are given, or the other way round.
    """
    names = names_of(model)
    if forcings is None:
        check_given(model)
        return model
    if not names:
        raise InputError(
            f"{what}: forcings are given, and {name_of(model)} takes none; leave them out, "
            "or give the model their names: forcings = ('name', ...), step(x, memory, forcing)"
        )
    return cast("Model", Forced(model, Forcings.read(forcings, names)))


def check_given(model: object) -> None:
    """Refuse a model that takes forcings where none are given."""
    names = names_of(model)
    if names:
        raise InputError(
            f"{name_of(model)}: it takes the forcings {names}, and none are given; give "
            "forcings=dataset, or daml.models.forced(model, dataset)"
        )


def lent(model: Model, forcings: Forcings | None) -> Model:
    """Give a model with those of some forcings that it takes; one that takes none as it is."""
    names = names_of(model)
    if not names or forcings is None:
        return model
    return cast("Model", Forced(model, forcings.of(names)))


def is_scheduled(model: object) -> bool:
    """Whether a model has its forcings, or a base that has."""
    return getattr(model, "schedule", None) is not None


def check_reach(model: object, first: Any, last: Any, what: str) -> None:
    """Refuse forcings of a model that end before the steps at ``first`` to ``last`` do."""
    schedule = getattr(model, "schedule", None)
    if isinstance(schedule, Schedule):
        schedule.check(first, last, what)


class Forced(Around):
    """A model with its forcings; see :func:`forced`.

    The memory is the clock (...), in steps since the first row of the forcings, and the memory of
    the model.
    """

    forcings: tuple[str, ...] = ()

    def __init__(self, model: Model, table: Forcings) -> None:
        self.model, self.table = model, table

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name in OF_MEMORY:
            return getattr(self, f"_{name}")
        return Forced(found, self.table) if name == "certain" else found

    def __repr__(self) -> str:
        return f"forced({self.model!r}, {self.table.names})"

    @cached_property
    def schedule(self) -> Schedule:
        """The forcings by the clock."""
        return Schedule(self.table, self.dt, getattr(self.model, "time_unit", "s"))

    def start(self, x: Array, time: Any = None) -> Memory:
        """Give the clock at ``time`` (...), and the memory of the model there.

        Without a time it is the one of the first row.
        """
        when = self.table.times[0] if time is None else time
        clock = np.array(np.broadcast_to(self.schedule.clock(when), x.shape[:-1]))
        return clock, self.model.start(x, time)

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Move states (..., variable) by one dt, with the forcings of the time of its start."""
        clock, inner = memory
        values = self.schedule.at(clock)
        values = np.broadcast_to(values, (*x.shape[:-1], values.shape[-1]))
        moved, inner = stepped(self.model, x, inner, values)
        return moved, (clock + 1.0, inner)

    def renewed(self, memory: Memory, x: Array, time: Any) -> Memory:
        """Give a memory of a model with other forcings, by the clock of these at ``time`` (...)."""
        return self.start(x, time)[0], memory[1]

    def past(self, memory: Memory) -> Memory:
        """Give the part of the memory that the states before decide: all but the clock."""
        inner = memory[1]
        own = getattr(self.model, "past", None)
        return inner if own is None else own(inner)

    def _packed(self, memory: Memory, x: Array) -> Array | None:
        return cast("Any", self.model).packed(memory[1], x)

    def _unpacked(self, memory: Memory, carried: Array) -> Memory:
        return memory[0], cast("Any", self.model).unpacked(memory[1], carried)

    def _background_covariance(self, memory: Memory) -> Array:
        return cast("Any", self.model).background_covariance(memory[1])


def held(model: Model, forcing: np.ndarray | None) -> Model:
    """Give a model at typical forcings (forcing,); one that takes none as it is."""
    return model if forcing is None else cast("Model", Held(model, forcing))


class Held(Around):
    """A model at one forcing: what is differentiated, and tried, at a time.

    Parameters
    ----------
    model : Model
    forcing : numpy.ndarray (..., forcing)
    """

    forcings: tuple[str, ...] = ()

    def __init__(self, model: Model, forcing: Any) -> None:
        self.model, self.forcing = model, forcing

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Move states (..., variable) by one dt."""
        values = np.broadcast_to(self.forcing, (*x.shape[:-1], self.forcing.shape[-1]))
        return stepped(self.model, x, memory, values)


def stepped(model: Any, x: Array, memory: Memory, forcing: np.ndarray) -> tuple[Array, Memory]:
    """Step states with forcings (..., forcing), in the kind of array of ``x``.

    Raises
    ------
    StepError
        If the step raises, or gives no pair.
    """
    try:
        moved, memory = model.step(x, memory, alike(forcing.copy(), x))
    except DamlError:
        raise
    except (Exception, SystemExit) as error:
        raise StepError(
            f"{name_of(model)}: 'step' failed ({type(error).__name__}: {first_line(error)}); "
            f"it takes x (..., variable), memory and forcing (..., {forcing.shape[-1]}), and gives "
            "(state, memory)"
        ) from error
    return moved, memory
