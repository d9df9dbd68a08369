"""The experiment of Goodliff and Miyoshi (2025): presets, run and figures."""

from daml.experiments.goodliff2025 import PRESETS, draw, run

__all__ = ["PRESETS", "draw", "run"]
