"""Schemes: they turn backgrounds and observations into analyses."""

from daml.schemes.ensembles import (
    ETKF,
    LETKF,
    RTPP,
    RTPS,
    Additive,
    DEnKF,
    EnKF,
    EnKFN,
    SerialEnSRF,
    half_width,
    taper,
)
from daml.schemes.gaussian import ExtendedKalman, OptimalInterpolation, SigmaPoint
from daml.schemes.hybrid import EnVar, ETKF4DVar, FourDEnVar
from daml.schemes.labelled import analyse
from daml.schemes.particle_filter import ParticleFilter
from daml.schemes.variational import WAYS, ThreeDVar
from daml.schemes.windowed import FourDVar, IEnKS

__all__ = [
    "ETKF",
    "ETKF4DVar",
    "LETKF",
    "RTPP",
    "RTPS",
    "WAYS",
    "Additive",
    "DEnKF",
    "EnKF",
    "EnKFN",
    "EnVar",
    "ExtendedKalman",
    "FourDEnVar",
    "FourDVar",
    "IEnKS",
    "OptimalInterpolation",
    "ParticleFilter",
    "SerialEnSRF",
    "SigmaPoint",
    "ThreeDVar",
    "analyse",
    "half_width",
    "taper",
]
