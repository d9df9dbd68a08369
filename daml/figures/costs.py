"""The accuracy of schemes against what they cost."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from daml.errors import InputError
from daml.figures.panels import INK, LEADS, STYLE, grid_of, label_of, take
from daml.labels.arguments import checked

MARKERS = "os^DvPX*<>hpd"
"""One for each scheme: colours repeat sooner."""
PLAIN = "{x:.2g}"


@checked
def scheme_costs(
    compared: xr.Dataset,
    score: str = "analysis_rmse",
    cost: str = "seconds",
    axes: Axes | None = None,
) -> Figure:
    """Draw a score of schemes against their cost, with one point per scheme.

    The dashed line connects the schemes for which no cheaper scheme is better. Schemes without the
    score are left out.

    Parameters
    ----------
    compared : Dataset
        Result of :func:`daml.compare_schemes`.
    score : str
        ``"analysis_rmse"`` or, for a record without a truth, ``"log_likelihood"``.
    cost : str
        ``"seconds"``, the CPU time for 1,000 steps, or ``"states"``, the number of states that the
        model steps for each step of the record.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the score, the cost or the dim ``scheme`` is missing, no scheme has the score, or
        ``axes`` is not an Axes.

    Examples
    --------
    >>> compared = xr.Dataset(
    ...     {"analysis_rmse": ("scheme", [0.43, 0.20]), "seconds": ("scheme", [0.01, 0.06])},
    ...     coords={"scheme": ["3DVar", "ETKF"]})
    >>> [text.get_text() for text in scheme_costs(compared).axes[0].get_legend().texts]
    ['3DVar', 'ETKF']
    """
    found, paid = take(compared, score, "scheme"), take(compared, cost, "scheme")
    there = np.isfinite(found.values) & np.isfinite(paid.values)
    if not there.any():
        raise InputError(f"scores: no scheme has {score!r}; give schemes that do not fail")
    found, paid = found[there], paid[there]
    order = np.argsort(paid.values, kind="stable")
    found, paid = found[order], paid[order]
    larger_is_better = score == "log_likelihood"
    lost = -found.values if larger_is_better else found.values
    best = lost <= np.minimum.accumulate(lost)
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.4)
        ax: Axes = grid[0, 0]
        ax.plot(paid[best], found[best], color=INK, linewidth=0.8, linestyle="--", zorder=1)
        for k, name in enumerate(found["scheme"].values):
            ax.plot(
                paid[k], found[k], color=LEADS[k % len(LEADS)][0], marker=MARKERS[k % len(MARKERS)],
                markersize=6, linestyle="", zorder=3, label=str(name),
            )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        if not larger_is_better:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(PLAIN)
            ax.yaxis.set_minor_formatter(PLAIN)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        ax.set(xlabel=label_of(paid), ylabel=label_of(found))
    return figure
