"""Schemes that analyse the states of some model steps together: those of a window."""

from daml.schemes.windowed.four_d_var import FourDVar
from daml.schemes.windowed.ienks import IEnKS

__all__ = ["FourDVar", "IEnKS"]
