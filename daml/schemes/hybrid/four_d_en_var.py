"""Four-dimensional ensemble-variational assimilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from daml.arrays import namespace
from daml.protocols import Observed, Run, Setting, Update, Window
from daml.schemes.ensembles.etkf import ETKF
from daml.schemes.ensembles.parts import Prepared, Seen, chi_square
from daml.schemes.hybrid.localised import Localised
from daml.schemes.hybrid.seeing import Look, Sees, Solved, covariance, informed, narrowed
from daml.schemes.windowed.shares import go_on_by_windows
from daml.schemes.windowed.views import Views, outputs, parted


@dataclass(frozen=True)
class FourDEnVar(Localised, ETKF):  # type: ignore[override]
    """Four-dimensional ensemble-variational assimilation (4DEnVar).

    The mean x at the start of a window is analysed with all new observations y_k of the window. The
    analysis is x + sum over k of P_0k H_k' S^-1 (y - H(M(x))), where P_jk is the covariance of the
    members between the times j and k, and S has the blocks H_j P_jk H_k' (plus R for j = k). The
    trajectories of the members replace the tangent and the adjoint of the model in 4DVar. There is
    a single iteration, from the background. The anomalies of the analysis are those of an
    :class:`ETKF` with all these observations.

    Without a ``radius`` this is an :class:`IEnKS` with one iteration. With a ``radius``, the
    entries of each P_jk are multiplied by the correlations of Gaspari and Cohn between the
    positions of the variables, which do not depend on time. A few members then suffice for a state
    of many variables, if the window is so short that signals do not travel far. A matrix (variable,
    variable) is formed for each pair of times with observations.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    window : int
        Number of model steps that are analysed together.
    shift : int, optional
        Number of model steps from the start of a window to the start of the next, at most
        ``window``. Default: ``window``. With a smaller shift, windows overlap; each observation is
        used once, in the first window that contains it.
    radius : float, optional
        Half-width of the localisation, in the unit of the model's ``positions``: the correlation is
        5/24 at this distance and 0 from twice this distance on. Default: no localisation.
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
        If an argument is out of range. :func:`daml.assimilate` raises it if ``radius`` is given and
        the model has no positions, or H is not linear and torch cannot differentiate it.

    References
    ----------
    Liu, C., Xiao, Q. and Wang, B. (2008): An ensemble-based four-dimensional variational data
    assimilation scheme. Part I: technical formulation and preliminary test. Mon. Wea. Rev. 136,
    3363-3373. Goodliff, M., Amezcua, J. and van Leeuwen, P. J. (2015): Comparing hybrid data
    assimilation methods on the Lorenz 1963 model with increasing non-linearity. Tellus A 67, 26928.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500), every=2)
    >>> analysis = daml.assimilate(model, seen, daml.schemes.FourDEnVar(members=8, window=4))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    window: int
    shift: int | None = None
    _: KW_ONLY
    radius: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        go_on_by_windows(self)
        self.check_radius()

    def known(self, setting: Setting) -> Any:
        """Give the correlations of the localisation."""
        return self.tapers(setting)

    def update(  # type: ignore[override]
        self, window: Window, observed: Sequence[Observed], run: Sequence[Run], memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable) at the window's start."""
        new, states = observed[-window.fresh :], window.background[-window.fresh :]
        factor, size = float(self.error_factor), window.state.shape[-1]
        views = Views.of(new, factor)
        parts = views.each(states)
        mean, anomalies = parted(window.state, window.carried)
        part = views.together(parts, anomalies, mean)
        if self.radius is None:
            found = self.transformed(part, run[-1])
            centre, turned, near = mean + found.increment, found.turned, None
            anomalies, extras = found.anomalies, outputs(states, new, factor, run[-1].wanted)
        else:
            own = self._sees(views, parts, anomalies, memory.own)
            solved = Solved.of(own.square, part.innovation)
            centre = mean + (own.cross @ solved.weights[..., None])[..., 0]
            near, turned = informed(anomalies, own.cross), False
            anomalies = narrowed(part, *own)
            extras = _outputs(parts, own.square, solved, views, len(new))
        members = self.around(centre, anomalies, part, run[-1], memory, near, turned)
        carried = None if window.carried is None else members[..., size:]
        return Update(members[..., :size], extras, carried=carried), memory

    def _sees(self, views: Views, parts: Sequence[Seen], start: Any, tapers: Any) -> Sees:
        """Give what is seen of the localised covariances of a start (..., member, variable)."""
        xp, factor = namespace(start), float(self.error_factor)
        pairs = zip(views.observed, parts, strict=True)
        looks = [Look.of(of_time, factor, part.mean) for of_time, part in pairs]
        cross, blocks = [], [[None] * len(parts) for _ in parts]
        for k, (look, later) in enumerate(zip(looks, parts, strict=True)):
            cross.append(look.rows(tapers * covariance(start, later.anomalies)))
            for j in range(k + 1):
                between = tapers * covariance(parts[j].anomalies, later.anomalies)
                found = looks[j].rows(xp.matrix_transpose(look.rows(between)))
                blocks[k][j], blocks[j][k] = found, xp.matrix_transpose(found)
        square = xp.concat([xp.concat(row, axis=-1) for row in blocks], axis=-2)
        return Sees(xp.concat(cross, axis=-1), square)


def _outputs(
    parts: Sequence[Seen], square: Any, solved: Solved, views: Views, times: int
) -> dict[str, Any]:
    """Give ``chi_square`` of each time, and ``log_likelihood`` of all of them at the last one."""
    xp = namespace(square)
    nothing = xp.zeros_like(solved.square)
    squares, first = [xp.full_like(nothing, xp.nan)] * times, 0
    for place, of_time, part in zip(views.places, views.observed, parts, strict=True):
        here = slice(first, first := first + part.innovation.shape[-1])
        own = Solved.of(square[..., here, here], part.innovation)
        squares[place] = chi_square(of_time, own.square)["chi_square"]
    width = sum((part.width for part in parts[1:]), start=parts[0].width)
    last = -(solved.square + solved.log_determinant) / 2 - width
    return {"chi_square": squares, "log_likelihood": [nothing] * (times - 1) + [last]}
