"""The particle filter."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from daml.arrays import alike, fetch, namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.protocols import Forecast, Observed, Outputs, Run, Setting, Update
from daml.randomness import Stream, normal, ranks, uniform
from daml.schemes.ensembles.parts import Seen
from daml.schemes.ensembles.weights import Weights
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.variational.by_model import OUTPUTS

LONE = 1 + 1e-9
"""Effective size up to which a single member has all the weight: it has no covariance."""


class Particles(NamedTuple):
    """What the filter knows between two times."""

    places: np.ndarray
    """Where the variables (variable,) stand when their names are sorted: names decide what is
    drawn."""
    weights: Any = None
    """Those of the members (..., member); None before the first time, when all are alike."""


@dataclass(frozen=True)
class ParticleFilter:
    """Regularised particle filter, for few variables with any distribution.

    An analysis changes the weights of the members and not their states. The weight w of each member
    x is multiplied by the likelihood ``exp(-|R^(-1/2) (y - H(x))|^2 / 2)``, and all weights are
    divided by their sum. The mean and the spread of the analysis are weighted. H need not be
    linear, and the distribution of the members need not be Gaussian.

    If the effective size 1 / sum(w^2) falls below ``resample_below`` times N, N members are drawn
    with probabilities equal to the weights (systematic resampling), and get equal weights. Noise
    from N(0, h^2 P) is then added to members that were drawn more than once, where P is the
    weighted covariance and h = ``regularisation`` N^(-1 / (n + 4)) for n variables (Scott's rule).
    If one member has all the weight, P is the covariance without weights.

    The number of members that is needed grows exponentially with the number of independent
    observations. For more than about five variables use an :class:`ETKF` or an :class:`EnKF`, and
    for many a :class:`LETKF`.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more. Hundreds are usual for three variables.
    resample_below : float
        Effective size below which members are resampled, as a fraction of N: above 0, and at most
        1.
    regularisation : float
        Factor on the width h of the noise after resampling. 0 adds no noise, which suits only
        models with random errors.
    seed : int
        Seed of the first ensemble, of the resampling and of the noise.

    Raises
    ------
    InputError
        If an argument is out of range. A training through the cycle raises it because resampling
        has no gradient.
    DivergedError
        In :func:`daml.assimilate`, if the members have lost the observations in most of the record.

    Notes
    -----
    ``effective_size`` (time) of the analysis is 1 / sum(w^2) before the resampling. It is small if
    a few members have most of the weight. It is large, however, if all members are equally far from
    the observations; ``chi_square``, which compares the innovation of the weighted mean with the
    weighted covariance, is then far above 1. A model with considerable errors needs a larger
    ``regularisation``, because the noise alone moves members towards the observations.
    ``log_likelihood`` is the logarithm of the weighted mean likelihood of the members, without the
    constant; it does not assume a Gaussian distribution.

    References
    ----------
    van Leeuwen, P. J. (2009): Particle filtering in geophysical systems. Mon. Wea. Rev. 137,
    4089-4114. Musso, C., Oudjane, N. and Le Gland, F. (2001): Improving regularised particle
    filters. In: Sequential Monte Carlo Methods in Practice, Springer, 247-271. Snyder, C.,
    Bengtsson, T., Bickel, P. and Anderson, J. (2008): Obstacles to high-dimensional particle
    filtering. Mon. Wea. Rev. 136, 4629-4640.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.ParticleFilter(members=100))
    >>> bool(analysis.effective_size.mean() > 20)
    True
    """

    members: int
    _: KW_ONLY
    resample_below: float = 0.3
    regularisation: float = 1.0
    seed: int = 0
    carries: ClassVar[bool] = True
    """What a member carries is drawn with it."""
    weighs: ClassVar[bool] = True
    """Whether members have different weights."""
    advice: ClassVar[str] = (
        "give it many more members or a larger 'regularisation', or use an ensemble Kalman filter: "
        "daml.schemes.ETKF, or LETKF with many variables"
    )
    """What to try where it has lost the observations."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.members < 2:
            raise InputError(f"ParticleFilter: 'members' is {self.members}; give 2 or more")
        if not 0 < self.resample_below <= 1:
            raise InputError(
                f"ParticleFilter: 'resample_below' is {self.resample_below}; give a fraction of "
                "the members, above 0 and up to 1"
            )
        if not 0 <= self.regularisation < np.inf:
            raise InputError(
                f"ParticleFilter: 'regularisation' is {self.regularisation}; give 0 or more"
            )
        if self.seed < 0:
            raise InputError(f"ParticleFilter: 'seed' is {self.seed}; give 0 or more")

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        attrs = {"long_name": "effective number of members", "units": "1"}
        likelihood = OUTPUTS["log_likelihood"]
        return {
            **CHI_SQUARE,
            "log_likelihood": likelihood,
            "effective_size": (("time",), attrs),
        }

    def prepare(self, setting: Setting) -> Particles:
        """Give the order of the names, which is all that is known before a forecast."""
        return Particles(ranks(setting.variables))

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Particles
    ) -> tuple[Update, Particles]:
        """Give the members (..., member, variable) for the next step, and the moments."""
        x = forecast.state
        xp = namespace(x)
        if getattr(x, "requires_grad", False):
            raise InputError(
                "ParticleFilter: no gradient passes through the choice of members; train through "
                "the cycle of an ensemble Kalman filter such as daml.schemes.ETKF"
            )
        before = memory.weights
        if before is None:
            before = xp.full_like(x[..., 0], 1 / self.members)
        equivalent = observed.operator.apply(x)
        distance = observed.values[..., None, :] - equivalent
        white = observed.whitened(distance)
        fit = xp.log(before) - xp.sum(white**2, axis=-1) / 2
        top = xp.max(fit, axis=-1, keepdims=True)
        weights = xp.exp(fit - top)
        total = xp.sum(weights, axis=-1, keepdims=True)
        weights = weights / total
        part = _weighted(before, x, white, observed)
        size = 1 / xp.sum(weights**2, axis=-1)
        extras = part.extras(observed, Weights.of(part).square(), 0 * part.width)
        extras["log_likelihood"] = (xp.log(total) + top)[..., 0] - part.width
        extras["effective_size"] = size
        mean, spread = _moments(weights, x)
        background, background_spread = _moments(before, x)
        moments = {
            "background": background,
            "background_spread": background_spread,
            "analysis": mean,
            "spread": spread,
            "equivalent": (before[..., None, :] @ equivalent)[..., 0, :],
        }
        state, carried, after = self._resampled(forecast, weights, fetch(size), run, memory.places)
        return Update(state, extras, moments, carried), memory._replace(weights=after)

    def _resampled(
        self, forecast: Forecast, weights: Any, size: np.ndarray, run: Run, places: np.ndarray
    ) -> tuple[Any, Any, Any]:
        """Draw members anew where few have a weight; give them, what they carry, and weights."""
        x, carried = forecast.state, forecast.carried
        xp = namespace(x)
        rows = np.flatnonzero(size < self.resample_below * self.members * (1 - 1e-9))
        if not len(rows):
            return x, None, weights
        steps, given = run.step[rows], weights[rows]
        counts = _counts(fetch(given), uniform(self.seed, steps, Stream.RESAMPLING))
        every = np.tile(np.arange(self.members), len(rows))
        picked = np.repeat(every, counts.ravel()).reshape(counts.shape)
        places_of = rows[:, None]
        again = np.take_along_axis(counts, picked, axis=-1) > 1
        added = self._kernel(x[rows], given, steps, places)
        state, after = xp.asarray(x, copy=True), xp.asarray(weights, copy=True)
        state[rows] = x[places_of, picked] + added * alike(again[..., None].astype(float), x)
        after[rows] = 1 / self.members
        if carried is not None:
            carried, given = xp.asarray(carried, copy=True), carried
            carried[rows] = given[places_of, picked]
        return state, carried, after

    def _kernel(self, x: Any, weights: Any, steps: np.ndarray, places: np.ndarray) -> Any:
        """Give draws (..., member, variable) from the kernel."""
        xp = namespace(x)
        size, lone = x.shape[-1], 1 / xp.sum(weights**2, axis=-1) < LONE
        weights = xp.where(lone[..., None], xp.full_like(weights, 1 / self.members), weights)
        root = (x - weights[..., None, :] @ x) * xp.sqrt(_unbiased(weights))[..., None]
        width = self.regularisation * self.members ** (-1 / (size + 4))
        if size > self.members:
            square = self.members, self.members
            return width * (alike(normal(self.seed, steps, square, Stream.KERNEL), x) @ root)
        values, vectors = xp.linalg.eigh(xp.matrix_transpose(root) @ root)
        deviation = xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values)))
        symmetric = (vectors * deviation[..., None, :]) @ xp.matrix_transpose(vectors)
        drawn = normal(self.seed, steps, (self.members, size), Stream.KERNEL)[..., places]
        return width * (alike(drawn, x) @ symmetric)


def _moments(weights: Any, x: Any) -> tuple[Any, Any]:
    """Give mean and standard deviation (..., variable) of members (..., member, variable)."""
    xp = namespace(x)
    mean = weights[..., None, :] @ x
    square = (_unbiased(weights)[..., None, :] @ (x - mean) ** 2)[..., 0, :]
    return mean[..., 0, :], xp.sqrt(square)


def _unbiased(weights: Any) -> Any:
    """Give weights of squared anomalies, whose weighted sum is a variance; 0 of a lone member."""
    xp = namespace(weights)
    left = 1 - xp.sum(weights**2, axis=-1, keepdims=True)
    alone = left < LONE - 1
    return xp.where(alone, xp.zeros_like(weights), weights / xp.where(alone, 1.0, left))


def _weighted(weights: Any, x: Any, white: Any, observed: Observed) -> Seen:
    """Give what the observations see of weighted members, for S = S' S + I."""
    xp = namespace(x)
    centre = weights[..., None, :] @ white
    seen = (centre - white) * xp.sqrt(_unbiased(weights))[..., None]
    width = observed.log_deviation
    return Seen(x[..., 0, :], x, seen, centre[..., 0, :], width)


def _counts(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Give how often each member (row, member) is drawn, N times in all, by systematic draws.

    Draws lie at (start + 0, 1, ..., N - 1) / N of the cumulative weights.
    """
    members = weights.shape[-1]
    total = np.cumsum(weights, axis=-1)
    edges = np.ceil(total / total[:, -1:] * members - starts[:, None]).astype(np.int64)
    edges = np.clip(edges, 0, members)
    edges[:, -1] = members
    return np.diff(edges, axis=-1, prepend=0)
