"""How the anomalies of an ensemble are widened after an analysis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import xarray as xr

from daml.arrays import alike, namespace
from daml.covariances.dense import check
from daml.errors import InputError, StoreError
from daml.labels.arguments import plain, shown
from daml.labels.datasets import check_dtype, check_names, named, names
from daml.protocols import Run, Setting
from daml.randomness import Stream, normal, ranks
from daml.stores.opening import check_whole

INNOVATIONS = "innovations"
"""What stands for a number that is to be found from innovations."""
FACTORS = 0.95, 1.0, 1.01, 1.02, 1.04, 1.07, 1.11, 1.17, 1.25, 1.4, 1.6, 2.0
WEIGHTS = 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0
SCALES = tuple(10.0 ** (power / 3) for power in range(-15, 4))
"""Factors, weights and scales that are tried where they are to be found."""


class Inflation(Protocol):
    """A rule that widens the anomalies of an analysis."""

    by_member: ClassVar[bool]
    """Whether each member of the analysis is compared with its own background."""
    steps: ClassVar[tuple[float, ...]]
    """Numbers among which the best one is searched for, where the rule leaves its own open."""

    @property
    def number(self) -> float | str:
        """The factor, weight or scale of the rule; "innovations" while it is open."""
        ...

    def at(self, number: float) -> Inflation:
        """Give the same rule with another number."""
        ...

    def prepare(self, setting: Setting, owner: str) -> Any:
        """Give what it needs of a record before a cycle."""
        ...

    def widened(self, anomalies: Any, background: Any, run: Run, seed: int, known: Any) -> Any:
        """Widen anomalies (..., member, variable) of an analysis.

        ``background`` are those of the background; ``known`` is what ``prepare`` gave.
        """
        ...


@dataclass(frozen=True)
class Factor:
    """Multiplication by a factor."""

    number: float | str = 1.0

    by_member: ClassVar[bool] = False
    steps: ClassVar[tuple[float, ...]] = FACTORS

    def at(self, number: float) -> Factor:
        """Give it with another factor."""
        return Factor(number)

    def prepare(self, setting: Setting, owner: str) -> None:
        """Prepare nothing."""

    def widened(self, anomalies: Any, background: Any, run: Run, seed: int, known: Any) -> Any:
        """Leave it to the ensemble, which begins with a larger factor."""
        return anomalies


@dataclass(frozen=True)
class RTPP:
    """Relaxation to prior perturbations (RTPP), a rule of inflation.

    The anomalies A of each member become A = (1 - weight) Aa + weight Ab, where Aa are those of
    the analysis and Ab those of the background.

    Parameters
    ----------
    weight : float or "innovations"
        Weight of the background's anomalies, from 0 (no inflation) to 1. "innovations":
        :func:`daml.tuned` and each pass of :func:`daml.improve` estimate the weight.

    Raises
    ------
    InputError
        If the weight is not between 0 and 1.

    References
    ----------
    Zhang, F., Snyder, C. and Sun, J. (2004): Impacts of initial estimate and observation
    availability on convective-scale data assimilation with an ensemble Kalman filter. Mon. Wea.
    Rev. 132, 1238-1253.

    Examples
    --------
    >>> import daml
    >>> daml.schemes.ETKF(members=12, inflation=daml.schemes.RTPP(0.3)).inflation
    RTPP(weight=0.3)
    """

    weight: float | str

    by_member: ClassVar[bool] = True
    steps: ClassVar[tuple[float, ...]] = WEIGHTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _within("RTPP: 'weight'", self.weight, 0.0, 1.0))

    @property
    def number(self) -> float | str:
        """The weight."""
        return self.weight

    def at(self, number: float) -> RTPP:
        """Give the rule with another weight."""
        return replace(self, weight=number)

    def prepare(self, setting: Setting, owner: str) -> None:
        """Prepare nothing."""

    def widened(self, anomalies: Any, background: Any, run: Run, seed: int, known: Any) -> Any:
        """Move the anomalies of an analysis towards those of its background."""
        return anomalies + float(self.weight) * (background - anomalies)


@dataclass(frozen=True)
class RTPS:
    """Relaxation to prior spread (RTPS), a rule of inflation.

    The anomalies of each variable are multiplied by 1 + weight (sb - sa) / sa, where sa and sb are
    its standard deviations over the members of the analysis and of the background.

    Parameters
    ----------
    weight : float or "innovations"
        Weight from 0 (no inflation) to 2; with 1 the analysis gets the spread of the background.
        "innovations": :func:`daml.tuned` and each pass of :func:`daml.improve` estimate the weight.

    Raises
    ------
    InputError
        If the weight is not between 0 and 2.

    References
    ----------
    Whitaker, J. S. and Hamill, T. M. (2012): Evaluating methods to account for system errors in
    ensemble data assimilation. Mon. Wea. Rev. 140, 3078-3089.

    Examples
    --------
    >>> import daml
    >>> daml.schemes.ETKF(members=12, inflation=daml.schemes.RTPS(0.5)).inflation
    RTPS(weight=0.5)
    """

    weight: float | str

    by_member: ClassVar[bool] = False
    steps: ClassVar[tuple[float, ...]] = (*WEIGHTS, 1.2)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _within("RTPS: 'weight'", self.weight, 0.0, 2.0))

    @property
    def number(self) -> float | str:
        """The weight."""
        return self.weight

    def at(self, number: float) -> RTPS:
        """Give the rule with another weight."""
        return replace(self, weight=number)

    def prepare(self, setting: Setting, owner: str) -> None:
        """Prepare nothing."""

    def widened(self, anomalies: Any, background: Any, run: Run, seed: int, known: Any) -> Any:
        """Multiply the anomalies of each variable."""
        xp = namespace(anomalies)
        own = xp.sum(anomalies**2, axis=-2, keepdims=True)
        before = xp.sum(background**2, axis=-2, keepdims=True)
        ratio = xp.sqrt(before / xp.where(own > 0, own, before + 1))
        return anomalies * (1 + float(self.weight) * (ratio - 1))


@dataclass(frozen=True)
class Additive:
    """Additive inflation: random noise is added to each member after each analysis.

    The noise represents model errors in directions in which the ensemble has no spread. It does not
    change the mean of the members, and on average it increases their covariance by its own.

    Parameters
    ----------
    covariance : xarray.DataArray
        Covariance of the noise, in units of the variables squared: a matrix (variable, covariable);
        variances (variable,) of noise without correlations; or a square root L (variable, mode) of
        the covariance L L', whose second dimension may have any name. In the last two cases no
        matrix of all variables is formed.
    scale : float or "innovations"
        Factor on the covariance. "innovations": :func:`daml.tuned` and each pass of
        :func:`daml.improve` estimate the factor.

    Raises
    ------
    InputError
        If the covariance or the scale is not valid. :func:`daml.assimilate` raises it if the
        covariance lacks a variable of the model.

    References
    ----------
    Mitchell, H. L. and Houtekamer, P. L. (2000): An adaptive ensemble Kalman filter. Mon. Wea. Rev.
    128, 416-433. Whitaker, J. S. and Hamill, T. M. (2012): Evaluating methods to account for system
    errors in ensemble data assimilation. Mon. Wea. Rev. 140, 3078-3089.

    Examples
    --------
    >>> import daml
    >>> run = daml.simulate(daml.Lorenz63(), steps=1000, spinup=500)
    >>> noise = daml.schemes.Additive(daml.climatological(run), scale=0.001)
    >>> daml.schemes.ETKF(members=12, inflation=noise).inflation.scale
    0.001
    """

    covariance: xr.DataArray
    scale: float | str = 1.0

    by_member: ClassVar[bool] = False
    steps: ClassVar[tuple[float, ...]] = SCALES

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _within("Additive: 'scale'", self.scale, 0.0, np.inf))
        given = self.covariance
        if not isinstance(given, xr.DataArray) or "variable" not in given.dims or given.ndim > 2:
            dims = f" {given.dims}" if isinstance(given, xr.DataArray) else ""
            raise InputError(
                f"Additive: 'covariance' is {shown(given)}{dims}; give an xarray.DataArray: B "
                "(variable, covariable), variances (variable,), or a root (variable, mode)"
            )
        check_names(given, "covariance")
        self._root(names(given), "Additive")

    @property
    def number(self) -> float | str:
        """The scale."""
        return self.scale

    def at(self, number: float) -> Additive:
        """Give the rule with another scale."""
        return replace(self, scale=number)

    def prepare(self, setting: Setting, owner: str) -> tuple[np.ndarray, np.ndarray]:
        """Give the root of the covariance, and which of the random numbers it multiplies."""
        root = self._root(setting.variables, f"{owner}: Additive")
        known = ranks(setting.variables) if self._is_square else np.arange(root.shape[-1])
        return root * float(self.scale) ** 0.5, known

    def widened(self, anomalies: Any, background: Any, run: Run, seed: int, known: Any) -> Any:
        """Add noise to each member, drawn anew at each model step."""
        root, places = known
        shape = anomalies.shape[-2], len(places)
        drawn = normal(seed, run.step, shape, Stream.INFLATION)[..., places]
        drawn -= drawn.mean(axis=-2, keepdims=True)
        noise = drawn * root if root.ndim == 1 else drawn @ root.T
        return anomalies + alike(noise, anomalies)

    @property
    def _is_square(self) -> bool:
        """Whether one number is drawn for each variable."""
        return self.covariance.ndim == 1 or "covariable" in self.covariance.dims

    def _root(self, variables: tuple[str, ...], what: str) -> np.ndarray:
        """Give standard deviations (variable,), or a root (variable, mode) of B."""
        if "covariable" in self.covariance.dims:
            matrix = check(self.covariance, variables, f"{what}: 'covariance'")
            values, vectors = np.linalg.eigh(matrix)
            # The symmetric root, which turns with the order of the variables.
            return np.asarray((vectors * np.sqrt(values)) @ vectors.T)
        given = named(self.covariance)
        lacking = [name for name in variables if name not in given.indexes["variable"]]
        if lacking:
            raise InputError(
                f"{what}: 'covariance' lacks the variable {lacking[0]!r} (it has {names(given)}); "
                f"give it for {variables}"
            )
        ordered = given.sel(variable=list(variables)).transpose("variable", ...)
        check_dtype(ordered, "covariance")
        values = np.asarray(ordered.values, dtype=np.float64)
        wrong = ~np.isfinite(values) | (values < 0 if values.ndim == 1 else False)
        if wrong.any():
            raise InputError(
                f"{what}: 'covariance' of {variables[int(np.argwhere(wrong)[0][0])]!r} is negative "
                "or not finite; give variances >= 0"
            )
        return np.sqrt(values) if values.ndim == 1 else values


KINDS = {"factor": Factor, "RTPP": RTPP, "RTPS": RTPS, "Additive": Additive}
LEAST, MOST = 0.5, 3.0
"""Factors on anomalies that are accepted."""


def rule_of(given: Any, owner: str) -> Inflation:
    """Give the rule that an argument ``inflation`` stands for.

    Raises
    ------
    InputError
        If it is no factor within the usual range, no word and no rule.
    """
    if isinstance(given, RTPP | RTPS | Additive):
        return given
    return Factor(_within(f"{owner}: 'inflation'", given, LEAST, MOST))


def stored(inflation: Inflation) -> dict[str, xr.DataArray]:
    """Give a rule as variables of a Dataset."""
    kind = next(name for name, kind in KINDS.items() if type(inflation) is kind)
    attrs = {"long_name": "inflation", "units": "1", "kind": kind}
    found = {"inflation": xr.DataArray(float(inflation.number), attrs=attrs)}
    if isinstance(inflation, Additive):
        found["additive_covariance"] = inflation.covariance
    return found


def restored(dataset: xr.Dataset) -> float | RTPP | RTPS | Additive:
    """Give the argument ``inflation`` of what :func:`stored` gave.

    Raises
    ------
    StoreError
        If a variable is missing or damaged.
    """
    where = "the scheme that was kept"
    check_whole(dataset, ("inflation",), where)
    number, kind = float(dataset["inflation"]), dataset["inflation"].attrs.get("kind")
    if kind not in KINDS:
        raise StoreError(f"{where} has the inflation {kind!r}, which is not one of {tuple(KINDS)}")
    if kind == "factor":
        return number
    if kind != "Additive":
        return cast("RTPP | RTPS", KINDS[kind](number))
    check_whole(dataset, ("additive_covariance",), where)
    return Additive(dataset["additive_covariance"], number)


def _within(what: str, value: Any, least: float, most: float) -> float | str:
    """Give a number in a range, or the word for one that is to be found."""
    if isinstance(value, str) and value == INNOVATIONS:
        return value
    number = plain("float", value)
    if number is None or not least <= number <= most or np.isinf(number):
        wide = f">= {least:g}" if np.isinf(most) else f"from {least:g} to {most:g}"
        others = (
            ", or RTPS, RTPP or Additive of daml.schemes; a factor on variances is its square"
            if "inflation" in what
            else ""
        )
        raise InputError(
            f"{what} is {shown(value)}; give a number {wide}, or {INNOVATIONS!r} to estimate it"
            f"{others}"
        )
    return cast("float", number)
