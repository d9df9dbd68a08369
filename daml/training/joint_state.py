"""A model with parameters in its state, so that an ensemble scheme estimates them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import xarray as xr

from daml.arrays import home
from daml.covariances.model_error import model_error
from daml.errors import DivergedError, InputError, name_of
from daml.pairing import certain
from daml.protocols import Forecast, Memory, Model, Observed, Run, Scheme, Setting, Update
from daml.randomness import Stream, normal
from daml.running.assimilation import assimilated
from daml.running.checks import typical
from daml.running.lost import MOST
from daml.running.tuning import tuned

NEAR = 1e-9
"""Largest relative difference between two forms of a step that are the same."""
PASSES, SETTLED = 5, 0.1
"""Passes over the record at most; they end where no parameter moves by more than a part of its
uncertainty."""
FLOOR = 0.02
"""Smallest standard deviation of a parameter, as a part of the first one. With 0.1 and no inflation
a filter of Lorenz 63 was lost, without any floor the parameters stop where they happen to be."""
FREE = 400
"""Steps of the free run that gives a model's climate."""
Step = Callable[[np.ndarray, dict[str, np.ndarray]], np.ndarray]


def fitted(
    model: Model,
    names: tuple[str, ...],
    observations: xr.Dataset,
    scheme: Scheme,
    uncertainty: float,
    passes: int | None,
) -> tuple[Model, Scheme]:
    """Give a model with parameters that an ensemble scheme estimates as a part of its state.

    Each pass over the record starts around the values of the pass before. An estimate is the mean
    of the analyses of the second half of the record. What the scheme leaves open is tuned for the
    model of each pass.

    Raises
    ------
    InputError
        If the model has a memory or a device, or the scheme needs positions.
    DivergedError
        If the ensemble loses the observations.
    """
    _check(model, scheme)
    known: Scheme | None = None
    for _ in range(passes or PASSES):
        if getattr(scheme, "open", ()):
            known = tuned(scheme, model, observations, before=known)[0]
        first = np.array([getattr(model, name) for name in names])
        width = uncertainty * np.where(first == 0, 1.0, np.abs(first))
        error = _padded(model_error(known or scheme, model), len(names))
        augmented = Augmented(certain(model), names, width, error)
        filtering = Estimating(known or scheme, len(names))
        seen = _widened(observations, augmented.variables)
        analysis = _analysed(augmented, seen, filtering, uncertainty)
        moved = _later(analysis["analysis"])[:, -len(names) :].mean(axis=0)
        found = dict(zip(names, (first + width * moved).tolist(), strict=True))
        model = replace(cast("Any", model), **found)
        if np.abs(moved).max() < SETTLED:
            break
    return model, known or scheme


def _analysed(
    model: Augmented, observations: xr.Dataset, scheme: Estimating, uncertainty: float
) -> xr.Dataset:
    """Give the analysis of a record; refuse one that is lost where parameters are read from it.

    While an ensemble finds state and parameters it may be lost: nothing is said of that.
    """
    what = (
        f"fit_parameters: {type(scheme.scheme).__name__} lost the observations with parameters "
        f"within {uncertainty:g} of their values"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            analysis = assimilated(model, observations, cast("Scheme", scheme), segments=1)
    except DivergedError as error:
        raise DivergedError(f"{what} ({error})") from error
    if "lost" in analysis and _later(analysis["lost"]).mean() > MOST:
        raise DivergedError(f"{what}; give more members, more inflation, or another 'uncertainty'")
    return analysis


def _later(part: xr.DataArray) -> np.ndarray:
    """Give the second half of a record (time, ...)."""
    return np.asarray(part.values[len(part) // 2 :])


def _check(model: Model, scheme: Scheme) -> None:
    """Refuse what cannot be augmented."""
    name, what = name_of(model), type(scheme).__name__
    if "positions" in getattr(scheme, "needs", ()):
        raise InputError(
            f"fit_parameters: {what} analyses each variable from the observations near it, and "
            "a parameter has no position; give a scheme without localisation, e.g. "
            "daml.schemes.ETKF"
        )
    if home(model) is not None or model.start(typical(model)) is not None:
        raise InputError(
            f"fit_parameters: {name} has a memory or a device, and members with parameters of "
            "their own have neither; give a daml.ThreeDVar"
        )


def _padded(error: Any, more: int) -> np.ndarray | None:
    """Give a model error with zeros for further variables."""
    if error is None:
        return None
    return np.pad(np.asarray(error), [(0, more)] * np.ndim(error))


def _widened(observations: xr.Dataset, variables: tuple[str, ...]) -> xr.Dataset:
    """Give observations whose operator, if they have one, sees nothing of the parameters."""
    if "operator" not in observations:
        return observations
    rows = observations["operator"].reindex(model_variable=list(variables), fill_value=0.0)
    return observations.drop_dims("model_variable").assign(operator=rows)


@dataclass(frozen=True)
class Augmented:
    """A model whose state ends with parameters, in units of their uncertainty; they persist.

    Parameters
    ----------
    model : Model
        A dataclass without memory.
    names : tuple of str
        Fields of the model.
    width : numpy.ndarray (parameter,)
        Standard deviations of the parameters around the model's values.
    model_error : numpy.ndarray, optional
        Q of the whole state: variances (variable,) or a covariance (variable, variable).
    """

    model: Model
    names: tuple[str, ...]
    width: np.ndarray
    model_error: np.ndarray | None = None

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, then those of the parameters."""
        return (*self.model.variables, *(f"parameter {name}" for name in self.names))

    @property
    def dt(self) -> Any:
        """Length of a step."""
        return self.model.dt

    @property
    def time_unit(self) -> str:
        """Of ``dt``."""
        return getattr(self.model, "time_unit", "s")

    @cached_property
    def climate(self) -> np.ndarray:
        """A typical state, with the model's own parameters."""
        given = getattr(self.model, "climate", None)
        middle = self._free() if given is None else np.asarray(given, dtype=np.float64)
        return np.concatenate((middle, np.zeros(len(self.names))))

    def _free(self) -> np.ndarray:
        """Give the mean (variable,) of free runs."""
        x, total = typical(self.model), 0.0
        with np.errstate(all="ignore"):
            for step in range(FREE):
                x = self.model.step(x, None)[0]
                total = total + x if step >= FREE // 2 else 0.0
        found = np.mean(total / (FREE - FREE // 2), axis=0)
        right = np.isfinite(found).all()
        return np.asarray(found if right else typical(self.model).mean(axis=0))

    @property
    def values(self) -> np.ndarray:
        """The model's own parameters (parameter,)."""
        return np.array([getattr(self.model, name) for name in self.names])

    def start(self, x: Any, time: Any = None) -> Memory:
        """Give no memory."""

    def step(self, x: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Move each state (..., variable) with parameters of its own."""
        state, parts = x[..., : -len(self.names)], x[..., -len(self.names) :]
        values = dict(
            zip(self.names, np.moveaxis(self.values + self.width * parts, -1, 0), strict=True)
        )
        return np.concatenate((self._step(state, values), parts), axis=-1), memory

    @cached_property
    def _step(self) -> Step:
        """A step with many values of the parameters at once, if the model can be written so.

        A tendency meets a parameter next to states (..., variable), or next to single variables
        (...): which of the two is tried for each.
        """
        states = typical(self.model)
        shift = 1 + 0.01 * np.arange(1, len(states) + 1)
        moved = {name: getattr(self.model, name) * shift + (shift - 1) for name in self.names}
        wide = tuple(
            name
            for name in self.names
            if self._agrees(self._together((name,)), states, {name: moved[name]})
        )
        together = self._together(wide)
        return together if self._agrees(together, states, moved) else self._one_by_one

    def _agrees(self, step: Step, states: np.ndarray, values: dict[str, np.ndarray]) -> bool:
        right = self._one_by_one(states, values)
        try:
            found = step(states, values)
        except Exception:  # the model takes single numbers only
            return False
        return found.shape == right.shape and np.allclose(found, right, rtol=NEAR, atol=0)

    def _together(self, wide: Sequence[str]) -> Step:
        """Give a step with arrays in place of parameters, those of ``wide`` as (..., 1)."""

        def step(state: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
            model = copy.copy(self.model)
            for name, value in values.items():
                object.__setattr__(model, name, value[..., None] if name in wide else value)
            return np.asarray(model.step(state, None)[0])

        return step

    def _one_by_one(self, state: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
        moved = np.empty_like(state)
        for place in np.ndindex(state.shape[:-1]):
            own = {name: float(value[place]) for name, value in values.items()}
            moved[place] = replace(cast("Any", self.model), **own).step(state[place], None)[0]
        return moved


@dataclass(frozen=True)
class Estimating:
    """A scheme on states that end with parameters.

    It draws the first parameters, and holds their standard deviations between a part of the first
    ones and these. A parameter that persists would otherwise be trusted more and more, and no
    longer move; one of which little is seen would be inflated without end.
    """

    scheme: Any
    parameters: int

    model_error: ClassVar[None] = None
    """That of the scheme is given to the model, with zeros for the parameters."""

    def sized(self, variables: tuple[str, ...]) -> Estimating:
        """Give the same with as many members as the scheme has for these variables."""
        own = getattr(self.scheme, "sized", None)
        return self if own is None else replace(self, scheme=own(variables))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheme, name)

    def prepare(self, setting: Setting) -> Memory:
        """Give what the scheme prepares."""
        return self.scheme.prepare(setting)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Memory
    ) -> tuple[Update, Memory]:
        """Give the analysed ensembles (..., member, variable)."""
        state = forecast.state
        if run.age == 0:
            shape = state.shape[-2], self.parameters
            drawn = normal(getattr(self.scheme, "seed", 0), run.step, shape, Stream.PARAMETERS)
            drawn -= drawn.mean(axis=-2, keepdims=True)
            drawn /= drawn.std(axis=-2, keepdims=True, ddof=1)
            state = np.concatenate((state[..., : -self.parameters], drawn), axis=-1)
        update, memory = self.scheme.update(forecast._replace(state=state), observed, run, memory)
        parts = update.state[..., -self.parameters :]
        mean = parts.mean(axis=-2, keepdims=True)
        spread = np.maximum(parts.std(axis=-2, keepdims=True, ddof=1), 1e-12)
        parts = mean + (parts - mean) * np.clip(spread, FLOOR, 1.0) / spread
        state = np.concatenate((update.state[..., : -self.parameters], parts), axis=-1)
        return update._replace(state=state), memory
