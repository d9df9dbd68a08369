"""What ensemble schemes share: settings, anomalies, inflation, and what innovations say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import xarray as xr

from daml.arrays import alike, member_mean, namespace
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.protocols import (
    Forecast,
    Observed,
    Outputs,
    Run,
    Scheme,
    Setting,
    Trial,
    Update,
)
from daml.schemes.ensembles.inflation import (
    RTPP,
    RTPS,
    Additive,
    Factor,
    Inflation,
    restored,
    rule_of,
    stored,
)
from daml.schemes.ensembles.open_inflation import LEAST, most_likely
from daml.schemes.ensembles.rotation import turns
from daml.schemes.erring import Erring
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.variational.by_model import OUTPUTS

YOUNG = 80
"""Steps over which inflation falls to its setting, more where observations are rare: the first
ensemble is no better than the nearest observations, and must not trust itself."""
SILENT = 1e-8
"""Observations whose signal, in units of their errors, has a smaller variance say nothing: neither
does a missing value, which is one of infinite variance."""
ERROR_FACTORS = tuple(2.0 ** (power / 2) for power in range(-5, 6))
"""Factors on R among which the best one is searched for."""


class Prepared(NamedTuple):
    """What an ensemble scheme knows before a cycle."""

    deviation: np.ndarray
    """Standard deviations (variable,) of a first ensemble."""
    inflating: Any
    """What its rule of inflation needs."""
    own: Any
    """What the scheme itself needs."""


@dataclass(frozen=True)
class Ensemble(Erring):
    """Settings that all ensemble schemes have; see :class:`daml.schemes.ETKF`."""

    members: int
    _: KW_ONLY
    inflation: float | str | RTPP | RTPS | Additive = 1.0
    rotate: bool = False
    seed: int = 0
    error_factor: float | str = 1.0
    model_error: Any = None
    drawn: bool = True

    wide: ClassVar[float] = 1.3
    """Where inflation starts."""
    carries: ClassVar[bool] = True
    """Whether what members carry moves as their states do: weights are the same everywhere."""

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        if self.members < 2:
            raise InputError(f"{name}: 'members' is {self.members}; give 2 or more")
        rule = rule_of(self.inflation, name)
        if isinstance(rule, Factor):
            object.__setattr__(self, "inflation", rule.number)
        if self.seed < 0:
            raise InputError(f"{name}: 'seed' is {self.seed}; give 0 or more")
        factor = self.error_factor
        if factor != "estimated" and (isinstance(factor, str) or not 0 < factor < np.inf):
            raise InputError(
                f"{name}: 'error_factor' is {factor!r}; give a factor > 0, or 'estimated'"
            )

    @property
    def outputs(self) -> Outputs:
        """The further variables of an analysis; see :class:`daml.protocols.Scheme`."""
        return {**CHI_SQUARE, "log_likelihood": OUTPUTS["log_likelihood"]}

    @property
    def rule(self) -> Inflation:
        """The rule of inflation."""
        return rule_of(self.inflation, type(self).__name__)

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the settings still to be estimated from innovations; empty if there are none."""
        return self._sought()

    def tuned(self, trial: Trial, before: Scheme | None = None) -> Self:
        """Give the scheme with the inflation and the factor on R estimated from innovations.

        See :func:`daml.tuned`.
        """
        sought = self._sought()
        if not sought:
            return self
        last: dict[str, Any] | None = None
        if isinstance(before, type(self)) and type(before.rule) is type(self.rule):
            last = None if before._sought() else before._numbers()
        steps = self._steps()
        found = most_likely(trial, self._with, {name: steps[name] for name in sought}, last)
        return self._with(found)

    def values_needed(
        self, observations: xr.Dataset, variables: tuple[str, ...], knows_covariance: bool
    ) -> tuple[int, str] | None:
        """Give the number of values per observed quantity that tuning needs, and its purpose."""
        sought = self._sought()
        return (LEAST, f"to find {' and '.join(map(repr, sought))}") if sought else None

    def _sought(self) -> tuple[str, ...]:
        """Give the names of the numbers that are still to be found."""
        return tuple(name for name, number in self._numbers().items() if isinstance(number, str))

    def _numbers(self) -> dict[str, Any]:
        """Give the numbers that may be open, by name."""
        return {"inflation": self.rule.number, "error_factor": self.error_factor}

    def _steps(self) -> dict[str, tuple[float, ...]]:
        """Give, for each number that may be open, those that are tried."""
        return {"inflation": self.rule.steps, "error_factor": ERROR_FACTORS}

    def _with(self, numbers: Mapping[str, float]) -> Self:
        """Give the scheme with numbers for what is open."""
        changed: dict[str, Any] = dict(numbers)
        if "inflation" in changed:
            rule = self.rule.at(changed["inflation"])
            changed["inflation"] = rule.number if isinstance(rule, Factor) else rule
        return replace(self, **changed)

    def to_dataset(self) -> xr.Dataset:
        """Give the inflation, the factor on R and the model error as a Dataset for a store."""
        attrs = {"long_name": "factor on the error covariance R", "units": "1"}
        factor = xr.DataArray(float(self.error_factor), attrs=attrs)
        own = {"error_factor": factor, **stored(self.rule)}
        return super().to_dataset().assign(own)

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give this scheme with what ``to_dataset`` stored.

        Raises
        ------
        StoreError
            If a variable is missing or damaged.
        """
        inflation = restored(dataset)
        factor = float(dataset["error_factor"])
        return replace(super().restored(dataset), inflation=inflation, error_factor=factor)

    def prepare(self, setting: Setting) -> Prepared:
        """Give what inflation and the scheme itself need before a forecast."""
        name = type(self).__name__
        if self.open:
            raise InputError(
                f"{name}: {self.open[0]!r} is not estimated yet; estimate it: "
                "scheme, analysis = daml.tuned(scheme, model, observations)"
            )
        inflating, known = self.rule.prepare(setting, name), self.known(setting)
        first = np.full(len(setting.variables), np.inf)  # not known outside a cycle
        if setting.deviation is not None:
            first = setting.deviation()
        return Prepared(first, inflating, known)

    def known(self, setting: Setting) -> Any:
        """Give what the scheme itself needs before a forecast."""
        return None

    def seen(self, forecast: Forecast, observed: Observed) -> Seen:
        """Compare a forecast with the observations of its time."""
        return Seen.of(forecast, observed, float(self.error_factor))

    def around(
        self,
        mean: Any,
        anomalies: Any,
        part: Seen,
        run: Run,
        memory: Prepared,
        signal: Any = None,
        turned: bool = False,
    ) -> Any:
        """Give the members (..., member, variable) of an analysis, inflated and rotated.

        ``signal`` (..., variable) is the sum of squares of what each variable's own observations
        see, where they are not the same for all; ``turned`` says that anomalies are rotated.
        """
        if signal is None:
            signal = part.signal
        wide = self.inflated(anomalies, signal > SILENT, part, run, memory)
        if self.rotate and not turned:
            among = namespace(signal).any(signal > SILENT, axis=-1)
            wide = turns(self.seed, run.step, wide, among) @ wide
        return mean[..., None, :] + wide

    def _apart(self, anomalies: Any, informed: Any, part: Seen, memory: Prepared) -> Any:
        """Give the anomalies of states, those of what members carry, and the part of the states.

        What is carried is multiplied by a constant inflation, and by nothing else.
        """
        xp, size = namespace(part.seen), len(memory.deviation)
        if anomalies.shape[-1] == size:
            return anomalies, None, part
        least = self.inflation if isinstance(self.inflation, float) else 1.0
        factor = 1 + (least - 1) * xp.astype(informed, anomalies.dtype)
        carried = anomalies[..., size:] * factor[..., None, :]
        return anomalies[..., :size], carried, part._replace(anomalies=part.anomalies[..., :size])

    def inflated(
        self, anomalies: Any, informed: Any, part: Seen, run: Run, memory: Prepared
    ) -> Any:
        """Widen the anomalies of an analysis; more so while the ensemble finds the state.

        Only where something is observed, ``informed`` (..., variable): elsewhere there is nothing
        to inflate for. What is added at a start makes no ensemble wider than the first one.
        """
        xp = namespace(part.seen)
        anomalies, carried, part = self._apart(anomalies, informed, part, memory)
        least = 1.0
        if isinstance(self.inflation, float):
            least = self.inflation
        else:
            wide = self.rule.widened(*(anomalies, part.anomalies, run, self.seed, memory.inflating))
            anomalies = xp.where(informed[..., None, :], wide, anomalies)
        young = max(0.0, 1 - run.age / (YOUNG * run.pace)) * max(self.wide - least, 0.0)
        factor = 1 + (least - 1) * xp.astype(informed, anomalies.dtype)
        if young:
            # How far a start is trusted is no part of what a training changes.
            fixed = anomalies.detach() if hasattr(anomalies, "detach") else anomalies
            variance = member_mean(fixed**2) * (self.members / (self.members - 1))
            first = alike(memory.deviation, anomalies)
            room = first / xp.sqrt(xp.where(variance > 0, variance, 1.0))
            grown = xp.clip(room, factor, factor + young)
            factor = xp.where(informed, grown, factor)
        anomalies = anomalies * factor[..., None, :]
        return anomalies if carried is None else xp.concat((anomalies, carried), axis=-1)


class Seen(NamedTuple):
    """An ensemble, and what the observations see of it in units of their errors."""

    mean: Any
    """(..., variable), and of what members carry besides."""
    anomalies: Any
    """(..., member, variable), and of what members carry besides."""
    seen: Any
    """Anomalies of R^(-1/2) H(x) (..., member, observed), by the root of (members - 1)."""
    innovation: Any
    """R^(-1/2) (y - mean of H(x)) (..., observed)."""
    width: Any
    """Log of the root of the determinant of R (...)."""

    @classmethod
    def of(cls, forecast: Forecast, observed: Observed, error_factor: float = 1.0) -> Seen:
        """Compare a forecast with the observations of its time, with a factor on their R."""
        x = forecast.state
        xp = namespace(x)
        members, moved = x.shape[-2], x
        if forecast.carried is not None:
            moved = xp.concat((x, forecast.carried), axis=-1)
        mean = member_mean(moved)[..., None, :]
        equivalent = observed.operator.apply(x)
        centre = member_mean(equivalent)[..., None, :]
        both = xp.concat((equivalent - centre, observed.values[..., None, :] - centre), axis=-2)
        white, width = observed.whitened(both), observed.log_deviation
        if error_factor != 1:
            white = white / error_factor**0.5
            counts = xp.sum(xp.astype(observed.present, x.dtype), axis=-1)
            width = width + counts * float(np.log(error_factor)) / 2
        return cls(
            mean[..., 0, :],
            moved - mean,
            white[..., :members, :] / (members - 1) ** 0.5,
            white[..., members, :],
            width,
        )

    @property
    def signal(self) -> Any:
        """The sum of squares (..., 1) of what is seen."""
        xp = namespace(self.seen)
        flat = xp.reshape(self.seen, (*self.width.shape, 1, -1))
        return xp.vecdot(flat, flat)

    def extras(self, observed: Observed, square: Any, log_determinant: Any) -> dict[str, Any]:
        """Give the outputs of d' S^-1 d, and the log of the determinant of R^(-1/2) S R^(-1/2)."""
        likelihood = -(square + log_determinant) / 2 - self.width
        return {**chi_square(observed, square), "log_likelihood": likelihood}


def analysed(forecast: Forecast, members: Any, extras: dict[str, Any]) -> Update:
    """Give the update of members (..., member, variable), and what they carry behind."""
    if forecast.carried is None:
        return Update(members, extras)
    size = forecast.state.shape[-1]
    return Update(members[..., :size], extras, carried=members[..., size:])


def chi_square(observed: Observed, square: Any) -> dict[str, Any]:
    """Give the output of squared innovations in units of their expected covariance."""
    xp = namespace(square)
    counts = xp.sum(xp.astype(observed.present, square.dtype), axis=-1)
    return {"chi_square": square / xp.where(counts > 0, counts, np.nan)}
