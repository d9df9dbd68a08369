"""The deterministic ensemble Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass

from daml.protocols import Forecast, Observed, Run, Update
from daml.schemes.ensembles.parts import Ensemble, Prepared, analysed
from daml.schemes.ensembles.weights import Weights


@dataclass(frozen=True)
class DEnKF(Ensemble):
    """Deterministic ensemble Kalman filter: anomalies move by half of the gain.

    With the Kalman gain K of the ensemble, the mean x and the anomalies A are updated by
    x + K (y - H x) and A - K H A / 2. Without perturbed observations the analysis covariance is
    the Kalman filter's plus K H P H' K' / 4: where observations say much, this inflates.

    Parameters
    ----------
    members, inflation, rotate, seed, error_factor, model_error, drawn
        See :class:`daml.schemes.ETKF`.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Sakov, P. and Oke, P. R. (2008): A deterministic formulation of the ensemble Kalman filter: an
    alternative to ensemble square root filters. Tellus A 60, 361-371.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.DEnKF(members=8))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        weights = Weights.of(part)
        signal = part.seen * (self.members - 1) ** 0.5
        anomalies = part.anomalies - weights.increments(signal) / 2
        members = self.around(weights.mean(), anomalies, part, run, memory)
        extras = part.extras(observed, weights.square(), weights.log_determinant)
        return analysed(forecast, members, extras), memory
