"""A covariance on a regular grid with land, by diffusion that does not cross the coast."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import scipy.special
import xarray as xr

from daml.arrays import alike
from daml.covariances.sparse import Sparse
from daml.errors import InputError
from daml.labels.arguments import check_fields, plain, shown

ROUNDING = 1e-16
"""Terms of a sum that are smaller are left out."""
APART = 1e-9
"""Where diagonals of points are found together, their correlation is smaller."""
VALUES = 1 << 15
"""Values of the states that are diffused at once to find a diagonal: they stay in a cache."""


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Covariance B of the points of a regular grid that are not land, by a diffusion equation.

    B = S N exp(l^2 D / 2) N S. The exponential is what the diffusion equation makes of a field
    after the time l^2 / 2: D is the Laplacian by differences of neighbours, with no flux into land
    or out of the grid. Far from land the correlation of points at distance r is close to exp(-r^2 /
    (2 l^2)); places that a strip of land separates are correlated round its ends alone, and two
    basins are not. N is diagonal and such that the diagonal of B is the variance everywhere, S^2.
    The root S N exp(l^2 D / 4) is known as well, so that this is a B of many variables for
    :class:`daml.ThreeDVar`, and for :class:`daml.schemes.FourDVar` with ``method="cg"``. A product
    is a sum of Chebyshev polynomials of D, some 10 to 13 for each unit of the length, to rounding.

    Parameters
    ----------
    mask : array of bool, or xarray.DataArray
        Of the points of the grid, True where there is a variable and False on land. The variables
        of the model are the points that are True, the last dimension first to vary; those of a
        :class:`daml.models.Gridded` of one field are ``template.notnull()``.
    variance : float or array (variable,)
        S^2, in units of the variables squared.
    length : float or tuple of float
        l, in distances of neighbouring points; or one for each dimension of the mask. Along a
        dimension with the length 0, of several fields say, nothing is correlated.
    periodic : bool or tuple of bool
        Whether each dimension repeats itself.
    samples : int, optional
        The diagonal that N needs is found to 1e-8 by default: once, from some (7 l)^d diffused
        fields in d dimensions. With a number it is estimated from so many random fields, with a
        relative error of sqrt(2 / samples).

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Weaver, A. T. and Courtier, P. (2001): Correlation modelling on the sphere using a generalized
    diffusion equation. Q. J. R. Meteorol. Soc. 127, 1815-1846; they step the equation in time.

    Examples
    --------
    >>> mask = np.ones((5, 9), bool)
    >>> mask[:4, 4] = False  # a wall with a gap
    >>> B = Diffusion(mask, variance=2.0, length=1.5)
    >>> B.size, round(float(B.dense()[0, 0]), 6)
    (41, 2.0)
    >>> across, along = B.dense()[3, [4, 0]]  # of points 2 and 3 apart
    >>> bool(across < 0.1 * along)
    True
    """

    mask: Any
    variance: Any = 1.0
    length: Any = 1.0
    periodic: Any = False
    samples: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        mask = _array(self.mask)
        if mask.dtype != bool or not mask.ndim or not mask.any():
            raise InputError(
                f"Diffusion: 'mask' is {shown(self.mask)}; give an array that is True at "
                "points with a variable and False elsewhere, such as on land, with the "
                "dimensions of the grid"
            )
        object.__setattr__(self, "mask", mask)
        lengths = tuple(plain("float", part) for part in self._each(self.length, "length"))
        if any(part is None or not 0 <= part < np.inf for part in lengths) or not any(lengths):
            raise InputError(
                f"Diffusion: 'length' is {shown(self.length)}; give a number > 0, or one >= 0 for "
                "each dimension of the mask"
            )
        object.__setattr__(self, "length", lengths)
        around = tuple(plain("bool", part) for part in self._each(self.periodic, "periodic"))
        if None in around:
            raise InputError(
                f"Diffusion: 'periodic' is {shown(self.periodic)}; give True or False, or one for "
                "each dimension of the mask"
            )
        object.__setattr__(self, "periodic", around)
        if self.samples is not None and self.samples < 2:
            raise InputError(f"Diffusion: 'samples' is {self.samples}; give 2 or more")
        variance = _array(self.variance)
        right = variance.dtype.kind in "fiu" and variance.shape in ((), (self.size,))
        if not right or not (np.isfinite(variance) & (variance > 0)).all():
            raise InputError(
                f"Diffusion: 'variance' is {shown(self.variance)}; give a number > 0, or one for "
                f"each of the {self.size} points that are True in 'mask'"
            )
        object.__setattr__(self, "variance", variance.astype(np.float64))

    def _each(self, given: Any, name: str) -> tuple[Any, ...]:
        """Give a setting for each dimension of the mask."""
        count = int(self.mask.ndim)
        if not isinstance(given, (tuple, list, np.ndarray)):
            return (given,) * count
        if len(given) != count:
            raise InputError(
                f"Diffusion: {name!r} has {len(given)} values, and the mask {count} "
                "dimensions; give one value, or one for each dimension"
            )
        return tuple(given)

    @property
    def size(self) -> int:
        """Number of variables: that of the points that are not land."""
        return int(self.mask.sum())

    @property
    def control(self) -> int:
        """Number of entries of a control v: that of the variables."""
        return self.size

    @property
    def _half(self) -> float:
        """Half of the largest eigenvalue that -l^2 D / 4 may have; each part of D has up to 4."""
        return float(sum(part**2 for part in self.length)) / 2

    @cached_property
    def _turned(self) -> Sparse:
        """X = 1 + l^2 D / 4 / h, whose eigenvalues are from -1 to 1, where h is ``_half``."""
        numbers = np.full(self.mask.shape, -1)
        numbers[self.mask] = np.arange(self.size)
        found = scipy.sparse.csr_array((self.size, self.size))
        for dim, (length, around) in enumerate(zip(self.length, self.periodic, strict=True)):
            one, other = numbers, np.roll(numbers, -1, axis=dim)
            if not around:
                inside = [slice(None)] * numbers.ndim
                inside[dim] = slice(-1)
                one, other = one[tuple(inside)], other[tuple(inside)]
            open_water = (one >= 0) & (other >= 0) & (one != other)
            pairs = one[open_water], other[open_water]
            flux = np.full(len(pairs[0]), length**2 / (4 * self._half))
            link = scipy.sparse.coo_array((flux, pairs), shape=found.shape)
            found = found + (link + link.T).tocsr()
        own = scipy.sparse.diags_array(1 - found.sum(axis=1))
        return Sparse(scipy.sparse.csr_array(found + own))

    def _diffused(self, x: Any, times: float) -> Any:
        """Give exp(l^2 D / 4 * times) x (..., variable), by exp(-a (1 - X)) with a = h * times.

        It is the sum over k of (2 if k else 1) exp(-a) I_k(a) T_k(X), with the modified Bessel
        functions I_k and the Chebyshev polynomials T_k.
        """
        first, *factors = _factors(self._half * times)
        before, now = x, self._turned.times(x)
        found = first * before
        for factor in factors:
            found = found + factor * now
            before, now = now, 2 * self._turned.times(now) - before
        return found

    @cached_property
    def _amplitude(self) -> np.ndarray:
        """S N (variable,): the deviations by the root of the diagonal of exp(l^2 D / 2)."""
        diagonal = self._exact() if self.samples is None else self._estimated(self.samples)
        found: np.ndarray = np.sqrt(self.variance / diagonal)
        return found

    def _exact(self) -> np.ndarray:
        """Give the diagonal of exp(l^2 D / 2), of many points that are far apart at once."""
        classes = self._classes()
        found, count = np.empty(self.size), int(classes.max()) + 1
        for numbers in _parts(count, self.size):
            impulses = (classes == numbers[:, None]).astype(np.float64)
            there, points = np.nonzero(impulses)
            found[points] = self._diffused(impulses, 2)[there, points]
        return found

    def _classes(self) -> np.ndarray:
        """Give numbers (variable,) of classes, in each of which all points are far apart."""
        found = np.zeros(self.mask.shape, int)
        for dim, (length, around) in enumerate(zip(self.length, self.periodic, strict=True)):
            count = self.mask.shape[dim]
            apart = _reach(length)
            # On a ring the gaps between points of a class are at least as wide, also the last one.
            blocks = max(count // apart, 1) if around else -(-count // apart)
            firsts = np.arange(blocks) * count // blocks if around else np.arange(blocks) * apart
            place = np.arange(count)
            own = place - firsts[np.searchsorted(firsts, place, side="right") - 1]
            shape = [-1 if d == dim else 1 for d in range(self.mask.ndim)]
            found = found * (int(own.max()) + 1) + own.reshape(shape)
        numbers: np.ndarray = np.unique(found[self.mask], return_inverse=True)[1]
        return numbers

    def _estimated(self, samples: int) -> np.ndarray:
        """Give the mean square of fields that are diffused by the root, from random ones."""
        random, total = np.random.default_rng(0), np.zeros(self.size)
        for numbers in _parts(samples, self.size):
            drawn = random.standard_normal((len(numbers), self.size))
            total += (self._diffused(drawn, 1) ** 2).sum(axis=0)
        return total / samples

    def root(self, v: Any) -> Any:
        """Give L v (..., variable) of controls (..., control)."""
        return alike(self._amplitude, v) * self._diffused(v, 1)

    def root_adjoint(self, x: Any) -> Any:
        """Give L' x (..., control) of states (..., variable)."""
        return self._diffused(alike(self._amplitude, x) * x, 1)

    def times(self, x: Any) -> Any:
        """Give B x (..., variable) of states (..., variable)."""
        amplitude = alike(self._amplitude, x)
        return amplitude * self._diffused(amplitude * x, 2)

    def variances(self) -> np.ndarray:
        """Give the diagonal of B (variable,)."""
        found: np.ndarray = np.broadcast_to(self.variance, (self.size,))
        return found

    def dense(self) -> np.ndarray:
        """Give B (variable, variable) as a matrix, of a small grid."""
        return np.asarray(self.times(np.eye(self.size)))

    def to_dataset(self) -> xr.Dataset:
        """Give the settings, for a store."""
        attrs: dict[str, Any] = {"long_name": "background error covariance by diffusion"}
        attrs |= {"length": list(self.length), "periodic": [int(part) for part in self.periodic]}
        attrs |= {} if self.samples is None else {"samples": self.samples}
        grid = tuple(f"grid{dim}" for dim in range(self.mask.ndim))
        places = ("place",)[: self.variance.ndim]
        return xr.Dataset(
            {
                "diffusion": (grid, self.mask.astype(np.int8), attrs),
                "diffusion_variance": (places, self.variance),
            }
        )

    @classmethod
    def restored(cls, dataset: xr.Dataset) -> Diffusion:
        """Give the covariance back from what ``to_dataset`` gave."""
        kept = dataset["diffusion"]
        lengths, around = (np.atleast_1d(kept.attrs[name]) for name in ("length", "periodic"))
        samples = kept.attrs.get("samples")
        return cls(
            kept.values.astype(bool),
            dataset["diffusion_variance"].values,
            tuple(lengths.tolist()),
            tuple(around.astype(bool).tolist()),
            None if samples is None else int(samples),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Diffusion) and self.to_dataset().identical(other.to_dataset())

    def __hash__(self) -> int:
        return hash((self.mask.shape, self.length, self.periodic, self.samples))


def _array(given: Any) -> np.ndarray:
    """Give a copy as an array, since a covariance is frozen; of rows of many lengths one object."""
    try:
        return np.array(given)
    except ValueError:
        return np.array(None)


def _factors(a: float) -> list[float]:
    """Give the factors of Chebyshev polynomials in exp(-a (1 - X)), to rounding."""
    count = math.ceil(a + 10 * a**0.5 + 20)  # more than are needed
    values = 2 * scipy.special.ive(np.arange(count), a)
    values[0] /= 2
    return [float(value) for value in values[: int((values > ROUNDING).sum())]]


def _reach(length: float) -> int:
    """Give the distance at which points of a line without land are not correlated, to rounding."""
    count = math.ceil(10 * length + 20)
    values = scipy.special.ive(np.arange(count), length**2)
    return int((values > APART * values[0]).sum())


def _parts(count: int, size: int) -> Iterator[np.ndarray]:
    """Give numbers from 0 on in parts that are small enough for states of a size."""
    step = max(VALUES // size, 1)
    for first in range(0, count, step):
        yield np.arange(first, min(first + step, count))
