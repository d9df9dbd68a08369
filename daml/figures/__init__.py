"""Scores to matplotlib: one style, one function a figure; nothing is computed here.

Every function takes the Dataset of scores, reads units and names from the attributes of its
variables, and returns the `matplotlib.figure.Figure` that holds the drawing; with `axes` it
draws there, without it in a new figure. `STYLE` is the style of all; `plt.style.use(STYLE)` gives
it to figures of your own. No figure is registered with pyplot: none stays open,
and no display is needed. `save` writes one as PNG and SVG. Figures 1 to 4 are those of
Goodliff and Miyoshi (2025), egusphere-2025-933.
"""

from daml.figures.diagnosis import calibration
from daml.figures.drawings import analysis_rmse, error_maps, error_reduction, innovations
from daml.figures.loop import loop_diagram
from daml.figures.panels import STYLE, save
from daml.figures.spread import attribution, sweep_scores

__all__ = [
    "STYLE",
    "analysis_rmse",
    "attribution",
    "calibration",
    "error_maps",
    "error_reduction",
    "innovations",
    "loop_diagram",
    "save",
    "sweep_scores",
]
