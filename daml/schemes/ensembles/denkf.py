"""The deterministic ensemble Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass

from daml.protocols import Forecast, Observed, Run, Update
from daml.schemes.ensembles.parts import Ensemble, Prepared, analysed
from daml.schemes.ensembles.weights import Weights


@dataclass(frozen=True)
class DEnKF(Ensemble):
    """Deterministic ensemble Kalman filter: anomalies are updated with half of the gain.

    With the Kalman gain K of the ensemble, the mean x and the anomalies A are updated to
    x + K (y - H x) and A - K H A / 2. Observations are not perturbed. The analysis covariance is
    that of the Kalman filter plus K H P H' K' / 4, which acts as an inflation where observations
    are much more accurate than the background.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the spread of the members is increased after each analysis; see :class:`ETKF`.
    rotate : bool
        Whether the anomalies are rotated at random after each analysis; see :class:`ETKF`.
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
