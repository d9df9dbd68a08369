"""Schemes: what turns a background and observations into an analysis."""

from daml.schemes.ensembles import ETKF, DEnKF, EnKF, EnKFN, SerialEnSRF
from daml.schemes.gaussian import OptimalInterpolation
from daml.schemes.labelled import analyse
from daml.schemes.variational import WAYS, ThreeDVar

__all__ = [
    "ETKF",
    "WAYS",
    "DEnKF",
    "EnKF",
    "EnKFN",
    "OptimalInterpolation",
    "SerialEnSRF",
    "ThreeDVar",
    "analyse",
]
