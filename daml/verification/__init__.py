"""Scores of analyses and forecasts against a truth, and statistics of innovations."""

from daml.verification import probabilistic
from daml.verification.matching import valid_rows
from daml.verification.scores import (
    analysis_error,
    binned,
    error_map,
    forecast_error,
    innovation_statistics,
    mfe,
    reduction,
    squared,
)

__all__ = [
    "analysis_error",
    "binned",
    "error_map",
    "forecast_error",
    "innovation_statistics",
    "mfe",
    "probabilistic",
    "reduction",
    "squared",
    "valid_rows",
]
