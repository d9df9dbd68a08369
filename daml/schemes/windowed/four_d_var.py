"""Four-dimensional variational assimilation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.covariances.acting import acts, described, matrix, of_setting
from daml.covariances.acting import restored as restored_covariance
from daml.covariances.model_error import error_root
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.html import shown
from daml.observing.operators import check_linearised, check_tangent
from daml.protocols import (
    Covariance,
    CovarianceProduct,
    Observed,
    Outputs,
    Run,
    Scheme,
    Setting,
    Trial,
    Update,
    Window,
)
from daml.schemes.ensembles.open_inflation import LEAST, most_likely
from daml.schemes.ensembles.parts import ERROR_FACTORS
from daml.schemes.erring import Erring
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.variational.by_model import OUTPUTS
from daml.schemes.variational.controls import Control, MatrixRoot, Root, root_of
from daml.schemes.variational.given_covariance import check_factor, check_given, matrix_of
from daml.schemes.variational.implicit import is_recorded, recorded
from daml.schemes.windowed.by_products import ByProducts
from daml.schemes.windowed.by_tangents import ByTangents
from daml.schemes.windowed.iterations import ITERATED
from daml.schemes.windowed.shares import go_on_by_windows
from daml.schemes.windowed.window_cost import WindowCost
from daml.schemes.windowed.window_minimum import check_search, minimum
from daml.stores.opening import check_whole

METHODS = ("exact", "cg")
WAYS = ("innovations", "climatological")
FACTORS = tuple(2.0**power for power in range(-8, 4))
"""Factors on the model's climatology, among which that of B is searched for."""


class Prepared(NamedTuple):
    """What a cycle with a constant B knows before its first window."""

    root: Root
    error_root: Any = None
    """That of Q, from the first window on; nothing where there is no model error."""


@dataclass(frozen=True)
class FourDVar(Erring):
    """Four-dimensional variational assimilation (incremental 4DVar).

    The analysis is the state x at the start of a window that minimises

    J(x) = (x - xb)' B^-1 (x - xb) + sum over k of (y_k - H(M_k(x)))' R^-1 (y_k - H(M_k(x))),

    where M_k runs the model from the start of the window to the time k. The sum is over the times
    with new observations; if windows overlap (``shift`` < ``window``), the earlier observations are
    already part of the background xb. With a model error Q, the errors q_k of the steps are also
    estimated, and the sum of (q_k - qb_k)' Q^-1 (q_k - qb_k) over all steps is added to J (weak
    constraint). Here qb_k is the estimate of the previous window, and 0 for new steps.

    Each outer loop linearises the model and H around the last x, and minimises the resulting
    quadratic cost in an inner loop. Its step is halved until J decreases.

    Parameters
    ----------
    background_covariance : xarray.DataArray, "innovations", "climatological", or an object
        B at the start of each window, in units of the products of the variables. It is either a
        symmetric positive definite matrix (variable, covariable), or the way in which
        :func:`daml.tuned` and the loop estimate it: "climatological" is the scaled climatology of
        the model; "innovations" is this climatology times the factor for which the innovations are
        most likely. For many variables it can be an object with the methods of
        :class:`daml.protocols.CovarianceProduct` or :class:`daml.protocols.Covariance`, such as
        :class:`daml.covariance.Localised` or :class:`daml.covariance.Stationary`; with
        ``method="cg"`` no matrix is then formed.
    window : int
        Number of model steps that are analysed together.
    shift : int, optional
        Number of model steps from the start of a window to the start of the next, at most
        ``window``. Default: ``window``.
    model_error : float, array or xarray.DataArray, optional
        Q, the covariance of the model error of a step: one variance for all variables, variances
        (variable,), or a covariance matrix (variable, covariable), in units of the variables
        squared. 0 assumes a perfect model (strong constraint). Default: the ``model_error`` of the
        model, or none.
    quasi_static : bool
        Whether the new observations of a window are added one time after another, with each minimum
        as the start of the next minimisation. This follows the global minimum if a long window has
        many minima.
    method : {"exact", "cg"}
        Method of the inner loop. "exact" computes the tangents of all steps with torch or, if the
        model has no memory, with finite differences, and solves for the step in the smaller of the
        control space and the observation space. "cg", for many variables, solves by conjugate
        gradients, preconditioned with the square root of B, or with B itself if it has no root
        (Derber and Rosati 1989). It needs only products with the tangents and their adjoints, which
        torch computes from one recorded run of the model through the window. It computes no
        ``log_likelihood``.
    outer_loops : int
        Maximum number of outer loops.
    tolerance : float
        Length of the last step, in standard deviations of the background error, below which the
        minimisation has converged.
    error_factor : float or "estimated"
        Factor on the error covariance R of the observations. "estimated": the factor for which the
        innovations are most likely.

    Raises
    ------
    InputError
        If an argument is out of range, or the covariance is not valid.

    Notes
    -----
    The analysis also has ``chi_square``, ``iterations`` and ``converged`` (time); the latter two
    are those of the first window that contains the time. J has many minima if the window is longer
    than the model is predictable. A warning is given if the outer loops often end before they have
    converged.

    References
    ----------
    Courtier, P., Thepaut, J.-N. and Hollingsworth, A. (1994): A strategy for operational
    implementation of 4D-Var, using an incremental approach. Q. J. R. Meteorol. Soc. 120, 1367-1387.
    Tremolet, Y. (2006): Accounting for an imperfect model in 4D-Var. Q. J. R. Meteorol. Soc. 132,
    2483-2504. Pires, C., Vautard, R. and Talagrand, O. (1996): On extending the limits of
    variational assimilation in nonlinear chaotic systems. Tellus A 48, 96-121. Derber, J. and
    Rosati, A. (1989): A global oceanic data assimilation system. J. Phys. Oceanogr. 19, 1333-1347.

    Examples
    --------
    >>> import daml
    >>> model = daml.Lorenz63()
    >>> truth = daml.simulate(model, steps=300, spinup=500)
    >>> scheme = daml.schemes.FourDVar(daml.climatological(truth, max_variance=2), window=5)
    >>> found = daml.assimilate(model, daml.observe(truth, every=5), scheme)
    >>> bool(found.converged.all())
    True
    """

    background_covariance: xr.DataArray | str | CovarianceProduct | Covariance = "innovations"
    _: KW_ONLY
    window: int
    shift: int | None = None
    model_error: Any = None
    quasi_static: bool = False
    method: str = "exact"
    outer_loops: int = 50
    tolerance: float = 1e-3
    error_factor: float | str = 1.0

    window_advice: ClassVar[str] = (
        "its windows may be longer than the model can be predicted: take a shorter window, "
        "quasi_static=True where it has observations at many times, or a shorter shift"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        go_on_by_windows(self)
        if self.method not in METHODS:
            raise InputError(f"FourDVar: method {self.method!r} is unknown; give one of {METHODS}")
        check_search(self.outer_loops, self.tolerance, "FourDVar")
        check_factor(self.error_factor, "FourDVar")
        check_given(self.background_covariance, WAYS, "FourDVar")

    def _repr_html_(self) -> str:
        return shown(self, {})

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the settings still to be estimated from innovations; empty if there are none."""
        parts = ("background_covariance", "error_factor")
        return tuple(name for name in parts if isinstance(getattr(self, name), str))

    @property
    def needs(self) -> frozenset[str]:
        """What is required of the model: how its steps change with the state, and what B needs."""
        own = {"model_error", "gradient" if self.method == "exact" else "tensors"}
        return frozenset(own | set(getattr(self.background_covariance, "needs", ())))

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        likelihood = {"log_likelihood": OUTPUTS["log_likelihood"]}
        return {**CHI_SQUARE, **(likelihood if self.method == "exact" else {}), **ITERATED}

    @property
    def _acts(self) -> bool:
        """Whether B is given by its actions."""
        return acts(self.background_covariance)

    def given(self, variables: tuple[str, ...]) -> np.ndarray:
        """Give B (variable, variable) as a matrix.

        Raises
        ------
        InputError
            If it is still to be estimated, or lacks some of the variables.
        """
        return matrix_of(self.background_covariance, variables, "FourDVar")

    def to_dataset(self) -> xr.Dataset:
        """Give B, the factor on R, and a model error that is an array, as a Dataset for a store."""
        attrs = {"long_name": "factor on the error covariance R", "units": "1"}
        factor = xr.DataArray(float(self.error_factor), attrs=attrs)
        found, given = super().to_dataset().assign(error_factor=factor), self.background_covariance
        if self._acts:
            return found.merge(described(given))
        return found.assign(background_covariance=cast("xr.DataArray", given))

    def restored(self, dataset: xr.Dataset) -> FourDVar:
        """Give this scheme with what ``to_dataset`` stored.

        Raises
        ------
        StoreError
            If a variable is missing or damaged.
        """
        where, given = "the scheme that was kept", self.background_covariance
        check_whole(dataset, ("error_factor",), where)
        acting = restored_covariance(dataset)
        if acting is not None:
            given = acting
        elif not self._acts:
            check_whole(dataset, ("background_covariance",), where)
            given = dataset["background_covariance"]
        factor = float(dataset["error_factor"])
        found = super().restored(dataset)
        return replace(found, background_covariance=given, error_factor=factor)

    def tuned(self, trial: Trial, before: Scheme | None = None) -> FourDVar:
        """Give the scheme with B and the factor on R estimated.

        See :func:`daml.tuned`.
        """
        if not self.open:
            return self
        given, steps = self.background_covariance, {}
        climate = trial.climatology() if isinstance(given, str) else cast("xr.DataArray", given)
        if isinstance(given, str) and given == "innovations":
            steps["background_covariance"] = FACTORS
        if self.error_factor == "estimated":
            steps["error_factor"] = ERROR_FACTORS

        def made(numbers: Mapping[str, float]) -> FourDVar:
            found, factor = given, numbers.get("error_factor", self.error_factor)
            if isinstance(given, str):
                scaled = climate * numbers.get("background_covariance", 1.0)
                found = scaled.assign_attrs(climate.attrs)
            return replace(self, background_covariance=found, error_factor=factor)

        def tried(numbers: Mapping[str, float]) -> FourDVar:
            return replace(made(numbers), method="exact")  # it gives the likelihood

        if not steps:
            return made({})
        return made(most_likely(trial, tried, steps, _last(before, climate, steps)))

    def values_needed(
        self, observations: xr.Dataset, variables: tuple[str, ...], knows_covariance: bool
    ) -> tuple[int, str] | None:
        """Give the number of values per observed quantity that tuning needs, and its purpose."""
        found = [name for name in self.open if getattr(self, name) != "climatological"]
        return (LEAST, f"to find {' and '.join(map(repr, found))}") if found else None

    def prepare(self, setting: Setting) -> Prepared:
        """Give the root of B.

        Raises
        ------
        InputError
            If B lacks some of the variables, or is still to be estimated; or if torch cannot
            differentiate a nonlinear H.
        """
        size = len(setting.variables)
        check = check_tangent if self.method == "exact" else check_linearised
        check(setting.operator, size)
        if not self._acts:
            root = np.linalg.cholesky(self.given(setting.variables))
            return Prepared(MatrixRoot(alike(root, setting.noise.variance)))
        given = self.background_covariance
        if self.method == "cg" or hasattr(given, "root"):
            return Prepared(root_of(of_setting(given, setting, "FourDVar"), size))
        root = np.linalg.cholesky(matrix(given, setting, "FourDVar"))
        return Prepared(MatrixRoot(alike(root, setting.noise.variance)))

    def update(
        self,
        forecast: Window,
        observed: Sequence[Observed],
        run: Sequence[Run],
        memory: Prepared,
    ) -> tuple[Update, Prepared]:
        """Give the analyses (..., variable) at the start of a batch of windows."""
        error = forecast.model_error
        if memory.error_root is None and error is not None and bool((error != 0).any()):
            memory = memory._replace(error_root=error_root(error))
        control = Control.of(forecast, memory.root, memory.error_root)
        factor = float(self.error_factor)
        kind = ByTangents if self.method == "exact" else ByProducts
        cost = kind.of(forecast, observed, control, factor)
        how = self.outer_loops, self.tolerance, self.quasi_static
        return analysed(cost, *how, wanted=run[-1].wanted), memory


def analysed(
    cost: WindowCost,
    outer_loops: int,
    tolerance: float,
    quasi_static: bool = False,
    *,
    wanted: Collection[str] = (),
) -> Update:
    """Give the analysis of a window: the minimum of its cost, and how the innovations were.

    Where torch records a gradient, the minimum is searched for without, and its gradient is that
    which follows from the cost.
    """
    xp, fresh = namespace(cost.window.state), cost.window.fresh
    nothing = xp.zeros_like(cost.window.state[..., 0])
    if not cost.seen:
        iterations, converged, v = nothing, nothing + 1, cost.control.zero()
    else:
        records = is_recorded(cost.window.state, cost.window.background[-1])
        with xp.no_grad() if records else nullcontext():
            found = minimum(cost, outer_loops, tolerance, quasi_static)
        v = recorded(cost.control, cost.distance, found.control) if records else found.control
        iterations, converged = found.iterations, xp.astype(found.converged, nothing.dtype)
    start, errors = cost.control.moved(v)
    made = {"iterations": [iterations] * fresh, "converged": [converged] * fresh}
    return Update(start, {**cost.extras(wanted), **made}, errors=errors)


def _last(before: Any, climate: xr.DataArray, steps: Any) -> dict[str, float] | None:
    """Give the numbers that were found before, if any; that of B is its mean ratio to this one."""
    if not isinstance(before, FourDVar) or before.open:
        return None
    numbers, given = {"error_factor": float(before.error_factor)}, before.background_covariance
    if "background_covariance" not in steps:
        return numbers
    given = cast("xr.DataArray", given)
    if given.indexes["variable"].tolist() != climate.indexes["variable"].tolist():
        return None
    ratio = np.diagonal(given.values) / np.diagonal(climate.values)
    numbers["background_covariance"] = float(np.exp(np.log(ratio).mean()))
    return {name: numbers[name] for name in steps}
