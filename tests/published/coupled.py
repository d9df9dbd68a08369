"""The perfect model of the paper's experiment: coupled Lorenz 63, x0, x1, x2 observed, R = I.

Goodliff, M. and Miyoshi, T. (2025), EGUsphere, egusphere-2025-933. The scores are those of an
independent implementation; RMSE is the root of the mean over time and x0, x1, x2.
"""

import daml
from daml.schemes import ETKF, ExtendedKalman, SigmaPoint

MODEL = daml.CoupledLorenz63(dt=0.05)
OBSERVED = ["x0", "x1", "x2"]
STEPS, SPINUP, SEEDS = 20_000, 1_000, range(5)
HOW = {"spinup": 1600}
"""What is not observed is forgotten slowly."""
BARS = {
    "SigmaPoint": (SigmaPoint(), 0.186),
    "ETKF 20": (ETKF(20, inflation=1.01), 0.205),
}
MEASURED = {
    "SigmaPoint, Q = 1e-4 I": (SigmaPoint(model_error=1e-4), 0.187),
    "SigmaPoint, Q = 1e-3 I": (SigmaPoint(model_error=1e-3), 0.216),
    # No other implementation: in so short a step it is hardly worse than sigma points.
    "ExtendedKalman, Q = 1e-3 I": (ExtendedKalman(model_error=1e-3), 0.216),
}
"""Scores on a record of another seed: reached within two standard errors."""
