"""The ensemble transform Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass

from daml.protocols import Forecast, Observed, Run, Update
from daml.schemes.ensembles.parts import SILENT, Ensemble, Prepared, Seen, analysed
from daml.schemes.ensembles.rotation import turns
from daml.schemes.ensembles.transforms import Transform, symmetric, triangular


@dataclass(frozen=True)
class ETKF(Ensemble):
    """Ensemble transform Kalman filter with the symmetric root.

    A are the anomalies of an ensemble of N members, S those of R^(-1/2) H(x) divided by
    sqrt(N - 1), and d is the innovation of the mean in units of its error. In the space of the
    members, the analysis is mean + A' (I + S S')^-1 S d / sqrt(N - 1), with the anomalies
    (I + S S')^(-1/2) A. H need not be linear: it is applied to the members.

    Parameters
    ----------
    members : int
        N, 2 or more.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the anomalies are increased after each analysis in which something was observed: by a
        factor from 0.5 to 3, or by a rule (:class:`daml.schemes.RTPP`, :class:`daml.schemes.RTPS`,
        :class:`daml.schemes.Additive`). "innovations", also as the number of a rule, is estimated
        by :func:`daml.tuned` and in each pass of :func:`daml.improve`. In the first 80 steps of a
        segment the factor falls from 1.3 (or its setting, if that is larger) to its setting; with a
        rule, to 1.
    rotate : bool
        Whether the anomalies are rotated at random after each analysis. This keeps their mean and
        covariance, and prevents outliers among the members.
    seed : int
        Seed of all random numbers: the first ensemble, rotations and model errors.
    error_factor : float or "estimated"
        Factor on the observations' error covariance R. "estimated", for an R of unknown size,
        estimates it from the innovations, together with the inflation if that is open, too.
    model_error : float, array or xarray.DataArray, optional
        Q, the covariance of the error of a step, from which random errors are drawn and added to
        the members after each step: one variance for all variables, variances (variable,) or a
        covariance (variable, covariable), in units of the variables squared. Default: the model's
        own ``model_error``, or none.
    drawn : bool
        Whether the model errors are drawn. With False the anomalies are multiplied by a square root
        instead, so that their covariance increases by Q in all directions in which the ensemble has
        spread, and in no other. This has no sampling error, but it needs more members than there
        are directions in which errors grow.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Hunt, B. R., Kostelich, E. J. and Szunyogh, I. (2007): Efficient data assimilation for
    spatiotemporal chaos: a local ensemble transform Kalman filter. Physica D 230, 112-126. Bishop,
    C. H., Etherton, B. J. and Majumdar, S. J. (2001): Adaptive sampling with the ensemble transform
    Kalman filter. Mon. Wea. Rev. 129, 420-436. Raanes, P. N., Carrassi, A. and Bertino, L. (2015):
    Extending the square root method to account for additive forecast noise in ensemble methods.
    Mon. Wea. Rev. 143, 3857-3873 (``drawn=False``).

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
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        found = self.transformed(part, run)
        mean = part.mean + found.increment
        members = self.around(mean, found.anomalies, part, run, memory, turned=found.turned)
        extras = part.extras(observed, found.square, found.log_determinant)
        return analysed(forecast, members, extras), memory

    def transformed(self, part: Seen, run: Run) -> Transform:
        """Give mean and anomalies of the analysis.

        A turn makes all roots alike, unless a member is compared with its own background before.
        """
        if self.rotate and not self.rule.by_member:
            among = part.signal[..., 0] > SILENT
            return triangular(part, turns(self.seed, run.step, part.seen, among))
        return symmetric(part)
