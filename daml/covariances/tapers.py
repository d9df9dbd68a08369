"""The taper of Gaspari and Cohn, a correlation that ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from daml.errors import InputError
from daml.labels.arguments import checked


@checked
def taper(distance: Any, half_width: float) -> np.ndarray:
    """Compute the fifth-order piecewise rational function of Gaspari and Cohn.

    The function is similar to a Gaussian and is a correlation function in up to three dimensions.
    It is 1 at distance 0, 5/24 at the half-width, and exactly 0 from twice the half-width on.

    Parameters
    ----------
    distance : array_like (...)
        Distances, 0 or more, in any unit of length.
    half_width : float
        Half-width, in the same unit. If it is infinite, the function is 1 everywhere.

    Returns
    -------
    numpy.ndarray (...)
        Values of the function, from 0 to 1.

    Raises
    ------
    InputError
        If the half-width is not positive.

    References
    ----------
    Gaspari, G. and Cohn, S. E. (1999): Construction of correlation functions in two and three
    dimensions. Q. J. R. Meteorol. Soc. 125, 723-757; equation 4.10.

    Examples
    --------
    >>> taper([0.0, 1.0, 2.0], half_width=1.0).round(4)
    array([1.    , 0.2083, 0.    ])
    """
    if not half_width > 0:
        raise InputError(f"taper: 'half_width' is {half_width}; give a length > 0")
    r = np.asarray(distance, dtype=np.float64) / half_width
    near, far = np.minimum(r, 1.0), np.clip(r, 1.0, 2.0)
    inner = (((-near / 4 + 1 / 2) * near + 5 / 8) * near - 5 / 3) * near**2 + 1
    outer = ((((far / 12 - 1 / 2) * far + 5 / 8) * far + 5 / 3) * far - 5) * far + 4 - 2 / (3 * far)
    # Next to twice the half-width the sum is smaller than its rounding.
    found: np.ndarray = np.where(r < 1, inner, np.where(r < 2, np.maximum(outer, 0.0), 0.0))
    return found
