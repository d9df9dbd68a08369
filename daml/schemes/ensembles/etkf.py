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

    Let A (member, variable) be the anomalies of the N members x, S (member, observed) the anomalies
    of R^(-1/2) H(x) divided by sqrt(N - 1), and d = R^(-1/2) (y - mean of H(x)). The analysis is
    computed in the space of the members: its mean is mean + A' (I + S S')^-1 S d / sqrt(N - 1), and
    its anomalies are (I + S S')^(-1/2) A. H need not be linear, as it is applied to the members.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the spread of the members is increased after each analysis in which something was
        observed: either a factor on the anomalies, from 0.5 to 3, or a rule
        (:class:`daml.schemes.RTPP`, :class:`daml.schemes.RTPS`, :class:`daml.schemes.Additive`).
        "innovations", for the factor or for the number of a rule, means that :func:`daml.tuned` and
        each pass of :func:`daml.improve` estimate it. During the first 80 steps of a segment, the
        anomalies are multiplied by a factor that falls from 1.3 (or from ``inflation`` if that is
        larger) to ``inflation``, or to 1 with a rule.
    rotate : bool
        Whether the anomalies are rotated at random after each analysis. The rotation keeps their
        mean and covariance, and prevents outliers among the members.
    seed : int
        Seed of all random numbers: the first ensemble, rotations and model errors.
    error_factor : float or "estimated"
        Factor on the error covariance R of the observations. "estimated": the factor is estimated
        from the innovations, together with the inflation if that is to be estimated, too.
    model_error : float, array or xarray.DataArray, optional
        Q, the covariance of the model error of a step: one variance for all variables, variances
        (variable,), or a covariance matrix (variable, covariable), in units of the variables
        squared. Default: the ``model_error`` of the model, or none.
    drawn : bool
        Whether errors are drawn from N(0, Q) and added to the members after each step. With False,
        the anomalies are transformed instead, so that their covariance increases by Q in the
        directions in which the ensemble has spread, and in no others. This has no sampling error,
        but it needs more members than there are directions in which errors grow.

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
