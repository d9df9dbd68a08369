"""What an experiment's store holds: its scores in one Dataset, and as text."""

from daml.experiments.reporting import (
    collect,
    collect_innovations,
    innovation_table,
    is_twin,
    overview,
    published,
    score_table,
)

__all__ = [
    "collect",
    "collect_innovations",
    "innovation_table",
    "is_twin",
    "overview",
    "published",
    "score_table",
]
