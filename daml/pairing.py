"""Which schemes, models and trainings go together; errors say why others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.errors import InputError, warn
from daml.labels.arguments import plain
from daml.labels.datasets import ANALYSED
from daml.observing.records import Record
from daml.protocols import Forecast, Observed, Run, Update

if TYPE_CHECKING:
    from daml.protocols import Memory, Model, Scheme, Setting


DIMS = (("time",), ("time", "variable"), ("time", "observed"))
"""The dimensions that an output of a scheme may have."""


def check_scheme(scheme: Scheme, model: Model) -> None:
    """Refuse what is not a scheme, and a scheme that needs more than the model gives.

    Raises
    ------
    InputError
        If a method is missing, an output has a reserved name or other dimensions, or the scheme
        needs a B that the model does not have.
    """
    name = type(scheme).__name__
    if isinstance(scheme, type):
        raise InputError(f"{scheme.__name__} is a class; give an instance: {scheme.__name__}()")
    for needed in ("prepare", "update"):
        if not hasattr(scheme, needed) and not _is_older(scheme):
            raise InputError(
                f"{name} is not a scheme: it has no {needed!r}; give one, e.g. daml.ThreeDVar(B)"
            )
    members = getattr(scheme, "members", None)
    if members is not None and (plain("int", members) is None or members < 2):
        raise InputError(f"{name}: 'members' is {members!r}; give 2 or more, or None")
    for output, (dims, _) in getattr(scheme, "outputs", {}).items():
        if output in ANALYSED or tuple(dims) not in DIMS:
            raise InputError(
                f"{name}: 'outputs' has {output!r} with the dimensions {tuple(dims)}; give a name "
                f"other than {', '.join(ANALYSED)}, and one of the dimensions {DIMS}"
            )
    if asks_covariance(scheme) and not knows_covariance(model):
        raise InputError(
            f"{name}: it asks the model for B, but {type(model).__name__} has no background "
            "covariance of its forecasts; use daml.ThreeDVar('innovations'), or an emulator that "
            "learned a covariance through the cycle"
        )


def asks_covariance(scheme: Scheme) -> bool:
    """Whether a scheme needs the model's own B of each forecast."""
    return "covariance" in getattr(scheme, "needs", ())


def knows_covariance(model: object) -> bool:
    """Whether a model knows the B of each of its forecasts."""
    return hasattr(model, "background_covariance") and getattr(model, "knows_covariance", True)


def check_one_state(scheme: Scheme, what: str) -> None:
    """Refuse a scheme that carries an ensemble; the text begins with ``what``."""
    if getattr(scheme, "members", None) is not None:
        raise InputError(
            f"{what}: {type(scheme).__name__} carries an ensemble, and a scheme of one state is "
            "needed here; give daml.ThreeDVar(B)"
        )


def with_model_covariance(
    scheme: Scheme, variables: tuple[str, ...], what: str
) -> tuple[Scheme, np.ndarray]:
    """Give the scheme with the model's B in place of its own, and its own B (variable, variable).

    Raises
    ------
    InputError
        If the scheme has no B that the model could replace; the message begins with ``what``.
    """
    if not (hasattr(scheme, "by_model") and hasattr(scheme, "given")):
        raise InputError(
            f"{what}: the covariance that the emulator learns replaces the B of the scheme, but "
            f"{type(scheme).__name__} has none; give a daml.ThreeDVar, or covariance=None"
        )
    return scheme.by_model, scheme.given(variables)


def offered(scheme: Scheme, record: Record) -> Scheme:
    """Give a :class:`daml.protocols.Scheme`, also for a scheme written for an older daml.

    Warns
    -----
    DeprecationWarning
        If the scheme has the older methods ``start`` and ``update``.
    """
    if not _is_older(scheme):
        return scheme
    name = type(scheme).__name__
    warn(
        f"{name}: schemes with 'start' are deprecated and work in this release only; write "
        "prepare(self, setting) and update(self, forecast, observed, run, memory), which returns "
        "(daml.protocols.Update(analysis), memory)",
        DeprecationWarning,
    )
    return cast("Scheme", _Older(scheme, record))


def _is_older(scheme: object) -> bool:
    """Whether a scheme has ``start(variables, record)`` and no ``prepare(setting)``."""
    return hasattr(scheme, "start") and hasattr(scheme, "update") and not hasattr(scheme, "prepare")


@dataclass(frozen=True)
class _Older:
    """A scheme whose ``start`` and ``update`` take plain arrays."""

    scheme: Any
    record: Record

    def prepare(self, setting: Setting) -> Memory:
        return self.scheme.start(setting.variables, self.record)

    def update(
        self, forecast: Forecast, observed: Observed, run: Run, memory: Memory
    ) -> tuple[Update, Memory]:
        analysis, memory = self.scheme.update(
            forecast.state, observed.values, observed.pattern, memory
        )
        return Update(analysis), memory
