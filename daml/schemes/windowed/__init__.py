"""Schemes that analyse the states of some model steps together: those of a window."""

from daml.schemes.windowed.four_d_var import FourDVar

__all__ = ["FourDVar"]
