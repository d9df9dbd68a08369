"""Variational schemes."""

from daml.schemes.variational.three_d_var import WAYS, ThreeDVar

__all__ = ["WAYS", "ThreeDVar"]
