"""The forcings of a loop: of its model, and of what learns in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daml.errors import InputError, name_of
from daml.labels.forcings import Forcings
from daml.loop.preconditions import parameters
from daml.models.forced import check_given, names_of

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Emulator, Model


def forcings_of(model: Model, emulator: Emulator, forcings: xr.Dataset | None) -> Forcings | None:
    """Read the forcings of a loop.

    Raises
    ------
    InputError
        If they are none, if some are missing, or if neither the model nor the emulator takes any.
    """
    base = getattr(emulator, "base", None)
    if forcings is None:
        check_given(model)
        check_given(base)
        return None
    needed = (*names_of(model), *names_of(base))
    if not needed and "forcings" not in parameters(getattr(emulator, "fit", parameters)):
        raise InputError(
            f"improve: forcings are given, and neither {name_of(model)} nor "
            f"{type(emulator).__name__} takes any; leave them out, or give the model their names: "
            "forcings = ('name', ...), step(x, memory, forcing)"
        )
    found = Forcings.read(forcings)
    found.of(needed)  # refuses a name that is missing
    return found
