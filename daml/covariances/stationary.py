"""A covariance that is the same everywhere on a regular grid, by its actions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.errors import InputError
from daml.labels.arguments import plain

FAR = 9.0
"""Distance, in lengths, at which a correlation is smaller than rounding."""


@dataclass(frozen=True)
class Stationary:
    """Covariance B = s^2 C of the points of a regular grid, with Fourier transforms.

    The correlation of two points at distance r is exp(-r^2 / (2 l^2)), with r along the shortest
    way round each periodic dimension. Fourier components are eigenvectors of C, so its root costs
    two transforms, and no matrix is formed: use it as the B of :class:`daml.ThreeDVar` or
    :class:`daml.schemes.FourDVar` (``method="cg"``) with many variables. Dimensions that are not
    periodic are extended to longer periodic ones, whose additional points have no variables.

    Parameters
    ----------
    shape : tuple of int, or int
        Points along each dimension of the grid. The variables of the model are its points, the last
        dimension first to vary.
    variance : float
        s^2, in units of the variables squared.
    length : float
        l, in distances of neighbouring points.
    periodic : bool or tuple of bool
        Whether each dimension is periodic.

    Raises
    ------
    InputError
        If a number is out of range.

    References
    ----------
    Gaspari, G. and Cohn, S. E. (1999): Construction of correlation functions in two and three
    dimensions. Q. J. R. Meteorol. Soc. 125, 723-757; section 2, on periodic domains.

    Examples
    --------
    >>> B = Stationary(40, variance=2.0, length=3.0)
    >>> v = np.random.default_rng(0).standard_normal((5, 40))
    >>> B.root(v).shape, round(float(B.dense()[0, 0]), 6)
    ((5, 40), 2.0)
    """

    shape: Any
    variance: float = 1.0
    length: float = 1.0
    periodic: Any = field(default=True, metadata={"later": True})

    def __post_init__(self) -> None:
        given = self.shape if isinstance(self.shape, (tuple, list)) else (self.shape,)
        counts = tuple(plain("int", count) for count in given)
        if not counts or any(count is None or count < 1 for count in counts):
            raise InputError(
                f"Stationary: 'shape' is {self.shape!r}; give the number of points along each "
                "dimension, such as (64, 128)"
            )
        object.__setattr__(self, "shape", counts)
        for name in ("variance", "length"):
            number = plain("float", getattr(self, name))
            if number is None or not 0 < number < np.inf:
                raise InputError(
                    f"Stationary: {name!r} is {getattr(self, name)!r}; give a number > 0"
                )
            object.__setattr__(self, name, number)
        around = self.periodic
        each = around if isinstance(around, (tuple, list)) else (around,) * len(counts)
        plains = tuple(plain("bool", part) for part in each)
        if len(plains) != len(counts) or None in plains:
            raise InputError(
                f"Stationary: 'periodic' is {around!r}; give True or False, or one for each of the "
                f"{len(counts)} dimensions"
            )
        object.__setattr__(self, "periodic", all(plains) or plains)

    @property
    def size(self) -> int:
        """Number of variables: that of the points."""
        return math.prod(self.shape)

    @property
    def control(self) -> int:
        """Number of entries of a control v: that of the points of the periodic grid."""
        return math.prod(self._around)

    @cached_property
    def _around(self) -> tuple[int, ...]:
        """The points along each dimension of a periodic grid that has the grid in it.

        It is so much longer that nothing is correlated across its ends.
        """
        beyond = math.ceil(FAR * self.length)
        around = (True,) * len(self.shape) if self.periodic is True else self.periodic
        pairs = zip(self.shape, around, strict=True)
        return tuple(n if periodic else n + min(beyond, n - 1) for n, periodic in pairs)

    @cached_property
    def _filter(self) -> np.ndarray:
        """The roots of the eigenvalues, one for each Fourier component of real fields."""
        squares: Any = 0.0
        for dim, count in enumerate(self._around):
            away = np.arange(count)
            away = np.minimum(away, count - away).reshape(
                [-1 if d == dim else 1 for d in range(len(self.shape))]
            )
            squares = squares + away**2
        values = np.fft.rfftn(np.exp(-squares / (2 * self.length**2))).real
        values = np.maximum(values, 0.0)  # a long correlation bent round a ring may be none
        return np.sqrt(values / self._mean(values))

    def _mean(self, values: np.ndarray) -> float:
        """Give the mean of the eigenvalues, which is 1 of a correlation."""
        return float(np.fft.irfftn(values, s=self._around, axes=range(len(self.shape))).flat[0])

    def root(self, v: Any) -> Any:
        """Give L v (..., variable) of controls (..., control)."""
        moved = self._filtered(self._field(v, self._around), self._filter)
        return self.variance**0.5 * self._flat(moved)

    def root_adjoint(self, x: Any) -> Any:
        """Give L' x (..., control) of states (..., variable)."""
        xp = namespace(x)
        moved = self._filtered(self._widened(x), self._filter)
        return self.variance**0.5 * xp.reshape(moved, (*x.shape[:-1], self.control))

    def times(self, x: Any) -> Any:
        """Give B x (..., variable) of states (..., variable)."""
        return self.variance * self._flat(self._filtered(self._widened(x), self._filter**2))

    def _field(self, values: Any, shape: tuple[int, ...]) -> Any:
        return namespace(values).reshape(values, (*values.shape[:-1], *shape))

    def _filtered(self, field: Any, factors: np.ndarray) -> Any:
        """Give fields (..., y, x) of the periodic grid, each Fourier component by its factor."""
        xp, axes = namespace(field), tuple(range(-len(self.shape), 0))
        parts = xp.fft.rfftn(field, axes=axes) * alike(factors, field)
        return xp.fft.irfftn(parts, s=self._around, axes=axes)

    def _flat(self, field: Any) -> Any:
        """Give the variables (..., variable) of fields of the periodic grid."""
        inside = field[(..., *(slice(n) for n in self.shape))]
        lead = inside.shape[: inside.ndim - len(self.shape)]
        return namespace(field).reshape(inside, (*lead, self.size))

    def _widened(self, x: Any) -> Any:
        """Give fields of the periodic grid of states (..., variable), 0 at its other points."""
        xp, field = namespace(x), self._field(x, self.shape)
        for axis, (count, more) in enumerate(zip(self.shape, self._around, strict=True)):
            if more > count:
                place = field.ndim - len(self.shape) + axis
                shape = [*field.shape[:place], more - count, *field.shape[place + 1 :]]
                nothing = xp.zeros(shape, dtype=x.dtype, device=x.device)
                field = xp.concat((field, nothing), axis=place)
        return field

    def variances(self) -> np.ndarray:
        """Give the diagonal of B (variable,)."""
        return np.full(self.size, self.variance)

    def dense(self) -> np.ndarray:
        """Give B (variable, variable) as a matrix, of a small grid."""
        return np.asarray(self.times(np.eye(self.size)))

    def to_dataset(self) -> xr.Dataset:
        """Give the settings, for a store."""
        attrs: dict[str, Any] = {"long_name": "stationary background error covariance"}
        around = [int(part) for part in np.atleast_1d(self.periodic)]
        attrs |= {"shape": list(self.shape), "length": self.length, "periodic": around}
        return xr.Dataset({"stationary": ((), self.variance, attrs)})

    @classmethod
    def restored(cls, dataset: xr.Dataset) -> Stationary:
        """Give the covariance back from what ``to_dataset`` gave."""
        kept = dataset["stationary"]
        shape = tuple(int(n) for n in np.atleast_1d(kept.attrs["shape"]))
        around = np.atleast_1d(kept.attrs.get("periodic", True)).astype(bool).tolist()
        periodic = tuple(around) if len(around) == len(shape) else bool(around[0])
        return cls(shape, float(kept), float(kept.attrs["length"]), periodic)
