"""Hybrids of ensembles and variational schemes."""

from daml.schemes.hybrid.envar import EnVar

__all__ = ["EnVar"]
