"""The finite-size ensemble Kalman filter."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from daml.arrays import namespace
from daml.errors import InputError
from daml.protocols import Run
from daml.schemes.ensembles.etkf import ETKF
from daml.schemes.ensembles.parts import YOUNG, Seen
from daml.schemes.ensembles.transforms import Transform, symmetric

LARGEST, YOUNG_LARGEST = 10.0, 2.0
"""The squared factor on the anomalies at most: what is not observed would grow beyond all bounds.
It is smaller while a filter starts, with an ensemble that is wide."""
HALVINGS = 50
"""Steps of the search for the factor."""


@dataclass(frozen=True)
class EnKFN(ETKF):
    """Finite-size ensemble Kalman filter (EnKF-N), which needs no tuned inflation.

    The prior accounts for the sampling errors of the mean and the covariance of a small ensemble.
    In its dual form, the analysis is that of an :class:`ETKF` whose background anomalies are
    multiplied by a factor l, which is determined anew from the innovations of each analysis. With S
    and d as for the ETKF, u = l^2 minimises d' (I + u S' S)^-1 d / (N - 1) + e / u + c log u.
    Initially e = (N + 1) / N and c = N / (N - 1). Then e is divided, and c multiplied, by
    sqrt((e / c)^m), where m is the mean of the eigenvalues of (I + S S')^-1, so that l is 1 if the
    observations carry no information.

    Parameters
    ----------
    members : int
        N, the number of members, 2 or more.
    inflation : float, RTPP, RTPS, Additive or "innovations"
        How the spread of the members is increased after each analysis, in
        addition; see :class:`ETKF`. The default, 1.0, adds nothing.
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
    certainty : float
        Factor on e and c, above 0. The larger it is, the more certain the covariance of the
        ensemble is assumed to be, and the less the innovations change l.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Bocquet, M., Raanes, P. N. and Hannart, A. (2015): Expanding the validity of the ensemble Kalman
    filter without the intrinsic need for inflation. Nonlin. Processes Geophys. 22, 645-662. Raanes,
    P. N., Bocquet, M. and Carrassi, A. (2019): Adaptive covariance inflation in the ensemble Kalman
    filter by Gaussian scale mixtures. Q. J. R. Meteorol. Soc. 145, 53-75.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.EnKFN(members=8))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    _: KW_ONLY
    certainty: float = 1.0

    wide: ClassVar[float] = 1.0
    """An ensemble that starts too narrow is inflated by what is observed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.certainty < np.inf:
            raise InputError(f"EnKFN: 'certainty' is {self.certainty:g}; give a factor > 0")

    def transformed(self, part: Seen, run: Run) -> Transform:
        """Give mean and anomalies of the analysis."""
        if getattr(part.seen, "requires_grad", False):
            raise InputError(
                "EnKFN: no gradient passes through the search for its inflation; train through the "
                "cycle of daml.schemes.ETKF"
            )
        return symmetric(part, partial(self.factor, run))

    def factor(self, run: Run, values: Any, projected: Any) -> Any:
        """Give u (..., 1) of eigenvalues of S S' and the projections of S d on their vectors.

        Where the derivative of the cost is zero, c u = e + sum of (projected u / (1 + u v))^2 /
        (N - 1); halving finds the smallest such u from below.
        """
        xp, largest = (
            namespace(values),
            LARGEST if run.age >= YOUNG * run.pace else YOUNG_LARGEST,
        )
        size = self.members
        uncertain, scale = (size + 1) / size, size / (size - 1)
        correction = (uncertain / scale) ** (xp.mean(1 / (1 + values), axis=-1) / 2)
        constant, slope = uncertain / correction, scale * correction
        pull = 1 / (self.certainty * (size - 1))
        low = xp.log(constant / slope)
        high = xp.log(xp.full_like(low, largest))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            factor = xp.exp(middle)[..., None]
            pulled = xp.sum((projected * factor / (1 + factor * values)) ** 2, axis=-1)
            short = slope * factor[..., 0] < constant + pulled * pull
            low, high = xp.where(short, middle, low), xp.where(short, high, middle)
        return xp.exp((low + high) / 2)[..., None]
