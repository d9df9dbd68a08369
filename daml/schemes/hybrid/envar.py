"""The hybrid of an ensemble and 3DVar."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from daml.arrays import alike, namespace
from daml.protocols import Forecast, Observed, Run, Setting, Update
from daml.schemes.ensembles.parts import Prepared, Seen, analysed
from daml.schemes.hybrid.blended import Blended
from daml.schemes.hybrid.localised import Localised
from daml.schemes.hybrid.seeing import Look, Sees, Solved, covariance, informed, narrowed


class Known(NamedTuple):
    """What does not change in a cycle."""

    climatology: Any
    """The constant part of B (variable, variable), times its weight; or None."""
    tapers: Any
    """Correlations (variable, variable) of the localisation; None without."""


@dataclass(frozen=True)
class EnVar(Localised, Blended):  # type: ignore[override]
    """Hybrid of an ensemble and 3DVar: a blend of climatology and ensemble covariance.

    The mean of the members x is analysed with B = beta C + (1 - beta) P, C being a constant
    covariance and P that of the members: x + B H' (H B H' + R)^-1 (y - H x). The members are set
    around it with the anomalies of an :class:`ETKF`: P alone says how uncertain they are, and C
    corrects the mean in directions in which they do not spread. With beta = 0 this is the ETKF,
    with beta = 1 the mean is analysed as by a :class:`daml.ThreeDVar`.

    With a ``radius`` P is multiplied, entry by entry, by the correlations of Gaspari and Cohn
    between the places of the variables. The anomalies of the analysis follow from this P by the
    square root of its gain (Whitaker and Hamill 2002). Unlike an :class:`LETKF`, which weighs
    observations by their distances, this takes observations that have no place of their own, and
    errors that are correlated. Matrices (variable, variable) are made for each state: it is for
    some hundreds of variables.

    Parameters
    ----------
    members : int
        N, 2 or more.
    beta : float or "innovations"
        Weight of the climatology, from 0 to 1. "innovations": the one for which innovations are
        most likely is found by :func:`daml.tuned` and in each pass of :func:`daml.improve`.
    background_covariance : xarray.DataArray or "climatological"
        C (variable, covariable), in units of the products of the variables. "climatological": the
        scaled climatology of the model, as a :class:`daml.ThreeDVar` takes it; a loop takes that of
        its first model.
    radius : float, optional
        Half-width of the correlations with which P is localised, in the unit of the model's
        ``positions``: 5/24 at this distance, none from twice the distance on. Default: P as it is.
    inflation, rotate, seed, error_factor, model_error, drawn
        See :class:`ETKF`.

    Raises
    ------
    InputError
        If an argument is out of range; in a cycle, if the climatology lacks a variable, the model
        has no positions for a ``radius``, or H is not linear and torch cannot differentiate it.

    Notes
    -----
    The members see an H that is not linear, as those of an ETKF do; what observations see of C, and
    of a localised P, follows from the tangent of H at the mean.

    References
    ----------
    Hamill, T. M. and Snyder, C. (2000): A hybrid ensemble Kalman filter-3D variational analysis
    scheme. Mon. Wea. Rev. 128, 2905-2919. Lorenc, A. C. (2003): The potential of the ensemble
    Kalman filter for NWP, a comparison with 4D-Var. Q. J. R. Meteorol. Soc. 129, 3183-3203.
    Etherton, B. J. and Bishop, C. H. (2004): Resilience of hybrid ensemble/3DVAR analysis schemes
    to model error and ensemble covariance error. Mon. Wea. Rev. 132, 1065-1080, whose members are
    those of an ETKF, too. Buehner, M. (2005): Ensemble-derived stationary and flow-dependent
    background-error covariances. Q. J. R. Meteorol. Soc. 131, 1013-1043.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> run = daml.simulate(model, steps=300, spinup=500)
    >>> static = daml.climatological(run, max_variance=0.5)
    >>> scheme = daml.schemes.EnVar(members=4, beta=0.3, background_covariance=static)
    >>> daml.assimilate(model, daml.observe(run), scheme).spread.dims
    ('time', 'variable')
    """

    _: KW_ONLY
    radius: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_radius()

    def known(self, setting: Setting) -> Known:
        """Give the climatology, and the correlations of the localisation."""
        climatology = self.climatology(setting.variables)
        tapers = self.tapers(setting, seen=climatology is not None)
        if climatology is not None:
            climatology = float(self.beta) * alike(climatology, setting.noise.variance)
        return Known(climatology, tapers)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        own, static = self._views(forecast, observed, part, memory.own)
        mean, solved = self._mean(part, own, static)
        if own is None:
            found = self.transformed(part, run)
            anomalies, turned, near = found.anomalies, found.turned, None
        else:
            anomalies, turned = narrowed(part, *own), False
            near = informed(part.anomalies, own.cross)
        members = self.around(mean, anomalies, part, run, memory, near, turned)
        extras = part.extras(observed, solved.square, solved.log_determinant)
        return analysed(forecast, members, extras), memory

    def _views(
        self, forecast: Forecast, observed: Observed, part: Seen, known: Known
    ) -> tuple[Sees | None, Sees | None]:
        """Give what is seen of the localised covariance of the members, and of the climatology."""
        own, static = None, None
        if known.tapers is None and known.climatology is None:
            return None, None
        at = part.mean[..., : forecast.state.shape[-1]]
        look = Look.of(observed, float(self.error_factor), at)
        if known.tapers is not None:
            own = look.sees(known.tapers * covariance(part.anomalies, part.anomalies))
        if known.climatology is not None:
            static = look.sees(known.climatology)
        return own, static

    def _mean(self, part: Seen, own: Sees | None, static: Sees | None) -> tuple[Any, Solved]:
        """Give the mean of the analysis, and the weights of the observations in it.

        ``own`` is what is seen of the localised covariance of the members, ``static`` of the
        climatology times its weight.
        """
        xp, share = namespace(part.seen), 1 - float(self.beta)
        across = xp.matrix_transpose(part.seen)
        square = share * (across @ part.seen if own is None else own.square)
        solved = Solved.of(square if static is None else square + static.square, part.innovation)
        weights = solved.weights[..., None]
        if own is None:
            pull = xp.matrix_transpose(part.seen @ weights) * (share / (self.members - 1) ** 0.5)
            moved = (pull @ part.anomalies)[..., 0, :]
        else:
            moved = (share * own.cross @ weights)[..., 0]
        if static is not None:
            further = (static.cross @ weights)[..., 0]
            carried = xp.zeros_like(moved[..., further.shape[-1] :])
            moved = moved + xp.concat((further, carried), axis=-1)
        return part.mean + moved, solved
