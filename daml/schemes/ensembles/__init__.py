"""Ensemble schemes."""

from daml.schemes.ensembles.etkf import ETKF
from daml.schemes.ensembles.letkf import LETKF
from daml.schemes.ensembles.localisation import half_width, taper

__all__ = ["ETKF", "LETKF", "half_width", "taper"]
