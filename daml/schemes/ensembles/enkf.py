"""The ensemble Kalman filter with perturbed observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daml.arrays import alike, namespace
from daml.protocols import Forecast, Observed, Run, Setting, Update
from daml.randomness import Stream, normal, ranks
from daml.schemes.ensembles.parts import Ensemble, Prepared, analysed
from daml.schemes.ensembles.weights import Weights


class Perturbing(NamedTuple):
    """What the filter knows before a cycle."""

    places: np.ndarray
    """Where the observed names (observed,) stand when sorted: names decide what is drawn."""
    root: Any
    """The symmetric root of R (observed, observed) where its errors are correlated, else None."""


@dataclass(frozen=True)
class EnKF(Ensemble):
    """Ensemble Kalman filter with perturbed observations.

    With the Kalman gain K of the ensemble, each member x is updated to x + K (y + e - H(x)), where
    the perturbation e is drawn from N(0, R), independently for each member and time. The mean of
    the perturbations over the N members is subtracted, and the differences are multiplied by
    sqrt(N / (N - 1)), so that each perturbation has the covariance R; their sample covariance is on
    average larger than R by the factor N / (N - 1). H need not be linear, as it is applied to the
    members.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the spread of the members is increased after each analysis; see :class:`ETKF`.
    rotate : bool
        Whether the anomalies are rotated at random after each analysis; see :class:`ETKF`.
    seed : int
        Seed of all random numbers: the first ensemble, perturbations, rotations and model errors.
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
    Burgers, G., van Leeuwen, P. J. and Evensen, G. (1998): Analysis scheme in the ensemble Kalman
    filter. Mon. Wea. Rev. 126, 1719-1724.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.EnKF(members=20, inflation=1.04))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    def known(self, setting: Setting) -> Perturbing:
        """Prepare the perturbations: the order of the names, and a root of R."""
        covariance, root = setting.noise.covariance, None
        if covariance is not None:
            xp = namespace(covariance)
            values, vectors = xp.linalg.eigh(covariance)
            root = (vectors * xp.sqrt(values)) @ vectors.T
        return Perturbing(ranks(setting.observed), root)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        xp = namespace(part.seen)
        weights = Weights.of(part)
        signal = part.seen * (self.members - 1) ** 0.5
        drawn = self._perturbations(observed, run, memory.own, part.seen)
        anomalies = part.anomalies + weights.increments(drawn - signal)
        anomalies = anomalies - xp.mean(anomalies, axis=-2, keepdims=True)
        members = self.around(weights.mean(), anomalies, part, run, memory)
        extras = part.extras(observed, weights.square(), weights.log_determinant)
        return analysed(forecast, members, extras), memory

    def _perturbations(self, observed: Observed, run: Run, memory: Perturbing, like: Any) -> Any:
        """Give R^(-1/2) e (..., member, observed), whose mean over the members is 0."""
        xp = namespace(like)
        shape = self.members, len(memory.places)
        drawn = normal(self.seed, run.step, shape, Stream.PERTURBATION)[..., memory.places]
        drawn = drawn - drawn.mean(axis=-2, keepdims=True)
        drawn = alike(drawn * (self.members / (self.members - 1)) ** 0.5, like)
        if memory.root is not None:
            return observed.whitened(drawn @ memory.root)
        return xp.where(observed.present[..., None, :], drawn, xp.zeros_like(drawn))
