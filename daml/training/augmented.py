"""A model with parameters in its state, so that an ensemble scheme estimates them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from daml.protocols import Forecast, Memory, Model, Observed, Run, Scheme, Setting, Update
from daml.randomness import normal
from daml.running.checks import typical

STREAM = 5
"""Of the seed: the first values of parameters."""
NEAR = 1e-9
"""Largest relative difference between two forms of a step that are the same."""
Step = Callable[[np.ndarray, dict[str, np.ndarray]], np.ndarray]


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
    """

    model: Model
    names: tuple[str, ...]
    width: np.ndarray

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
    def climate(self) -> np.ndarray | None:
        """A typical state, with the model's own parameters."""
        middle = typical(self.model).mean(axis=0)
        return np.concatenate((middle, np.zeros(len(self.names))))

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

    It draws the first parameters, and keeps their standard deviations above a part of the first
    ones: a parameter that persists would otherwise be trusted more and more, and no longer move.
    """

    scheme: Any
    parameters: int
    floor: float

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
            drawn = normal(getattr(self.scheme, "seed", 0), run.step, shape, STREAM)
            drawn = (drawn - drawn.mean(axis=-2, keepdims=True)) / drawn.std(
                axis=-2, keepdims=True, ddof=1
            )
            state = np.concatenate((state[..., : -self.parameters], drawn), axis=-1)
        update, memory = self.scheme.update(forecast._replace(state=state), observed, run, memory)
        parts = update.state[..., -self.parameters :]
        mean = parts.mean(axis=-2, keepdims=True)
        spread = np.maximum(parts.std(axis=-2, keepdims=True, ddof=1), 1e-12)
        parts = mean + (parts - mean) * np.maximum(self.floor / spread, 1.0)
        state = np.concatenate((update.state[..., : -self.parameters], parts), axis=-1)
        return update._replace(state=state), memory
