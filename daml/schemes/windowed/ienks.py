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
    """Iterative ensemble Kalman smoother: analyses a window with the members alone.

    The members are run from the start of a window to its end, and show how the observations at all
    its times depend on the start: neither the model nor H needs a tangent. With the mean x and the
    anomalies A of N members, the analysis x + A' w / sqrt(N - 1) is the minimum of w' w + d' d,
    where d = R^(-1/2) (y - H(M(x))). It is computed by Gauss-Newton iterations (the transform
    variant: the members around an iterate have the spread of the analysis). The ensemble gets the
    covariance of the minimum, and is run through the window.

    If ``window`` and ``shift`` reach from one observation to the next, this is the iterative
    ensemble Kalman filter (IEnKF); with ``iterations=1`` it is the four-dimensional ETKF. With a
    linear model both are the ETKF.

    Parameters
    ----------
    members : int
        N, 2 or more.
    window : int
        Model steps that are analysed together.
    shift : int, optional
        Number of model steps from a window to the next, at most ``window`` (the default). If the
        window is longer than the shift, the past state from which the next forecast starts is more
        accurate; each observation is used once, in the window in which it is new.
    iterations : int
        Maximum number of Gauss-Newton iterations (default: 10). They end when the mean changes by
        less than 0.05 standard deviations of the analysis.
    finite_size : bool or float
        Whether the prior is that of :class:`daml.schemes.EnKFN`, with which no inflation is needed;
        a number is its ``certainty``, True is 1.
    multiple : bool
        Whether an observation is used in all windows that contain it, with equal parts of its
        weight (multiple data assimilation). Use this for windows so long that the cost of the new
        observations alone has many minima. The analysis itself uses observations with full weight.
    inflation, rotate, seed, error_factor, model_error, drawn
        See :class:`daml.schemes.ETKF`.

    Raises
    ------
    InputError
        If an argument is out of range.

    Notes
    -----
    The analysis has ``iterations`` and ``converged`` (time) of the window in which a time is new.

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
        """What an analysis has besides."""
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
        told = {"iterations": found.iterations, "converged": found.converged}
        extras = {
            **outputs(window.forecasts, new, factor, run[-1].wanted, self._factor(run[-1])),
            **{n: [alike(part * 1.0, update.state)] * window.fresh for n, part in told.items()},
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
