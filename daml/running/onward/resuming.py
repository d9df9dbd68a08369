"""The first segment of a record that goes on: where its cycle stands when it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from daml.arrays import put
from daml.errors import InputError, name_of
from daml.pairing import certain
from daml.protocols import Observed, Run
from daml.running.cycling.ending import History, Stand
from daml.running.onward.ends import End
from daml.running.onward.going_on import GoingOn
from daml.running.onward.unfit import ASSIMILATE, Asked
from daml.stores.memories import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daml.protocols import Array, Memory, Model


def resumed(
    going: GoingOn,
    model: Model,
    known: Memory,
    times: Sequence[tuple[Observed, Run]],
    device: str | None,
) -> Stand:
    """Give where a cycle stands that goes on from an end, for a batch of one segment.

    Parameters
    ----------
    going : GoingOn
    model : Model
    known : memory
        What the scheme prepared for the new record.
    times : sequence of (Observed, Run)
        Of the last window, from the state of the end on.
    device : str or None
        Where the model steps.

    Raises
    ------
    InputError
        If the memories do not fit model and scheme.
    """
    end = going.end
    x, memory = point(end, "model", model, device)
    front = point(end, "front", model, device) if "front" in end.facts else None
    known = remembered(end, "scheme", known, ASSIMILATE, name_of(model), device)
    near = end.facts.get("near")
    errors = tuple(put(part[None], device) for part in end.facts.get("errors", ()))
    return Stand(x, memory, known, History(near, tuple(times), errors, front))


def point(
    end: End,
    whose: str,
    model: Model,
    device: str | None,
    asked: Asked = ASSIMILATE,
) -> tuple[Array, Memory]:
    """Give a state (1, [member,] variable) of an end, and the memory of the model there.

    ``whose`` is "model", of the state from which a cycle goes on; or "front", of the one from which
    it forecasts at the end of its window, where that is another.
    """
    time = end.facts["state_time"]
    if whose == "front" and end.window:
        time = end.facts["observation_time"][end.window - 1]
    x = put(end.facts["state" if whose == "model" else whose][None], device)
    stepping, times = certain(model), np.full(x.shape[:-1], time)
    start = stepping.start(x, times)
    memory = remembered(end, whose, start, asked, name_of(model), device)
    renewed = getattr(stepping, "renewed", None)
    # Forcings have another clock in each record.
    return x, memory if renewed is None else renewed(memory, x, times)


def remembered(
    end: End, whose: str, before: Memory, asked: Asked, model: str, device: str | None
) -> Memory:
    """Give a memory of an end; ``before`` is what was prepared."""
    try:
        return together(end.plan[whose], end.arrays, before, device)
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{asked.function}: the memories of {asked.argument!r} do not fit {model} and the "
            f"scheme ({error}); give a result of this version of daml, {asked.otherwise}"
        ) from error
