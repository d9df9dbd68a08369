"""Schemes: they turn backgrounds and observations into analyses."""

from daml.schemes.ensembles import ETKF
from daml.schemes.labelled import analyse
from daml.schemes.variational import WAYS, ThreeDVar

__all__ = ["ETKF", "WAYS", "ThreeDVar", "analyse"]
