"""Lorenz 63 with noise in the model, the cubes of its variables observed.

Mandel, J., Bergou, E., Gürol, S., Gratton, S. and Kasanický, I. (2016): Hybrid Levenberg-Marquardt
and weak-constraint ensemble Kalman smoother method. Nonlin. Processes Geophys. 23, 59-73. The
values are those of DAPPER 1.7.1 (mods/Lorenz63/mandel2016.py); the paper's own are 0.3 and 3.6.
DAPPER spreads the noise of an interval over its steps of 0.01, here it is added at its end.
"""

import daml
from daml.schemes import EnKF

ERROR_VARIANCE, MODEL_ERROR = 8.0, 0.01
STEPS, SPINUP = 1_000, 100
"""Observations of a run, after those that are left out."""
SCORES = {5: 0.09, 35: 0.64}
"""By the steps of 0.01 from one observation to the next."""


def operator(x):
    """Give H(x)."""
    return x**3


def model(every, seed):
    """Give the model, which makes one step from one observation to the next."""
    inner = daml.Lorenz63(dt=0.01 * every, substeps=every)
    return daml.models.Stochastic(inner, MODEL_ERROR, seed=seed)


def scheme():
    """Give the filter."""
    return EnKF(10, inflation=1.20)
