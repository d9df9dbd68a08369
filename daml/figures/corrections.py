"""The analyses that corrections of a model bring, beside published ones."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from daml.figures.panels import INK, LSTM, STYLE, Panels, grid_of, label_of, take
from daml.labels.arguments import checked


@checked
def corrections(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw the RMSE of the analysis for each correction of a model, with the published RMSE.

    There is one panel per number of observed variables. Bars show the RMSE measured with daml, and
    short lines the published one.

    Parameters
    ----------
    scores : Dataset
        Result of :func:`daml.experiments.amemiya2023.collect` or of
        :func:`daml.experiments.bocquet_brajard.collect`: ``analysis_rmse`` and ``published_rmse``
        (observed, correction).
    axes : array of Axes (observed), optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a score is missing, or ``axes`` has another number of Axes.

    Examples
    --------
    >>> dims = ("observed", "correction")
    >>> scores = xr.Dataset(
    ...     {"analysis_rmse": (dims, [[0.09, 0.08]]), "published_rmse": (dims, [[0.087, 0.083]])},
    ...     {"observed": [8], "correction": ["none", "linear"]})
    >>> len(corrections(scores).axes)
    1
    """
    found = take(scores, "analysis_rmse", "observed", "correction")
    given = take(scores, "published_rmse", "observed", "correction")
    names = [str(name) for name in found["correction"].values]
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, found.sizes["observed"], height=2.8, sharey=True)
        for ax, measured, published in zip(grid[0], found, given, strict=True):
            at = np.arange(len(names))
            ax.bar(at, measured, color=LSTM, width=0.6, label="measured")
            ax.plot(
                at, published, color=INK, linestyle="", marker="_", markersize=18, label="published"
            )
            ax.set(title=f"{int(measured['observed'])} observed", ylabel=label_of(found))
            ax.set_xticks(at, names)
            ax.legend()
    return figure
