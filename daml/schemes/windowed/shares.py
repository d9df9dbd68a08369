"""Which part of each observation a window uses, where windows overlap."""

from __future__ import annotations

from typing import Any, NamedTuple


class Shares(NamedTuple):
    """Parts of the observations at the times of a window.

    Both make the same of all observations in the end: those that are new count in full, or windows
    use an equal part of each observation.
    """

    parts: tuple[float, ...]
    """What the window uses; of each observation they add up to 1 over the windows that it is in."""
    whole: tuple[float, ...]
    """What no window before has used, so that the analysis is one of all observations until now."""

    @classmethod
    def once(cls, times: int, fresh: int) -> Shares:
        """Use each observation where it is new."""
        found = (0.0,) * (times - fresh) + (1.0,) * fresh
        return cls(found, found)

    @classmethod
    def equal(cls, times: int, fresh: int, window: int, shift: int) -> Shares:
        """Use an equal part in each window.

        Windows end at multiples of ``shift``; the last one of a record may end before. A time that
        lies r steps before the first end after it is in 1 + (window - 1 - r) // shift windows.
        """
        parts, whole = [], []
        for place in range(times):
            age, early = divmod(times - 1 - place + shift - fresh, shift)
            windows = 1 + (window - 1 - early) // shift
            parts.append(1 / windows)
            whole.append(1 - age / windows)
        return cls(tuple(parts), tuple(whole))


def go_on_by_windows(scheme: Any) -> None:
    """Let a frozen scheme without a ``shift`` go on by whole windows."""
    if scheme.shift is None:
        object.__setattr__(scheme, "shift", scheme.window)
