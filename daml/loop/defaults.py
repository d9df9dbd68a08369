"""What a loop trains, and the scheme that it assimilates with, where they are not given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daml.emulators import LSTM, Augmented
from daml.errors import InputError
from daml.labels.datasets import first_time
from daml.models.forced import forced, names_of
from daml.pairing import certain
from daml.running.checks import check_model, remembers
from daml.schemes import ThreeDVar
from daml.training.stages import JUDGED

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Emulator, Model, Scheme

NAMES = ("lstm", "augmented")
"""The emulators that a command line names."""
SMALL = 12
"""Variables of a model up to which hidden variables are the default of a training through the
cycle. A step of its filter costs two states for each variable, and matrices of their size: an
update of 20 streams takes 0.13 s of a core for Lorenz 63, 0.2 s for Lorenz 96 with 12 variables;
one of 28 streams takes 8 s for 40 variables, which with 200 of them and the usual updates would be
more than ten hours. Where variables lie somewhere, a correction that couples all of them knows less
than it could."""


def hides(model: Model, observations: xr.Dataset, scheme: Scheme | None, training: str) -> bool:
    """Whether the default emulator of a loop has hidden variables.

    It has if it is trained through the cycle, by default with a model of few variables that lie
    nowhere and whose step has no memory, or by a scheme that carries a covariance of its own.
    """
    if training != "cycle":
        return False
    if scheme is not None:
        return "memoryless" in getattr(scheme, "needs", ())
    since = first_time(observations)
    check_model(model, since)
    placed = getattr(model, "positions", None) is not None
    return len(model.variables) <= SMALL and not placed and not remembers(certain(model), since)


def emulator_for(
    model: Model,
    observations: xr.Dataset,
    scheme: Scheme | None,
    training: str,
    name: str | None = None,
    epochs: int | None = None,
    forcings: xr.Dataset | None = None,
    **how: Any,
) -> Emulator:
    """Give the default emulator of a loop, or the one of a name.

    ``epochs`` are those of each training, ``forcings`` what the model takes, and ``how`` has
    settings that all emulators take.

    Raises
    ------
    InputError
        If there is no emulator of this name, or the model cannot run.
    """
    if name not in (None, *NAMES):
        raise InputError(f"--emulator is {name!r}; give one of {', '.join(NAMES)}")
    driven = model if forcings is None or not names_of(model) else forced(model, forcings)
    if name == "augmented" or (name is None and hides(driven, observations, scheme, training)):
        updates = None if epochs is None else epochs * JUDGED
        return Augmented(base=model, updates=updates, **how)
    learns = training == "cycle" and (scheme is None or hasattr(scheme, "by_model"))
    covariance = "predicted" if learns else None
    return LSTM(base=model, covariance=covariance, epochs=epochs, cycle_epochs=epochs, **how)


def scheme_for(emulator: Emulator, training: str) -> Scheme:
    """Give the default scheme of a loop that trains an emulator."""
    own: Scheme | None = getattr(emulator, "scheme", None)
    if own is not None:
        return own
    knows = training == "cycle" and getattr(emulator, "covariance", None) is not None
    return ThreeDVar("model" if knows else "innovations")
