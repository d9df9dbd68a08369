"""The iterative ensemble Kalman smoother."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from daml.arrays import alike, unrecorded
from daml.errors import InputError
from daml.protocols import Observed, Outputs, Run, Update, Window
from daml.schemes.ensembles.enkf_n import EnKFN
from daml.schemes.ensembles.etkf import ETKF
from daml.schemes.ensembles.parts import Ensemble, Prepared
from daml.schemes.windowed.iterating import Iterated, iterated
from daml.schemes.windowed.iterations import ITERATED
from daml.schemes.windowed.shares import Shares, go_on_by_windows
from daml.schemes.windowed.views import Factor, Views, outputs, parted


@dataclass(frozen=True)
class IEnKS(Ensemble):
    """Iterative ensemble Kalman smoother (IEnKS), a nonlinear smoother without tangents.

    The members are run from the start of a window to its end. They show how the observations in the
    window depend on the state at its start, so that neither the model nor H needs a tangent. With
    the mean x and the anomalies A of N members at the start, the analysis is the state
    x + A' w / sqrt(N - 1) whose w minimises w' w + d' d, where d = R^(-1/2) (y - H(M(state))) and M
    runs the model from the start to the times of the observations. The minimum is computed by
    Gauss-Newton iterations, in the transform variant: in each iteration, the members around the
    current state have the spread of the analysis. At the end the members get the covariance of the
    minimum, and are run through the window.

    If ``window`` is the number of steps from one observation to the next, this is the iterative
    ensemble Kalman filter (IEnKF). With ``iterations=1`` it is the four-dimensional ETKF. With a
    linear model, both are the ETKF.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    window : int
        Number of model steps that are analysed together.
    shift : int, optional
        Number of model steps from the start of a window to the start of the next, at most
        ``window``. Default: ``window``. With a smaller shift, windows overlap, and the state from
        which the next window starts is more accurate; each observation is used once, in the first
        window that contains it (but see ``multiple``).
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
    iterations : int
        Maximum number of Gauss-Newton iterations. They end when the mean changes by less than 0.05
        standard deviations of the analysis.
    finite_size : bool or float
        Whether the prior is that of :class:`EnKFN`, with which no inflation is needed. A number is
        its ``certainty``; True is 1.
    multiple : bool
        Whether an observation is used in all windows that contain it, each time with an equal part
        of its weight (multiple data assimilation). Use this for windows so long that the cost
        function of the new observations alone has many minima. The analysis that is returned uses
        each observation with its full weight.

    Raises
    ------
    InputError
        If an argument is out of range.

    Notes
    -----
    The analysis also has ``iterations`` and ``converged`` (time), which are those of the first
    window that contains the time.

    References
    ----------
    Bocquet, M. and Sakov, P. (2014): An iterative ensemble Kalman smoother. Q. J. R. Meteorol. Soc.
    140, 1521-1535. Sakov, P., Oliver, D. S. and Bertino, L. (2012): An iterative EnKF for strongly
    nonlinear systems. Mon. Wea. Rev. 140, 1988-2004. Bocquet, M. and Sakov, P. (2012): Combining
    inflation-free and iterative ensemble Kalman filters for strongly nonlinear systems. Nonlin.
    Processes Geophys. 19, 383-399.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500), every=5)
    >>> analysis = daml.assimilate(model, seen, daml.schemes.IEnKS(members=8, window=5))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    window: int
    shift: int | None = None
    _: KW_ONLY
    iterations: int = 10
    finite_size: bool | float = False
    multiple: bool = False

    window_advice: ClassVar[str] = (
        "its windows may be longer than the model can be predicted: take a shorter 'window' (in "
        "model steps), multiple=True, or more members or iterations"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        go_on_by_windows(self)
        if self.iterations < 1:
            raise InputError(f"IEnKS: 'iterations' is {self.iterations}; give 1 or more")
        if not 0 <= self.finite_size < np.inf:
            raise InputError(
                f"IEnKS: 'finite_size' is {self.finite_size:g}; give True, or a certainty > 0"
            )

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        return {**super().outputs, **ITERATED}

    def update(
        self, window: Window, observed: Sequence[Observed], run: Sequence[Run], memory: Prepared
    ) -> tuple[Update, Prepared]:
        """Give the analysed ensembles (..., member, variable) at the window's start."""
        shares = Shares.once(len(observed), window.fresh)
        if self.multiple and window.steps:
            shares = Shares.equal(len(observed), window.fresh, self.window, self._shift)
        update, found = self._analysis(window, observed, run, memory, shares.whole)
        if shares.parts != shares.whole:
            onward, _ = self._analysis(window, observed, run, memory, shares.parts)
            update = update._replace(onward=onward)
        new, factor = observed[-window.fresh :], float(self.error_factor)
        counts = {"iterations": found.iterations, "converged": found.converged}
        extras = {
            **outputs(window.forecasts, new, factor, run[-1].wanted, self._factor(run[-1])),
            **{n: [alike(part * 1.0, update.state)] * window.fresh for n, part in counts.items()},
        }
        return update._replace(extras=extras), memory

    def _analysis(
        self,
        window: Window,
        observed: Sequence[Observed],
        run: Sequence[Run],
        memory: Prepared,
        shares: Sequence[float],
    ) -> tuple[Update, Iterated]:
        """Give the analysis by parts of the observations, and the last of its iterations."""
        views = Views.of(observed, float(self.error_factor), shares)
        mean, anomalies = parted(window.state, window.carried)
        size = window.state.shape[-1]

        def ahead(members: Any, rows: np.ndarray | None) -> tuple[Any, Any]:
            carried = None if window.carried is None else members[..., size:]
            states = window.moved(members[..., :size], carried=carried, rows=rows)
            own = views if rows is None else views.rows(rows)
            return own.together(own.each(states), members, members[..., 0, :])[2:4]

        first = views.together(views.each(window.background), anomalies, mean)
        with unrecorded(mean):
            factor = self._factor(run[-1])
            found = iterated(first, ahead, self.iterations, factor, self.rotate)
        part = found.part
        if getattr(first.seen, "requires_grad", False):  # the last iteration alone is recorded
            if self.finite_size:
                raise InputError(
                    "IEnKS: no gradient passes through the search for the inflation of a finite "
                    "ensemble; train with finite_size=False and an inflation"
                )
            seen, aim = found.at.linearised(*ahead(found.at.members(mean, anomalies), None))
            part = first._replace(seen=seen, innovation=aim)
        moved = self._last.transformed(part, run[-1])
        how = part, run[-1], memory, None, moved.turned
        members = self.around(mean + moved.increment, moved.anomalies, *how)
        carried = None if window.carried is None else members[..., size:]
        return Update(members[..., :size], carried=carried), found

    @property
    def _shift(self) -> int:
        return self.window if self.shift is None else self.shift

    @property
    def _last(self) -> ETKF:
        """The filter whose analysis the last iteration is."""
        if self._finite is not None:
            return replace(self._finite, rotate=self.rotate, inflation=self.inflation)
        return ETKF(self.members, rotate=self.rotate, inflation=self.inflation, seed=self.seed)

    def _factor(self, run: Run) -> Factor | None:
        """Give what the prior of finite size makes of innovations."""
        prior = self._finite
        return None if prior is None else partial(prior.factor, run)

    @property
    def _finite(self) -> EnKFN | None:
        """The filter whose prior it takes, if that is one of finite size."""
        if not self.finite_size:
            return None
        return EnKFN(self.members, certainty=float(self.finite_size))
