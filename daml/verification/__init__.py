"""Scores against a truth, and what innovations say of an analysis."""

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
