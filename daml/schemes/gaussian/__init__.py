"""Schemes that carry a mean and a covariance."""

from daml.schemes.gaussian.extended_kalman import ExtendedKalman
from daml.schemes.gaussian.optimal_interpolation import OptimalInterpolation
from daml.schemes.gaussian.sigma_point import SigmaPoint

__all__ = ["ExtendedKalman", "OptimalInterpolation", "SigmaPoint"]
