"""Numbers among settings: of the right kind and in range, as Python's own."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from daml.errors import InputError

SEEDS = 2**63
"""Seeds are smaller than this; NumPy and torch both take them."""


def whole(value: Any, what: str, least: int = 1, also: str = "") -> int:
    """Give a whole number as Python's.

    Parameters
    ----------
    value : int
        NumPy's, too; True is none.
    what : str
        Begins the error.
    least : int
        The smallest that is allowed.
    also : str
        What else may be given, for the error.

    Raises
    ------
    InputError
        If it is none, or too small.

    Examples
    --------
    >>> whole(np.int64(3), "'hidden'")
    3
    """
    right = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    if not right or value < least:
        kind = "" if right else ", a whole number"
        raise InputError(f"{what} is {_shown(value)}; give {least} or more{kind}{also}")
    return int(value)


def number(
    value: Any, what: str, needed: str, above: float = -math.inf, most: float = math.inf
) -> float:
    """Give a real number as Python's.

    Parameters
    ----------
    value : float
        NumPy's, too; True and NaN are none.
    what, needed : str
        Begin and end the error.
    above, most : float
        It must be larger than the one, and no larger than the other.

    Raises
    ------
    InputError
        If it is none, or out of range.

    Examples
    --------
    >>> number(np.float32(0.5), "'rate'", "a rate > 0", above=0)
    0.5
    """
    right = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    try:
        plain = float(value) if right else math.nan
    except OverflowError:
        plain = math.nan
    if not above < plain <= most:
        raise InputError(f"{what} is {_shown(value)}; give {needed}")
    return plain


def seed(value: Any, what: str) -> int:
    """Give a seed as Python's number.

    Raises
    ------
    InputError
        If it is no whole number, negative, or too large.
    """
    right = isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
    if not right or not 0 <= int(value) < SEEDS:
        raise InputError(f"{what} is {_shown(value)}; give a whole number from 0 to 2**63 - 1")
    return int(value)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return " ".join(text.split())[:60]
