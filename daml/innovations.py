"""What innovations say of the covariances B and R."""

from daml.schemes.estimation import (
    Seen,
    desroziers,
    from_innovations,
    known_pairs,
    lagged,
    observed_pairs,
    pairwise,
)

__all__ = [
    "Seen",
    "desroziers",
    "from_innovations",
    "known_pairs",
    "lagged",
    "observed_pairs",
    "pairwise",
]
