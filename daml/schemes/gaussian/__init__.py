"""Schemes that carry a mean and a covariance."""

from daml.schemes.gaussian.optimal_interpolation import OptimalInterpolation

__all__ = ["OptimalInterpolation"]
