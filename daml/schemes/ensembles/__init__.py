"""Ensemble schemes."""

from daml.covariances.tapers import taper
from daml.schemes.ensembles.denkf import DEnKF
from daml.schemes.ensembles.enkf import EnKF
from daml.schemes.ensembles.enkf_n import EnKFN
from daml.schemes.ensembles.etkf import ETKF
from daml.schemes.ensembles.inflation import RTPP, RTPS, Additive
from daml.schemes.ensembles.letkf import LETKF
from daml.schemes.ensembles.localisation import half_width
from daml.schemes.ensembles.serial_ensrf import SerialEnSRF

__all__ = [
    "ETKF",
    "LETKF",
    "RTPP",
    "RTPS",
    "Additive",
    "DEnKF",
    "EnKF",
    "EnKFN",
    "SerialEnSRF",
    "half_width",
    "taper",
]
