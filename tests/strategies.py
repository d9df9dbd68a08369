"""Generated covariances, states and observations."""

import numpy as np
import xarray as xr
from hypothesis import strategies as st

from daml.covariance import labelled

NAMES = ("u", "v", "w", "t")


def random(seed):
    return np.random.default_rng(seed)


@st.composite
def cases(draw, diagonal=False, missing=True):
    """Give a background covariance, backgrounds and observations of up to four variables."""
    rng = random(draw(st.integers(0, 2**32 - 1)))
    size, rows = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    names = list(NAMES[:size])
    root = rng.standard_normal((size, size))
    B = root @ root.T + np.eye(size)
    if diagonal:
        B = np.diag(B.diagonal())
    time = np.arange(rows) * 0.5
    coords = {"time": time, "variable": names}
    background = xr.Dataset(
        {"background": (("time", "variable"), 5 * rng.standard_normal((rows, size)))}, coords
    )
    values = 5 * rng.standard_normal((rows, size))
    if missing:
        values[rng.random(values.shape) < 0.3] = np.nan
    values[0, 0] = 1.0
    observations = xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", rng.uniform(0.1, 3, size)),
        },
        coords,
    )
    return labelled(B, names), background, observations
