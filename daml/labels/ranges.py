"""Numbers among settings that must lie in a range; `arguments` decides what a number is."""

from __future__ import annotations

import math
from typing import Any

from daml.errors import InputError
from daml.labels.arguments import plain, shown


def whole(value: Any, what: str, least: int = 1, also: str = "") -> int:
    """Give a whole number as Python's.

    Parameters
    ----------
    value : int
    what : str
        Begins the error.
    least : int
        The smallest that is allowed.
    also : str
        What else may be given, for the error.

    Raises
    ------
    InputError
        If it is no whole number, or too small.

    Examples
    --------
    >>> import numpy as np
    >>> whole(np.int64(3), "'hidden'")
    3
    """
    found = plain("int", value)
    if found is None or found < least:
        kind = ", a whole number" if found is None else ""
        raise InputError(f"{what} is {shown(value)}; give {least} or more{kind}{also}")
    return int(found)


def number(
    value: Any, what: str, needed: str, above: float = -math.inf, most: float = math.inf
) -> float:
    """Give a real number as Python's.

    Parameters
    ----------
    value : float
    what, needed : str
        Begin and end the error.
    above, most : float
        It must be larger than the first, and no larger than the second.

    Raises
    ------
    InputError
        If it is no number, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> number(np.float32(0.5), "'rate'", "a rate > 0", above=0)
    0.5
    """
    found = plain("float", value)
    if found is None or not above < found <= most:
        raise InputError(f"{what} is {shown(value)}; give {needed}")
    return float(found)


def seed(value: Any, what: str) -> int:
    """Give a seed as Python's number: one that NumPy and torch both take.

    Raises
    ------
    InputError
        If it is no whole number, negative, or too large.
    """
    found = plain("int", value)
    if found is None or found < 0:
        raise InputError(f"{what} is {shown(value)}; give a whole number from 0 to 2**63 - 1")
    return int(found)
