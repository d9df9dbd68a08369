"""Where the iterations of a scheme have not converged, as its output ``converged`` says."""

from __future__ import annotations

import numpy as np

from daml.errors import warn
from daml.segments import own_steps

FEW = 0.05
"""Part of a record in which iterations may end early without a warning: single ones change little,
and all are marked."""
ADVICE = (
    "its windows may be longer than the model can be predicted: take a shorter 'window' (in model "
    "steps), more frequent observations, or more members of an ensemble"
)
"""What to try, unless a scheme has a ``window_advice`` of its own."""


def unconverged(found: np.ndarray, early: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Count the steps (segment,) without convergence, of ``converged`` (step, segment).

    ``early`` and ``rows`` (segment,) are steps of spin-up, and rows of the record after them.
    """
    return np.asarray(np.sum(own_steps(len(found), early, rows) & (found == 0), axis=0))


def check_converged(share: float, what: str, advice: str = ADVICE) -> None:
    """Warn of iterations that often end before they converge.

    Warns
    -----
    UserWarning
        If they do so in more than a twentieth of the record.
    """
    if share > FEW:
        warn(
            f"{what} did not converge in {100 * share:.3g} % of the record (where 'converged' is 0 "
            f"in the analysis); {advice}"
        )
