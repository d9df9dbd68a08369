"""The extended Kalman filter."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from daml.arrays import alike, namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.observing.operators import check_tangent, seen_of
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


class Carried(NamedTuple):
    """The filter's memory."""

    root: Root
    covariance: Any
    """P (..., variable, variable) of the last analysis; at first that of the first guess."""


@dataclass(frozen=True)
class ExtendedKalman(OpenError):
    """Extended Kalman filter, which propagates the covariance with the tangent of the model.

    In a step, the covariance P of the analysis becomes M P M' + Q, where M is the derivative of the
    step and Q the covariance of the model error. The Kalman filter then updates state and
    covariance, with the derivative of H at the forecast. M is computed by torch, or by central
    differences if torch cannot differentiate the step. A nonlinear H must be a function that torch
    can differentiate or that has its own ``tangent``.

    The scheme forms n x n matrices for n variables, and central differences step 2n states. It
    suits small models that are only weakly nonlinear from one observation to the next, and that
    have no memory.

    Parameters
    ----------
    model_error : float, array, xarray.DataArray or "innovations", optional
        Q, the covariance of the model error of a step: one variance for all variables, variances
        (variable,), or a covariance matrix (variable, covariable), in units of the variables
        squared. "innovations": Q is estimated; see :class:`SigmaPoint`. Default: the
        ``model_error`` of the model, or none.
    inflation : float
        Factor on the standard deviations of each analysis in which something was observed.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Jazwinski, A. H. (1970): Stochastic processes and filtering theory. Academic Press; section 8.3.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> seen = daml.observe(daml.simulate(model, steps=300, spinup=500))
    >>> scheme = daml.schemes.ExtendedKalman(model_error=1e-3, inflation=1.01)
    >>> daml.assimilate(model, seen, scheme).spread.dims
    ('time', 'variable')
    """

    model_error: Any = None
    _: KW_ONLY
    inflation: float = 1.0

    outputs: ClassVar[Outputs] = GIVEN
    gives_deviations: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"gradient", "memoryless", "model_error"})

    def __post_init__(self) -> None:
        check_fields(self)
        self.check_error()
        if not LEAST <= self.inflation <= MOST:
            raise InputError(
                f"ExtendedKalman: 'inflation' is {self.inflation}; give a factor from {LEAST:g} to "
                f"{MOST:g}; a factor on variances is its square"
            )

    def prepare(self, setting: Setting) -> Carried:
        """Give the covariance of the first guess.

        Raises
        ------
        InputError
            If the uncertainty of the first guess is not known.
        """
        if setting.deviation is None:
            raise InputError(
                "ExtendedKalman: it needs the uncertainty of the first guess of a cycle, and "
                "there is none here; use it in daml.assimilate or daml.improve"
            )
        check_tangent(setting.operator, len(setting.variables))
        covariance = alike(np.diag(setting.deviation() ** 2), setting.noise.variance)
        return Carried(Root(setting.variables), covariance)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Carried
    ) -> tuple[Update, Carried]:
        """Give the analysis (..., variable)."""
        x, covariance = forecast.state, memory.covariance
        xp = namespace(x)
        before, tangent = covariance, forecast.tangent
        if tangent is not None:
            covariance = tangent @ covariance @ xp.matrix_transpose(tangent)
        if forecast.model_error is not None:
            covariance = covariance + forecast.model_error
        covariance = xp.broadcast_to(covariance, (*x.shape, x.shape[-1]))
        deviations = xp.matrix_transpose(memory.root.of(covariance))
        signal = seen_of(observed.operator, deviations, x)
        innovation = observed.values - observed.operator.apply(x)
        both = xp.concat((signal, innovation[..., None, :]), axis=-2)
        white = observed.whitened(both)
        seen = white[..., :-1, :]
        found = Analysed.of(x, deviations, seen, white[..., -1, :])
        after = found.inflated(self.inflation, seen)
        width = observed.log_deviation
        extras = found.extras(observed, covariance, after, width)
        if "analysis_deviations" in run.wanted:
            extras |= self._deviations(before, after, tangent, memory.root)
        return Update(found.mean, extras), memory._replace(covariance=after)

    def _deviations(self, before: Any, after: Any, tangent: Any, root: Root) -> dict[str, Any]:
        """Give the deviations of a forecast, without Q, and of its analysis.

        Those of the forecast are the deviations of the analysis before it, moved by the tangent.
        """
        xp = namespace(after)
        moved = xp.matrix_transpose(root.of(before))
        if tangent is not None:
            moved = moved @ xp.matrix_transpose(tangent)
        return {
            "forecast_deviations": xp.broadcast_to(moved, after.shape),
            "analysis_deviations": xp.matrix_transpose(root.of(after)),
        }
