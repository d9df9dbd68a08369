"""Lorenz 96 with 40 variables, all observed every 0.2 time units.

Bocquet, M. and Sakov, P. (2013): Joint state and parameter estimation with an iterative ensemble
Kalman smoother. Nonlin. Processes Geophys. 20, 803-818. The values are those of DAPPER 1.7.1
(mods/Lorenz96/sakov2008.py).
"""

import numpy as np

import daml
from daml.covariance import labelled
from daml.schemes import FourDVar, IEnKS

MODEL = daml.models.Lorenz96(n=40, forcing=8.0, dt=0.2, substeps=4)  # a step is an observation
EVERY, ERROR_VARIANCE = 1, 1.0
LONG, SHORT = 20_000, 600
"""Steps."""
HOW = {"spinup": 100, "tolerance": 0.5}
LOST = 0.0
"""Of the record at most."""


def four_d_var(window, variance):
    """Give 4DVar with a multiple of the identity as B."""
    B = labelled(variance * np.eye(40), MODEL.variables)
    return FourDVar(B, window=window, shift=1)


SCORES = {
    "IEnKS 20": (lambda: IEnKS(20, window=4, shift=1, finite_size=2.0), 0.31),
    "FourDVar 1": (lambda: four_d_var(1, 0.2), 0.46),
    "FourDVar 2": (lambda: four_d_var(2, 0.1), 0.39),
    "FourDVar 4": (lambda: four_d_var(4, 0.02), 0.37),
}
LONG_BY = {"FourDVar 1": 2_000, "FourDVar 2": 2_000, "FourDVar 4": 1_000}
"""Steps for schemes whose windows take tangents: enough for a standard error below 2 %."""
LONG_ONLY = set(SCORES)
"""Schemes that are too slow for a short run."""
MEASURED: dict[str, tuple[float, float]] = {}
