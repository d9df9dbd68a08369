"""Lorenz 63, and Lorenz 63 coupled to an oscillator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from daml.models.ode import ODE, joined, parted

if TYPE_CHECKING:
    from daml.protocols import Array


@dataclass(frozen=True)
class Lorenz63(ODE):
    """The three-variable convection model of Lorenz (1963), nondimensional.

    dx0/dt = -sigma (x0 - x1), dx1/dt = rho x0 - x1 - x2 x0, dx2/dt = x0 x1 - beta x2

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of Runge-Kutta steps in each dt.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.
    sigma, rho, beta : float
        Prandtl number; Rayleigh number divided by its critical value; and geometric factor.

    Raises
    ------
    InputError
        If dt or substeps is not positive.

    References
    ----------
    Lorenz, E. N. (1963): Deterministic nonperiodic flow. J. Atmos. Sci. 20, 130-141.

    Examples
    --------
    >>> import numpy as np
    >>> x, _ = Lorenz63(dt=0.05).step(np.ones((10, 3)))
    >>> x.shape
    (10, 3)
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8 / 3

    variables: ClassVar[tuple[str, ...]] = ("x0", "x1", "x2")

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., 3)."""
        x0, x1, x2 = parted(x)
        return joined(
            x,
            self.sigma * (x1 - x0),
            self.rho * x0 - x1 - x2 * x0,
            x0 * x1 - self.beta * x2,
        )


@dataclass(frozen=True)
class CoupledLorenz63(Lorenz63):
    """Lorenz 63 coupled to a damped oscillator (x3, x4): five variables, nondimensional.

    The equations of :class:`Lorenz63`, with the term +x4 in dx0/dt and +x3 in dx1/dt, and

    dx3/dt = -omega x4 - k (x3 - x3_star) - x1, dx4/dt = omega (x3 - x3_star) - k x4 - x0

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of Runge-Kutta steps in each dt.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.
    sigma, rho, beta : float
        Prandtl number; Rayleigh number divided by its critical value; and geometric factor.
    omega, k : float
        Angular frequency and damping rate of the oscillator, per model time unit.
    x3_star : float
        Value of x3 around which the oscillator oscillates.

    Raises
    ------
    InputError
        If dt or substeps is not positive.

    References
    ----------
    Palmer, T. N. (1993): Extended-range atmospheric prediction and the Lorenz model.
    Bull. Amer. Meteor. Soc. 74, 49-65. Goodliff and Miyoshi (2025), egusphere-2025-933, use it as
    the truth.

    Examples
    --------
    >>> CoupledLorenz63(dt=0.05).variables
    ('x0', 'x1', 'x2', 'x3', 'x4')
    """

    omega: float = 1.5
    k: float = 0.1
    x3_star: float = 0.0

    variables: ClassVar[tuple[str, ...]] = ("x0", "x1", "x2", "x3", "x4")

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., 5)."""
        x0, x1, x2, x3, x4 = parted(x)
        return joined(
            x,
            self.sigma * (x1 - x0) + x4,
            self.rho * x0 - x1 - x2 * x0 + x3,
            x0 * x1 - self.beta * x2,
            -self.omega * x4 - self.k * (x3 - self.x3_star) - x1,
            self.omega * (x3 - self.x3_star) - self.k * x4 - x0,
        )
