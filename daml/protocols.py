"""The seams: what a model, a scheme and an emulator must offer.

A class that has these attributes and methods fits; nothing is registered and subclassing is not
required. Arrays have the shape ``(..., variable)``: leading axes are batch axes (segments of a
record, samples, members), and every method must work for any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


Array = Any
"""An array of the Array API: NumPy's mostly, torch's where a gradient or a GPU is wanted."""

Memory = Any
"""What a model carries from step to step: None, an array or a (nested) tuple of arrays, whose
leading axes are those of the state."""


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
    starts), ``positions`` (where each variable lies: numbers of shape (variable,) or (variable,
    dimension)) with ``period`` (for each dimension the length after which it repeats itself, None
    where it does not: a ring of 40 variables has ``positions = range(40)`` and ``period = 40``),
    from which :class:`daml.labels.space.StateSpace` has its distances, ``device`` (the torch
    device, "cuda" say, on which it steps torch tensors; without it, or with "cpu", it steps NumPy
    arrays) and ``arrays`` (the kinds of arrays that a step takes, ("numpy",) by default;
    ("numpy", "torch") says that torch's gradients pass through the step, as they do in a
    :class:`daml.models.ODE`; without torch, gradients are central differences).

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
class KnowsCovariance(Protocol):
    """A model that says how wrong each of its forecasts is."""

    def background_covariance(self, memory: Memory) -> Array:
        """Give B (..., variable, variable) of the forecast that led to ``memory``."""
        ...


class ObservationOperator(Protocol):
    """H, from a state to what is observed of it."""

    @property
    def linear(self) -> bool:
        """Whether it is linear."""
        ...

    def apply(self, x: Array) -> Array:
        """Give H(x) (..., observed) of states (..., variable); NumPy or torch."""
        ...

    def tangent(self, x: Array) -> Array:
        """Give dH/dx (..., observed, variable) at states (..., variable)."""
        ...

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable), where it is linear and not too large."""
        ...


class Noise(Protocol):
    """The errors of observations: tables by pattern, of which a record may have many.

    Rows with the same missing values and the same variances share a pattern.
    """

    @property
    def present(self) -> Array:
        """1 where there is a value, else 0 (pattern, observed)."""
        ...

    @property
    def variance(self) -> Array:
        """The diagonal of R (pattern, observed); 1 where a value is missing."""
        ...

    @property
    def covariance(self) -> Array | None:
        """R (observed, observed) where errors are correlated, else None."""
        ...

    def whitened(self, values: Array, patterns: Array) -> Array:
        """Give R^(-1/2) v of values (..., row, observed), with a pattern (...) each; 0 if missing.

        R^(-1/2) is the inverse of R's triangular root.
        """
        ...

    def log_deviation(self, patterns: Array) -> Array:
        """Give the log of the root of R's determinant (...), of the values that are there."""
        ...

    def covariances(self, patterns: Any) -> Array:
        """Give R (..., observed, observed) of patterns (...); the identity where one is missing."""
        ...


class Space(Protocol):
    """Where the variables of a model lie, if they lie anywhere."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        ...

    @property
    def positions(self) -> np.ndarray | None:
        """Positions (variable, dimension)."""
        ...

    @property
    def period(self) -> np.ndarray | None:
        """Length (dimension,) after which a dimension repeats itself; infinite where not."""
        ...

    def near(
        self, entries: np.ndarray, points: np.ndarray, reach: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give all pairs of entries and points (point, dimension) within reach.

        Three arrays (pair,): the row of the entry, that of the point, and their distance.
        """
        ...


class Setting(NamedTuple):
    """What a cycle is about: all that a scheme may know before the first step."""

    variables: tuple[str, ...]
    """Names along the last axis of a state."""
    observed: tuple[str, ...]
    """Names along the last axis of the observations."""
    operator: ObservationOperator
    """H: ``apply`` gives what is observed (..., observed) of a state (..., variable)."""
    noise: Noise
    """R, and which values are missing."""
    space: Space
    """Where the variables lie."""
    positions: np.ndarray | None = None
    """Where what is observed lies (observed, dimension), if that is known."""


class Forecast(NamedTuple):
    """What a model says before an observation is seen."""

    state: Array
    """The background (..., variable); of an ensemble (..., member, variable)."""
    covariance: Array | None = None
    """B (..., variable, variable), where the scheme needs the model's own."""


class Observed(NamedTuple):
    """The observations of one time, for each state of a batch."""

    values: Array
    """(..., observed), with 0 where one is missing."""
    pattern: Array
    """Which row (...) of the noise's tables holds: what is missing, and R."""
    noise: Noise

    @property
    def present(self) -> Array:
        """1 where there is a value, else 0 (..., observed)."""
        return self.noise.present[self.pattern]

    @property
    def variance(self) -> Array:
        """The diagonal of R (..., observed); 1 where a value is missing."""
        return self.noise.variance[self.pattern]


class Run(NamedTuple):
    """Where a cycle stands."""

    step: Array
    """The model step (...) of each state, counted from the start of the record.

    What is random in a scheme follows from its seed and this step
    (:func:`daml.randomness.normal`), so that chunks, segments and cores change no draw."""
    segment: Array
    """The number (...) of the segment of the record that each state belongs to."""
    age: int
    """Steps since these cycles started, spin-up included: a scheme may trust its start less."""
    wanted: frozenset[str]
    """Which of the scheme's outputs are kept; it need not work out the others."""


class Update(NamedTuple):
    """What a scheme gives."""

    state: Array
    """The analysis, in the kind and shape of the background."""
    extras: Mapping[str, Array] = MappingProxyType({})
    """What is wanted of the scheme's ``outputs``, by name."""


Outputs = Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
"""By name: dims, of ("time", "variable", "observed"), and attributes. An array that a scheme gives
has the batch axes in the place of time."""


@runtime_checkable
class Scheme(Protocol):
    """What turns a background and observations into an analysis, for a batch at once.

    It holds no loop over time, and it never sees the truth.

    Notes
    -----
    Optional attributes that daml uses where they exist:

    - ``members`` (int): the scheme carries an ensemble of so many members; forecasts and analyses
      are (..., member, variable) then. The Dataset has the ensemble's mean, and its standard
      deviations ``background_spread`` and ``spread``. The first ensemble is drawn by the scheme's
      ``seed`` (int, 0 by default).
    - ``outputs`` (:data:`Outputs`): what the scheme gives besides the analysis; each is a variable
      of the Dataset that :func:`daml.assimilate` gives. Names with a meaning for daml:
      ``chi_square`` (time), the squared innovation in units of its expected covariance, divided by
      the number of values, and ``log_likelihood`` (time) of the innovation.
    - ``needs`` (frozenset of str): what it asks of the model: "covariance", the model's own B of
      each forecast (``model.background_covariance(memory)``); "positions", where its variables
      lie.
    - ``tuned``: see :class:`Tunable`.
    - ``to_dataset()`` gives what the scheme found in a run as an xarray.Dataset, which a loop keeps
      with each pass, and ``restored(dataset)`` gives the scheme with it, for resuming the loop and
      for :func:`daml.load_scheme`. Dimensions ``variable`` and ``covariable`` hold names.
    """

    def prepare(self, setting: Setting) -> Memory:
        """Work out, before a cycle, what does not depend on the background (gains, say).

        The setting's noise holds arrays of the kind that the cycle has, NumPy's or torch's.
        """
        ...

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Memory
    ) -> tuple[Update, Memory]:
        """Give the analysis, and the memory for the next time.

        ``memory`` is what ``prepare`` gave, or the last ``update``.
        """
        ...


@runtime_checkable
class Tunable(Protocol):
    """A scheme that leaves something open: B, the size of R, an inflation."""

    @property
    def open(self) -> tuple[str, ...]:
        """Names of what is open; empty where nothing is."""
        ...

    def tuned(self, trial: Trial, before: Scheme | None = None) -> Scheme:
        """Give the scheme with what was open found from innovations, never from a truth.

        ``before`` is the scheme that was found for a model much like this one, if there is one.
        """
        ...


class Trial(Protocol):
    """Runs a scheme that is being tuned, with one model on one record."""

    observations: xr.Dataset
    model: str
    """The class of the model, for messages."""
    variables: tuple[str, ...]
    knows_covariance: bool
    """Whether the model gives a B of its own."""

    def run(self, scheme: Scheme) -> xr.Dataset:
        """Give the analysis of the record."""
        ...

    def shortened(self, times: int) -> Trial:
        """Give a trial on the first observation times, all of which may be used."""
        ...

    def judged(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give the rows of an analysis that may be used: those the model was not trained on."""
        ...

    def climatology(self) -> xr.DataArray:
        """Give the climatology (variable, covariable) of the model, scaled to the observations."""
        ...

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the observations' covariance (observed, observed), and from how many pairs."""
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
