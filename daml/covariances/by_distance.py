"""A covariance that falls with the distance between places, and ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import scipy.sparse
import xarray as xr

from daml.covariances.sparse import Sparse
from daml.covariances.tapers import taper
from daml.errors import InputError
from daml.labels.arguments import plain, shown
from daml.labels.space import StateSpace

ROWS = 4096
"""Variables whose neighbours are searched for at once."""
MOST_DIMENSIONS = 3
"""In more dimensions the function of Gaspari and Cohn is no correlation."""


@dataclass(frozen=True, eq=False)
class Localised:
    """Covariance B of variables at any places, with the correlation function of Gaspari and Cohn.

    B(i, j) = s_i s_j C(r_ij), where r is the distance of two variables and C falls from 1 to 5/24
    at the ``radius`` and to 0 at twice the radius. Only pairs of variables that are closer are
    stored, as a sparse matrix: use it as the B of :class:`daml.ThreeDVar`, or of
    :class:`daml.schemes.FourDVar` with ``method="cg"``, with many variables. It has no root: the
    root of a sparse matrix is much larger than the matrix, and these schemes need only products
    with B.

    Parameters
    ----------
    radius : float
        The half-width of the correlation, in the unit of the positions.
    variance : float or array (variable,)
        s^2, in units of the variables squared.
    positions : array (variable,) or (variable, dimension), optional
        Positions of the variables, in 1 to 3 dimensions. Default: those of the model.
    period : float or sequence of float, optional
        For ``positions`` that are given here: the period of each dimension, or None. It must be at
        least four times the radius.
    groups : array (variable,), optional
        A label for each variable, such as the name of its field: variables of different groups
        are uncorrelated. By default all are one group.

    Raises
    ------
    InputError
        If an argument is out of range, or arrays have different lengths.

    References
    ----------
    Gaspari, G. and Cohn, S. E. (1999): Construction of correlation functions in two and three
    dimensions. Q. J. R. Meteorol. Soc. 125, 723-757; equation 4.10.

    Examples
    --------
    >>> B = Localised(radius=2.0, variance=0.5, positions=np.arange(40), period=40)
    >>> impulse = np.zeros(40)
    >>> impulse[0] = 1
    >>> B.times(impulse)[[0, 2, 4]].round(4)
    array([0.5   , 0.1042, 0.    ])
    """

    radius: float
    variance: Any = 1.0
    positions: Any = None
    period: Any = None
    groups: Any = None

    def __post_init__(self) -> None:
        number = plain("float", self.radius)
        if number is None or not 0 < number < np.inf:
            raise InputError(
                f"Localised: 'radius' is {shown(self.radius)}; give a length > 0, in the unit of "
                "the positions"
            )
        object.__setattr__(self, "radius", number)
        object.__setattr__(self, "variance", _variances(self.variance))
        if self.positions is None:
            if self.period is not None:
                raise InputError(
                    "Localised: 'period' is given without 'positions'; give both, or leave "
                    "both out to take them from the model"
                )
            return
        self._check(StateSpace.given(self.positions, self.period, "Localised"))
        if self.groups is not None:
            object.__setattr__(self, "groups", np.asarray(self.groups))

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model: where its variables lie, unless that is given here."""
        return frozenset() if self.positions is not None else frozenset({"positions"})

    def placed(self, space: Any) -> Localised:
        """Give the covariance of the variables of a model.

        Parameters
        ----------
        space : StateSpace
            The variables, and where they lie.

        Raises
        ------
        InputError
            If neither this covariance nor the space says where the variables lie, or it is of
            another number of variables.
        """
        if self.positions is not None:
            size = len(space.names)
            if self.size != size:
                raise InputError(
                    f"Localised: 'positions' has {self.size} places, and the model has {size} "
                    "variables; give the position of each variable, in the order of the "
                    "variables"
                )
            return self
        if space.positions is None:
            raise InputError(
                "Localised: the positions of the variables are not known; give 'positions', "
                "or a model that has them"
            )
        period = None
        if space.period is not None:
            period = [length if np.isfinite(length) else None for length in space.period]
        return replace(self, positions=space.positions, period=period)

    @property
    def size(self) -> int:
        """Number of variables."""
        return len(self._space.positions)

    @cached_property
    def _space(self) -> Any:
        """The places, those of different groups far apart along one more dimension."""
        if self.positions is None:
            raise InputError(
                "Localised: the positions of the variables are not known; give 'positions', "
                "or use it as the B of a scheme for a model that has them"
            )
        space = StateSpace.given(self.positions, self.period, "Localised")
        if self.groups is None:
            return space
        number = np.unique(self.groups, return_inverse=True)[1].reshape(-1, 1)
        own = cast("np.ndarray", space.positions)
        positions: np.ndarray = np.concatenate((own, 4.0 * self.radius * number), axis=1)
        period = None if space.period is None else np.append(space.period, np.inf)
        return StateSpace((), positions, period)

    def _check(self, space: StateSpace) -> None:
        """Refuse numbers of dimensions and periods in which it is no covariance; other lengths."""
        positions = cast("np.ndarray", space.positions)
        size, dimensions = positions.shape
        if dimensions > MOST_DIMENSIONS:
            raise InputError(
                f"Localised: 'positions' has {dimensions} dimensions, and the correlation "
                f"function is valid in at most {MOST_DIMENSIONS}; give fewer dimensions, or "
                "'groups'"
            )
        shortest = np.inf if space.period is None else space.period.min()
        if shortest < 4 * self.radius:
            raise InputError(
                f"Localised: 'radius' is {self.radius:g}, and a dimension repeats itself after "
                f"{shortest:g}, less than four times the radius; give a radius of at most "
                f"{shortest / 4:g}"
            )
        for name in ("variance", "groups"):
            given = getattr(self, name)
            if given is not None and np.ndim(given) and np.shape(given) != (size,):
                raise InputError(
                    f"Localised: {name!r} has the shape {np.shape(given)}, and there are {size} "
                    "variables; give one for each"
                )

    def columns(self, entries: np.ndarray) -> Sparse:
        """Give the columns of B (variable, entry) for some variables, by their places in a state.

        Parameters
        ----------
        entries : numpy.ndarray (entry,) of int
        """
        points, size = self._space.positions[entries], self.size
        deviation = np.sqrt(self.variances())
        counts, places, data = [np.zeros(1, np.int64)], [], []
        for first in range(0, size, ROWS):
            own = np.arange(first, min(first + ROWS, size))
            rows, columns, distance = self._space.near(own, points, 2 * self.radius)
            values = taper(distance, self.radius) * deviation[own[rows]]
            values *= deviation[entries[columns]]
            part = scipy.sparse.csr_array((values, (rows, columns)), (len(own), len(entries)))
            counts.append(np.diff(part.indptr))
            places.append(part.indices.astype(np.int32))
            data.append(part.data)
        ends = np.cumsum(np.concatenate(counts))
        ends = ends.astype(np.int32) if ends[-1] < 2**31 else ends
        whole = np.concatenate(data), np.concatenate(places), ends
        return Sparse(scipy.sparse.csr_array(whole, (size, len(entries))))

    @cached_property
    def _whole(self) -> Sparse:
        return self.columns(np.arange(self.size))

    def times(self, x: Any) -> Any:
        """Give B x (..., variable) of states (..., variable)."""
        return self._whole.times(x)

    def variances(self) -> np.ndarray:
        """Give the diagonal of B (variable,)."""
        found: np.ndarray = np.broadcast_to(np.asarray(self.variance, float), (self.size,))
        return found

    def dense(self) -> np.ndarray:
        """Give B (variable, variable) as a matrix, of few variables."""
        return np.asarray(self._whole.matrix.toarray())

    def to_dataset(self) -> xr.Dataset:
        """Give the settings, for a store."""
        attrs = {"long_name": "localised background error covariance", "radius": self.radius}
        found: dict[str, Any] = {"localised": ((), self.radius, attrs)}
        dims = {"variance": ("place",), "positions": ("place", "axis"), "groups": ("place",)}
        for name, names in dims.items():
            value = getattr(self, name)
            if value is not None:
                array = np.asarray(value)
                found[f"localised_{name}"] = (names[: array.ndim], array, {})
        if self.period is not None:
            lengths = [np.inf if part is None else part for part in np.atleast_1d(self.period)]
            found["localised_period"] = (("axis_period",), np.array(lengths, float), {})
        return xr.Dataset(found)

    @classmethod
    def restored(cls, dataset: xr.Dataset) -> Localised:
        """Give the covariance back from what ``to_dataset`` gave."""
        found: dict[str, Any] = {
            name: dataset[f"localised_{name}"].values
            for name in ("variance", "positions", "period", "groups")
            if f"localised_{name}" in dataset
        }
        if "period" in found:
            found["period"] = [None if np.isinf(part) else part for part in found["period"]]
        return cls(float(dataset["localised"]), **found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Localised) and self.to_dataset().identical(other.to_dataset())

    def __hash__(self) -> int:
        return hash((self.radius, np.shape(self.variance), np.shape(self.positions)))


def _variances(given: Any) -> Any:
    """Give a variance, or variances (variable,); refuse others."""
    number = plain("float", given)
    array = np.asarray(given) if number is None else np.asarray(number)
    right = array.dtype.kind in "fiu" and array.ndim <= 1 and array.size
    if not right or not (np.isfinite(array) & (array > 0)).all():
        raise InputError(
            f"Localised: 'variance' is {shown(given)}; give a number > 0, or one for each variable"
        )
    return number if number is not None else array.astype(np.float64)
