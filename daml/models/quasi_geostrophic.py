"""A quasi-geostrophic ocean in a closed basin: two gyres and their eddies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr
from scipy.fft import dstn

from daml.arrays import alike, namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.models.gridded import Gridded
from daml.models.ode import runge_kutta

if TYPE_CHECKING:
    from daml.protocols import Array

CACHED = 1 << 13
"""Numbers that NumPy works on at once: many states take three times as long at once as in turn."""


@dataclass(frozen=True)
class QuasiGeostrophic(Gridded):
    """The 1.5-layer reduced-gravity quasi-geostrophic model of Sakov and Oke, nondimensional.

    dq/dt = -d psi/dx - r J(psi, q) - a zeta + b lap zeta - c lap lap zeta - f 2 pi sin(2 pi y)

    with zeta = lap psi, q = zeta - F psi, and J(psi, q) = psi_x q_y - psi_y q_x. The field is the
    stream function psi (y, x) in a square basin of length 1. On the border of the basin, psi and
    all its Laplacians are 0; the points there are not part of the state.

    The wind drives one gyre in each half of the basin. Their western boundary currents meet at
    y = 1/2 and leave the coast as a jet, which sheds eddies.

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of Runge-Kutta steps in each dt. With the default settings, Runge-Kutta steps of 1.25
        are stable.
    n : int
        Number of points along each side, including the border: 5 or more. A power of two plus 1 is
        fastest.
    froude : float
        F, the square of the ratio of the basin's length to the radius of deformation; 0 or more.
    rossby : float
        r, the strength of advection.
    bottom_friction, friction, biharmonic_friction : float
        a, b and c: coefficients of the bottom friction, the Laplacian friction and the biharmonic
        friction; 0 or more. Assimilation with few members may need a larger c to remain stable.
    forcing : float
        f, the strength of the wind.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.

    Raises
    ------
    InputError
        If dt or substeps is not positive, n is too small, F or a friction is negative, or a
        parameter is not finite.

    Notes
    -----
    Laplacians are finite differences with five points, the Jacobian is that of Arakawa, which
    conserves energy and enstrophy, and psi is computed from q by discrete sine transforms. Steps
    are those of the classical fourth-order Runge-Kutta scheme. The sign of the wind is that of the
    published code (EnKF-Matlab, and DAPPER's copy of it): the anticyclonic gyre lies in the south.

    References
    ----------
    Sakov, P. and Oke, P. R. (2008): A deterministic formulation of the ensemble Kalman filter: an
    alternative to ensemble square root filters. Tellus A 60, 361-371. Arakawa, A. (1966):
    Computational design for long-term numerical integration of the equations of fluid motion:
    two-dimensional incompressible flow, part I. J. Comput. Phys. 1, 119-143; equation 46.

    Examples
    --------
    >>> import daml
    >>> model = daml.models.QuasiGeostrophic(n=17, dt=5.0, substeps=2)
    >>> psi = daml.unflatten(daml.simulate(model, steps=2, spinup=20)).psi
    >>> psi.dims, psi.shape, int(psi.isel(time=0).notnull().sum())
    (('time', 'y', 'x'), (2, 17, 17), 225)
    """

    dt: float = 1.25
    substeps: int = 1
    n: int = 129
    froude: float = 1600.0
    rossby: float = 1e-5
    bottom_friction: float = 0.0
    friction: float = 0.0
    biharmonic_friction: float = 2e-12
    forcing: float = 1.0
    time_unit: str = "s"

    arrays: ClassVar[tuple[str, ...]] = ("numpy", "torch")  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        if not 0 < self.dt < np.inf:
            raise InputError(f"{name}: 'dt' is {self.dt:g}; give a number > 0")
        if self.substeps < 1:
            raise InputError(f"{name}: 'substeps' is {self.substeps}; give 1 or more")
        if self.n < 5:
            raise InputError(f"{name}: 'n' is {self.n}; give 5 or more points along each side")
        for what in ("froude", "bottom_friction", "friction", "biharmonic_friction"):
            if not 0 <= getattr(self, what) < np.inf:
                raise InputError(f"{name}: {what!r} is {getattr(self, what):g}; give 0 or more")
        for what in ("rossby", "forcing"):
            if not np.isfinite(getattr(self, what)):
                raise InputError(f"{name}: {what!r} is {getattr(self, what):g}; give a number")

    @cached_property
    def template(self) -> xr.Dataset:  # type: ignore[override]
        """The stream function psi (y, x) of an ocean at rest, with its coordinates."""
        psi = np.full((self.n, self.n), np.nan)
        psi[1:-1, 1:-1] = 0.0
        places = np.linspace(0, 1, self.n)
        about = {"units": "1"}
        return xr.Dataset(
            {"psi": (("y", "x"), psi, about | {"long_name": "stream function"})},
            {
                "y": ("y", places, about | {"long_name": "place to the north"}),
                "x": ("x", places, about | {"long_name": "place to the east"}),
            },
        )

    def move(self, fields: dict[str, Array]) -> dict[str, Array]:
        """Step psi (..., y, x) by one dt."""
        inner = fields["psi"][..., 1:-1, 1:-1]
        if not isinstance(inner, np.ndarray):
            return {"psi": _bordered(self._moved(inner))}
        states = inner.reshape(-1, *inner.shape[-2:])
        few = max(CACHED // states[0].size, 1) if len(states) else 1
        parts = [self._moved(states[k : k + few]) for k in range(0, max(len(states), 1), few)]
        return {"psi": _bordered(np.concatenate(parts).reshape(inner.shape))}

    def _moved(self, inner: Array) -> Array:
        """Move psi without its border by one step."""
        return runge_kutta(self.tendency, inner, self.dt, self.substeps)

    def tendency(self, inner: Array) -> Array:
        """Give d psi/dt (..., y, x) for psi (..., y, x), both without the points of the border."""
        h = 1 / (self.n - 1)
        psi = _bordered(inner)
        zeta = laplacian(psi, h)
        q = _bordered(zeta - self.froude * inner)
        change = -self.rossby * jacobian(psi, q, h)
        change = change - (psi[..., 1:-1, 2:] - psi[..., 1:-1, :-2]) / (2 * h)
        change = change - alike(self._wind, inner)[:, None]
        if self.bottom_friction:
            change = change - self.bottom_friction * zeta
        if self.friction or self.biharmonic_friction:
            once = laplacian(_bordered(zeta), h)
            change = change + self.friction * once
            change = change - self.biharmonic_friction * laplacian(_bordered(once), h)
        return self.stream_function(change)

    def stream_function(self, q: Array) -> Array:
        """Solve lap psi - F psi = q (..., y, x) for psi, both without the border."""
        return self._waves(self._waves(q) / alike(self._eigenvalues, q))

    def _waves(self, field: Array) -> Array:
        """Give the sine transform (..., y, x) of a field; it is its own inverse."""
        if isinstance(field, np.ndarray):
            return dstn(field, type=1, axes=(-2, -1), norm="ortho")
        sines = alike(self._sines, field)
        return sines @ field @ sines

    @cached_property
    def _wind(self) -> np.ndarray:
        """2 pi f sin(2 pi y) (y,)."""
        return 2 * np.pi * self.forcing * np.sin(2 * np.pi * np.linspace(0, 1, self.n)[1:-1])

    @cached_property
    def _sines(self) -> np.ndarray:
        """The sine transform (wave, place) of one dimension."""
        numbers = np.arange(1, self.n - 1)
        waves = np.sin(np.pi / (self.n - 1) * numbers[:, None] * numbers)
        return np.asarray(waves * np.sqrt(2 / (self.n - 1)))

    @cached_property
    def _eigenvalues(self) -> np.ndarray:
        """Those of the Laplacian of five points, minus F, (wave, wave)."""
        h, numbers = 1 / (self.n - 1), np.arange(1, self.n - 1)
        along = -((2 / h * np.sin(np.pi / 2 * h * numbers)) ** 2)
        return np.asarray(along[:, None] + along - self.froude)


def laplacian(field: Array, h: float) -> Array:
    """Give that of a field (..., y, x) by five points, at the points within the border."""
    inner = field[..., 1:-1, 1:-1]
    around = field[..., :-2, 1:-1] + field[..., 2:, 1:-1]
    around = around + field[..., 1:-1, :-2] + field[..., 1:-1, 2:]
    return (around - 4 * inner) / h**2


def jacobian(a: Array, b: Array, h: float) -> Array:
    """Give a_x b_y - a_y b_x of fields (..., y, x), at the points within the border.

    It is the mean of three forms (Arakawa 1966, equation 46), of which the sums of J, a J and b J
    over a closed basin vanish.
    """
    a_y, b_y = (f[..., 2:, :] - f[..., :-2, :] for f in (a, b))
    a_x, b_x = (f[..., :, 2:] - f[..., :, :-2] for f in (a, b))
    # Both forms in which a is not differentiated next to the point, or is so at the point itself.
    along_y = b_y[..., 1:] + b_y[..., :-1]
    along_x = b_x[..., 1:, :] + b_x[..., :-1, :]
    found = a[..., 1:-1, 2:] * along_y[..., 1:] - a[..., 1:-1, :-2] * along_y[..., :-1]
    found = found - a[..., 2:, 1:-1] * along_x[..., 1:, :]
    found = found + a[..., :-2, 1:-1] * along_x[..., :-1, :]
    # The third one, in which b is not.
    found = found + b[..., 2:, 1:-1] * a_x[..., 2:, :] - b[..., :-2, 1:-1] * a_x[..., :-2, :]
    found = found - b[..., 1:-1, 2:] * a_y[..., 2:] + b[..., 1:-1, :-2] * a_y[..., :-2]
    return found / (12 * h**2)


def _bordered(inner: Array) -> Array:
    """Give fields (..., y, x) with a border of zeros around them."""
    if isinstance(inner, np.ndarray):
        found = np.zeros((*inner.shape[:-2], inner.shape[-2] + 2, inner.shape[-1] + 2), inner.dtype)
        found[..., 1:-1, 1:-1] = inner
        return found
    xp = namespace(inner)
    side = xp.zeros_like(inner[..., :1])
    wide = xp.concat((side, inner, side), axis=-1)
    edge = xp.zeros_like(wide[..., :1, :])
    return xp.concat((edge, wide, edge), axis=-2)
