"""Lorenz 96: a ring of variables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from daml.arrays import namespace
from daml.errors import InputError
from daml.models.ode import ODE

if TYPE_CHECKING:
    from daml.protocols import Array


@dataclass(frozen=True)
class Lorenz96(ODE):
    """The model of Lorenz (1996): a quantity at n points of a circle of latitude, nondimensional.

    dx_i/dt = (x_(i+1) - x_(i-2)) x_(i-1) - x_i + F, with indices modulo n

    Parameters
    ----------
    dt : float
        Length of a step, in model time units. One unit is usually identified with five days.
    substeps : int
        Number of Runge-Kutta steps in each dt.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.
    n : int
        Number of variables, 4 or more. Their names are "x0", "x1", ...; with more than ten
        variables the numbers are padded with zeros ("x00"), so that names sort along the ring.
    forcing : float
        F. With F = 8 and n = 40 the model is chaotic.

    Raises
    ------
    InputError
        If n is below 4, or dt or substeps is not positive.

    References
    ----------
    Lorenz, E. N. (1996): Predictability: a problem partly solved. Proc. Seminar on Predictability,
    ECMWF, Reading, 1-18. Lorenz, E. N. and Emanuel, K. A. (1998): Optimal sites for supplementary
    weather observations. J. Atmos. Sci. 55, 399-414.

    Examples
    --------
    >>> import numpy as np
    >>> model = Lorenz96(n=40)
    >>> x, _ = model.step(np.ones((10, 40)))
    >>> x.shape, model.variables[:2], model.period
    ((10, 40), ('x00', 'x01'), 40)
    """

    n: int = 40
    forcing: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 4:
            raise InputError(f"{type(self).__name__}: 'n' is {self.n}; give 4 or more variables")

    @cached_property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names along the last axis of a state."""
        width = len(str(self.n - 1))
        return tuple(f"x{place:0{width}}" for place in range(self.n))

    @property
    def positions(self) -> np.ndarray:
        """Positions (variable,) of the variables on the ring."""
        return np.arange(self.n)

    @property
    def period(self) -> int:
        """Length of the ring, after which positions repeat themselves."""
        return self.n

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., n)."""
        if isinstance(x, np.ndarray):
            return self._in_one_loop(x)
        xp = namespace(x)
        ahead, behind, before = (xp.roll(x, shift, axis=-1) for shift in (-1, 1, 2))
        return (ahead - before) * behind - x + self.forcing

    def _in_one_loop(self, x: np.ndarray) -> np.ndarray:
        """Give the same by NumPy's loops over all states at once, in half the time.

        A state lies between its last two variables and its first; what the loops make of these
        three, across two states, is left out.
        """
        width = self.n + 3
        ring = np.zeros(x.size // self.n * width + 3, x.dtype)
        rows = ring[:-3].reshape(*x.shape[:-1], width)
        rows[..., :2], rows[..., 2:-1], rows[..., -1] = x[..., -2:], x, x[..., 0]
        found = (ring[3:] - ring[:-3]) * ring[1:-2] - ring[2:-1] + self.forcing
        return np.ascontiguousarray(found.reshape(rows.shape)[..., : self.n])
