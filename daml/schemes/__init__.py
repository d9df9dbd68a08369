"""Schemes: they turn backgrounds and observations into analyses."""

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
