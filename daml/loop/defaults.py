"""What a loop trains, and the scheme that it assimilates with, where they are not given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daml.emulators import LSTM, Augmented
from daml.labels.datasets import first_time
from daml.pairing import certain
from daml.running.checks import check_model, remembers
from daml.schemes import ThreeDVar

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Emulator, Model, Scheme

SMALL = 12
"""Variables of a model up to which hidden variables are the default of a training through the
cycle. A step of its filter costs two states for each variable, and matrices of their size."""


def hides(model: Model, observations: xr.Dataset, scheme: Scheme | None, training: str) -> bool:
    """Whether the default emulator of a loop has hidden variables.

    It has if it is trained through the cycle, by default with a model whose state is small and
    has no memory, or by a scheme that carries a covariance of its own.
    """
    if training != "cycle":
        return False
    if scheme is not None:
        return "memoryless" in getattr(scheme, "needs", ())
    since = first_time(observations)
    check_model(model, since)
    return len(model.variables) <= SMALL and not remembers(certain(model), since)


def emulator_for(
    model: Model, observations: xr.Dataset, scheme: Scheme | None, training: str, **how: Any
) -> Emulator:
    """Give the default emulator of a loop; ``how`` has settings that all emulators take."""
    if hides(model, observations, scheme, training):
        return Augmented(base=model, **how)
    learns = training == "cycle" and (scheme is None or hasattr(scheme, "by_model"))
    return LSTM(base=model, covariance="predicted" if learns else None, **how)


def scheme_for(emulator: Emulator, training: str) -> Scheme:
    """Give the default scheme of a loop that trains an emulator."""
    own: Scheme | None = getattr(emulator, "scheme", None)
    if own is not None:
        return own
    knows = training == "cycle" and getattr(emulator, "covariance", None) is not None
    return ThreeDVar("model" if knows else "innovations")
