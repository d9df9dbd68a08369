"""What schemes that iterate in a window say of their iterations."""

from daml.protocols import Outputs

ITERATED: Outputs = {
    "iterations": (
        ("time",),
        {"long_name": "iterations of the analysis of its window", "units": "1"},
    ),
    "converged": (
        ("time",),
        {"long_name": "1 where the iterations in its window converged, otherwise 0", "units": "1"},
    ),
}
"""Outputs of each new time: those of its window."""
