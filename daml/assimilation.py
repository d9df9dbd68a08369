"""The time loops: simulate, assimilate, forecast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from daml import __version__
from daml.errors import DivergedError, InputError
from daml.labels import check_time, describe, pack, step_like, time_axis
from daml.observations import ObservationArrays, read
from daml.randomness import Seed, sequence
from daml.schemes.variational import analysed

if TYPE_CHECKING:
    from daml.protocols import Array, Memory, Model, Scheme

SEGMENT = 1000
"""Model steps of a segment of a long record, unless told otherwise."""


def check_model(model: Model, time: Any = 0.0) -> None:
    """Refuse what is no model, or steps one state only."""
    name = type(model).__name__
    for needed in ("variables", "dt", "start", "step"):
        if not hasattr(model, needed):
            raise InputError(
                f"{name} is no model: it has no {needed!r}; a model has variables, dt, "
                "start(x, time) and step(x, memory)"
            )
    variables = model.variables
    if isinstance(variables, str) or not variables or len(set(variables)) != len(variables):
        raise InputError(f"{name}: 'variables' is {variables!r}; give a tuple of different names")
    if not model.dt > type(model.dt)(0):
        raise InputError(f"{name}: 'dt' is {model.dt}; give a step > 0")
    shape = (len(variables) + 2, len(variables))
    x = np.ones(shape)
    with np.errstate(all="ignore"):
        try:
            result = model.step(x, model.start(x, np.full(shape[0], time)))
        except Exception as error:
            raise InputError(
                f"{name}: 'step' failed for a batch of states of shape {shape}: "
                f"{type(error).__name__}: {error}; it must take shape (..., variable): write "
                "x[..., 0], not x[0]"
            ) from error
    if not (isinstance(result, tuple) and len(result) == 2):
        raise InputError(f"{name}: 'step' must give (state, memory); return x, memory")
    if np.shape(result[0]) != shape:
        raise InputError(
            f"{name}: 'step' turned states of shape {shape} into {np.shape(result[0])}; it must "
            "keep the shape (..., variable): write x[..., 0], not x[0]"
        )


def _bar(total: int, what: str) -> Any:
    return tqdm(total=total, desc=what, delay=2, disable=None, leave=False, mininterval=0.5)


def simulate(
    model: Model,
    *,
    steps: int,
    spinup: int = 0,
    seed: Seed = 0,
    initial: xr.Dataset | None = None,
) -> xr.Dataset:
    """Run a model freely and give its record.

    Parameters
    ----------
    model : Model
        What moves the state.
    steps : int
        Rows of the record; the first is the state after the spin-up.
    spinup : int
        Steps before it that are thrown away.
    seed : int or numpy.random.Generator
        The run starts from a standard normal state drawn from it.
    initial : xarray.Dataset, optional
        ``state`` (variable), in the model's units: where to start instead.

    Returns
    -------
    xarray.Dataset
        ``state`` (time, variable); time in model time units from 0.

    Raises
    ------
    InputError
        If an argument is out of range or the model is none.
    DivergedError
        If the state leaves the finite numbers.

    Examples
    --------
    >>> import daml
    >>> daml.simulate(daml.Lorenz63(dt=0.05), steps=3).time.values
    array([0.  , 0.05, 0.1 ])
    """
    if steps < 1 or spinup < 0:
        raise InputError(f"simulate: steps={steps}, spinup={spinup}; give steps >= 1, spinup >= 0")
    check_model(model)
    variables = tuple(model.variables)
    if initial is None:
        x = np.random.default_rng(sequence(seed)).standard_normal((1, len(variables)))
    else:
        x = pack(initial, "state", variables)[0].reshape(1, -1)
    memory = model.start(x, np.zeros(1))
    states = np.empty((steps, len(variables)))
    with _bar(steps + spinup, "simulate") as bar, np.errstate(all="ignore"):
        for row in range(-spinup, steps):
            if row >= 0:
                states[row] = x[0]
            if row + 1 < steps:
                x, memory = model.step(x, memory)
            if row % 1000 == 0:
                bar.update(1000)
    times = np.arange(steps) * model.dt
    _check_finite(states, times, variables, type(model).__name__)
    attrs = {"model": str(describe(model)), "daml_version": __version__, "spinup": spinup}
    if not isinstance(seed, np.random.Generator):
        attrs["seed"] = seed
    unit = "1" if times.dtype.kind == "f" else ""
    return xr.Dataset(
        {"state": (("time", "variable"), states, {"long_name": "state", "units": "1"})},
        coords={
            "time": ("time", times, {"long_name": "time"} | ({"units": unit} if unit else {})),
            "variable": list(variables),
        },
        attrs=attrs,
    )


def _check_finite(
    states: np.ndarray, times: np.ndarray, variables: Sequence[str], what: str
) -> None:
    wrong = ~np.isfinite(states)
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        raise DivergedError(
            f"{what} left the finite numbers at time {times[row]} (step {row}) in variable "
            f"{variables[place]!r}; take a smaller dt, or start nearer to the model's climate"
        )


def cycle_steps(
    model: Model,
    scheme: Scheme,
    observations: ObservationArrays,
    x: Array,
    memory: Memory,
    rows: Sequence[Any] | np.ndarray,
    values: Array,
) -> Iterator[tuple[Array, Array]]:
    """Yield background and analysis (..., variable) of one time after the other.

    A pure function of arrays: with torch tensors gradients pass through it. ``x`` is the first
    background, ``rows`` (step, ...) says which row of ``values`` (time, observed) each member of
    the batch sees at each step.
    """
    prepared = scheme.start(tuple(model.variables), observations)
    for number, row in enumerate(rows):
        analysis, prepared = scheme.update(x, values[row], observations.kind[row], prepared)
        yield x, analysis
        if number + 1 < len(rows):
            x, memory = model.step(analysis, memory)


def assimilate(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme,
    *,
    segments: int | None = None,
    spinup: int = 100,
    tolerance: float = 0.01,
    initial: xr.Dataset | None = None,
) -> xr.Dataset:
    """Cycle a model through a record: analysis, step, analysis, ...

    Long records are cut into segments that run as one batch, each starting ``spinup`` steps
    early. Where the spin-up of a segment meets the end of the one before, the largest difference
    of the two analyses, in standard deviations of the record, is known: above ``tolerance`` the
    spin-up is doubled.

    Parameters
    ----------
    model : Model
        Gives the background.
    observations : xarray.Dataset
        As the contract says; their times are whole steps of the model.
    scheme : Scheme
        Gives the analysis.
    segments : int, optional
        How many; 1 is the exact sequential run. Unless given, one for each 1,000 steps; where
        the start is forgotten too slowly for that, the sequential run.
    spinup : int
        Model steps by which a segment starts early, at first.
    tolerance : float
        Largest difference between segments, in standard deviations of a variable's analysis.
    initial : xarray.Dataset, optional
        ``state`` (variable): the background at the first time. Unless given, the nearest values
        observed, and the model's climate for what is never observed.

    Returns
    -------
    xarray.Dataset
        ``background``, ``analysis`` (time, variable), ``innovation`` (time, observed): one row
        per model step. attrs say segments, spin-up and difference.

    Raises
    ------
    InputError
        If model or observations break the contract, or if ``segments`` were asked for and the
        start is not forgotten.
    DivergedError
        If the cycle leaves the finite numbers.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=500, spinup=500)
    >>> B = daml.climatological(truth, max_variance=2)
    >>> daml.assimilate(model, daml.observe(truth), daml.ThreeDVar(B)).analysis.shape
    (500, 3)
    """
    if segments is not None and segments < 1:
        raise InputError(f"assimilate: 'segments' is {segments}; give 1 or more")
    if spinup < 0:
        raise InputError(f"assimilate: 'spinup' is {spinup}; give 0 or more")
    check_model(model)
    variables = tuple(model.variables)
    arrays = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    times = arrays.axis.grid()
    total = len(times)
    length = SEGMENT if segments is None else -(-total // segments)
    start = _Start(model, arrays, times, initial)
    while True:
        cut = length < total and spinup + length < total
        steps = min(length + spinup, total) if cut else total
        firsts = np.arange(0, total, length) if cut else np.zeros(1, dtype=np.int64)
        windows = np.clip(firsts - spinup, 0, None) if cut else firsts
        background, analysis, difference = _run(
            model, scheme, arrays, start, windows, firsts, steps, total
        )
        if not cut or difference <= tolerance:
            break
        spinup = max(2 * spinup, 1)
        if segments is not None and spinup + length >= total:
            raise InputError(
                f"assimilate: with {segments} segments the start is not forgotten (difference "
                f"{difference:.3g} standard deviations after {spinup // 2} steps, tolerance "
                f"{tolerance:g}); use segments=1"
            )
    _check_finite(analysis, times, variables, f"the cycle of {type(model).__name__}")
    innovation = np.where(arrays.present, arrays.values - arrays.operator.apply(background), np.nan)
    units = observations["observation"].attrs
    result = analysed(times, variables, background, analysis, arrays.observed, innovation, units)
    result["time"].attrs = dict(observations["time"].attrs)
    result.attrs = {
        "model": str(describe(model)),
        "scheme": str(describe(scheme)),
        "daml_version": __version__,
        "segments": len(firsts),
        "spinup": int(spinup) if cut else 0,
        "segment_difference": float(difference),
    }
    return result


def _run(
    model: Model,
    scheme: Scheme,
    arrays: ObservationArrays,
    start: _Start,
    windows: np.ndarray,
    firsts: np.ndarray,
    steps: int,
    total: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Run segments that begin at ``windows``; keep what lies from ``firsts`` on."""
    length = int(firsts[1]) if len(firsts) > 1 else total
    x = start.state(windows)
    memory = model.start(x, start.times[windows])
    batch = (len(windows), steps, x.shape[-1])
    background, analysis = np.empty(batch), np.empty(batch)
    rows = np.minimum(windows[None] + np.arange(steps)[:, None], total - 1)
    with _bar(steps, "assimilate") as bar, np.errstate(all="ignore"):
        pairs = cycle_steps(model, scheme, arrays, x, memory, rows, arrays.values)
        for number, (before, after) in enumerate(pairs):
            background[:, number], analysis[:, number] = before, after
            bar.update()
    offset = firsts - windows
    keep = [slice(o, o + min(length, total - f)) for o, f in zip(offset, firsts, strict=True)]
    kept = [
        np.concatenate([part[k] for part, k in zip(parts, keep, strict=True)])
        for parts in (background, analysis)
    ]
    end = analysis[np.arange(len(firsts) - 1), offset[:-1] + length - 1]
    spun = analysis[np.arange(1, len(firsts)), np.maximum(offset[1:] - 1, 0)]
    apart = np.where((offset[1:] > 0)[:, None], np.abs(end - spun), np.inf)
    with np.errstate(all="ignore"):
        spread = kept[1].std(axis=0)
        worst = float(np.max(apart / np.where(spread > 0, spread, 1.0), initial=0.0))
    # A NaN is reported as a divergence by the caller: no longer spin-up would mend it.
    return kept[0], kept[1], worst if np.isfinite(kept[1]).all() else 0.0


class _Start:
    """The background from which a segment starts, at any row of a record.

    What is observed comes from the nearest value in time, the rest from the model's climate:
    x = c + H^+ (y - H c).
    """

    def __init__(
        self, model: Model, arrays: ObservationArrays, times: np.ndarray, initial: xr.Dataset | None
    ) -> None:
        self.times = times
        self.initial = None
        variables = tuple(model.variables)
        if initial is not None:
            self.initial = pack(initial, "state", variables)[0].reshape(len(variables))
        self.values = arrays.values
        self.operator = arrays.operator.matrix()
        self.present = [np.flatnonzero(p) for p in arrays.present.T]
        seen = np.array([len(p) > 0 for p in self.present])
        self.inverse = np.linalg.pinv(self.operator * seen[:, None])
        known = self.inverse @ (self.operator * seen[:, None])
        self.climate = np.zeros(len(variables))
        if not np.allclose(known, np.eye(len(variables))):
            self.climate = self._climate(model)

    def _climate(self, model: Model) -> np.ndarray:
        told = getattr(model, "climate", None)
        if told is not None:
            return np.asarray(told, dtype=np.float64)
        mean = [self.values[p, i].mean() if len(p) else 0.0 for i, p in enumerate(self.present)]
        x = (self.inverse @ np.array(mean))[None]
        memory, total = model.start(x, self.times[:1]), np.zeros_like(x)
        with np.errstate(all="ignore"):
            for _ in range(1000):
                x, memory = model.step(x, memory)
                total = total + x
        if not np.isfinite(total).all():
            raise InputError(
                f"{type(model).__name__}: a variable is never observed and a free run gives no "
                "climate to start it from; give 'initial'"
            )
        return np.asarray(total[0] / 1000)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Give the state (row, variable) to start from at each row."""
        nearest = np.zeros((len(rows), len(self.present)))
        for place, present in enumerate(self.present):
            if len(present):
                after = np.clip(np.searchsorted(present, rows), 0, len(present) - 1)
                before = np.clip(after - 1, 0, None)
                near = np.where(
                    np.abs(present[before] - rows) <= np.abs(present[after] - rows), before, after
                )
                nearest[:, place] = self.values[present[near], place]
        x = self.climate + (nearest - self.climate @ self.operator.T) @ self.inverse.T
        if self.initial is not None:
            x[rows == 0] = self.initial
        return np.asarray(x)


def forecast(
    model: Model, initial: xr.Dataset, *, leads: int | Sequence[int] = 4, warmup: int = 100
) -> xr.Dataset:
    """Forecast from every state of a record, the model's memory warmed up on the states before.

    Parameters
    ----------
    model : Model
        What forecasts.
    initial : xarray.Dataset
        ``state``, or else ``analysis``, (time, variable): the states to start from, a step of
        the model apart. Variables that the model lacks are left out.
    leads : int or sequence of int
        Model steps to forecast; 4 means 1, 2, 3, 4.
    warmup : int
        A memory has run over at least this many of the states just before a start. The first
        ``warmup`` states are no starts.

    Returns
    -------
    xarray.Dataset
        ``forecast`` (start, lead, variable); ``lead`` in model time, with ``lead_steps``.

    Raises
    ------
    InputError
        If the record breaks the contract, has gaps, or is shorter than the warm-up.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> daml.forecast(model, daml.simulate(model, steps=30), leads=2, warmup=10).forecast.shape
    (20, 2, 3)
    """
    steps = list(range(1, leads + 1)) if isinstance(leads, int) else sorted(set(leads))
    if not steps or steps[0] < 1:
        raise InputError(f"forecast: 'leads' is {leads}; give model steps >= 1")
    check_model(model)
    variables = tuple(model.variables)
    name = "state" if "state" in initial else "analysis"
    times = check_time(initial, name)
    axis = time_axis(initial, name, model.dt, getattr(model, "time_unit", "s"))
    states, layout = pack(initial, name, variables)
    if layout.packed != ("time", "variable"):
        raise InputError(
            f"forecast: {name!r} has the dimensions {layout.dims}; give (time, variable)"
        )
    if axis.length != len(times) or not np.isfinite(states).all():
        raise InputError(f"forecast: {name!r} has gaps in time or missing values; fill them first")
    if len(times) <= warmup:
        raise InputError(f"forecast: {len(times)} states are too few for a warm-up of {warmup}")
    count = len(times) - warmup
    length = min(count, 250)
    firsts = np.arange(0, count, length)
    rows = np.minimum(firsts[None] + np.arange(length + warmup)[:, None], len(times) - 1)
    result = np.empty((len(firsts), length, len(steps), len(variables)))
    memory = model.start(states[rows[0]], times[rows[0]])
    with _bar(len(rows), "forecast") as bar, np.errstate(all="ignore"):
        for number, row in enumerate(rows):
            x, memory = model.step(states[row], memory)
            ahead = memory
            for step in range(1, steps[-1] + 1) if number >= warmup else ():
                if step > 1:
                    x, ahead = model.step(x, ahead)
                if step in steps:
                    result[:, number - warmup, steps.index(step)] = x
            bar.update()
    values = result.reshape(-1, len(steps), len(variables))[:count]
    step_length = step_like(times, model.dt, getattr(model, "time_unit", "s"))
    attrs = {"long_name": "forecast", "units": initial[name].attrs.get("units", "1")}
    return xr.Dataset(
        {"forecast": (("start", "lead", "variable"), values, attrs)},
        coords={
            "start": times[warmup:],
            "lead": ("lead", np.array(steps) * step_length, {"long_name": "lead"}),
            "lead_steps": ("lead", steps, {"long_name": "lead in model steps"}),
            "variable": list(variables),
        },
        attrs={"model": str(describe(model)), "warmup": warmup, "daml_version": __version__},
    )


def free_run(model: Model, observations: xr.Dataset, *, steps: int = 20_000) -> xr.Dataset:
    """Run a model freely from the first complete row of a record.

    Where no row is complete it starts as :func:`assimilate` does. A twentieth of the run goes
    before it as spin-up.

    Parameters
    ----------
    model : Model
    observations : xarray.Dataset
        As the contract says.
    steps : int
        Rows of the run.

    Returns
    -------
    xarray.Dataset
        ``state`` (time, variable), as :func:`simulate` gives.

    Raises
    ------
    InputError, DivergedError
        As of :func:`simulate`.
    """
    check_model(model)
    variables = tuple(model.variables)
    arrays = read(observations, variables, model.dt, getattr(model, "time_unit", "s"))
    complete = np.flatnonzero(arrays.present.all(axis=1))
    row = complete[:1] if len(complete) else np.zeros(1, dtype=np.int64)
    x = _Start(model, arrays, arrays.axis.grid(), None).state(row)[0]
    initial = xr.Dataset({"state": ("variable", x)}, coords={"variable": list(variables)})
    return simulate(model, steps=steps, spinup=steps // 20, initial=initial)
