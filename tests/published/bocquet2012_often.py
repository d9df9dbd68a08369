"""Lorenz 63, all observed every 0.05 time units with errors of variance 1; see bocquet2012.py."""

import daml
from daml.schemes import IEnKS

MODEL = daml.Lorenz63(dt=0.05, substeps=5)  # a step of the cycle is an observation
EVERY, ERROR_VARIANCE = 1, 1.0
LONG, SHORT = 80_000, 300
"""Steps."""
LONG_BY = {"IEnKS 3, finite size": 240_000}
"""Steps for a scheme whose errors differ more from one part of a record to the next: for a standard
error below 2 %."""
HOW = {"spinup": 400}
LOST = 0.0
"""Of the record at most."""
SCORES = {
    "IEnKS 10": (lambda: IEnKS(10, 1, inflation=1.02, rotate=True), 0.13),
    "IEnKS 3": (lambda: IEnKS(3, 1, inflation=1.02), 0.13),
    "IEnKS 3, finite size": (lambda: IEnKS(3, 1, finite_size=2.0), 0.14),
}
LONG_ONLY = {"IEnKS 10", "IEnKS 3, finite size"}
MEASURED: dict[str, tuple[float, float]] = {}
