"""Two-scale Lorenz 96: a ring of slow variables, each with fast ones of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from array_api_compat import array_namespace

from daml.errors import InputError
from daml.models.ode import ODE

if TYPE_CHECKING:
    from daml.protocols import Array


@dataclass(frozen=True)
class TwoScaleLorenz96(ODE):
    """The two-scale model of Lorenz (1996), nondimensional.

    There are K slow variables X on a circle of latitude, each in a sector of its own, and J fast
    variables Y in each sector:

    dX_k/dt = (X_(k+1) - X_(k-2)) X_(k-1) - X_k + F - (h c / b) sum of the Y of sector k

    dY_j/dt = c b (Y_(j-1) - Y_(j+2)) Y_(j+1) - c Y_j + (h c / b) X_k of the sector of j

    The indices k are modulo K. The Y form one ring of K J variables. Without the fast variables the
    model is :class:`Lorenz96`, which is an imperfect model of this one:
    ``Lorenz96(dt=0.05, substeps=10, n=8, forcing=20.0)``.

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of Runge-Kutta steps in each dt. With the default settings, the fast variables need
        Runge-Kutta steps of 0.005 or less, and with a larger c or b shorter ones.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.
    sectors : int
        K, 4 or more. The slow variables are named "x0", "x1", ...
    fast : int
        J, 1 or more. The fast variables are named "y0_00", "y0_01", ..., the number of the sector
        first. Numbers are padded with zeros.
    forcing : float
        F, which drives the slow variables.
    coupling : float
        h, the strength of the coupling.
    amplitude : float
        b, the factor by which the fast variables are smaller than the slow ones.
    speed : float
        c, the factor by which the fast variables are faster.

    Raises
    ------
    InputError
        If a number of variables is too small, b is zero, or dt or substeps is not positive.

    References
    ----------
    Lorenz, E. N. (1996): Predictability: a problem partly solved. Proc. Seminar on Predictability,
    ECMWF, Reading, 1-18. Wilks, D. S. (2005): Effects of stochastic parametrizations in the Lorenz
    '96 system. Q. J. R. Meteorol. Soc. 131, 389-407.

    Examples
    --------
    >>> import numpy as np
    >>> model = TwoScaleLorenz96(sectors=8, fast=4)
    >>> x, _ = model.step(np.ones((10, 40)))
    >>> x.shape, model.variables[7:10]
    ((10, 40), ('x7', 'y0_0', 'y0_1'))
    """

    dt: float = 0.05
    substeps: int = 20
    sectors: int = 8
    fast: int = 32
    forcing: float = 20.0
    coupling: float = 1.0
    amplitude: float = 10.0
    speed: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        if self.sectors < 4:
            raise InputError(f"{name}: 'sectors' is {self.sectors}; give 4 or more")
        if self.fast < 1:
            raise InputError(f"{name}: 'fast' is {self.fast}; give 1 or more for each sector")
        if self.amplitude == 0:
            raise InputError(f"{name}: 'amplitude' is 0; give a factor other than 0")

    @cached_property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the variables, first the slow ones, then the fast ones."""
        wide, narrow = len(str(self.sectors - 1)), len(str(self.fast - 1))
        slow = tuple(f"x{k:0{wide}}" for k in range(self.sectors))
        inner = range(self.fast)
        return slow + tuple(
            f"y{k:0{wide}}_{j:0{narrow}}" for k in range(self.sectors) for j in inner
        )

    @property
    def positions(self) -> np.ndarray:
        """Positions (variable,) in units of a sector; fast variables are spread over theirs."""
        within = (np.arange(self.fast) + 0.5) / self.fast - 0.5
        slow = np.arange(float(self.sectors))
        return np.concatenate((slow, (slow[:, None] + within).ravel()))

    @property
    def period(self) -> int:
        """Length of the ring, after which positions repeat themselves."""
        return self.sectors

    def tendency(self, x: Array) -> Array:
        """Give dx/dt for a state (..., K + K J)."""
        xp = array_namespace(x)
        slow, fast = x[..., : self.sectors], x[..., self.sectors :]
        exchange, rate = self.coupling * self.speed / self.amplitude, self.speed * self.amplitude
        parts = xp.reshape(fast, (*slow.shape, self.fast))
        lifted = xp.broadcast_to(exchange * slow[..., None], parts.shape)
        # Copies at the ends are faster than three rolled states.
        ring = xp.concat((slow[..., -2:], slow, slow[..., :1]), axis=-1)
        slowly = (ring[..., 3:] - ring[..., :-3]) * ring[..., 1:-2] - slow + self.forcing
        ring = xp.concat((fast[..., -1:], fast, fast[..., :2]), axis=-1)
        fastly = rate * (ring[..., :-3] - ring[..., 3:]) * ring[..., 2:-1] - self.speed * fast
        fastly = fastly + xp.reshape(lifted, fast.shape)
        return xp.concat((slowly - exchange * xp.sum(parts, axis=-1), fastly), axis=-1)
