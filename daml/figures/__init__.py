"""Figures of scores, drawn with matplotlib in one style; nothing is computed here.

Each function takes a Dataset of scores, takes the labels of the axes from the attributes of its
variables, and returns a ``matplotlib.figure.Figure``. Without ``axes`` this is a new figure, which
a notebook shows if it is the last expression of a cell. It is not registered with pyplot, so that
it need not be closed and no display is needed. With ``axes`` the function draws into Axes of yours;
in a notebook, end this line with a semicolon if pyplot is loaded, because pyplot shows the figure
itself. ``STYLE`` is the style of all figures; ``plt.style.use(STYLE)`` applies it to your own.
:func:`save` writes a figure as PNG and SVG. Figures 1 to 4 are those of Goodliff and Miyoshi
(2025), egusphere-2025-933.
"""

from daml.figures.corrections import corrections
from daml.figures.costs import scheme_costs
from daml.figures.diagnosis import calibration
from daml.figures.diagram import loop_diagram
from daml.figures.drawings import (
    analysis_rmse,
    analysis_variants,
    error_maps,
    error_reduction,
    innovations,
    variants,
)
from daml.figures.emulation import emulation
from daml.figures.field import animation, field
from daml.figures.numbers import hidden_numbers
from daml.figures.panels import STYLE, save
from daml.figures.plume import plume
from daml.figures.probabilistic import crps, rank_histogram, spread_error
from daml.figures.spread import attribution, ladder, sweep_scores

__all__ = [
    "STYLE",
    "analysis_rmse",
    "analysis_variants",
    "animation",
    "attribution",
    "calibration",
    "corrections",
    "crps",
    "emulation",
    "error_maps",
    "error_reduction",
    "field",
    "hidden_numbers",
    "innovations",
    "ladder",
    "loop_diagram",
    "plume",
    "rank_histogram",
    "save",
    "scheme_costs",
    "spread_error",
    "sweep_scores",
    "variants",
]
