"""Schemes: they turn backgrounds and observations into analyses."""

from daml.schemes.ensembles import (
    ETKF,
    LETKF,
    DEnKF,
    EnKF,
    EnKFN,
    ParticleFilter,
    SerialEnSRF,
    half_width,
    taper,
)
from daml.schemes.gaussian import OptimalInterpolation
from daml.schemes.labelled import analyse
from daml.schemes.variational import WAYS, ThreeDVar

__all__ = [
    "ETKF",
    "LETKF",
    "WAYS",
    "DEnKF",
    "EnKF",
    "EnKFN",
    "OptimalInterpolation",
    "ParticleFilter",
    "SerialEnSRF",
    "ThreeDVar",
    "analyse",
    "half_width",
    "taper",
]
