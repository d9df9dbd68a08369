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

    The mean x at the start of a window is analysed with all its new observations y_k: x + sum_k
    P_0k H_k' S^-1 (y - H M(x)), where S has the blocks H_j P_jk H_k' + R and P_jk is the covariance
    of the members between the times j and k. Trajectories of the members replace the tangent and
    the adjoint of the model in 4DVar, and a single step is made from the background. The members
    are placed around the analysis as by an :class:`ETKF` with all these observations.

    Without a ``radius`` this is an :class:`IEnKS` with one iteration. With a radius, each P_jk is
    multiplied, entry by entry, by the correlations of Gaspari and Cohn between the positions of the
    variables, which do not depend on time. A few members then suffice for a state of many
    variables, if the window is so short that signals do not travel far. Matrices (variable,
    variable) are formed for each pair of times with observations.

    Parameters
    ----------
    members : int
        N, 2 or more.
    window : int
        Model steps that are analysed together.
    shift : int, optional
        Model steps from a window to the next, at most ``window`` (default: all of them). Each
        observation is used in one window, that in which it is new.
    radius : float, optional
        Half-width of the correlations, in the unit of the model's ``positions``; see
        :class:`EnVar`. Default: the covariances as they are.
    inflation, rotate, seed, error_factor, model_error, drawn
        See :class:`ETKF`.

    Raises
    ------
    InputError
        If an argument is out of range; in a cycle with a ``radius``, if the model has no positions,
        or H is not linear and torch cannot differentiate it.

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
            extras = _told(parts, own.square, solved, views, len(new))
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


def _told(
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
