"""Which observations count at which place, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from daml.arrays import fetch, put
from daml.covariances.tapers import taper
from daml.errors import InputError
from daml.labels.arguments import checked
from daml.labels.space import PLACING
from daml.protocols import Observed, Setting, Space

DENSE = 4
"""Where there are no more observations than so many times those near a variable, a matrix of all
tapers is quicker than lists."""
FAR = 100.0
"""A half-width that is larger than the largest distance by this factor is in another unit."""
ROWS = 4096
"""Places whose neighbours are searched for at once."""
WHOLE = 1 << 22
"""Most entries of a matrix of all tapers."""
SHORT, CROWDED, STEP = 1 << 17, 1.5, 8
"""Lists with no more entries, or no more times the number of neighbours, are as long as the longest
one; others are as long as the next multiple of this step."""


@checked
def half_width(loc_rad: float) -> float:
    """Convert a localisation radius of DAPPER to the half-width of the taper.

    The half-width is 1.82 ``loc_rad``. At the distance ``loc_rad``, the taper is then close to that
    of a Gaussian, exp(-1/2); it is 0 from 3.64 ``loc_rad`` on.

    Parameters
    ----------
    loc_rad : float
        Localisation radius of DAPPER, in any unit of length.

    Returns
    -------
    float
        Half-width in the same unit, for example for :class:`LETKF`.

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
        raise InputError(
            f"{owner}: 'radius' is given, and the model's variables have no positions; {PLACING}, "
            "or leave 'radius' out"
        )
    rows, columns, distance = setting.space.near(entries, positions, 2 * half_width)
    _check_reach(distance.max(initial=0.0), half_width, size, owner, "variable")
    found = np.zeros((size, size))
    found[rows, columns] = taper(distance, half_width)
    return found


class Near(NamedTuple):
    """The observations near some variables, as many for each: the last ones may count nothing."""

    entries: Any
    """The places (variable,) of the variables in a state; None for all of them, in their order."""
    places: Any
    """Places of observations (variable, neighbour)."""
    root: Any
    """Square root of their taper (variable, neighbour), 0 for what only fills the list."""


class Neighbours(NamedTuple):
    """The observations near each variable."""

    lists: tuple[Near, ...]
    """Of variables with about as many: one crowded place must not make all lists long."""
    back: Any = None
    """Where each variable (variable,) is in the lists, one after the other; None if in order."""
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
        positions, size = _observed(setting, owner), len(setting.variables)
        near, farthest = _around(setting.space, positions, half_width)
        _check_reach(farthest, half_width, size, owner)
        longest = int(np.diff(near.indptr).max())
        few = len(positions) <= DENSE * longest and size * len(positions) <= WHOLE
        whole = near.power(2).toarray() if few else None
        return cls.beside(near, setting.noise.variance, whole)

    @classmethod
    def beside(cls, near: Any, like: Any, whole: np.ndarray | None = None) -> Neighbours:
        """Give the lists of what `_around` gives, where the cycle's arrays are.

        They may be there for a gradient, or on a GPU.
        """
        home = None if isinstance(like, np.ndarray) else str(like.device)
        lists, back = _lists(near), None
        if len(lists) > 1:
            back = put(np.argsort(np.concatenate([part.entries for part in lists])), home)
        moved = tuple(Near(*(p if p is None else put(p, home) for p in part)) for part in lists)
        return cls(moved, back, None if whole is None else put(whole, home))


def _around(space: Space, positions: np.ndarray, half_width: float) -> tuple[Any, float]:
    """Search around positions (observed, dimension).

    Give the roots of tapers (variable, observed), a sparse matrix, and the largest distance.
    """
    size, parts, farthest = len(space.names), [], 0.0
    for first in range(0, size, ROWS):
        entries = np.arange(first, min(first + ROWS, size))
        rows, points, distance = space.near(entries, positions, 2 * half_width)
        farthest = max(farthest, distance.max(initial=0.0))
        root = np.sqrt(taper(distance, half_width))
        shape = len(entries), len(positions)
        parts.append(scipy.sparse.csr_array((root, (rows, points)), shape))
    near = scipy.sparse.vstack(parts, format="csr")
    near.sort_indices()
    return near, farthest


def _lists(near: Any) -> list[Near]:
    """Give the lists of a sparse matrix (variable, observed) of roots of tapers."""
    counts = np.diff(near.indptr)
    longest = max(int(counts.max()), 1)
    if longest * len(counts) <= max(SHORT, CROWDED * near.nnz):
        return [Near(None, *_padded(near, longest))]
    widths = np.maximum(-(-counts // STEP) * STEP, STEP)
    found = []
    for width in np.unique(widths):
        entries = np.flatnonzero(widths == width)
        found.append(Near(entries, *_padded(near[entries], int(width))))
    return found


def _padded(near: Any, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the entries of a sparse matrix as lists (row, neighbour) of places and values."""
    there = np.arange(width) < np.diff(near.indptr)[:, None]
    places, root = np.zeros(there.shape, dtype=np.int64), np.zeros(there.shape)
    places[there], root[there] = near.indices, near.data
    return places, root


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
            near = scipy.sparse.csr_array((size, len(present)))
            if len(own):
                found, farthest = _around(self.space, positions[own], self.half_width)
                if farthest > 0:
                    _check_reach(farthest, self.half_width, size, self.owner)
                parts = found.data, own[found.indices], found.indptr
                near = scipy.sparse.csr_array(parts, near.shape)
            yield Neighbours.beside(near, observed.values)


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
        f"{owner}: the positions of the observations are not known, as they are no variables "
        "of the model; give them a coordinate 'position' along 'variable', in the unit of the "
        "model's positions"
    )
