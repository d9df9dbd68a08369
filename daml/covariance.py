"""Background error covariances: estimates and checks."""

from daml.covariances.by_distance import Localised
from daml.covariances.dense import check, climatological, labelled
from daml.covariances.diffusion import Diffusion
from daml.covariances.stationary import Stationary
from daml.observing.noise import observing
from daml.running.climatology import scaled_climatology

__all__ = [
    "Diffusion",
    "Localised",
    "Stationary",
    "check",
    "climatological",
    "labelled",
    "observing",
    "scaled_climatology",
]
