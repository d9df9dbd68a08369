"""The cost of a window whose linear problems have matrices: the tangents of all steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from daml.arrays import namespace
from daml.schemes.matrices import cholesky, identity, least_squares, log_determinant, solved
from daml.schemes.windowed.by_gradients import derivative
from daml.schemes.windowed.window_cost import WindowCost


@dataclass(frozen=True)
class ByTangents(WindowCost):
    """A cost whose linear problems are solved exactly."""

    def linear(self, v: Any) -> Any:
        """Give G (..., observed, control): by how much the control changes what is observed.

        From the last time on back: rows are multiplied by the tangent of one step after the other,
        and those of what is observed at its start join them.
        """
        if self.window.remembers:
            return derivative(self, v)
        xp = namespace(v)
        start, errors = self.control.moved(v)
        how = (start,) if errors is None else (start, errors)
        states, tangents = self.window.linear(*how)
        at, by_errors = dict(self.seen), []
        rows = start[..., None, :][..., :0, :]
        for place in reversed(range(len(states))):
            if place in at:
                turned = xp.matrix_transpose(at[place].operator.tangent(states[place]))
                own = xp.matrix_transpose(self.whitened(turned, at[place]))
                rows = xp.concat((own, rows), axis=-2)
            if tangents:
                by_errors.append(rows)
                rows = rows @ tangents[place]
        return self.control.rows(rows, by_errors[::-1])

    def step(self, v: Any, misfit: Any) -> Any:
        """Give the step (..., control) to the minimum of J of the problem linear around v."""
        seen = self.linear(v)
        return least_squares(seen, misfit + (seen @ v[..., None])[..., 0]) - v

    def extras(self, wanted: Collection[str]) -> dict[str, list[Any]]:
        """Give ``chi_square`` and ``log_likelihood`` of the new times, if they are wanted.

        S of a time is the covariance of its innovation d that the background of the window implies,
        in units of the errors of the observations: S = I + G G'. The likelihood is that of all
        observations together.
        """
        asks, likely = "chi_square" in wanted, "log_likelihood" in wanted
        squares: dict[int, Any] = {}
        if not self.seen or not (asks or likely):
            return self.of_time(squares if asks else None, 0.0 if likely else None)
        misfit, _ = self.at_background()
        seen, first = self.linear(self.control.zero()), 0
        for place, observed in self.seen if asks else ():
            rows = slice(first, first + observed.values.shape[-1])
            squares[place], _ = _normal(misfit[..., rows], seen[..., rows, :])
            first = rows.stop
        likelihood = self._likelihood(misfit, seen) if likely else None
        return self.of_time(squares if asks else None, likelihood)

    def _likelihood(self, misfit: Any, seen: Any) -> Any:
        """Give the log-likelihood (...) of all that is new, less its constant."""
        xp = namespace(misfit)
        square, width = _normal(misfit, seen)
        found = -(square + width) / 2
        for _, observed in self.seen:
            counts = xp.sum(xp.astype(observed.present, square.dtype), axis=-1)
            width = observed.log_deviation
            found = found - width - counts * float(np.log(self.factor)) / 2
        return found


def _normal(misfit: Any, seen: Any) -> tuple[Any, Any]:
    """Give d' S^-1 d and the logarithm of the determinant of S = I + G G' (...)."""
    xp = namespace(misfit)
    root = cholesky(identity(seen.shape[-2], seen) + seen @ xp.matrix_transpose(seen))
    normal = solved(root, misfit[..., None])[..., 0]
    return xp.vecdot(normal, normal), log_determinant(root)
