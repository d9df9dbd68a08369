"""Gauss-Newton iterations whose steps are halved until the cost falls, for a batch of problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from daml.arrays import namespace

TOLERANCE = 1e-6
"""Length of the last step, in standard deviations of the background's errors."""
ITERATIONS, HALVINGS = 100, 30
"""Most iterations, and most halvings of a step that does not lower the cost."""

Cost = Callable[[Any], tuple[Any, Any]]
"""Gives the misfits (..., observed) and the costs (...) of controls (..., control)."""


class Minimum(NamedTuple):
    """Where the iterations of a batch ended."""

    control: Any
    """v (..., control)."""
    misfit: Any
    """R^(-1/2) (y - H(x)) (..., observed)."""
    cost: Any
    """(...)."""
    iterations: Any
    """How many steps were made (...)."""
    converged: Any
    """Whether the last step was short (...), or no step lowers the cost, to rounding."""


def minimised(
    cost: Cost,
    step: Callable[[Any, Any], Any],
    v: Any,
    *,
    at_first: tuple[Any, Any] | None = None,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    inner: Callable[[Any, Any], Any] | None = None,
) -> Minimum:
    """Minimise the cost of each control of a batch.

    A control is done when its step is no longer than the tolerance; others side by side do not
    change it.

    Parameters
    ----------
    cost : callable
        See `Cost`.
    step : callable
        Gives, for controls and their misfits, the steps (..., control) to the minimum of the cost
        of the problem that is linear around them.
    v : array (..., control)
        Where the iterations start.
    at_first : tuple of array, optional
        The misfits and the costs there, if they are known.
    iterations : int
        Most iterations.
    tolerance : float
        Length of the last step.
    inner : callable, optional
        Gives the scalar products (...) of controls, by default those of their entries.
    """
    xp = namespace(v)
    dot = xp.vecdot if inner is None else inner
    misfit, value = cost(v) if at_first is None else at_first
    going = xp.ones_like(value) > 0
    count, converged = xp.zeros_like(value), ~going
    for _ in range(iterations):
        move = step(v, misfit)
        move = xp.where(going[..., None], move, xp.zeros_like(move))
        last = going & (dot(move, move) <= tolerance**2)
        size, before = xp.ones_like(value), value
        for _ in range(HALVINGS):
            tried = v + size[..., None] * move
            its_misfit, its_value = cost(tried)
            worse = going & ~last & ~(its_value < before)
            if not xp.any(worse):
                break
            size = xp.where(worse, size / 2, size)
        # Where no step lowers the cost it is lowest, to rounding.
        better = (going & ~worse)[..., None]
        v, misfit = xp.where(better, tried, v), xp.where(better, its_misfit, misfit)
        value = xp.where(better[..., 0], its_value, value)
        count = count + xp.astype(going, count.dtype)
        converged = converged | last | (worse & xp.isfinite(before))
        going = going & ~last & ~worse
        if not xp.any(going):
            break
    return Minimum(v, misfit, value, count, converged)
