"""What a model with hidden variables cannot be made of, or trained with; each is one error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daml.arrays import check_device
from daml.errors import InputError
from daml.labels.arguments import check_fields
from daml.labels.datasets import is_hidden
from daml.labels.ranges import seed, whole

if TYPE_CHECKING:
    from daml.protocols import Scheme

AUTO = "auto"
"""The number of hidden variables that means: try."""


def check_settings(emulator: Any) -> None:
    """Refuse settings that are out of range; turn NumPy's numbers into Python's.

    Raises
    ------
    InputError
        If there is one; the message names the class and the setting.
    """
    check_fields(emulator)
    kind, plain = type(emulator).__name__, dict[str, Any]()
    if emulator.hidden_variables != AUTO:
        what, also = f"{kind}: 'hidden_variables'", f", or {AUTO!r}"
        plain["hidden_variables"] = whole(emulator.hidden_variables, what, least=0, also=also)
    for name in ("units", "layers"):
        plain[name] = whole(getattr(emulator, name), f"{kind}: {name!r}")
    if emulator.updates is not None:
        plain["updates"] = whole(emulator.updates, f"{kind}: 'updates'")
    plain["seed"] = seed(emulator.seed, f"{kind}: 'seed'")
    if emulator.fitted is None:  # otherwise its network is on the device already
        plain["device"] = check_device(emulator.device, kind)
    if emulator.base is not None:
        _check_base(kind, emulator)
    for name, value in plain.items():
        object.__setattr__(emulator, name, value)


def _check_base(kind: str, emulator: Any) -> None:
    variables = tuple(emulator.base.variables)
    check_names(kind, "the base", variables)
    if emulator.fitted is not None and variables != emulator.variables[: emulator.shown]:
        raise InputError(
            f"{kind}: the base steps {variables}, the {kind} was fitted to "
            f"{emulator.variables[: emulator.shown]}; give a base with the same variables in the "
            "same order"
        )


def check_names(kind: str, owner: str, variables: tuple[str, ...]) -> None:
    """Refuse variables that are called as hidden ones are."""
    taken = [name for name in variables if is_hidden(name)]
    if taken:
        raise InputError(
            f"{kind}: {owner} has a variable {taken[0]!r}, which is the name of a hidden variable; "
            "give it another name"
        )


def check_teacher(kind: str, scheme: Scheme) -> None:
    """Refuse a scheme whose cycle cannot teach hidden variables."""
    members = getattr(scheme, "members", None)
    carries = members is not None or getattr(scheme, "gives_deviations", False)
    likely = "log_likelihood" in getattr(scheme, "outputs", {})
    if carries and likely and not getattr(scheme, "weighs", False):
        return
    lacks = "log-likelihood of the innovations" if carries else "covariance that it carries on"
    raise InputError(
        f"{kind}.fit_cycle: {type(scheme).__name__} has no {lacks}, from which hidden variables "
        "are learned; give daml.schemes.SigmaPoint(), or an ensemble, e.g. daml.schemes.ETKF(20)"
    )


def check_fitted(kind: str, emulator: Any) -> None:
    """Refuse an emulator that has not seen analyses yet."""
    if emulator.fitted is None:
        raise InputError(
            f"{kind}.fit_cycle: call 'begin' first; give "
            f"{kind}(...).begin(analysis).fit_cycle(observations, scheme)"
        )
