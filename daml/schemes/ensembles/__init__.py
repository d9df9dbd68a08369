"""Ensemble schemes."""

from daml.schemes.ensembles.etkf import ETKF

__all__ = ["ETKF"]
