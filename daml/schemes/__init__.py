"""Schemes: what turns a background and observations into an analysis."""

from daml.schemes.variational import ThreeDVar

__all__ = ["ThreeDVar"]
