"""Schemes: what turns a background and observations into an analysis."""

from daml.schemes.ensembles import ETKF, LETKF, half_width, taper
from daml.schemes.labelled import analyse
from daml.schemes.variational import WAYS, ThreeDVar

__all__ = ["ETKF", "LETKF", "WAYS", "ThreeDVar", "analyse", "half_width", "taper"]
