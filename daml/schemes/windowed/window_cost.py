"""The cost of a window: how far its start is from the background, and from the observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daml.arrays import namespace
from daml.protocols import ObservationOperator, Observed, Window
from daml.schemes.matrices import cholesky, identity, least_squares, log_determinant, solved
from daml.schemes.windowed.controls import Control


@dataclass(frozen=True)
class WindowCost:
    """J(v) = |v|^2 + sum of |R^(-1/2) (y - H(x))|^2 over the times that are new.

    x is moved from the start and with the errors that `Control` makes of v.
    """

    window: Window
    control: Control
    operator: ObservationOperator
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
        operator: ObservationOperator,
        factor: float,
    ) -> WindowCost:
        """Give the cost of the observations that are new in a window."""
        first = len(observed) - window.fresh
        pairs = ((place, observed[place]) for place in range(first, len(observed)))
        seen = tuple(pair for pair in pairs if bool(pair[1].present.any()))
        return cls(window, control, operator, factor, seen)

    def upto(self, count: int) -> WindowCost:
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
        xp = namespace(v)
        parts = [self._white(o.values - self.operator.apply(states[p]), o) for p, o in self.seen]
        misfit = parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)
        return misfit, xp.vecdot(v, v) + xp.vecdot(misfit, misfit)

    def linear(self, v: Any) -> Any:
        """Give G (..., observed, control): by how much the control changes what is observed.

        From the last time on back: rows are multiplied by the tangent of one step after the other,
        and those of what is observed at its start join them.
        """
        xp = namespace(v)
        start, errors = self.control.moved(v)
        how = (start,) if errors is None else (start, errors)
        states, tangents = self.window.linear(*how)
        at, by_errors = dict(self.seen), []
        rows = start[..., None, :][..., :0, :]
        for place in reversed(range(len(states))):
            if place in at:
                turned = xp.matrix_transpose(self.operator.tangent(states[place]))
                own = xp.matrix_transpose(self._whitened(turned, at[place]))
                rows = xp.concat((own, rows), axis=-2)
            if tangents:
                by_errors.append(rows)
                rows = rows @ tangents[place]
        return self.control.rows(rows, by_errors[::-1])

    def step(self, v: Any, misfit: Any) -> Any:
        """Give the step (..., control) to the minimum of J of the problem linear around v."""
        seen = self.linear(v)
        return least_squares(seen, misfit + (seen @ v[..., None])[..., 0]) - v

    def _white(self, values: Any, observed: Observed) -> Any:
        return self._whitened(values[..., None, :], observed)[..., 0, :]

    def _whitened(self, rows: Any, observed: Observed) -> Any:
        """Give R^(-1/2) of rows (..., row, observed), 0 where a value is missing."""
        return observed.noise.whitened(rows, observed.pattern) / self.factor**0.5

    def extras(self, misfit: Any, seen: Any) -> dict[str, list[Any]]:
        """Give ``chi_square`` and ``log_likelihood`` of the new times.

        ``misfit`` and ``seen`` are those of the background. The likelihood of all observations
        together is that of the last time.
        """
        xp = namespace(misfit)
        nothing = xp.zeros_like(self.control.start[..., 0])
        first = len(self.window.background) - self.window.fresh
        squares, first_row = {}, 0
        for place, observed in self.seen:
            rows = slice(first_row, first_row + observed.values.shape[-1])
            first_row = rows.stop
            square, _ = _normal(misfit[..., rows], seen[..., rows, :])
            counts = xp.sum(xp.astype(observed.present, square.dtype), axis=-1)
            squares[place - first] = square / xp.where(counts > 0, counts, np.nan)
        likelihood = nothing
        if self.seen:
            square, width = _normal(misfit, seen)
            likelihood = -(square + width) / 2
        for _, observed in self.seen:
            counts = xp.sum(xp.astype(observed.present, nothing.dtype), axis=-1)
            width = observed.noise.log_deviation(observed.pattern)
            likelihood = likelihood - width - counts * float(np.log(self.factor)) / 2
        fresh = range(self.window.fresh)
        return {
            "chi_square": [squares.get(place, nothing + np.nan) for place in fresh],
            "log_likelihood": [nothing] * (self.window.fresh - 1) + [likelihood],
        }


def _normal(misfit: Any, seen: Any) -> tuple[Any, Any]:
    """Give d' S^-1 d and the logarithm of the determinant of S = I + G G' (...)."""
    xp = namespace(misfit)
    root = cholesky(identity(seen.shape[-2], seen) + seen @ xp.matrix_transpose(seen))
    normal = solved(root, misfit[..., None])[..., 0]
    return xp.vecdot(normal, normal), log_determinant(root)
