"""Models: what moves a state."""

from daml.models.lorenz63 import CoupledLorenz63, Lorenz63
from daml.models.ode import ODE

__all__ = ["ODE", "CoupledLorenz63", "Lorenz63"]
