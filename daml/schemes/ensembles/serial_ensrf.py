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

    Each observation is in units of its error, and s (member,) are its anomalies divided by
    sqrt(N - 1). It moves the mean by the gain K of this observation alone, and the anomalies A to
    A - s K sqrt(N - 1) / (1 + (1 + s' s)^(-1/2)). The members' equivalents of the observations that
    follow are updated, too. Observations are assimilated in the order of their sorted names, or, if
    their errors are correlated, in the order in which they are given, after a change of variables
    that makes them independent.

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
