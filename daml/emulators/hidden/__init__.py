"""Models with hidden variables: states that their base lacks, taught by the innovations."""

from daml.emulators.hidden.augmented import Augmented

__all__ = ["Augmented"]
