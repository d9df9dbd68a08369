"""Where a cycle stands after the analysis of a time: all that it needs to go on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from daml.protocols import Observed, Run

if TYPE_CHECKING:
    from daml.protocols import Array, Memory


class History(NamedTuple):
    """What a cycle knows of the times before, besides its state and the memories there."""

    near: Array | None = None
    """By how much variables (variable,) are moved for gradients by differences."""
    times: tuple[tuple[Observed, Run], ...] = ()
    """Of a scheme with a window: the times from the state to the end of the last window."""
    errors: tuple[Array, ...] = ()
    """What is added after each step to these times (..., variable)."""
    front: tuple[Array, Memory] | None = None
    """State and memory at the last of these times, if the way from the state leads elsewhere."""


NO_HISTORY = History()


class Stand(NamedTuple):
    """Where a cycle stands."""

    state: Array
    """The analysis (..., variable); of a scheme with a window at its start."""
    memory: Memory
    """That of the model at the state."""
    known: Memory
    """That of the scheme."""
    history: History


class Ending:
    """Takes where a cycle stands at an ``age``, if it comes to that, by a function.

    Arrays may be written into afterwards: the function copies what it keeps.
    """

    def __init__(self, age: int, take: Callable[[Stand], Any]) -> None:
        self.age, self.take = age, take
        self.taken: Any = None

    def after(self, run: Run, stand: Stand) -> None:
        """Take where the cycle stands, if this is the time."""
        if run.age == self.age:
            self.taken = self.take(stand)


NO_ENDING = Ending(-1, lambda stand: None)
