"""The cost of a window: how far its start is from the background, and from the observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from daml.arrays import namespace
from daml.protocols import Observed, Window
from daml.schemes.ensembles.parts import chi_square
from daml.schemes.matrices import identity
from daml.schemes.variational.controls import Control


@dataclass(frozen=True)
class WindowCost(ABC):
    """J(v) = |v|^2 + sum of |R^(-1/2) (y - H(x))|^2 over the times that are new.

    x is moved from the start and with the errors that `Control` makes of v.
    """

    window: Window
    control: Control
    factor: float
    """On R."""
    seen: tuple[tuple[int, Observed], ...]
    """The places in the window of the new times at which something is observed."""

    @classmethod
    def of(
        cls,
        window: Window,
        observed: Sequence[Observed],
        control: Control,
        factor: float,
    ) -> Self:
        """Give the cost of the observations that are new in a window."""
        first = len(observed) - window.fresh
        pairs = ((place, observed[place]) for place in range(first, len(observed)))
        seen = tuple(pair for pair in pairs if bool(pair[1].present.any()))
        return cls(window, control, factor, seen)

    @abstractmethod
    def step(self, v: Any, misfit: Any) -> Any:
        """Give the step (..., control) to the minimum of J of the problem linear around v."""

    @abstractmethod
    def extras(self, wanted: Collection[str]) -> dict[str, list[Any]]:
        """Give, of the outputs that are wanted, what the background says of the innovations."""

    def upto(self, count: int) -> Self:
        """Give the cost of the first times alone at which something is observed."""
        return replace(self, seen=self.seen[:count])

    def at(self, v: Any) -> tuple[Any, Any]:
        """Give the misfits R^(-1/2) (y - H(x)) (..., observed) of all times, and J (...)."""
        start, errors = self.control.moved(v)
        states = self.window.moved(start) if errors is None else self.window.moved(start, errors)
        return self.of_states(v, states)

    def at_background(self) -> tuple[Any, Any]:
        """Give the same of the background, through which the model went already."""
        return self.of_states(self.control.zero(), self.window.background)

    def of_states(self, v: Any, states: Sequence[Any]) -> tuple[Any, Any]:
        """Give the same of a control and the states that follow from it."""
        misfit = self._misfit(states)
        return misfit, self.control.inner(v, v) + namespace(v).vecdot(misfit, misfit)

    def distance(self, changes: Sequence[Any]) -> Any:
        """Give the sum of |R^(-1/2) (y - H(x))|^2 (...) for changes of the start and the errors."""
        control, (first, *rest) = self.control, changes
        how: tuple[Any, ...] = (control.start + first,)
        if rest:
            how = (*how, tuple(q + e for q, e in zip(control.errors, rest, strict=True)))
        misfit = self._misfit(self.window.moved(*how))
        return namespace(misfit).vecdot(misfit, misfit)

    def _misfit(self, states: Sequence[Any]) -> Any:
        """Give R^(-1/2) (y - H(x)) (..., observed) of all times."""
        parts = [self.white(o.values - o.operator.apply(states[p]), o) for p, o in self.seen]
        return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=-1)

    def white(self, values: Any, observed: Observed) -> Any:
        """Give R^(-1/2) of (..., observed), 0 where a value is missing."""
        return self.whitened(values[..., None, :], observed)[..., 0, :]

    def unwhite(self, values: Any, observed: Observed) -> Any:
        """Give the transpose of R^(-1/2) times (..., observed)."""
        if observed.noise.covariance is None:
            return self.white(values, observed)
        size = values.shape[-1]
        rows = namespace(values).broadcast_to(identity(size, values), (*values.shape, size))
        return (self.whitened(rows, observed) @ values[..., None])[..., 0]

    def whitened(self, rows: Any, observed: Observed) -> Any:
        """Give R^(-1/2) of rows (..., row, observed), 0 where a value is missing."""
        return observed.whitened(rows) / self.factor**0.5

    def of_time(
        self, squares: dict[int, Any] | None, likelihood: Any = None
    ) -> dict[str, list[Any]]:
        """Give the outputs of the new times.

        Parameters
        ----------
        squares : dict of int to array (...), optional
            By the place in the window d' S^-1 d, where something is observed.
        likelihood : array (...), optional
            The log-likelihood of all that is new, which is said of the last time.
        """
        nothing = namespace(self.control.start).zeros_like(self.control.start[..., 0])
        fresh, found = self.window.fresh, {}
        if squares is not None:
            found["chi_square"] = [nothing + np.nan] * fresh
            for place, observed in self.seen:
                at = place - len(self.window.background) + fresh
                found["chi_square"][at] = chi_square(observed, squares[place])["chi_square"]
        if likelihood is not None:
            found["log_likelihood"] = [nothing] * (fresh - 1) + [nothing + likelihood]
        return found
