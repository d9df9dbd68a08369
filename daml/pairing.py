"""What goes together: a scheme and a model, a scheme and a training; and what does not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from daml.errors import InputError, warn
from daml.labels.arguments import plain
from daml.labels.datasets import ANALYSED
from daml.labels.space import PLACING, StateSpace
from daml.observing.records import Record
from daml.protocols import Forecast, Observed, Run, Update

if TYPE_CHECKING:
    from daml.protocols import Memory, Model, Scheme, Setting


DIMS = (("time",), ("time", "variable"), ("time", "observed"))
"""What an output of a scheme may have."""


def check_scheme(scheme: Scheme, model: Model, space: StateSpace) -> None:
    """Refuse what is no scheme, and one that asks the model for what it does not know.

    ``space`` says where the model's variables lie, if they do.

    Raises
    ------
    InputError
        It says what the scheme needs.
    """
    name = type(scheme).__name__
    if isinstance(scheme, type):
        raise InputError(f"{scheme.__name__} is a class; make a scheme: {scheme.__name__}()")
    for needed in ("prepare", "update"):
        if not hasattr(scheme, needed) and not _is_older(scheme):
            raise InputError(
                f"{name} is no scheme: it has no {needed!r}; give one, e.g. daml.ThreeDVar(B)"
            )
    members = getattr(scheme, "members", None)
    if members is not None and (plain("int", members) is None or members < 2):
        raise InputError(f"{name}: 'members' is {members!r}; give 2 or more, or None")
    for output, (dims, _) in getattr(scheme, "outputs", {}).items():
        if output in ANALYSED or tuple(dims) not in DIMS:
            raise InputError(
                f"{name}: its outputs hold {output!r} with the dimensions {tuple(dims)}; give it "
                f"another name than {', '.join(ANALYSED)}, and one of the dimensions {DIMS}"
            )
    if asks_covariance(scheme) and not knows_covariance(model):
        raise InputError(
            f"{name}: it asks the model for B, and {type(model).__name__} gives no background "
            "covariance of its forecasts; use daml.ThreeDVar('innovations'), or an emulator that "
            "learned a covariance through the cycle"
        )
    if "positions" in getattr(scheme, "needs", ()) and space.positions is None:
        raise InputError(
            f"{name}: it weighs observations by their distance, and {type(model).__name__} does "
            f"not say where its variables lie; {PLACING}, or use a scheme without localisation"
        )


def asks_covariance(scheme: Scheme) -> bool:
    """Whether a scheme asks the model for the B of each forecast."""
    return "covariance" in getattr(scheme, "needs", ())


def knows_covariance(model: object) -> bool:
    """Whether a model gives the B of each of its forecasts."""
    return hasattr(model, "background_covariance") and getattr(model, "knows_covariance", True)


def with_model_covariance(
    scheme: Scheme, variables: tuple[str, ...], what: str
) -> tuple[Scheme, np.ndarray]:
    """Give a scheme that takes its B from the model, and the B (variable, variable) that it had.

    Raises
    ------
    InputError
        If it is none that could; the text begins with ``what``.
    """
    if not (hasattr(scheme, "by_model") and hasattr(scheme, "given")):
        raise InputError(
            f"{what}: an emulator that learns a covariance takes the place of the scheme's B, and "
            f"{type(scheme).__name__} has none; give a daml.ThreeDVar, or covariance=None"
        )
    return scheme.by_model, scheme.given(variables)


def offered(scheme: Scheme, record: Record) -> Scheme:
    """Give a scheme as :class:`daml.protocols.Scheme` says, of one written for an older daml too.

    Warns
    -----
    DeprecationWarning
        If the scheme has ``start`` and ``update`` of the older kind.
    """
    if not _is_older(scheme):
        return scheme
    name = type(scheme).__name__
    warn(
        f"{name}: a scheme with 'start' is of an older kind and works in this release only; write "
        "prepare(self, setting) and update(self, forecast, observed, run, memory), which gives "
        "(daml.protocols.Update(analysis), memory)",
        DeprecationWarning,
    )
    return cast("Scheme", _Older(scheme, record))


def _is_older(scheme: object) -> bool:
    """Whether a scheme has ``start(variables, record)`` in place of ``prepare(setting)``."""
    return hasattr(scheme, "start") and hasattr(scheme, "update") and not hasattr(scheme, "prepare")


@dataclass(frozen=True)
class _Older:
    """A scheme with ``start`` and ``update`` on plain arrays."""

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
