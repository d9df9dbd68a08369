"""Which observations count at which place, and how much: the taper of Gaspari and Cohn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from daml.arrays import fetch, put
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.protocols import Observed, Setting, Space

DENSE = 4
"""Where there are no more observations than so many times those near a variable, a matrix of all
tapers is quicker than lists."""
FAR = 100.0
"""A half-width that is larger than the largest distance by this factor is in another unit."""
ROWS = 4096
"""Places whose neighbours are searched for at once."""


@checked
def taper(distance: Any, half_width: float) -> np.ndarray:
    """Give the fifth-order piecewise rational function of Gaspari and Cohn.

    It looks like a Gaussian and is a correlation function in up to three dimensions: 1 at distance
    0, 5/24 at the half-width, and exactly 0 from twice the half-width on.

    Parameters
    ----------
    distance : array_like (...)
        0 or more, in any unit of length.
    half_width : float
        In the same unit. Infinite: 1 everywhere.

    Returns
    -------
    numpy.ndarray (...)

    Raises
    ------
    InputError
        If the half-width is not positive.

    References
    ----------
    Gaspari, G. and Cohn, S. E. (1999): Construction of correlation functions in two and three
    dimensions. Q. J. R. Meteorol. Soc. 125, 723-757; equation 4.10.

    Examples
    --------
    >>> taper([0.0, 1.0, 2.0], half_width=1.0).round(4)
    array([1.    , 0.2083, 0.    ])
    """
    if not half_width > 0:
        raise InputError(f"taper: 'half_width' is {half_width}; give a length > 0")
    r = np.asarray(distance, dtype=np.float64) / half_width
    near, far = np.minimum(r, 1.0), np.clip(r, 1.0, 2.0)
    inner = (((-near / 4 + 1 / 2) * near + 5 / 8) * near - 5 / 3) * near**2 + 1
    outer = ((((far / 12 - 1 / 2) * far + 5 / 8) * far + 5 / 3) * far - 5) * far + 4 - 2 / (3 * far)
    # Next to twice the half-width the sum is smaller than its rounding.
    found: np.ndarray = np.where(r < 1, inner, np.where(r < 2, np.maximum(outer, 0.0), 0.0))
    return found


@checked
def half_width(loc_rad: float) -> float:
    """Give the half-width that stands for a radius as DAPPER counts it.

    DAPPER's ``loc_rad`` is the distance at which a Gaussian would be exp(-1/2); its taper is 0 from
    3.64 ``loc_rad`` on.

    Parameters
    ----------
    loc_rad : float
        DAPPER's radius.

    Examples
    --------
    >>> half_width(loc_rad=4)
    7.28
    """
    return 1.82 * loc_rad


def correlations(setting: Setting, half_width: float, owner: str) -> np.ndarray:
    """Give the tapers (variable, variable) between the places of the variables of a model.

    Raises
    ------
    InputError
        If variables have no positions, or the half-width is in another unit.
    """
    size = len(setting.variables)
    entries, positions = np.arange(size), setting.space.positions
    if positions is None:
        raise InputError(f"{owner}: the model's variables have no positions, and 'radius' is given")
    rows, columns, distance = setting.space.near(entries, positions, 2 * half_width)
    _check_reach(distance.max(initial=0.0), half_width, size, owner, "variable")
    found = np.zeros((size, size))
    found[rows, columns] = taper(distance, half_width)
    return found


class Neighbours(NamedTuple):
    """The observations near each variable, as many for each: the last ones may count nothing."""

    places: Any
    """Places of observations (variable, neighbour)."""
    root: Any
    """Square root of their taper (variable, neighbour), 0 for what only fills the list."""
    whole: Any = None
    """Tapers of all observations (variable, observed), where most of them are near."""

    @classmethod
    def of(cls, setting: Setting, half_width: float, owner: str) -> Neighbours:
        """Search for the observations within twice a half-width of each variable.

        Raises
        ------
        InputError
            If variables or observations have no positions, the half-width is in another unit, or
            errors are correlated.
        """
        positions = _observed(setting, owner)
        near, farthest = cls._around(setting.space, positions, half_width)
        _check_reach(farthest, half_width, len(setting.variables), owner)
        width = near.places.shape[1]
        whole = None
        if len(positions) <= DENSE * width:
            whole = np.zeros((len(near.places), len(positions)))
            np.add.at(whole, (np.arange(len(whole))[:, None], near.places), near.root**2)
        return near.beside(setting.noise.variance, whole)

    @classmethod
    def _around(
        cls, space: Space, positions: np.ndarray, half_width: float
    ) -> tuple[Neighbours, float]:
        """Search around positions (observed, dimension); give the largest distance, too."""
        size = len(space.names)
        parts, farthest = [], 0.0
        for first in range(0, size, ROWS):
            entries = np.arange(first, min(first + ROWS, size))
            found = space.near(entries, positions, 2 * half_width)
            farthest = max(farthest, found[2].max(initial=0.0))
            parts.append(_padded(*found, len(entries), half_width))
        width = max(places.shape[1] for places, _ in parts)
        fill = [((0, 0), (0, width - places.shape[1])) for places, _ in parts]
        columns = zip(*parts, strict=True)
        places, root = (np.concatenate(list(map(np.pad, column, fill))) for column in columns)
        return cls(places, root), farthest

    def beside(self, like: Any, whole: np.ndarray | None = None) -> Neighbours:
        """Move the lists to where the cycle's arrays are: for a gradient, or to a GPU."""
        home = None if isinstance(like, np.ndarray) else str(like.device)
        moved = (None if part is None else put(part, home) for part in (*self[:2], whole))
        return Neighbours(*moved)


class Searching(NamedTuple):
    """Searches for neighbours at each time, of observations whose places change."""

    space: Space
    half_width: float
    owner: str

    @classmethod
    def of(cls, setting: Setting, half_width: float, owner: str) -> Searching:
        """Give it for a setting."""
        return cls(setting.space, half_width, owner)

    def near(self, observed: Observed) -> Iterator[Neighbours]:
        """Give the observations near each variable, for one state of a batch after the other.

        Raises
        ------
        InputError
            If it is not known where the observations lie, or the half-width is in another unit.
        """
        if observed.positions is None:
            raise _unplaced(self.owner)
        size = len(self.space.names)
        there = fetch(observed.present).reshape(-1, observed.values.shape[-1])
        where = observed.positions.reshape(*there.shape, -1)
        for present, positions in zip(there, where, strict=True):
            own = np.flatnonzero(present)
            if not len(own):
                none = np.zeros((size, 1))
                yield Neighbours(none.astype(int), none).beside(observed.values)
                continue
            near, farthest = Neighbours._around(self.space, positions[own], self.half_width)
            if farthest > 0:
                _check_reach(farthest, self.half_width, size, self.owner)
            yield near._replace(places=own[near.places]).beside(observed.values)


def _check_reach(
    farthest: float, half_width: float, size: int, owner: str, what: str = "observation"
) -> None:
    """Refuse a half-width that must be in another unit than positions.

    ``farthest`` is the largest distance between what is analysed and what it is analysed with.
    """
    if farthest == 0 and size > 1:
        raise InputError(
            f"{owner}: with 'radius' {half_width:g} no {what} reaches any variable but those "
            "at its own place; give a radius of some distances between neighbours, in the unit of "
            "the model's positions"
        )
    if FAR * farthest < half_width < np.inf:
        raise InputError(
            f"{owner}: 'radius' is {half_width:g}, and no {what} is farther than "
            f"{farthest:.3g} from a variable; give it in the unit of the model's positions, or "
            "numpy.inf for no localisation"
        )


def _observed(setting: Setting, owner: str) -> np.ndarray:
    """Give the positions of the observations; refuse what cannot be localised by their errors."""
    if setting.noise.covariance is not None:
        raise InputError(
            f"{owner}: the observations have correlated errors ('error_covariance'), and it weighs "
            "each observation by its own distance; give 'error_variance', or use an ETKF"
        )
    if setting.positions is None:
        raise _unplaced(owner)
    return setting.positions


def _unplaced(owner: str) -> InputError:
    return InputError(
        f"{owner}: it is not known where the observations lie, as they are no variables of the "
        "model; give them a coordinate 'position' along 'variable', in the unit of the model's "
        "positions"
    )


def _padded(
    rows: np.ndarray, points: np.ndarray, distance: np.ndarray, size: int, half_width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give pairs as lists (row, neighbour) of points and roots of tapers."""
    order = np.lexsort((points, rows))
    rows, points, distance = rows[order], points[order], distance[order]
    counts = np.bincount(rows, minlength=size)
    column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = size, max(int(counts.max()), 1)
    places, root = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    places[rows, column], root[rows, column] = points, np.sqrt(taper(distance, half_width))
    return places, root
