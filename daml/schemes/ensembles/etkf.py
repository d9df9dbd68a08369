"""The ensemble transform Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from daml.protocols import Forecast, Observed, Run, Update
from daml.schemes.ensembles.parts import Ensemble, Seen, analysed
from daml.schemes.ensembles.roots import root_times
from daml.schemes.ensembles.weights import Weights


@dataclass(frozen=True)
class ETKF(Ensemble):
    """Ensemble transform Kalman filter with the symmetric root.

    With the anomalies A of an ensemble of N members, S those of R^(-1/2) H(x) by the root of
    N - 1, and d the innovation of the mean in units of its error, in the space of the members:
    mean + A' (I + S S')^-1 S d / sqrt(N - 1), and anomalies (I + S S')^(-1/2) A. H need not be
    linear: the members see it.

    Parameters
    ----------
    members : int
        N, 2 or more.
    inflation : float
        Multiplies the anomalies after each analysis, where something was observed. While a segment
        starts, the inflation falls from 1.3 (or its setting, where that is larger) to its setting
        over 80 steps.
    rotate : bool
        Whether the anomalies are turned at random after each analysis: their mean and covariance
        stay, and single members cannot run away.
    seed : int
        Of the first ensemble, and of rotations.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Hunt, B. R., Kostelich, E. J. and Szunyogh, I. (2007): Efficient data assimilation for
    spatiotemporal chaos: a local ensemble transform Kalman filter. Physica D 230, 112-126. Bishop,
    C. H., Etherton, B. J. and Majumdar, S. J. (2001): Adaptive sampling with the ensemble transform
    Kalman filter. Mon. Wea. Rev. 129, 420-436.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.ETKF(members=8))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Any
    ) -> tuple[Update, Any]:
        """Give the analysed ensembles (..., member, variable)."""
        part = Seen.of(forecast, observed, memory)
        xp = array_namespace(part.seen)
        if getattr(part.seen, "requires_grad", False):
            return self.differentiable(forecast, part, observed, run), memory
        values, vectors = xp.linalg.eigh(part.seen @ xp.matrix_transpose(part.seen))
        values = xp.where(values > 0, values, xp.zeros_like(values))
        turned = xp.matrix_transpose(vectors)
        projected = (turned @ (part.seen @ part.innovation[..., None]))[..., 0]
        factor = self.factor(values, projected)
        expected = 1 + factor * values
        weights = (vectors @ (factor * projected / expected)[..., None])[..., 0]
        weights = weights / (self.members - 1) ** 0.5
        root = (vectors / xp.sqrt(expected / factor)[..., None, :]) @ turned
        mean = part.mean + (weights[..., None, :] @ part.anomalies)[..., 0, :]
        members = self.around(mean, root @ part.anomalies, part.seen, run)
        square = xp.vecdot(part.innovation, part.innovation)
        square = square - xp.sum(factor * projected**2 / expected, axis=-1)
        extras = part.extras(observed, square, xp.sum(xp.log(expected), axis=-1))
        return analysed(forecast, members, extras), memory

    def differentiable(
        self, forecast: Forecast, part: Seen, observed: Observed, run: Run
    ) -> Update:
        """Give the same without eigenvectors, whose gradient is NaN where eigenvalues meet."""
        weights, seen = Weights.of(part), part.seen
        anomalies = root_times(seen @ seen.mT, part.anomalies)
        members = self.around(weights.mean(), anomalies, seen, run)
        extras = part.extras(observed, weights.square(), weights.log_determinant)
        return analysed(forecast, members, extras)

    def factor(self, values: Any, projected: Any) -> Any:
        """Give the squared factor on the background's anomalies (..., 1), or for all.

        Of the eigenvalues (..., member) of S S', and the projections of S d on their vectors.
        """
        return 1.0
