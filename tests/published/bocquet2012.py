"""Lorenz 63, all observed every 0.25 time units with errors of variance 1.

Bocquet, M. and Sakov, P. (2012): Combining inflation-free and iterative ensemble Kalman filters for
strongly nonlinear systems. Nonlin. Processes Geophys. 19, 383-399. The values are those of DAPPER
1.7.1 (mods/Lorenz63/bocquet2012.py).
"""

import daml
from daml.schemes import IEnKS

MODEL = daml.Lorenz63(dt=0.25, substeps=25)  # a step of the cycle is an observation
EVERY, ERROR_VARIANCE = 1, 1.0
LONG, SHORT = 40_000, 1_500
"""Steps."""
HOW = {"spinup": 200}
LOST = 0.0
"""Of the record at most."""
SCORES = {
    "IEnKS 10": (lambda: IEnKS(10, 1, inflation=1.02, rotate=True), 0.22),
    "IEnKS 3": (lambda: IEnKS(3, 1, inflation=1.04), 0.23),
    "IEnKS 3, finite size": (lambda: IEnKS(3, 1, finite_size=True), 0.22),
}
LONG_ONLY = set(SCORES)
"""Schemes that are too slow for a short run."""
MEASURED: dict[str, tuple[float, float]] = {}
