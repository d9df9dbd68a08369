"""Background error covariances: estimates and checks."""

from daml.covariances.dense import check, climatological, labelled
from daml.observing.noise import observing

__all__ = ["check", "climatological", "labelled", "observing"]
