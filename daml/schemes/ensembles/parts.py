"""What ensemble schemes share: settings, anomalies, inflation, and what innovations say."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from daml.arrays import member_mean
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.protocols import Forecast, Observed, Outputs, Run, Setting, Update
from daml.schemes.ensembles.rotation import rotated
from daml.schemes.erring import Erring
from daml.schemes.labelled import CHI_SQUARE
from daml.schemes.variational.by_model import OUTPUTS

YOUNG = 80
"""Steps over which inflation falls to its setting: the first ensemble is no better than the nearest
observations, and must not trust itself."""
SILENT = 1e-8
"""Observations whose signal, in units of their errors, has a smaller variance say nothing: neither
does a missing value, which is one of infinite variance."""


@dataclass(frozen=True)
class Ensemble(Erring):
    """Settings that all ensemble schemes have; see :class:`daml.schemes.ETKF`."""

    members: int
    _: KW_ONLY
    inflation: float = 1.0
    rotate: bool = False
    seed: int = 0
    model_error: Any = None

    wide: ClassVar[float] = 1.3
    """Where inflation starts."""
    carries: ClassVar[bool] = True
    """Whether what members carry moves as their states do: weights are the same everywhere."""

    def __post_init__(self) -> None:
        check_fields(self)
        name = type(self).__name__
        if self.members < 2:
            raise InputError(f"{name}: 'members' is {self.members}; give 2 or more")
        if not 0 < self.inflation < np.inf:
            raise InputError(f"{name}: 'inflation' is {self.inflation}; give a factor > 0")
        if self.seed < 0:
            raise InputError(f"{name}: 'seed' is {self.seed}; give 0 or more")

    @property
    def outputs(self) -> Outputs:
        """What an analysis has besides."""
        return {**CHI_SQUARE, "log_likelihood": OUTPUTS["log_likelihood"]}

    def prepare(self, setting: Setting) -> Any:
        """Give H; nothing else is known before a forecast."""
        return setting.operator

    def around(self, mean: Any, anomalies: Any, seen: Any, run: Run) -> Any:
        """Give the members (..., member, variable) of an analysis, inflated and rotated."""
        return mean[..., None, :] + self.rotated(self.inflated(anomalies, seen, run), run)

    def inflated(self, anomalies: Any, seen: Any, run: Run) -> Any:
        """Multiply the anomalies of an analysis; more so while the ensemble finds the state.

        ``seen`` (..., member, observed) says which ensembles saw anything: without observations
        there is nothing to inflate for.
        """
        xp = array_namespace(seen)
        young = max(0.0, 1 - run.age / YOUNG)
        factor = self.inflation + max(self.wide - self.inflation, 0.0) * young
        informed = xp.astype(xp.sum(seen**2, axis=(-2, -1)) > SILENT, anomalies.dtype)
        return anomalies * (1 + (factor - 1) * informed)[..., None, None]

    def rotated(self, anomalies: Any, run: Run) -> Any:
        """Turn anomalies (..., member, variable) at random, where asked for."""
        return rotated(anomalies, self.seed, run.step) if self.rotate else anomalies


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
    def of(cls, forecast: Forecast, observed: Observed, operator: Any) -> Seen:
        """Compare a forecast with the observations of its time."""
        x = forecast.state
        xp = array_namespace(x)
        members, moved = x.shape[-2], x
        if forecast.carried is not None:
            moved = xp.concat((x, forecast.carried), axis=-1)
        mean = member_mean(moved)[..., None, :]
        equivalent = operator.apply(x)
        centre = member_mean(equivalent)[..., None, :]
        noise, pattern = observed.noise, observed.pattern
        both = xp.concat((equivalent - centre, observed.values[..., None, :] - centre), axis=-2)
        white = noise.whitened(both, pattern)
        return cls(
            mean[..., 0, :],
            moved - mean,
            white[..., :members, :] / (members - 1) ** 0.5,
            white[..., members, :],
            noise.log_deviation(pattern),
        )

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
    xp = array_namespace(square)
    counts = xp.sum(xp.astype(observed.present, square.dtype), axis=-1)
    return {"chi_square": square / xp.where(counts > 0, counts, np.nan)}
