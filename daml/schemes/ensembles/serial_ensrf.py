"""The ensemble square root filter that takes one observation after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daml.arrays import namespace
from daml.protocols import Forecast, Observed, Run, Setting, Update
from daml.schemes.ensembles.parts import Ensemble, Prepared, analysed


@dataclass(frozen=True)
class SerialEnSRF(Ensemble):
    """Ensemble square root filter that assimilates one observation after another.

    Let s (member,) be the anomalies of an observation's equivalents H(x) in the N members, in units
    of the observation error, divided by sqrt(N - 1). The mean is updated with the Kalman gain K of
    this observation alone, and the anomalies A become
    A - s K sqrt(N - 1) / (1 + (1 + s' s)^(-1/2)). The equivalents of the observations that follow
    are updated in the same way. Observations are assimilated in the order of their sorted names. If
    their errors are correlated, they are assimilated in the given order, after a change of
    variables that makes the errors independent.

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
    Whitaker, J. S. and Hamill, T. M. (2002): Ensemble data assimilation without perturbed
    observations. Mon. Wea. Rev. 130, 1913-1924.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.SerialEnSRF(members=8))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    def known(self, setting: Setting) -> list[int]:
        """Give the order in which observations are taken."""
        return list(np.argsort(setting.observed).tolist())

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        xp = namespace(part.seen)
        # Signals and innovations of the observations move as further variables of the state do.
        moving = xp.concat((part.anomalies / (self.members - 1) ** 0.5, part.seen), axis=-1)
        centre = xp.concat((part.mean, -part.innovation), axis=-1)
        size = part.mean.shape[-1]
        square = xp.zeros_like(part.width)
        log_determinant = xp.zeros_like(part.width)
        for place in memory.own:
            signal = moving[..., size + place]
            total = 1 + xp.vecdot(signal, signal)
            gain = (signal[..., None, :] @ moving)[..., 0, :] / total[..., None]
            distance = -centre[..., size + place]
            half = 1 / (1 + 1 / xp.sqrt(total))
            moving = moving - (half[..., None] * signal)[..., None] * gain[..., None, :]
            centre = centre + gain * distance[..., None]
            square = square + distance**2 / total
            log_determinant = log_determinant + xp.log(total)
        anomalies = moving[..., :size] * (self.members - 1) ** 0.5
        members = self.around(centre[..., :size], anomalies, part, run, memory)
        extras = part.extras(observed, square, log_determinant)
        return analysed(forecast, members, extras), memory
