"""The first segment of a record that goes on: where its cycle stands when it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from daml.arrays import put
from daml.errors import InputError
from daml.pairing import certain
from daml.protocols import Observed, Run
from daml.running.cycling.ending import History, Stand
from daml.running.onward.going_on import GoingOn
from daml.stores.memories import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daml.protocols import Memory, Model


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
    x = put(end.told["state"][None], device)
    stepping, times_of = certain(model), np.full(x.shape[:-1], end.told["state_time"])
    start = stepping.start(x, times_of)
    before = {"model": start, "scheme": known, "front": start}
    try:
        memories = {
            whose: together(plan, end.arrays, before[whose], device)
            for whose, plan in end.plan.items()
        }
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"assimilate: the memories of 'initial' do not fit {type(model).__name__} and the "
            f"scheme ({error}); give a result of this version of daml, or start anew from its last "
            "analysis"
        ) from error
    renewed = getattr(stepping, "renewed", None)
    if renewed is not None:  # forcings have another clock in each record
        memories["model"] = renewed(memories["model"], x, times_of)
    front = None
    if "front" in end.told:
        front = put(end.told["front"][None], device), memories["front"]
    near = end.told.get("near")
    errors = tuple(put(part[None], device) for part in end.told.get("errors", ()))
    return Stand(
        x, memories["model"], memories["scheme"], History(near, tuple(times), errors, front)
    )
