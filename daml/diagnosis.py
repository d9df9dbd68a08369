"""Whether an analysis knows how wrong it is, and how long a forecast holds."""

from daml.verification.calibration import calibration, spread_map, valid_time

__all__ = ["calibration", "spread_map", "valid_time"]
