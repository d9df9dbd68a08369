"""How early a segment starts, so that it forgets its start."""

from __future__ import annotations

import numpy as np

from daml.observing.records import Record

SPINUP, TIMES = 100, 40
"""Steps of the first spin-up at least, and times with observations in it."""


def first_spinup(record: Record) -> int:
    """Give the model steps by which a segment starts early at first."""
    seen = np.asarray(record.kind_present.any(axis=1))[record.kind]
    return max(SPINUP, round(TIMES * len(seen) / int(seen.sum())))
