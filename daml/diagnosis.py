"""How well the expected errors of an analysis are calibrated, and how long forecasts are valid."""

from daml.verification.calibration import calibration, spread_map, valid_time

__all__ = ["calibration", "spread_map", "valid_time"]
