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
from daml.schemes.gaussian import ExtendedKalman, OptimalInterpolation, SigmaPoint
from daml.schemes.labelled import analyse
from daml.schemes.variational import WAYS, ThreeDVar

__all__ = [
    "ETKF",
    "LETKF",
    "WAYS",
    "DEnKF",
    "EnKF",
    "EnKFN",
    "ExtendedKalman",
    "OptimalInterpolation",
    "ParticleFilter",
    "SerialEnSRF",
    "SigmaPoint",
    "ThreeDVar",
    "analyse",
    "half_width",
    "taper",
]
