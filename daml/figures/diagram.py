"""The loop as a diagram."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from daml.figures.panels import ARROW, IMPERFECT, INK, LSTM, PERFECT, STYLE, grid_of

# The diagram, in its own units: boxes are (x, y, words, fill, edge).
BOXES = (
    (7.75, 5.55, "Observations", "#FFF4D6", "#E69F00"),
    (7.75, 1.3, "Train LSTM-n", "#E3F0F8", LSTM),
    (4.55, 4.0, "Forecast\nby the model", "#E3F0F8", LSTM),
    (10.95, 4.0, "Analysis\nby 3DVar", "#DFF3EC", PERFECT),
    (10.95, 1.3, "Analysis\ntrajectory", "#DFF3EC", PERFECT),
    (1.25, 4.0, "Imperfect\nmodel", "#FBE7DB", IMPERFECT),
    (1.25, 1.3, "Improved\nmodel, LSTM-n", "#E3F0F8", LSTM),
)  # fmt: skip
ARROWS = (
    ((2.4, 4.0), (3.4, 4.0)), ((5.7, 4.22), (9.8, 4.22)), ((9.8, 3.72), (5.7, 3.72)),
    ((8.9, 5.55), (10.95, 4.55)), ((10.95, 3.45), (10.95, 1.85)), ((9.8, 1.3), (8.9, 1.3)),
    ((6.6, 1.3), (5.95, 1.3)), ((4.55, 2.1), (4.55, 3.45)), ((3.15, 1.3), (2.4, 1.3)),
)  # fmt: skip
TEST = (4.55, 1.3, 1.4, 0.8)
"""The question after each training: its place, and half its width and height."""
NOTES = (
    (1.25, 4.82, "start, n = 0"), (7.75, 4.45, "background"), (7.75, 3.47, "initial state"),
    (6.3, 2.42, "yes: LSTM-n replaces\nthe model; n = n + 1"), (2.98, 1.55, "no"),
    (1.25, 2.12, "result"),
)  # fmt: skip


def loop_diagram(axes: Axes | None = None) -> Figure:
    """Draw Figure 1 of the paper: the assimilation cycle inside the loop that trains the model.

    Parameters
    ----------
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If ``axes`` is not a matplotlib Axes.
    """
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.6)
        ax = grid[0, 0]
        ax.set(xlim=(0, 13), ylim=(0, 7.2), aspect="equal")
        ax.set_axis_off()
        ax.text(3.1, 6.62, "Outer loop: iteration n", weight="bold", va="center")
        ax.text(3.4, 6.05, "Data assimilation\n(DA) cycle", weight="bold", va="top")
        frame: Any = {"boxstyle": "round,pad=0,rounding_size=0.18", "linewidth": 1.1}
        ax.add_patch(FancyBboxPatch((2.8, 0.15), 9.95, 6.9, fc="white", ec="#8A9299", **frame))
        ax.add_patch(FancyBboxPatch((3.1, 2.95), 9.3, 3.3, fc="#F1F3F5", ec="#8A9299", **frame))
        for x, y, words, fc, ec in BOXES:
            ax.add_patch(FancyBboxPatch((x - 1.15, y - 0.55), 2.3, 1.1, fc=fc, ec=ec, **frame))
            ax.text(x, y, words, ha="center", va="center", linespacing=1.25)
        x, y, wide, high = TEST
        corners = [(x - wide, y), (x, y + high), (x + wide, y), (x, y - high)]
        ax.add_patch(Polygon(corners, fc="white", ec=INK, linewidth=1.1))
        ax.text(x, y, "n < maximum?", ha="center", va="center")
        for start, end in ARROWS:
            corner = start[0] != end[0] and start[1] != end[1]
            bend = "angle,angleA=0,angleB=90" if corner else "arc3"
            ax.annotate("", end, start, arrowprops={**ARROW, "connectionstyle": bend})
        for x, y, words in NOTES:
            ax.text(x, y, words, ha="center", va="center", size=8, color=INK)
    return figure
