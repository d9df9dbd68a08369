"""Hybrids of ensembles and variational schemes."""

from daml.schemes.hybrid.envar import EnVar
from daml.schemes.hybrid.etkf_4d_var import ETKF4DVar
from daml.schemes.hybrid.four_d_en_var import FourDEnVar

__all__ = ["ETKF4DVar", "EnVar", "FourDEnVar"]
