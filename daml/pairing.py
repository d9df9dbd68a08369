"""Which schemes, models and trainings go together; errors say why others do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

from daml.arrays import home
from daml.covariances.model_error import model_error
from daml.errors import InputError, name_of, warn
from daml.labels.arguments import plain, shown
from daml.labels.datasets import ANALYSED, MEMBERS
from daml.labels.space import PLACING, StateSpace
from daml.observing.records import Record
from daml.protocols import Forecast, Observed, Run, Update

if TYPE_CHECKING:
    from daml.observing.functions import Through
    from daml.protocols import Memory, Model, ObservationOperator, Scheme, Setting, Windowed


DIMS = (("time",), ("time", "variable"), ("time", "observed"))
"""The dimensions that an output of a scheme may have."""
NEEDS = {
    "covariance": "its B",
    "gradient": "gradient",
    "memoryless": "no memory",
    "model_error": "its Q, if it has one",
    "positions": "positions",
    "tensors": "steps by torch",
}
"""What a scheme may need of a model, and how a table says it."""


def sized(scheme: Scheme, model: Model) -> Scheme:
    """Give a scheme for the variables of a model, whose number may decide its members."""
    own = getattr(scheme, "sized", None)
    return scheme if own is None or isinstance(scheme, type) else own(tuple(model.variables))


def certain(model: Model) -> Model:
    """Give a model without the noise that a stochastic one adds: a scheme adds that."""
    return cast("Model", getattr(model, "certain", model))


def check_scheme(
    scheme: Scheme, model: Model, space: StateSpace, remembers: Callable[[], bool]
) -> None:
    """Refuse what is not a scheme, and a scheme that needs more than the model gives.

    ``space`` says where the model's variables lie, if they do; ``remembers`` finds out whether a
    memory of past states decides its steps.

    Raises
    ------
    InputError
        If a method is missing, an output has a reserved name or other dimensions, the scheme needs
        what the model does not have, or there is a model error that is no covariance.
    """
    name = type(scheme).__name__
    if isinstance(scheme, type):
        raise InputError(f"{scheme.__name__} is a class; give an instance: {scheme.__name__}()")
    for needed in ("prepare", "update"):
        if not callable(getattr(scheme, needed, None)) and not _is_older(scheme):
            raise InputError(
                f"{name} is not a scheme: it has no method {needed!r}; give one, e.g. "
                "daml.ThreeDVar(B)"
            )
    members = getattr(scheme, "members", None)
    if members is not None and (plain("int", members) is None or members < 2):
        raise InputError(f"{name}: 'members' is {members!r}; give 2 or more, or None")
    _check_window(scheme, name)
    _check_outputs(scheme, name)
    needs: Any = getattr(scheme, "needs", frozenset())
    given = isinstance(needs, (frozenset, set, tuple, list))
    unknown = sorted(map(repr, set(needs) - set(NEEDS))) if given else [shown(needs)]
    if unknown:
        raise InputError(
            f"{name}: 'needs' {'holds' if given else 'is'} {unknown[0]}; give a set of these "
            f"words, or leave it out: {', '.join(map(repr, NEEDS))}"
        )
    if asks_covariance(scheme) and not knows_covariance(model):
        raise InputError(
            f"{name}: it asks the model for B, but {name_of(model)} has no background "
            "covariance of its forecasts; use daml.ThreeDVar('innovations'), or an emulator that "
            "learned a covariance through the cycle"
        )
    if "positions" in getattr(scheme, "needs", ()) and space.positions is None:
        apart = hasattr(model, "template")  # fields that share their space would have positions
        why = " (the fields of its template have different dimensions)" if apart else ""
        raise InputError(
            f"{name}: it weighs observations by their distance, and {name_of(model)} does "
            f"not say where its variables lie{why}; {PLACING}, or use a scheme without localisation"
        )
    check_memory(scheme, model, remembers)
    if "tensors" in needs and not takes_tensors(model):
        raise InputError(
            f"{name}: it differentiates a run of the model by torch, and {name_of(model)} "
            "steps NumPy arrays; if its step takes torch tensors, too, let it say so: arrays = "
            "('numpy', 'torch'); otherwise give method='exact', or an ensemble, e.g. "
            "daml.schemes.ETKF(20)"
        )
    model_error(scheme, model)


def takes_tensors(model: object) -> bool:
    """Whether a model steps torch tensors: its ``arrays`` say so, or it names a device."""
    return "torch" in getattr(model, "arrays", ()) or home(cast("Model", model)) is not None


def has_window(scheme: Scheme) -> TypeGuard[Windowed]:
    """Whether a scheme analyses some times together."""
    return getattr(scheme, "window", None) is not None


def _check_window(scheme: Scheme, name: str) -> None:
    """Refuse a window or a shift that is no number of model steps, and a shift past the window."""
    if not has_window(scheme):
        return
    given: Any = scheme.window, getattr(scheme, "shift", None)
    for what, steps in zip(("window", "shift"), given, strict=True):
        if plain("int", steps) is None or steps < 1:
            raise InputError(f"{name}: {what!r} is {steps!r}; give 1 model step or more")
    if scheme.shift > scheme.window:
        raise InputError(
            f"{name}: 'shift' is {scheme.shift} model steps, and 'window' {scheme.window}: the "
            "steps between two windows would be in none; give a shift of at most the window"
        )


def check_memory(scheme: Scheme, model: object, remembers: Callable[[], bool]) -> None:
    """Refuse a model with a memory for a scheme whose covariance is of the state alone.

    Where the scheme needs the gradient of a window, torch takes it through the memory.
    """
    needs, name = getattr(scheme, "needs", ()), type(scheme).__name__
    through = "gradient" in needs and has_window(scheme) and not takes_tensors(model)
    if through and remembers():
        raise InputError(
            f"{name}: {name_of(model)} steps NumPy arrays and has a memory of the states "
            "before, through which no gradient passes; use an ensemble, e.g. "
            "daml.schemes.IEnKS(members=20, window=4), or a model whose step depends on the state "
            "alone"
        )
    if "memoryless" in needs and remembers():
        raise InputError(
            f"{name}: {name_of(model)} has a memory of the states before, which is no part "
            f"of the covariance that {name} carries; use an ensemble, e.g. daml.schemes.ETKF(20), "
            "or a model whose step depends on the state alone"
        )


def _check_outputs(scheme: Scheme, name: str) -> None:
    """Refuse outputs that could not be variables of an analysis."""
    outputs = getattr(scheme, "outputs", {})
    taken = (*ANALYSED, *MEMBERS, "time", "variable", "observed", "member")
    if not isinstance(outputs, Mapping):
        raise InputError(
            f"{name}: 'outputs' is {shown(outputs)}; give a mapping of names to dimensions "
            "and attributes: {'spread': (('time', 'variable'), {'units': '1'})}"
        )
    for output, pair in outputs.items():
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], Mapping):
            raise InputError(
                f"{name}: 'outputs' holds {output!r} with {shown(pair)}; give a pair of "
                "dimensions and attributes: (('time', 'variable'), {'units': '1'})"
            )
        dims = pair[0] if isinstance(pair[0], str) else tuple(pair[0])
        if not isinstance(output, str) or output in taken or dims not in DIMS:
            raise InputError(
                f"{name}: 'outputs' holds {output!r} with the dimensions {dims!r}; give it "
                f"another name than {', '.join(taken)}, and one of the dimensions {DIMS}"
            )


def asks_covariance(scheme: Scheme) -> bool:
    """Whether a scheme needs the model's own B of each forecast."""
    return "covariance" in getattr(scheme, "needs", ())


def knows_covariance(model: object) -> bool:
    """Whether a model knows the B of each of its forecasts."""
    return hasattr(model, "background_covariance") and getattr(model, "knows_covariance", True)


def check_one_state(scheme: Scheme, what: str) -> None:
    """Refuse a scheme that carries an ensemble, or has a window; the text begins with ``what``."""
    if has_window(scheme):
        raise InputError(
            f"{what}: {type(scheme).__name__} analyses windows, in which a model steps, and there "
            "is no model here; use daml.assimilate, or daml.ThreeDVar(B)"
        )
    if getattr(scheme, "members", None) is not None:
        raise InputError(
            f"{what}: {type(scheme).__name__} carries an ensemble, and a scheme of one state is "
            "needed here; give daml.ThreeDVar(B)"
        )


def check_linear(operator: ObservationOperator | Through, what: str) -> None:
    """Refuse an H that is no matrix where B is found; the text begins with ``what``."""
    if operator.changes:
        raise InputError(
            f"{what}: B is estimated with a matrix H, and the places of the observations "
            "change in time; give a B, daml.ThreeDVar(daml.climatological(run, "
            "max_variance=2)), an ensemble scheme, e.g. daml.schemes.ETKF(20), or fixed "
            "places: daml.from_points(..., moving=False)"
        )
    if not operator.linear:
        raise InputError(
            f"{what}: B is estimated with a matrix H, and 'operator' is not linear; give a B, "
            "daml.ThreeDVar(daml.climatological(run, max_variance=2)), or an ensemble scheme, "
            "e.g. daml.schemes.ETKF(20)"
        )


def check_lag(lag: int | None, total: int, scheme: Scheme, what: str) -> int:
    """Give the lag of a smoother in a record of ``total`` steps; None takes all that follow.

    Raises
    ------
    InputError
        If it reaches beyond the record, or the scheme has one state; it begins with ``what``.
    """
    check_smoothed(scheme, what)
    most = total - 1
    if lag is not None and lag > most:
        raise InputError(
            f"{what}: 'lag' is {lag}, and the record has {total} steps; give a smaller one, or "
            "None for all that follow"
        )
    return most if lag is None else lag


def check_smoothed(scheme: Scheme, what: str) -> None:
    """Refuse a scheme that carries no covariance of its errors; the text begins with ``what``."""
    if has_window(scheme):
        raise InputError(
            f"{what}: {type(scheme).__name__} analyses windows, whose later observations count for "
            "earlier times already; use daml.assimilate with a longer window, or a filter, e.g. "
            "daml.schemes.ETKF(members=20)"
        )
    if getattr(scheme, "gives_deviations", False):
        return
    if getattr(scheme, "members", None) is not None:
        check_members(scheme, what)
    else:
        raise InputError(
            f"{what}: {type(scheme).__name__} has one state and carries no covariance from "
            "time to time; give an ensemble, e.g. daml.schemes.ETKF(members=20)"
        )


def check_members(scheme: Scheme, what: str) -> None:
    """Refuse a scheme of one state where members are needed; the text begins with ``what``."""
    if getattr(scheme, "members", None) is None:
        raise InputError(
            f"{what}: {type(scheme).__name__} has one state and no members; give a scheme with "
            "an ensemble, e.g. daml.schemes.ETKF(members=20), or do not ask for members"
        )
    if getattr(scheme, "weighs", False):
        raise InputError(
            f"{what}: the members of {type(scheme).__name__} have different weights, and "
            "members with equal weights are needed here; give e.g. "
            "daml.schemes.ETKF(members=20), or do not ask for members"
        )


def with_model_covariance(
    scheme: Scheme, what: str
) -> tuple[Scheme, Callable[[tuple[str, ...]], np.ndarray]]:
    """Give the scheme with the model's B in place of its own, and what gives its own B.

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
    return scheme.by_model, scheme.given


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
