"""Three-dimensional variational assimilation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import xarray as xr

from daml.covariances.acting import acts, described, restored
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.html import shown
from daml.protocols import (
    Covariance,
    CovarianceProduct,
    Forecast,
    Observed,
    Outputs,
    Run,
    Scheme,
    Setting,
    Trial,
    Update,
)
from daml.schemes.ensembles.open_inflation import LEAST
from daml.schemes.estimation import Seen
from daml.schemes.labelled import CHI_SQUARE, analyse
from daml.schemes.variational import by_model
from daml.schemes.variational.by_actions import Actions
from daml.schemes.variational.by_model import Observing
from daml.schemes.variational.gains import Tables, tables
from daml.schemes.variational.gauss_newton import GaussNewton
from daml.schemes.variational.given_covariance import check_factor, check_given, matrix_of
from daml.schemes.variational.open_covariance import Known, estimated
from daml.schemes.variational.open_factor import consistent
from daml.schemes.variational.outer_loops import OuterLoops
from daml.stores.opening import check_whole

METHODS = ("exact", "cg")
WAYS = ("innovations", "climatological", "model")
FACTORS = {"error_factor": "error covariance R", "background_factor": "given B"}
"""The numbers that a store keeps, and what they multiply."""


@dataclass(frozen=True)
class ThreeDVar:
    """Three-dimensional variational assimilation.

    The analysis is the state x that minimises
    J(x) = (x - xb)' B^-1 (x - xb) + (y - H(x))' R^-1 (y - H(x)). For a linear H the minimum is
    computed directly. A nonlinear H must be a function that torch can differentiate; the minimum is
    then computed by Gauss-Newton iterations from the background xb, until the step is no larger
    than 1e-6 standard deviations of the background error. If J has several minima, this is the one
    that is reached from the background.

    Parameters
    ----------
    background_covariance : xarray.DataArray, "innovations", "climatological", "model", or an object
        B, in units of the products of the variables. There are four kinds:

        - A symmetric positive definite matrix (variable, covariable).
        - A way in which :func:`daml.tuned` and the loop estimate it: "innovations" estimates it
          from the innovations of each model, "climatological" once, as the scaled climatology of
          the imperfect model, as in Goodliff and Miyoshi (2025).
        - "model": each forecast has its own B, which the model predicts. The model is, for example,
          an LSTM that was trained through the cycle.
        - For many variables, an object with the methods of
          :class:`daml.protocols.CovarianceProduct` or :class:`daml.protocols.Covariance`, such as
          :class:`daml.covariance.Localised` or :class:`daml.covariance.Stationary`. No matrix of
          all variables is then formed.
    error_factor : float or "estimated"
        Factor on the error covariance R of the observations. "estimated": the factor is estimated
        from the innovations, together with B.
    background_factor : float or "estimated"
        Factor on a given B. "estimated": the factor for which the mean chi-square of the
        innovations is 1, estimated by :func:`daml.tuned` and by the loop.
    method : {"exact", "cg"}
        How the analysis is computed, and with a nonlinear H each iteration: "exact" uses the gain
        K = B H' (H B H' + R)^-1, and "cg" conjugate gradients, preconditioned with the Cholesky
        factor of B. Both give the same result up to rounding. For a B that is an object, both solve
        (H B H' + R) w = y - H xb by conjugate gradients, in units of R (PSAS: Cohn et al. 1998),
        and give xb + B H' w.

    Raises
    ------
    InputError
        If the covariance or the method is not valid. :func:`daml.assimilate` raises it if H is
        nonlinear and either the model predicts B or torch cannot differentiate H.

    References
    ----------
    Lorenc, A. C. (1986): Analysis methods for numerical weather prediction.
    Q. J. R. Meteorol. Soc. 112, 1177-1194. Cohn, S. E., da Silva, A., Guo, J., Sienkiewicz, M. and
    Lamich, D. (1998): Assessing the effects of data selection with the DAO physical-space
    statistical analysis system. Mon. Wea. Rev. 126, 2913-2926.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> run = daml.simulate(model, steps=500, spinup=100)
    >>> scheme = daml.ThreeDVar(daml.climatological(run, max_variance=2))
    >>> scheme.analyse(run, daml.observe(run)).analysis.shape
    (500, 3)
    """

    background_covariance: xr.DataArray | str | CovarianceProduct | Covariance = "innovations"
    error_factor: float | str = 1.0
    method: str = "exact"
    background_factor: float | str = field(default=1.0, metadata={"later": True})

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method not in METHODS:
            raise InputError(f"ThreeDVar: method {self.method!r} is unknown; give one of {METHODS}")
        given, factor = self.background_covariance, self.error_factor
        check_factor(factor, "ThreeDVar")
        if factor == "estimated" and not (isinstance(given, str) and given == "innovations"):
            raise InputError(
                "ThreeDVar: 'error_factor' can be estimated only together with B; give "
                "background_covariance='innovations'"
            )
        check_given(given, WAYS, "ThreeDVar")
        check_factor(self.background_factor, "ThreeDVar", "background_factor")

    def _repr_html_(self) -> str:
        return shown(self, {})

    def given(self, variables: tuple[str, ...]) -> np.ndarray:
        """Give B (variable, variable) as a matrix.

        Raises
        ------
        InputError
            If it is still to be estimated, or lacks some of the variables.
        """
        matrix = matrix_of(self.background_covariance, variables, "ThreeDVar")
        return matrix * float(self.background_factor)

    def to_dataset(self) -> xr.Dataset:
        """Give the factor on R, and B unless the model predicts it, as a Dataset for a store."""
        factors = {}
        for name, what in FACTORS.items():
            attrs = {"long_name": f"factor on the {what}", "units": "1"}
            factors[name] = xr.DataArray(float(getattr(self, name)), attrs=attrs)
        found, given = xr.Dataset(factors), self.background_covariance
        if self._acts:
            return found.merge(described(given))
        if not self._asks_model:  # otherwise the model stores its own B
            found["background_covariance"] = cast("xr.DataArray", given)
        return found

    def restored(self, dataset: xr.Dataset) -> ThreeDVar:
        """Give this scheme with what ``to_dataset`` stored.

        Raises
        ------
        StoreError
            If a variable is missing or damaged.
        """
        acting = restored(dataset)
        has = self._asks_model or self._acts or acting is not None
        kept = ("error_factor",) if has else ("error_factor", "background_covariance")
        check_whole(dataset, kept, "the scheme that was kept")
        given = dataset.get("background_covariance", self.background_covariance)
        factors: dict[str, Any] = {n: float(dataset[n]) for n in FACTORS if n in dataset}
        covariance = given if acting is None else acting
        return replace(self, background_covariance=covariance, **factors)

    @property
    def open(self) -> tuple[str, ...]:
        """Names of what is still to be estimated, or asked of the model; empty if all is given."""
        parts = ("background_covariance", "error_factor", "background_factor")
        return tuple(name for name in parts if isinstance(getattr(self, name), str))

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model: its own "covariance", what B needs, or nothing."""
        if self._asks_model:
            return frozenset({"covariance"})
        return frozenset(getattr(self.background_covariance, "needs", ()))

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        return {**CHI_SQUARE, **by_model.OUTPUTS} if self._asks_model else CHI_SQUARE

    @property
    def by_model(self) -> ThreeDVar:
        """The same scheme with the B of the model."""
        return replace(self, background_covariance="model", background_factor=1.0)

    @property
    def _way(self) -> str | None:
        """How B is found ("innovations", for example); None if B is given."""
        given = self.background_covariance
        return given if isinstance(given, str) else None

    @property
    def _asks_model(self) -> bool:
        """Whether the model gives B."""
        return self._way == "model"

    @property
    def _acts(self) -> bool:
        """Whether B is given by its actions."""
        return acts(self.background_covariance)

    def tuned(self, trial: Trial, before: Scheme | None = None) -> ThreeDVar:
        """Give the scheme with B and the factor on R estimated.

        See :func:`daml.tuned`.
        """
        self._check_one()
        found = before if isinstance(before, ThreeDVar) else None
        if self._asks_model and trial.knows_covariance:
            return self if found is None else replace(self, error_factor=found.error_factor)
        if not self.open:
            return self
        if self.background_factor == "estimated":
            last = 1.0 if found is None or found.open else float(found.background_factor)
            return self._scaled(consistent(trial, self._scaled, last))
        last_b = None if found is None else found.background_covariance
        if found is not None and isinstance(last_b, xr.DataArray) and found.background_factor == 1:
            start, known = found, Known(last_b, float(found.error_factor))
        else:
            factor = 1.0 if isinstance(self.error_factor, str) else self.error_factor
            start, known = self, Known(trial.climatology(), factor)

        def made(known: Known) -> ThreeDVar:
            covariance, factor = known
            return replace(start, background_covariance=covariance, error_factor=factor)

        if self._way == "climatological":
            return start if start is found else made(known)
        estimate = self.error_factor == "estimated"
        scheme = estimated(trial, made, known, new=start is self, factor=estimate)
        return cast("ThreeDVar", scheme)

    def _check_one(self) -> None:
        """Refuse a factor on a B that is not given."""
        given = self.background_covariance
        if isinstance(given, str) and self.background_factor != 1:
            raise InputError(
                f"ThreeDVar: 'background_factor' multiplies a B that is given, and "
                f"'background_covariance' is {given!r}; give one of the two"
            )

    def _scaled(self, factor: float) -> ThreeDVar:
        return replace(self, background_factor=factor)

    def values_needed(
        self, observations: xr.Dataset, variables: tuple[str, ...], knows_covariance: bool
    ) -> tuple[int, str] | None:
        """Give the number of values per observed quantity for the estimate of B, and its purpose.

        It is None if B is not estimated from innovations. ``knows_covariance`` says whether the
        model gives a B of its own.
        """
        way = self._way
        if self.background_factor == "estimated":
            return LEAST, "to find 'background_factor'"
        if way in (None, "climatological") or (way == "model" and knows_covariance):
            return None
        seen = Seen.of(observations, variables, np.ones(len(variables)))
        return seen.least, f"to estimate B for {seen.rank} observed quantities"

    def prepare(self, setting: Setting) -> Tables | Observing | GaussNewton | OuterLoops:
        """Compute the gain of each pattern of observations, if H is linear and B is a matrix.

        Raises
        ------
        InputError
            If B lacks some of the variables, or is still to be estimated; or if H is nonlinear and
            the model gives B, or torch cannot differentiate H.
        """
        self._check_one()
        if isinstance(self.background_factor, str):
            raise InputError(
                "ThreeDVar: 'background_factor' is still 'estimated'; estimate it: scheme, "
                "analysis = daml.tuned(scheme, model, observations)"
            )
        factor = float(self.error_factor)
        if self._asks_model:
            return Observing.of(setting, factor)
        if self._acts:
            how = self.background_covariance, (float(self.background_factor), factor)
            return OuterLoops(Actions.of(setting, *how, "ThreeDVar"))
        if not setting.operator.linear:
            given = self.given(setting.variables)
            return GaussNewton.of(setting, given, factor, self.method)
        return tables(setting, self.given(setting.variables), factor, self.method)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Any
    ) -> tuple[Update, Any]:
        """Give the analysis (..., variable) of a batch of forecasts."""
        state = forecast.state
        if not self._asks_model:
            analysis, square = memory.analysed(state, observed)
            return Update(analysis, {"chi_square": square}), memory
        if run.wanted == {"log_likelihood"} and not isinstance(state, np.ndarray):
            from daml.schemes.variational import differentiable

            compared = memory.compared(state, observed, forecast.covariance)
            analysis, likelihood = differentiable.analysed(state, *compared)
            return Update(analysis, {"log_likelihood": likelihood}), memory
        return Update(*memory.analysed(state, observed, forecast.covariance)), memory

    def innovation_variance(self, forecast: Forecast, observed: Observed, memory: Any) -> Any:
        """Give the variances (..., observed) of innovations: the diagonal of H B H' + R.

        Raises
        ------
        InputError
            If B is given by its actions, and they do not say so.
        """
        return memory.innovation_variance(forecast, observed)

    def analyse(self, background: xr.Dataset, observations: xr.Dataset) -> xr.Dataset:
        """Give the analysis of each background state, each on its own.

        See :func:`daml.schemes.analyse`.
        """
        return analyse(self, background, observations)
