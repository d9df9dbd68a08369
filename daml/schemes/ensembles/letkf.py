"""The local ensemble transform Kalman filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from daml.arrays import namespace, on_cores
from daml.errors import InputError
from daml.protocols import Forecast, Observed, Run, Setting, Update
from daml.schemes.ensembles.localisation import Near, Neighbours, Searching
from daml.schemes.ensembles.parts import Ensemble, Prepared, Seen
from daml.schemes.ensembles.roots import root_and_inverse_times

JOINED, MANY = 1 << 20, 4
"""Entries of the matrices of a task, whose roots are found together; and tasks from which on
threads pay."""
VALUES, PRODUCTS = 1 << 17, 1 << 20
"""Numbers that are worked on at once, as the cache holds them; and products of members, of all
observations, that are kept beside them."""


@dataclass(frozen=True)
class LETKF(Ensemble):
    """Local ensemble transform Kalman filter with the symmetric root.

    Each variable is analysed separately, by an :class:`ETKF` with the observations near it. The
    error variance of each observation is divided by the function of Gaspari and Cohn
    (:func:`daml.schemes.taper`), so that its weight decreases with its distance from the variable
    and is 0 from twice ``radius`` on. With this localisation, a few members suffice for a state of
    any size. Memory and time are proportional to the number of variables.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    radius : float
        Half-width of the localisation, in the unit of the model's ``positions``: an observation at
        this distance has 5/24 of its weight, and from twice this distance on none.
        :func:`daml.schemes.half_width` converts the radii of DAPPER.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the spread of the members is increased after each analysis; see :class:`ETKF`.
    rotate : bool
        Whether the anomalies are rotated at random after each analysis, in the same way for
        all variables; see :class:`ETKF`.
    seed : int
        Seed of all random numbers: the first ensemble, rotations and model errors.
    error_factor : float or "estimated"
        Factor on the error covariance R of the observations. "estimated": the factor is estimated
        from the innovations.
    model_error : float, array or xarray.DataArray, optional
        Q, the covariance of the model error of a step; see :class:`ETKF`. Default: the
        ``model_error`` of the model, or none.
    drawn : bool
        Whether model errors are drawn at random; see :class:`ETKF`.

    Raises
    ------
    InputError
        If an argument is out of range. :func:`daml.assimilate` raises it if the model or the
        observations have no positions, or if the errors of the observations are correlated.

    Notes
    -----
    An observation has the position of the model's variable with the same name. Observations of a
    matrix or a function H need a coordinate ``position`` along ``variable``.

    ``chi_square`` and ``log_likelihood`` of the analysis compare each innovation with its own
    expected variance. They ignore covariances between innovations, which an ensemble with fewer
    members than observations cannot represent.

    References
    ----------
    Hunt, B. R., Kostelich, E. J. and Szunyogh, I. (2007): Efficient data assimilation for
    spatiotemporal chaos: a local ensemble transform Kalman filter. Physica D 230, 112-126. Gaspari,
    G. and Cohn, S. E. (1999): Construction of correlation functions in two and three dimensions.
    Q. J. R. Meteorol. Soc. 125, 723-757.

    Examples
    --------
    >>> import daml
    >>> model = daml.models.Lorenz96(n=20)
    >>> truth = daml.simulate(model, steps=100, spinup=500)
    >>> scheme = daml.schemes.LETKF(members=7, radius=daml.schemes.half_width(loc_rad=4))
    >>> analysis = daml.assimilate(model, daml.observe(truth), scheme)
    >>> bool(((analysis.analysis - truth.state)[50:] ** 2).mean() < 0.5)
    True
    """

    radius: float
    carries: ClassVar[bool] = False
    """Weights differ from place to place: what a member carries stays with it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radius > 0:
            raise InputError(
                f"{type(self).__name__}: 'radius' is {self.radius}; give a length > 0, in the unit "
                "of the model's positions"
            )

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model; see :class:`daml.protocols.Scheme`."""
        return frozenset({"positions"})

    def known(self, setting: Setting) -> Neighbours | Searching:
        """Search for the observations near each variable; at each time where places change."""
        if setting.operator.changes:
            return Searching.of(setting, self.radius, type(self).__name__)
        return Neighbours.of(setting, self.radius, type(self).__name__)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        xp, shape = namespace(part.seen), part.anomalies.shape
        moved, anomalies, signals = _all_analysed(part, observed, memory.own)
        expected = 1 + xp.sum(part.seen**2, axis=-2)
        square = xp.sum(part.innovation**2 / expected, axis=-1)
        increment, near = (xp.reshape(rows.T, part.mean.shape) for rows in (moved, signals))
        mean = part.mean + increment / (self.members - 1) ** 0.5
        anomalies = xp.permute_dims(anomalies, (2, 0, 1))
        state = self.around(mean, xp.reshape(anomalies, shape), part, run, memory, near)
        extras = part.extras(observed, square, xp.sum(xp.log(expected), axis=-1))
        return Update(state, extras), memory


def _all_analysed(part: Seen, observed: Observed, near: Neighbours | Searching) -> Any:
    """Analyse all variables; give what `_analysed` gives.

    Where places change, one state of the batch after the other has neighbours of its own.
    """
    xp = namespace(part.seen)
    if isinstance(near, Searching):
        rows = enumerate(near.near(observed))
        alone = [_all_analysed(_alone(part, row), observed, own) for row, own in rows]
        return [xp.concat(parts, axis=-1) for parts in zip(*alone, strict=True)]
    own, (tasks, back) = _places_last(part.anomalies), _tasks(part, near)
    with on_cores(len(tasks) if len(tasks) >= MANY else 1, own) as each:
        found = list(each(lambda task: _analysed(own[:, task.entries], task.sums()), tasks))
    pairs = zip(zip(*found, strict=True), (0, 1, 0), strict=True)
    return [_joined(parts, axis, back) for parts, axis in pairs]


def _alone(part: Seen, row: int) -> Seen:
    """Give one state of a batch."""
    lead, xp = part.mean.ndim - 1, namespace(part.seen)
    parts = (xp.reshape(a, (-1, *a.shape[lead:]))[row : row + 1] for a in part)
    return Seen(*parts)


def _places_last(members: Any) -> Any:
    """Give members (..., member, place) as an array (member, place, row), its rows contiguous."""
    xp, shape = namespace(members), members.shape[-2:]
    last = xp.permute_dims(xp.reshape(members, (-1, *shape)), (1, 2, 0))
    return xp.reshape(xp.reshape(last, (-1,)), last.shape)


class _Task(NamedTuple):
    """Some variables, which are analysed together."""

    entries: Any
    """Their places in a state: a slice, or an array of them."""
    sums: Callable[[], Any]
    """Gives S S' and S d (member, member + 1, variable, row): those of the observations near each
    variable, by the roots of their tapers."""


def _tasks(part: Seen, near: Neighbours) -> tuple[list[_Task], Any]:
    """Cut an analysis into tasks, and say how their variables are put back in order.

    How it is cut changes no bit, and neither does how many run at the same time.
    """
    xp = namespace(part.seen)
    rows = math.prod(part.mean.shape[:-1])
    members, observed = part.seen.shape[-2:]
    both = xp.concat((part.seen, part.innovation[..., None, :]), axis=-2)
    square = rows * members * (members + 1)
    if near.whole is not None and observed * square <= PRODUCTS:
        sums = partial(_from_all, _products(_places_last(both)), near.whole)
        pieces = _pieces(near.whole.shape[0], JOINED // square)
        return [_Task(piece, partial(sums, piece)) for piece in pieces], None
    both, tasks = xp.reshape(both, (-1, members + 1, observed)), []
    for listed in near.lists:
        for piece in _pieces(listed.places.shape[0], JOINED // square):
            entries = piece if listed.entries is None else listed.entries[piece]
            tasks.append(_Task(entries, partial(_from_lists, both, listed, piece)))
    return tasks, near.back


def _from_lists(both: Any, near: Near, piece: slice) -> Any:
    """Collect what is near some variables, of ``both`` (row, member + 1, observed)."""
    xp, (rows, wide, _) = namespace(both), both.shape
    at_once = VALUES // (rows * wide * max(near.places.shape[1], wide))
    places, root, found = near.places[piece], near.root[piece], []
    for part in _pieces(places.shape[0], at_once):
        local = both[..., places[part]] * root[part]
        local = xp.permute_dims(local, (2, 0, 1, 3))  # (variable, row, member + 1, neighbour)
        found.append(local[..., :-1, :] @ xp.matrix_transpose(local))
    return xp.permute_dims(_joined(found, 0), (2, 3, 0, 1))


def _products(both: Any) -> tuple[Any, np.ndarray]:
    """Give the products (pair and observed, row) of ``both`` (member + 1, observed, row).

    Each pair of members is multiplied once; the places (member, member + 1) of pairs say where.
    """
    xp, members = namespace(both), len(both) - 1
    products = xp.concat([both[member:] * both[member] for member in range(members)])
    place = np.zeros((members, members + 1), dtype=int)
    rows, columns = np.triu_indices(members, m=members + 1)
    place[rows, columns] = np.arange(len(rows))
    place[:, :members] = np.maximum(place[:, :members], place[:, :members].T)
    return products, place


def _from_all(products: tuple[Any, np.ndarray], tapers: Any, piece: slice) -> Any:
    """Sum over all observations, most of which are near, by one product with the tapers."""
    pairs, place = products
    return (tapers[piece] @ pairs)[place]


def _pieces(size: int, at_once: int) -> list[slice]:
    step = max(at_once, 1)
    return [slice(first, first + step) for first in range(0, size, step)]


def _joined(parts: Sequence[Any], axis: int, back: Any = None) -> Any:
    """Join arrays along an axis, and put what lies along it in another order."""
    xp = namespace(parts[0])
    whole = parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=axis)
    return whole if back is None else xp.take(whole, back, axis=axis)


def _analysed(anomalies: Any, total: Any) -> tuple[Any, Any, Any]:
    """Analyse some variables, of anomalies (member, variable, row) and what `_sums` gives.

    Give the moves of their means (variable, row), A' (I + S S')^-1 S d with the local S; their
    anomalies; and the sum (variable, row) of S^2 near each.
    """
    xp, shape = namespace(anomalies), anomalies.shape
    total = xp.reshape(total, (*total.shape[:2], -1))
    squares, pull = total[:, :-1], total[:, -1]
    turned, weighted = root_and_inverse_times(squares, xp.reshape(anomalies, (shape[0], -1)))
    moved = xp.sum(weighted * pull, axis=0)
    signal = xp.einsum("iip->p", squares)
    return xp.reshape(moved, shape[1:]), xp.reshape(turned, shape), xp.reshape(signal, shape[1:])
