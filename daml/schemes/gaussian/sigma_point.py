"""The sigma-point (unscented) Kalman filter."""

from __future__ import annotations

from copy import copy
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from daml.arrays import namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.protocols import (
    Forecast,
    Observed,
    Outputs,
    Run,
    Setting,
    Update,
)
from daml.schemes.ensembles.inflation import LEAST, MOST
from daml.schemes.gaussian.kalman import GIVEN, Analysed, Root
from daml.schemes.gaussian.open_error import OpenError


@dataclass(frozen=True)
class SigmaPoint(OpenError):
    """Sigma-point (unscented) Kalman filter, which uses 2n states and no random numbers.

    For n variables with the mean m and the covariance P = L L', where L is the Cholesky factor, the
    model steps the points m + sqrt(n) L_i and m - sqrt(n) L_i, which have this mean and covariance.
    The forecast has the mean of the stepped points, and their covariance plus the covariance Q of
    the model error; with a Q, new points are placed accordingly. H, which need not be linear, is
    applied to the points, and the Kalman filter updates the whole state with their covariances.

    A step costs 2n model steps, and matrices of n x n are formed. The scheme suits small models
    without a memory.

    Parameters
    ----------
    model_error : float, array, xarray.DataArray or "innovations", optional
        Q, the covariance of the model error of a step: one variance for all variables, variances
        (variable,), or a covariance matrix (variable, covariable), in units of the variables
        squared. "innovations": the ``model_error`` of the model if it has one; otherwise the
        variances of its climatology times the factor for which the innovations are most likely,
        estimated by :func:`daml.tuned` and in each pass of :func:`daml.improve`. Default: the
        ``model_error`` of the model, or none.
    inflation : float
        Factor on the standard deviations of each analysis in which something was observed.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Julier, S. J. and Uhlmann, J. K. (2004): Unscented filtering and nonlinear estimation. Proc.
    IEEE 92, 401-422. Arasaratnam, I. and Haykin, S. (2009): Cubature Kalman filters. IEEE Trans.
    Autom. Control 54, 1254-1269 (these points with equal weights).

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> analysis = daml.assimilate(model, seen, daml.schemes.SigmaPoint(model_error=1e-4))
    >>> analysis.spread.dims
    ('time', 'variable')
    """

    model_error: Any = None
    _: KW_ONLY
    inflation: float = 1.0

    outputs: ClassVar[Outputs] = GIVEN
    needs: ClassVar[frozenset[str]] = frozenset({"memoryless", "model_error"})

    def __post_init__(self) -> None:
        check_fields(self)
        self.check_error()
        if not LEAST <= self.inflation <= MOST:
            raise InputError(
                f"SigmaPoint: 'inflation' is {self.inflation}; give a factor from {LEAST:g} to "
                f"{MOST:g}; a factor on variances is its square"
            )

    @property
    def members(self) -> int:
        """The number of points; 0 until ``sized`` was called."""
        return 2 * getattr(self, "_size", 0)

    @property
    def member_weight(self) -> float:
        """The weight of a point in the covariance."""
        return 1 / self.members

    def sized(self, variables: tuple[str, ...]) -> SigmaPoint:
        """Give the scheme with two points for each variable of a model."""
        found = copy(self)
        object.__setattr__(found, "_size", len(variables))
        return found

    def first_members(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Give the points (row, member, variable) to start from.

        They lie around states (row, variable), with the standard deviations (variable,).
        """
        away = len(deviation) ** 0.5 * np.diag(deviation)
        return np.asarray(mean[:, None] + np.concatenate((away, -away)))

    def prepare(self, setting: Setting) -> Root:
        """Give the roots of the variables."""
        return Root(setting.variables)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Root
    ) -> tuple[Update, Root]:
        """Give the points (..., member, variable) of the analysis."""
        xp = namespace(forecast.state)
        points, mean, deviations, covariance = _forecast(forecast, memory)
        count = points.shape[-2]
        equivalent = observed.operator.apply(points)
        centre = xp.mean(equivalent, axis=-2, keepdims=True)
        both = xp.concat((equivalent - centre, observed.values[..., None, :] - centre), axis=-2)
        white = observed.whitened(both)
        seen = white[..., :count, :] / count**0.5
        found = Analysed.of(mean, deviations, seen, white[..., count, :])
        after = found.inflated(self.inflation, seen)
        width = observed.log_deviation
        extras = found.extras(observed, covariance, after, width)
        return Update(_points(found.mean, after, memory), extras), memory

    def innovation_variance(self, forecast: Forecast, observed: Observed, memory: Root) -> Any:
        """Give the variances (..., observed) that innovations should have: of H(x), and R."""
        equivalent = observed.operator.apply(_forecast(forecast, memory)[0])
        return namespace(equivalent).var(equivalent, axis=-2) + observed.variance


def _forecast(forecast: Forecast, memory: Root) -> tuple[Any, Any, Any, Any]:
    """Give points with the model error in them, their mean, deviations and covariance.

    Deviations are divided by the root of the number of points.
    """
    points = forecast.state
    xp, count = namespace(points), points.shape[-2]
    mean = xp.mean(points, axis=-2)
    deviations = (points - mean[..., None, :]) / count**0.5
    covariance = xp.matrix_transpose(deviations) @ deviations
    if forecast.model_error is not None:
        covariance = covariance + forecast.model_error
        points = _points(mean, covariance, memory)
        deviations = (points - mean[..., None, :]) / count**0.5
    return points, mean, deviations, covariance


def _points(mean: Any, covariance: Any, root: Root) -> Any:
    """Give 2n states (..., member, variable) with a mean and a covariance."""
    xp = namespace(mean)
    away = xp.matrix_transpose(root.of(covariance)) * mean.shape[-1] ** 0.5
    centre = mean[..., None, :]
    return xp.concat((centre + away, centre - away), axis=-2)
