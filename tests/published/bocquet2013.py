"""Lorenz 96 with 40 variables, all observed every 0.2 time units.

Bocquet, M. and Sakov, P. (2013): Joint state and parameter estimation with an iterative ensemble
Kalman smoother. Nonlin. Processes Geophys. 20, 803-818. The values are those of DAPPER 1.7.1
(mods/Lorenz96/sakov2008.py).
"""

import daml
from daml.schemes import IEnKS

MODEL = daml.models.Lorenz96(n=40, forcing=8.0, dt=0.2, substeps=4)  # a step is an observation
EVERY, ERROR_VARIANCE = 1, 1.0
LONG, SHORT = 20_000, 600
"""Steps."""
HOW = {"spinup": 100}
LOST = 0.0
"""Of the record at most."""
SCORES = {"IEnKS 20": (lambda: IEnKS(20, window=4, shift=1, finite_size=2.0), 0.31)}
LONG_ONLY = set(SCORES)
"""Schemes that are too slow for a short run."""
MEASURED: dict[str, tuple[float, float]] = {}
