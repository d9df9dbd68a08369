"""The hybrid of an ensemble and 3DVar."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from daml.arrays import alike, member_mean, namespace
from daml.errors import InputError
from daml.observing.operators import linearised
from daml.protocols import Forecast, Observed, Outputs, Run, Setting, Update
from daml.schemes.ensembles.parts import Prepared, Seen, analysed, chi_square
from daml.schemes.hybrid.blended import Blended
from daml.schemes.hybrid.localised import Localised
from daml.schemes.hybrid.seeing import Look, Sees, Solved, covariance, informed, narrowed
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.variational.by_actions import Actions


class Known(NamedTuple):
    """What does not change in a cycle."""

    climatology: Any
    """The constant part of B (variable, variable), times its weight; or None."""
    tapers: Any
    """Correlations (variable, variable) of the localisation; None without."""
    actions: Actions | None = None
    """The constant part of B by its actions, in place of the matrix."""


@dataclass(frozen=True)
class EnVar(Localised, Blended):  # type: ignore[override]
    """Hybrid of an ensemble Kalman filter and 3DVar (EnVar).

    The mean x of the members is analysed as x + B H' (H B H' + R)^-1 (y - H x) with the covariance
    B = beta C + (1 - beta) P, where C is a constant covariance, the climatology, and P is that of
    the members. The anomalies of the analysis are those of an :class:`ETKF`. The spread therefore
    depends on P alone, while C corrects the mean in directions in which the members have no spread.
    With beta = 0 this is the ETKF; with beta = 1 the mean is analysed as by a
    :class:`daml.ThreeDVar`.

    With a ``radius``, P is localised: its entries are multiplied by the correlations of Gaspari and
    Cohn between the positions of the variables. The anomalies of the analysis are then computed
    from the localised P with a square-root gain (Whitaker and Hamill 2002). An :class:`LETKF`
    weights observations by their distances instead; in contrast to it, this scheme also accepts
    observations without positions and with correlated errors. It forms a matrix (variable,
    variable) for each state, which limits it to some hundreds of variables. Without a ``radius``,
    and with a C that is not a matrix, no such matrix is formed; the mean is then computed by
    conjugate gradients in the space of the observations, for states of many variables.

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
    beta : float or "innovations"
        Weight of the climatology, from 0 to 1. "innovations": the weight for which the innovations
        are most likely, estimated by :func:`daml.tuned` and in each pass of :func:`daml.improve`.
    background_covariance : xarray.DataArray, "climatological", or an object
        The climatology C: a matrix (variable, covariable), in units of the products of the
        variables; or "climatological" for the scaled climatology of the model, as for
        :class:`daml.ThreeDVar` (a loop uses that of its first model); or, for many variables, an
        object that multiplies by a covariance, such as :class:`daml.covariance.Localised`. With an
        object and without a ``radius``, the scheme computes no ``log_likelihood``, so that
        ``beta``, ``inflation`` and ``error_factor`` cannot be estimated.
    radius : float, optional
        Half-width of the localisation of P, in the unit of the model's ``positions``: the
        correlation is 5/24 at this distance and 0 from twice this distance on. Default: P is not
        localised.

    Raises
    ------
    InputError
        If an argument is out of range. :func:`daml.assimilate` raises it if the climatology lacks a
        variable, if ``radius`` is given and the model has no positions, or if H is not linear and
        torch cannot differentiate it.

    Notes
    -----
    A nonlinear H is applied to the members, as in an ETKF. For C and for a localised P, its tangent
    at the mean is used.

    References
    ----------
    Hamill, T. M. and Snyder, C. (2000): A hybrid ensemble Kalman filter-3D variational analysis
    scheme. Mon. Wea. Rev. 128, 2905-2919. Lorenc, A. C. (2003): The potential of the ensemble
    Kalman filter for NWP, a comparison with 4D-Var. Q. J. R. Meteorol. Soc. 129, 3183-3203.
    Etherton, B. J. and Bishop, C. H. (2004): Resilience of hybrid ensemble/3DVAR analysis schemes
    to model error and ensemble covariance error. Mon. Wea. Rev. 132, 1065-1080 (with an ETKF for
    the members, too). Buehner, M. (2005): Ensemble-derived stationary and flow-dependent
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
        if self._by_products and self._sought():
            raise InputError(
                f"EnVar: {self._sought()[0]!r} is to be estimated from the likelihood of the "
                "innovations, which needs a matrix, and 'background_covariance' is a "
                f"{type(self.background_covariance).__name__}; give {self._sought()[0]!r} as a "
                "number, or give a matrix"
            )

    @property
    def _by_products(self) -> bool:
        """Whether the mean is analysed without a matrix (variable, variable)."""
        return self._acts and self.radius is None and self.beta != 0

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model; see :class:`daml.protocols.Scheme`."""
        return super().needs | self.of_climatology

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        return CHI_SQUARE if self._by_products else super().outputs

    def known(self, setting: Setting) -> Known:
        """Give the climatology, and the correlations of the localisation."""
        if self._by_products:
            factors = float(self.beta), float(self.error_factor)
            given = self.background_covariance
            return Known(None, None, Actions.of(setting, given, factors, "EnVar"))
        climatology = self.climatology(setting)
        tapers = self.tapers(setting, seen=climatology is not None)
        if climatology is not None:
            climatology = float(self.beta) * alike(climatology, setting.noise.variance)
        return Known(climatology, tapers)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable)."""
        part = self.seen(forecast, observed)
        if (actions := memory.own.actions) is not None:
            found = self.transformed(part, run)
            mean, square = self._mean_by_products(forecast, observed, part, actions)
            how = part, run, memory
            members = self.around(mean, found.anomalies, *how, turned=found.turned)
            return analysed(forecast, members, chi_square(observed, square)), memory
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

    def _mean_by_products(
        self, forecast: Forecast, observed: Observed, part: Seen, actions: Actions
    ) -> tuple[Any, Any]:
        """Give the mean of the analysis, and d' S^-1 d (...), without a matrix of S."""
        xp, x, size = namespace(part.seen), forecast.state, forecast.state.shape[-1]
        equivalent, share = observed.operator.apply(x), (1 - float(self.beta)) / (self.members - 1)
        centre = member_mean(equivalent)
        seen = equivalent - centre[..., None, :]

        def of_members(y: Any) -> Any:
            return (share * xp.matrix_transpose(seen @ y[..., None]) @ seen)[..., 0, :]

        operator, distance = observed.operator, observed.values - centre
        if operator.linear:
            cross, square = actions.seen(operator)
        else:
            around = linearised(operator, part.mean[..., :size])
            cross, square = actions.seen_around(around, distance)
        weights, total = actions.weights(distance, observed, square, of_members)
        pull = share * xp.matrix_transpose(seen @ weights[..., None])
        moved = part.mean + (pull @ part.anomalies)[..., 0, :]
        further = moved[..., :size] + float(self.beta) * cross(weights)
        return xp.concat((further, moved[..., size:]), axis=-1), total

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
