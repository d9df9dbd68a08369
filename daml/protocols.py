"""The seams: what a model, a scheme and an emulator must offer.

A class that has these attributes and methods fits; nothing is registered and subclassing is not
required. Arrays have the shape ``(..., variable)``: leading axes are batch axes (segments of a
record, samples, members), and every method must work for any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


Array = Any
"""An array of the Array API: NumPy's mostly, torch's where a gradient or a GPU is wanted."""

Memory = Any
"""What a model carries from step to step: None, an array or a (nested) tuple of arrays, whose
leading axes are those of the state."""


Record = Any
"""A record of observations as arrays, :class:`daml.observing.records.Record`."""


@runtime_checkable
class Model(Protocol):
    """What moves a state by one step of ``dt``.

    Attributes
    ----------
    variables : tuple of str
        Names along the last axis of a state.
    dt : float or numpy.timedelta64
        Length of a step, in model time units. With a record whose time is datetime64 a float
        counts seconds, or what the optional attribute ``time_unit`` names: "ns", "us", "ms", "s",
        "min", "h", "D" or "W".

    Notes
    -----
    Optional attributes that daml uses where they exist: ``time_unit`` (see above), ``climate``
    (array of shape (variable,): a typical state, from which a variable that is never observed
    starts), ``device`` (the torch device, "cuda" say, on which it steps torch tensors; without
    it, or with "cpu", it steps NumPy arrays) and ``arrays`` (the kinds of arrays that a step takes,
    ("numpy",) by default; ("numpy", "torch") says that torch's gradients pass through the step,
    as they do in a :class:`daml.models.ODE`; without torch, gradients are central differences).

    A step gives new arrays and leaves those that it is given as they are, treats each state of a
    batch on its own, and gives the same for the same state and memory (what is random in it may
    differ). States come in float64, and what a step gives is put back into it. Before a model runs
    it is tried on a few states, at the first time of the record, and what breaks this is refused.
    """

    @property
    def variables(self) -> tuple[str, ...]: ...

    @property
    def dt(self) -> Any: ...

    def start(self, x: Array, time: Array | None = None) -> Memory:
        """Give the memory of a model that stands at ``x`` (..., variable) at ``time`` (...)."""
        ...

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Move ``x`` (..., variable) by one dt; give the new state and the new memory."""
        ...


@runtime_checkable
class Scheme(Protocol):
    """What turns a background and observations into an analysis, for a batch at once.

    Notes
    -----
    Optional methods of a scheme that finds something of its own in a run: ``to_dataset()`` gives
    it as an xarray.Dataset, which a loop keeps with each pass, and ``restored(dataset)`` gives the
    scheme with it, for resuming the loop. Dimensions ``variable`` and ``covariable`` hold names.
    """

    def start(self, variables: tuple[str, ...], record: Record) -> Memory:
        """Work out, before a cycle, what does not depend on the background (gains, say)."""
        ...

    def update(
        self, background: Array, values: Array, kind: Array, memory: Memory
    ) -> tuple[Array, Memory]:
        """Give the analysis (..., variable) of ``background`` (..., variable).

        ``values`` (..., observed) are the observations, with 0 where one is missing; ``kind``
        (...) says which of the record's error settings holds, with its missing values.
        """
        ...


@runtime_checkable
class Emulator(Model, Protocol):
    """A model that learns its step from analyses."""

    def fit(self, analysis: xr.Dataset) -> Emulator:
        """Give a fitted emulator and leave this one untouched.

        Of an emulator that is fitted already the training goes on from its weights. One that
        takes a second argument ``checkpoint`` (a :class:`Checkpoint`) can be interrupted.
        """
        ...

    def to_dataset(self) -> xr.Dataset:
        """Give weights and settings as plain arrays and attrs."""
        ...

    def restored(self, dataset: xr.Dataset) -> Emulator:
        """Give this emulator, fitted, back from what ``to_dataset`` gave; for resuming a loop."""
        ...


class CycleTrained(Emulator, Protocol):
    """An emulator that can also be trained through the assimilation cycle."""

    def fit_cycle(self, observations: xr.Dataset, scheme: Any, **settings: Any) -> Emulator:
        """Give an emulator trained on the innovations of its own cycle with a scheme.

        ``held_out`` is the fraction of the record that is not trained on. One that also takes a
        ``checkpoint`` (a :class:`Checkpoint`) can be interrupted.
        """
        ...


class Checkpoint(Protocol):
    """Where a training keeps how far it is."""

    def load(self) -> dict[str, np.ndarray] | None:
        """Give what was saved last in this training; None where there is nothing."""
        ...

    def due(self) -> bool:
        """Whether so much time has passed that it is worth saving again."""
        ...

    def save(self, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays, in place of what was kept before."""
        ...
