"""The protocols: what a model, a scheme and an emulator must offer.

Any class with these attributes and methods fits; it is neither registered nor a subclass. States
have the shape ``(..., variable)``: the leading axes are batch axes (segments of a record, samples,
members), and every method must work for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

from daml.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


Array = Any
"""An array of the Array API: usually NumPy's; torch's where gradients or a GPU are needed."""

Memory = Any
"""What a model carries from step to step: None, an array or a (nested) tuple of arrays with the
same leading axes as the state."""


@runtime_checkable
class Model(Protocol):
    """Moves a state by one step of ``dt``.

    Attributes
    ----------
    variables : tuple of str
        Names along the last axis of a state.
    dt : float, numpy.timedelta64 or str
        Length of a step, in model time units. With a record whose time is datetime64 a float is a
        number of seconds, or of the unit that the optional attribute ``time_unit`` names: "ns",
        "us", "ms", "s", "min", "h", "D", "W", "month" or "year". A text is a step as pandas writes
        it: "6h", "D"; or one that follows the calendar: "MS" (months), "QS" (quarters), "YS"
        (years), or a number of them, as in "2MS".

    Notes
    -----
    Optional attributes that daml uses where they exist:

    - ``time_unit``: see ``dt``.
    - ``climate``: a typical state (variable,), with which variables that are never observed start.
    - ``climate_spread``: the standard deviation (variable,) of the states about the ``climate``,
      with which a first ensemble is drawn.
    - ``hidden_names``: the names of hidden variables, which are never observed. If states lack
      them, :func:`daml.forecast` estimates them with a filter, and a free run starts them at the
      ``climate``.
    - ``template``: an xarray.Dataset that defines the fields of the state; ``variables`` are then
      the points that are not NaN in it, as :class:`daml.models.Gridded` names them, and may have
      hidden variables after them. Functions take fields, and results have their coordinates.
    - ``positions``: the positions of the variables, numbers of shape (variable,) or (variable,
      dimension); with ``period``, the period of each dimension, or None. A ring of 40 variables has
      ``positions = range(40)`` and ``period = 40``. They give the
      distances of ``daml.labels.space.StateSpace``.
    - ``bounds``: the smallest and the largest value of variables or fields by their names, None for
      no bound: ``{"q": (0, None)}``. Values of an analysis or of its members beyond a bound are set
      to the bound, and the attribute ``bounds`` of the result says so.
    - ``device``: the torch device, such as "cuda", on which the model steps torch tensors. Without
      it, or with "cpu", the model steps NumPy arrays.
    - ``arrays``: the kinds of arrays that a step takes, ("numpy",) by default. ("numpy", "torch")
      means that torch can differentiate a step, as that of a :class:`daml.models.ODE`; otherwise
      gradients are central differences.
    - ``background_covariance(memory)``: returns B (..., variable, variable) of the last forecast.
    - ``model_error``: the covariance Q of the error of a step: one variance, variances (variable,)
      or a covariance (variable, variable), in units of the variables squared. Schemes add it to
      the forecast; a ``model_error`` of the scheme takes precedence.
    - ``forcings`` (tuple of str): names of known inputs in time, such as a wind or the sun. A step
      is then ``step(x, memory, forcing)`` with an array ``forcing`` (..., forcing), of the same
      kind as ``x``: their values at the start of the step, in the order of the names, and for a
      field all of its points. Functions take a Dataset with a data variable (time, ...) for each
      name as their ``forcings``; for others use :func:`daml.models.forced`.
    - ``certain``: the same model without the noise that a stochastic model adds in each step. A
      cycle steps this model, and its scheme adds the ``model_error``.
    - ``packed(memory, x)`` and ``unpacked(memory, carried)``: the memory at states ``x`` (...,
      variable) as real numbers (..., entry) in the kind of array of ``x``, or None if there is
      none; and the memory with other such numbers in it. With both, the analysis of an ensemble
      moves the memory of each member by the same weights as its state. Otherwise the memory stays
      with its member.

    A step returns new arrays and does not change its arguments, treats the states of a batch
    independently, and is a function of state and memory (apart from random noise). States are in
    float64, and the result of a step is converted to float64. Before a run, a model is tested on a
    few states at the first time of the record; one that breaks these rules raises `InputError`.
    """

    @property
    def variables(self) -> tuple[str, ...]: ...

    @property
    def dt(self) -> Any: ...

    def start(self, x: Array, time: Array | None = None) -> Memory:
        """Give the memory of a model that starts at ``x`` (..., variable) and ``time`` (...)."""
        ...

    def step(self, x: Array, memory: Memory) -> tuple[Array, Memory]:
        """Move ``x`` (..., variable) by one ``dt``; give the new state and the new memory."""
        ...


@runtime_checkable
class KnowsCovariance(Protocol):
    """A model that knows the error covariance of each of its forecasts."""

    def background_covariance(self, memory: Memory) -> Array:
        """Give B (..., variable, variable) of the forecast with which ``memory`` was returned.

        (variable, variable) where all states of the batch have the same.
        """
        ...


class CovarianceProduct(Protocol):
    """A covariance B by its product, of so many variables that no matrix is made.

    :class:`daml.ThreeDVar` and :class:`daml.schemes.FourDVar` take it. It may also have
    ``to_dataset()``, for a store; ``placed(space)``, which gives the B of the variables of a model
    by its ``Space``; and ``size``, its number of variables, with ``columns(entries)``, which gives
    columns (variable, entry) of B as an object whose ``matrix`` is a sparse matrix of SciPy's: with
    few observations these cost less than products.
    """

    def times(self, x: Array) -> Array:
        """Give B x (..., variable) of states (..., variable); NumPy or torch."""
        ...


class Covariance(Protocol):
    """A covariance B = L L' by the actions of its root, of so many variables.

    :class:`daml.schemes.FourDVar` takes it, and so does :class:`daml.ThreeDVar`. It may also have
    ``to_dataset()``, for a store, and ``times(x)``, where B x has a shorter way than L L' x.
    """

    @property
    def control(self) -> int:
        """Number of entries of a control v."""
        ...

    def root(self, v: Array) -> Array:
        """Give L v (..., variable) of controls (..., control)."""
        ...

    def root_adjoint(self, x: Array) -> Array:
        """Give L' x (..., control) of states (..., variable)."""
        ...


class CarriesMemory(Protocol):
    """A model whose memory moves with the members of an ensemble; see :class:`Model`."""

    def packed(self, memory: Memory, x: Array) -> Array | None:
        """Give a memory as real numbers (..., entry), or None."""
        ...

    def unpacked(self, memory: Memory, carried: Array) -> Memory:
        """Give the memory with other numbers (..., entry) in it."""
        ...


class ObservationOperator(Protocol):
    """H, from a state to what is observed of it.

    One that changes in time holds H for each state of a batch (...): it takes states (...,
    variable) of that batch, and members (..., member, variable).

    A linear one may also have ``adjoint(y)``, which gives H' y (..., variable) of observations
    (..., observed), for a B by its actions; and ``sparse()``, which gives H (observed, variable) as
    a sparse matrix of SciPy's.
    """

    @property
    def linear(self) -> bool:
        """Whether it is linear."""
        ...

    @property
    def changes(self) -> bool:
        """Whether it changes in time."""
        ...

    def apply(self, x: Array) -> Array:
        """Give H(x) (..., observed) of states (..., variable); NumPy or torch."""
        ...

    def tangent(self, x: Array) -> Array:
        """Give dH/dx (..., observed, variable) at states (..., variable)."""
        ...

    def matrix(self) -> np.ndarray:
        """Give H (observed, variable), where it is linear, the same at all times, and small."""
        ...

    def picked(self, rows: Any) -> Self:
        """Give H for some states of a batch, ``rows`` (...) of it; itself if all have the same."""
        ...


class Noise(Protocol):
    """The errors of observations, as tables with one row for each pattern.

    Times with the same missing values and the same variances share a pattern.
    """

    @property
    def present(self) -> Array:
        """1 where a value is present, otherwise 0 (pattern, observed)."""
        ...

    @property
    def variance(self) -> Array:
        """The diagonal of R (pattern, observed); 1 where a value is missing."""
        ...

    @property
    def covariance(self) -> Array | None:
        """R (observed, observed) if errors are correlated, otherwise None."""
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
        """Give R (..., observed, observed) of patterns (...).

        Rows and columns of missing values are those of the identity.
        """
        ...

    def on(self, device: str | None) -> Noise:
        """Give the same tables as tensors on a torch device; None leaves them as they are."""
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
    """What does not change during a cycle: all that a scheme may know before the first step."""

    variables: tuple[str, ...]
    """Names along the last axis of a state."""
    observed: tuple[str, ...]
    """Names along the last axis of the observations."""
    operator: ObservationOperator
    """H, from which ``prepare`` may make what a scheme needs. One that changes in time says whether
    it is ``linear``, and raises `InputError` where it is applied: see ``Observed.operator``."""
    noise: Noise
    """R, and which values are present. Where H changes in time its tables have no rows."""
    space: Space
    """Where the variables lie."""
    positions: np.ndarray | None = None
    """Where what is observed lies (observed, dimension), if that is known and always the same."""
    deviation: Callable[[], np.ndarray] | None = None
    """Gives the standard deviations (variable,) of the state that a cycle starts from."""


class Forecast(NamedTuple):
    """The forecast of a model, before the observations of its time are used."""

    state: Array
    """The background (..., variable); for an ensemble (..., member, variable)."""
    covariance: Array | None = None
    """The model's own B (..., variable, variable), if the scheme ``needs`` it; (variable, variable)
    where all states of the batch have the same."""
    model_error: Array | None = None
    """Q (variable, variable) of the step that led to this forecast, if the scheme ``needs`` it and
    there is one; None at the first time of a cycle, before which no step was taken."""
    tangent: Array | None = None
    """dM/dx (..., variable, variable) of that step at the analysis before it, if the scheme
    ``needs`` the "gradient"; None at the first time."""
    carried: Array | None = None
    """What the members have besides their states (..., member, entry): the memory of a model that
    has ``packed``, for a scheme whose ``carries`` is True; otherwise None."""


class Window(NamedTuple):
    """What a scheme with a ``window`` gets in place of a forecast: some times of a cycle.

    A window starts at a state, and the model gives the others. Its times are ``steps`` model steps
    after the start, one after the other; only the first window of a cycle has no step, and one
    time, that of its start.
    """

    state: Array
    """The background at the start (..., variable); for an ensemble (..., member, variable)."""
    background: tuple[Array, ...]
    """The background at each time of the window, to which the model moves ``state``."""
    fresh: int
    """How many times, the last ones of the window, have observations that are new. Those of the
    times before are part of the background already."""
    moved: Callable[..., tuple[Array, ...]]
    """``moved(x)`` gives the states at each time for states ``x`` at the start, of the shape of
    ``state``; ``moved(x, errors)`` adds errors (..., variable) after each step. Errors that an
    ensemble draws are the same at each call. A model that torch differentiates takes tensors,
    too. ``carried`` is what members have at the start besides their states, in place of what they
    have. With ``rows``, a NumPy array (...) of bool, only some states of the batch are moved: ``x``
    (row, ...) are these. Of an ensemble one state (..., variable) is moved, too: with the memory of
    the first member, and without the errors that members draw."""
    linear: Callable[..., tuple[tuple[Array, ...], tuple[Array, ...]]]
    """``linear(x)`` and ``linear(x, errors)`` give the states at each time, and the tangents (...,
    variable, variable) of the steps to them, if the scheme ``needs`` the "gradient"; without a step
    no tangent. Of an ensemble one state, too."""
    errors: tuple[Array, ...]
    """What the analysis of the window before added after each step (``Update.errors``); 0 for the
    steps that are new."""
    model_error: Array | None = None
    """Q (variable, variable) of each step, or its variances (variable,), as of a forecast."""
    carried: Array | None = None
    """As of a forecast: what the members have at the start besides their states."""
    forecasts: tuple[Array, ...] = ()
    """The forecasts of the new times by the last analysis: the last ones of ``background``, unless
    windows go on from another state than the analysis (``Update.onward``)."""
    remembers: bool = False
    """Whether the model has a memory in the window, which the states before decide, so that the
    tangents of steps alone do not say how the states depend on the start."""

    @property
    def steps(self) -> int:
        """Model steps from the start to the last time."""
        return len(self.errors)


class Observed(NamedTuple):
    """The observations of one time, for each state of a batch."""

    values: Array
    """(..., observed), with 0 for missing values."""
    row: Array
    """The row (...) of the tables of ``noise`` for each state."""
    noise: Noise
    operator: ObservationOperator
    """H of this time, which maps states (..., variable) to what is observed (..., observed)."""
    positions: np.ndarray | None = None
    """Where what is observed lies (observed, dimension), or (..., observed, dimension) where that
    changes, with NaN for what is missing; None if it is not known."""
    period: Array | None = None
    """Lengths (observed,) after which values repeat themselves, infinite where they do not; None
    where all are. A cycle gives those values that are nearest to the background's H(x)."""
    limit: Array | None = None
    """How many standard deviations (observed,) of H B H' + R an innovation may have, or None."""
    tabled: bool = True
    """Whether ``noise`` and ``operator`` are those of the setting, so that what a scheme has
    prepared for a row of its tables holds. Otherwise they belong to this time alone."""

    @property
    def pattern(self) -> Array:
        """The row (...) of what a scheme has prepared from the setting.

        Raises
        ------
        InputError
            If noise or operator belong to this time alone, so that nothing prepared holds.
        """
        if not self.tabled:
            raise InputError(
                "observed.pattern: H or R of this time is not that of the setting, so that nothing "
                "prepared from it holds; compute the analysis from observed.operator and "
                "observed.whitened where observed.tabled is False"
            )
        return self.row

    @property
    def present(self) -> Array:
        """1 where a value is present, otherwise 0 (..., observed)."""
        return self.noise.present[self.row]

    @property
    def variance(self) -> Array:
        """The diagonal of R (..., observed); 1 where a value is missing."""
        return self.noise.variance[self.row]

    @property
    def covariance(self) -> Array:
        """R (..., observed, observed); where a value is missing its row is the identity's."""
        return self.noise.covariances(self.row)

    @property
    def log_deviation(self) -> Array:
        """The log of the root of R's determinant (...), of the values that are there."""
        return self.noise.log_deviation(self.row)

    def whitened(self, values: Array) -> Array:
        """Give R^(-1/2) v of values (..., row, observed), see :class:`Noise`; 0 if missing."""
        return self.noise.whitened(values, self.row)


class Run(NamedTuple):
    """The position of a cycle in its record."""

    step: Array
    """The model step (...) of each state, counted from the start of the record.

    What is random in a scheme follows from its seed and this step
    (``daml.randomness.normal``), so that chunks, segments and cores change no draw."""
    segment: Array
    """The number (...) of the segment of the record that each state belongs to."""
    age: int
    """Steps since these cycles started, spin-up included: a scheme may trust its start less."""
    wanted: frozenset[str]
    """The names of the scheme's ``outputs`` that are used; it need not compute the others."""
    pace: float = 1.0
    """By how much longer a start takes than where each step is observed."""


class Update(NamedTuple):
    """What a scheme returns."""

    state: Array
    """The analysis: an array of the same kind and shape as the background."""
    extras: Mapping[str, Array] = MappingProxyType({})
    """Values of the scheme's ``outputs``, by name."""
    moments: Mapping[str, Array] = MappingProxyType({})
    """Of an ensemble whose members have different weights: ``background``, ``background_spread``,
    ``analysis``, ``spread`` (..., variable), and ``equivalent`` (..., observed), the mean of H(x)
    over the background. For other ensembles they are those of the members."""
    carried: Array | None = None
    """What ``Forecast.carried`` is after the analysis; None if it stays as it is."""
    errors: tuple[Array, ...] | None = None
    """Of a window, what is added after each of its steps (..., variable); None if nothing is."""
    onward: Update | None = None
    """Of a window, from what the next one starts, if not from this analysis: where later windows
    use some of its observations again, they are no part of that."""


Outputs = Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
"""For each name its dims, out of ("time", "variable", "observed"), and its attributes. Arrays in
``Update.extras`` have the batch axes in place of time."""


@runtime_checkable
class Scheme(Protocol):
    """Turns backgrounds and observations into analyses, for a batch at once.

    It does not loop over time, and it never sees the truth.

    Notes
    -----
    Optional attributes that daml uses where they exist:

    - ``members`` (int): the scheme carries an ensemble of this size. Forecasts and analyses
      then have the shape (..., member, variable); the Dataset has the mean of the ensemble and its
      standard deviations, ``background_spread`` and ``spread``, unless these are among the
      scheme's own ``outputs``. The first ensemble is drawn with the ``seed`` of the scheme (int, 0
      by default).
    - ``first_members(mean, deviation)`` places the first ensemble (row, member, variable) in place
      of a draw: around states (row, variable), with the standard deviations (variable,).
    - ``member_weight`` (float): the weight of each member's squared deviation in a covariance, 1 /
      (members - 1) by default. A scheme with ``members`` can be smoothed (:func:`daml.smooth`):
      each member is stepped to the member of the same number at the next time, and their
      covariances, plus Q where the scheme needs "model_error", give the gain back in time.
    - ``gives_deviations`` (bool): a scheme of one state can be smoothed, too. If ``Run.wanted`` has
      them, its extras hold ``analysis_deviations`` A (..., row, variable) with A' A = P, the
      covariance of the analysis, and ``forecast_deviations``: the A of the time before, moved to
      this time by the tangent of the model. Q is not part of them.
    - ``sized(variables)`` returns the scheme for the variables of a model. It is called once before
      a cycle, so that ``members`` may depend on their number; before that, ``members`` is 0.
    - ``outputs``: variables that the scheme returns in addition to the analysis. A mapping of each
      name to its dims, out of "time", "variable" and "observed", and its attributes. They become
      variables of the Dataset that :func:`daml.assimilate` returns. Three names have a meaning for
      daml: ``chi_square`` (time), the squared innovation in units of its expected covariance,
      divided by the number of values; ``log_likelihood`` (time) of the innovation; and
      ``converged`` (time), 0 where iterations ended before they converged: if this is frequent, a
      warning gives the ``window_advice`` (str) of the scheme, or a general one.
    - ``window`` and ``shift`` (int): the scheme analyses the states of ``window`` model steps
      together, and the next window starts ``shift`` steps later, at most ``window``. ``update``
      then takes a
      :class:`daml.protocols.Window` in place of a forecast, and tuples of the observations and the
      positions of all its times. The analysis that it returns is that of the window's start; the
      model moves it to the times that are new, and the next window starts on this way. ``extras``
      hold for each output a sequence of arrays, one for each new time. Windows end at whole
      multiples of ``shift`` from the first time of the record on, and at its last time.
    - ``carries`` (bool): whether an ensemble scheme updates the memories of its members, too;
      see ``Forecast.carried``.
    - ``needs`` (frozenset of str): what the scheme requires of the model. "covariance" is the
      model's own B of each forecast (``model.background_covariance(memory)``); "positions" is
      where its variables lie; "memoryless" is a model whose memory does not depend on the states;
      "model_error" is Q in ``Forecast.model_error``, which the scheme adds itself; "gradient" is
      the derivative of a step in ``Forecast.tangent``; "tensors" are steps of
      torch tensors, which ``Window.moved`` then takes. To the members of an ensemble that does not
      name "model_error", draws from N(0, Q) are added after each step.
    - ``open`` and ``tuned``: see :class:`Tunable`.
    - ``to_dataset()`` gives what was tuned as an xarray.Dataset, which a loop stores with each
      pass; ``restored(dataset)`` gives the scheme back from it, for resuming the loop and for
      :func:`daml.load_scheme`. Dimensions ``variable`` and ``covariable`` have the names of
      the model's variables as coordinates.
    """

    def prepare(self, setting: Setting) -> Memory:
        """Compute, before a cycle, what does not depend on the background, such as gains.

        The arrays of ``setting.noise`` are of the kind that the cycle uses, NumPy's or torch's.
        """
        ...

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Memory
    ) -> tuple[Update, Memory]:
        """Give the analysis, and the scheme's memory for the next time.

        ``memory`` is what ``prepare`` returned, later what the last ``update`` returned. NumPy's
        arrays of the state, the values and the memory may be written into, others may not.
        """
        ...


class Windowed(Scheme, Protocol):
    """A scheme that analyses the states of some model steps together; see :class:`Scheme`."""

    @property
    def window(self) -> int:
        """Model steps that are analysed together."""
        ...

    @property
    def shift(self) -> int:
        """Model steps from a window to the next."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """A scheme with settings to be tuned: B, the size of R, an inflation."""

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the settings that are still to be tuned; empty if there are none."""
        ...

    def tuned(self, trial: Trial, before: Scheme | None = None) -> Scheme:
        """Give the scheme with values for what is open, found from innovations, never from a truth.

        ``before`` is the scheme that was tuned for a similar model (that of the pass before), or
        None. It is also called if nothing is open; the scheme then returns itself.
        """
        ...


class Trial(Protocol):
    """What a scheme is tuned with: one model and one record, on which schemes can be run.

    Of a record of many trajectories, observations and analyses have the rows of all along ``time``,
    one trajectory after the other.
    """

    observations: xr.Dataset
    model: str
    """The name of the model's class, for messages."""
    variables: tuple[str, ...]
    knows_covariance: bool
    """Whether the model has a ``background_covariance``."""
    knows_model_error: bool
    """Whether the model has a ``model_error``."""

    def run(self, scheme: Scheme) -> xr.Dataset:
        """Give the analysis of the record by a scheme with nothing open."""
        ...

    def shortened(self, times: int) -> Trial:
        """Give a trial on the first ``times`` rows of the observations; all may be judged."""
        ...

    def judged(self, analysis: xr.Dataset) -> xr.Dataset:
        """Give the rows of an analysis on which the model was not trained, which may be used."""
        ...

    def climatology(self) -> xr.DataArray:
        """Give the climatology (variable, covariable) of the model, scaled to the observations.

        It is the covariance of free runs, scaled so that no variance is more than twice that of
        the error with which the variable is observed.
        """
        ...

    def variances(self) -> xr.DataArray:
        """Give the variances (variable,) of the model's climatology, also where H is no matrix."""
        ...

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the covariance of the observations, and its number of pairs (observed, observed)."""
        ...


@runtime_checkable
class Emulator(Model, Protocol):
    """A model that learns its step from analyses.

    Optional attributes, which an emulator has before it is fitted:

    - ``remembers`` (bool): whether a step depends on states before the last one. With a scheme that
      requires models without a memory, a loop then raises an error.
    - ``trainings`` (tuple of str): the trainings of a loop that are possible, ("analyses", "cycle")
      by default. If only "cycle" is, a loop passes the first analysis to ``begin(analysis,
      held_out=...)``, once, if the emulator has this method, and never calls ``fit``.
    - ``learns_model_error`` (bool): whether it will have a ``model_error``.
    - ``scheme``: the scheme that :func:`daml.improve` uses by default.
    """

    def fit(self, analysis: xr.Dataset) -> Emulator:
        """Give a fitted emulator, and do not change this one.

        The analysis of a record of many trajectories is (trajectory, time, variable).

        If this one is fitted already, the training may start from its weights. If the method also
        takes ``checkpoint`` (a :class:`Checkpoint`), an interrupted training can be resumed. If it
        takes ``forcings``, it is given the Dataset of a loop's.
        """
        ...

    def to_dataset(self) -> xr.Dataset:
        """Give what was learned, as plain arrays and attrs."""
        ...

    def restored(self, dataset: xr.Dataset) -> Emulator:
        """Give this emulator with what ``to_dataset`` gave of a fitted one.

        It is called to resume a loop, and by :func:`daml.load_emulator`.
        """
        ...


class CycleTrained(Emulator, Protocol):
    """An emulator that can also be trained through the assimilation cycle."""

    def fit_cycle(self, observations: xr.Dataset, scheme: Any, **settings: Any) -> Emulator:
        """Give an emulator trained on the innovations of its own cycle with a scheme.

        A loop gives ``held_out``, the fraction of the record that is not trained on. If the method
        also takes ``checkpoint`` (a :class:`Checkpoint`), an interrupted training can be resumed.
        """
        ...


class Checkpoint(Protocol):
    """Stores the state of a training, so that it can be resumed."""

    def load(self) -> dict[str, np.ndarray] | None:
        """Give what was saved last in this training; None if nothing was saved."""
        ...

    def due(self) -> bool:
        """Whether enough time has passed since the last save."""
        ...

    def save(self, arrays: dict[str, np.ndarray]) -> None:
        """Save arrays in place of those saved before."""
        ...
