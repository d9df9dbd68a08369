"""A covariance that is the same everywhere on a periodic grid, by its actions alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.errors import InputError
from daml.labels.arguments import plain


@dataclass(frozen=True)
class Stationary:
    """Covariance B = s^2 C of the points of a regular periodic grid, by Fourier transforms.

    The correlation of two points at distance r is exp(-r^2 / (2 l^2)), with r along the shortest
    way round each dimension. Fourier components are eigenvectors of C, so that its root costs two
    transforms, and no matrix is made: it is a B for :class:`daml.schemes.FourDVar` with many
    variables (``method="cg"``).

    Parameters
    ----------
    shape : tuple of int, or int
        Points along each dimension of the grid. The variables of the model are its points, the last
        dimension first to vary.
    variance : float
        s^2, in units of the variables squared.
    length : float
        l, in distances of neighbouring points.

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

    @property
    def control(self) -> int:
        """Number of entries of a control v: that of the points."""
        return int(np.prod(self.shape))

    @cached_property
    def _filter(self) -> np.ndarray:
        """The roots of the eigenvalues, one for each Fourier component of real fields."""
        squares: Any = 0.0
        for dim, count in enumerate(self.shape):
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
        return float(np.fft.irfftn(values, s=self.shape, axes=range(len(self.shape))).flat[0])

    def root(self, v: Any) -> Any:
        """Give L v (..., variable) of controls (..., control); L is symmetric."""
        xp, dims = namespace(v), len(self.shape)
        axes = tuple(range(-dims, 0))
        field = xp.reshape(v, (*v.shape[:-1], *self.shape))
        parts = xp.fft.rfftn(field, axes=axes) * alike(self._filter, v)
        moved = xp.fft.irfftn(parts, s=self.shape, axes=axes)
        return self.variance**0.5 * xp.reshape(moved, tuple(v.shape))

    def root_adjoint(self, x: Any) -> Any:
        """Give L' x (..., control) of states (..., variable)."""
        return self.root(x)

    def variances(self) -> np.ndarray:
        """Give the diagonal of B (variable,)."""
        return np.full(self.control, self.variance)

    def dense(self) -> np.ndarray:
        """Give B (variable, variable) as a matrix, of a small grid."""
        root: np.ndarray = self.root(np.eye(self.control))
        found: np.ndarray = root @ root.T
        return found

    def to_dataset(self) -> xr.Dataset:
        """Give the settings, for a store."""
        told = {"long_name": "stationary background error covariance"}
        given = ((), self.variance, told | {"shape": list(self.shape), "length": self.length})
        return xr.Dataset({"stationary": given})

    @classmethod
    def restored(cls, dataset: xr.Dataset) -> Stationary:
        """Give the covariance back from what ``to_dataset`` gave."""
        kept = dataset["stationary"]
        shape = tuple(int(n) for n in np.atleast_1d(kept.attrs["shape"]))
        return cls(shape, float(kept), float(kept.attrs["length"]))
