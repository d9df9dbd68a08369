"""The Kuramoto-Sivashinsky equation: a chaotic field on a ring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.models.gridded import Gridded

if TYPE_CHECKING:
    from daml.protocols import Array

ROOTS = 32
"""Points on the half circle over which coefficients are a mean."""
COARSEST = 1.6
"""Largest spacing of points: with a larger one, waves that should decay are missing, and runs
diverge."""
SPREAD = 1.3
"""Standard deviation of u on the attractor, whatever the length is, where that is large."""


class Coefficients(NamedTuple):
    """What a step multiplies with, for each wave (wave,)."""

    derivative: np.ndarray
    """The wavenumber, of which i times is d/dx; 0 for the wave of two points."""
    whole: np.ndarray
    """exp(h c), with the linear rate c of the wave and the length h of a substep."""
    half: np.ndarray
    """exp(h c / 2)."""
    between: np.ndarray
    """By which the tendency at one of the inner stages counts."""
    first: np.ndarray
    middle: np.ndarray
    last: np.ndarray
    """By which those of the four stages count in the step."""


@dataclass(frozen=True)
class KuramotoSivashinsky(Gridded):
    """The equation of Kuramoto and Sivashinsky for a field u(x) on a ring, nondimensional.

    du/dt = -u du/dx - d2u/dx2 - d4u/dx4

    Waves longer than 2 pi grow, shorter ones decay, and advection moves energy from the long to the
    short waves. Derivatives are spectral. Steps are those of the fourth-order exponential
    Runge-Kutta scheme ETDRK4, which solves the linear terms exactly.

    Parameters
    ----------
    dt : float
        Length of a step, in model time units.
    substeps : int
        Number of steps of the scheme in each dt. A step should be 0.5 or shorter.
    length : float
        Length of the ring. The number of growing waves and the number of positive Lyapunov
        exponents increase with it.
    n : int
        Number of points on the ring, 8 or more. Their distance ``length / n`` must be at most 1.6
        and should be at most 1.
    time_unit : str
        Length of a model time unit for records with dates, as NumPy abbreviates it: "s", "h" or
        "D". Records whose times are numbers do not need it.

    Raises
    ------
    InputError
        If dt, length or substeps is not positive, or n is too small.

    Notes
    -----
    The mean of u over the ring does not change in a free run, and the whole field drifts around the
    ring with this velocity. The mean of ``climate`` is 0.

    References
    ----------
    Kuramoto, Y. and Tsuzuki, T. (1976): Persistent propagation of concentration waves in
    dissipative media far from thermal equilibrium. Prog. Theor. Phys. 55, 356-369. Cox, S. M. and
    Matthews, P. C. (2002): Exponential time differencing for stiff systems. J. Comput. Phys. 176,
    430-455; equations 26 to 29. Kassam, A.-K. and Trefethen, L. N. (2005): Fourth-order
    time-stepping for stiff PDEs. SIAM J. Sci. Comput. 26, 1214-1233. The defaults are those of
    Bocquet, M. and Farchi, A. (2019): On the consistency of the local ensemble square root Kalman
    filter perturbations with covariance localization. Tellus A 71, 1613142.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.models.KuramotoSivashinsky(), steps=20, spinup=200)
    >>> u = daml.unflatten(run).u
    >>> u.dims, u.shape
    (('time', 'x'), (20, 128))
    """

    dt: float = 0.5
    substeps: int = 1
    length: float = 32 * np.pi
    n: int = 128
    time_unit: str = "s"

    arrays: ClassVar[tuple[str, ...]] = ("numpy", "torch")  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        for what in ("dt", "length"):
            if not 0 < getattr(self, what) < np.inf:
                raise InputError(f"{name}: {what!r} is {getattr(self, what):g}; give a number > 0")
        if self.substeps < 1:
            raise InputError(f"{name}: 'substeps' is {self.substeps}; give 1 or more")
        if self.n < 8:
            raise InputError(f"{name}: 'n' is {self.n}; give 8 or more points")
        if self.length > COARSEST * self.n:
            raise InputError(
                f"{name}: 'n' is {self.n} for a 'length' of {self.length:g}, where runs diverge; "
                f"give at least {int(np.ceil(self.length / COARSEST))} points"
            )

    @cached_property
    def template(self) -> xr.Dataset:  # type: ignore[override]
        """The field u (x) at rest, with its coordinate x."""
        x = self.length / self.n * np.arange(self.n)
        return xr.Dataset(
            {"u": ("x", np.zeros(self.n), {"long_name": "velocity", "units": "1"})},
            {"x": ("x", x, {"long_name": "place on the ring", "units": "1"})},
        )

    @property
    def period(self) -> float:
        """Length after which the ring repeats itself."""
        return self.length

    @property
    def climate_spread(self) -> np.ndarray:
        """Standard deviation (variable,) of the states."""
        return np.full(self.n, SPREAD)

    def move(self, fields: dict[str, Array]) -> dict[str, Array]:
        """Step the field u (..., x) by one dt."""
        u = fields["u"]
        xp = namespace(u)
        wave, whole, half, between, first, middle, last = (alike(c, u) for c in self._coefficients)

        def tendency(v: Array) -> Array:
            """Give that of u by advection, as waves (..., wave)."""
            square = xp.fft.irfft(v, n=self.n, axis=-1) ** 2
            return -0.5j * wave * xp.fft.rfft(square, axis=-1)

        v = xp.fft.rfft(u, axis=-1)
        for _ in range(self.substeps):
            start = tendency(v)
            a = half * v + between * start
            at_a = tendency(a)
            at_b = tendency(half * v + between * at_a)
            at_c = tendency(half * a + between * (2 * at_b - start))
            v = whole * v + first * start + middle * (at_a + at_b) + last * at_c
        return {"u": xp.fft.irfft(v, n=self.n, axis=-1)}

    @cached_property
    def _coefficients(self) -> Coefficients:
        """Differences that cancel near 0 are means over a circle (Kassam and Trefethen 2005)."""
        h, wave = self.dt / self.substeps, 2 * np.pi / self.length * np.arange(self.n // 2 + 1)
        rate = h * (wave**2 - wave**4)
        derivative = np.where(2 * np.arange(len(wave)) == self.n, 0.0, wave)
        z = rate[:, None] + np.exp(1j * np.pi * (np.arange(ROOTS) + 0.5) / ROOTS)
        e = np.exp(z)

        def mean(values: np.ndarray) -> np.ndarray:
            return np.asarray(h * values.real.mean(axis=-1))

        return Coefficients(
            derivative,
            whole=np.exp(rate),
            half=np.exp(rate / 2),
            between=mean((np.exp(z / 2) - 1) / z),
            first=mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3),
            middle=mean(2 * (2 + z + e * (z - 2)) / z**3),
            last=mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3),
        )
