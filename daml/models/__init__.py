"""Models: what moves a state."""

from daml.models.each import Each, each
from daml.models.forced import forced
from daml.models.gridded import Gridded
from daml.models.kuramoto_sivashinsky import KuramotoSivashinsky
from daml.models.lorenz63 import CoupledLorenz63, Lorenz63
from daml.models.lorenz96 import Lorenz96
from daml.models.ode import ODE
from daml.models.quasi_geostrophic import QuasiGeostrophic
from daml.models.stochastic import Stochastic
from daml.models.two_scale_lorenz96 import TwoScaleLorenz96

__all__ = [
    "ODE",
    "CoupledLorenz63",
    "Each",
    "Gridded",
    "KuramotoSivashinsky",
    "Lorenz63",
    "Lorenz96",
    "QuasiGeostrophic",
    "Stochastic",
    "TwoScaleLorenz96",
    "each",
    "forced",
]
