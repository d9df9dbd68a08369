"""4DVar with the covariance of an ensemble that runs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from daml.arrays import alike, namespace
from daml.observing.operators import check_tangent
from daml.protocols import Observed, Outputs, Run, Setting, Update, Window
from daml.schemes.ensembles.parts import Prepared
from daml.schemes.hybrid.blended import Blended
from daml.schemes.variational.controls import Control, MatrixRoot
from daml.schemes.windowed.by_tangents import ByTangents
from daml.schemes.windowed.four_d_var import analysed
from daml.schemes.windowed.iterations import ITERATED
from daml.schemes.windowed.shares import go_on_by_windows
from daml.schemes.windowed.views import Views, parted
from daml.schemes.windowed.window_minimum import check_search


@dataclass(frozen=True)
class ETKF4DVar(Blended):
    """4DVar with the background error covariance of an ensemble (ETKF-4DVar).

    The mean of the members at the start of a window is the background of a :class:`FourDVar` with a
    perfect model and B = beta C + (1 - beta) P, where C is a constant covariance, the climatology,
    and P is the covariance of the members at the start of the window. The anomalies of the members
    are updated by an :class:`ETKF`, which assimilates one time of the window after another and uses
    the covariances between the start and these times. The mean of the new members is the analysis
    of the 4DVar.

    With beta = 0 (the default), B depends only on the members. The cost function is then that of an
    :class:`IEnKS`, but with the tangent of the model in place of the members.

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
        The 4DVar ignores it.
    drawn : bool
        Whether model errors are drawn at random; see :class:`ETKF`.
    beta : float or "innovations"
        Weight of the climatology, from 0 to 1; see :class:`EnVar`.
    background_covariance : xarray.DataArray, "climatological", or an object
        The climatology C; see :class:`EnVar`.
    quasi_static : bool
        Whether the new observations of a window are added one time after another, which follows the
        global minimum in long windows; see :class:`FourDVar`.
    outer_loops : int
        Maximum number of outer loops of the minimisation.
    tolerance : float
        Length of the last step, in standard deviations of the background error, below which the
        minimisation has converged.

    Raises
    ------
    InputError
        If an argument is out of range. :func:`daml.assimilate` raises it if the climatology lacks a
        variable, if the model has a memory of states, or if H is not linear and torch cannot
        differentiate it.

    References
    ----------
    Goodliff, M., Amezcua, J. and van Leeuwen, P. J. (2015): Comparing hybrid data assimilation
    methods on the Lorenz 1963 model with increasing non-linearity. Tellus A 67, 26928. Zhang, F.,
    Zhang, M. and Hansen, J. A. (2009): Coupling ensemble Kalman filter with four-dimensional
    variational data assimilation. Adv. Atmos. Sci. 26, 1-8.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500), every=2)
    >>> analysis = daml.assimilate(model, seen, daml.schemes.ETKF4DVar(members=8, window=4))
    >>> bool(analysis.converged.all())
    True
    """

    window: int
    shift: int | None = None
    _: KW_ONLY
    beta: float | str = 0.0
    quasi_static: bool = False
    outer_loops: int = 50
    tolerance: float = 1e-3

    carries: ClassVar[bool] = False
    window_advice: ClassVar[str] = (
        "a shorter window, quasi_static=True where it has observations at many times, or a shorter "
        "shift"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        go_on_by_windows(self)
        check_search(self.outer_loops, self.tolerance, "ETKF4DVar")

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model: how its steps change with the state, and what C needs."""
        return frozenset({"gradient", "memoryless"}) | self.of_climatology

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        return {**super().outputs, **ITERATED}

    def known(self, setting: Setting) -> Any:
        """Give the root (variable, variable) of the climatology times its weight, or None."""
        check_tangent(setting.operator, len(setting.variables))
        climatology = self.climatology(setting)
        if climatology is None:
            return None
        root = np.linalg.cholesky(float(self.beta) * climatology)
        return alike(root, setting.noise.variance)

    def update(  # type: ignore[override]
        self, window: Window, observed: Sequence[Observed], run: Sequence[Run], memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable) at the window's start."""
        factor = float(self.error_factor)
        mean, anomalies = parted(window.state, None)
        alone = window._replace(state=mean, background=window.moved(mean), errors=())
        control = Control.of(alone, MatrixRoot(self._root(anomalies, memory.own)))
        cost = ByTangents.of(alone, observed, control, factor)
        least = self.outer_loops, self.tolerance, self.quasi_static
        found = analysed(cost, *least, wanted=run[-1].wanted)
        views = Views.of(observed[-window.fresh :], factor)
        whole = views.together(views.each(window.background[-window.fresh :]), anomalies, mean)
        narrow, turned = self._in_turn(window, views, run)
        members = self.around(found.state, narrow, whole, run[-1], memory, turned=turned)
        return Update(members, found.extras), memory

    def _root(self, anomalies: Any, climatology: Any) -> Any:
        """Give L (..., variable, control) of B = L L'."""
        xp = namespace(anomalies)
        weight = ((1 - float(self.beta)) / (self.members - 1)) ** 0.5
        own = weight * xp.matrix_transpose(anomalies)
        if climatology is None:
            return own
        shape = (*own.shape[:-2], *climatology.shape)
        return xp.concat((own, xp.broadcast_to(climatology, shape)), axis=-1)

    def _in_turn(self, window: Window, views: Views, run: Sequence[Run]) -> tuple[Any, bool]:
        """Give the anomalies of a start, analysed with one time after the other, and if turned.

        After each time the model moves the members again: how what follows depends on the start is
        seen from where they are then. In long windows one step with all times would see members
        that have lost each other.
        """
        start, states, first = window.state, window.background, len(run) - window.fresh
        for number, (place, of_time) in enumerate(zip(views.places, views.observed, strict=True)):
            mean, anomalies = parted(start, None)
            view = views._replace(observed=(of_time,), places=(first + place,), shares=(1.0,))
            part = view.together(view.each(states), anomalies, mean)
            found = self.transformed(part, run[first + place])
            start = (mean + found.increment)[..., None, :] + found.anomalies
            if number + 1 < len(views.places):
                states = window.moved(start)
        return found.anomalies, found.turned
