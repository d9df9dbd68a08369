"""A forecast beyond the end of an analysis, variable by variable."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import xarray as xr
from matplotlib.figure import Figure

from daml.errors import InputError
from daml.figures.panels import LSTM, STYLE, Panels, grid_of, take
from daml.labels.arguments import checked

MOST = 5
"""Variables that are drawn, unless others are asked for."""


@checked
def plume(
    forecast: xr.Dataset, variables: Sequence[str] | None = None, axes: Panels = None
) -> Figure:
    """Draw a forecast against time: its mean, and for an ensemble its mean ± the spread.

    Parameters
    ----------
    forecast : Dataset
        Result of :func:`daml.forecast_ahead`: ``forecast`` (lead, variable) with the coordinate
        ``time`` (lead), and for an ensemble forecast ``spread`` (lead, variable).
    variables : sequence of str, optional
        Names of the variables to draw, one panel each. Default: the first five.
    axes : array of Axes (variable), optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable or a dim is missing, a name is unknown, or ``axes`` has another number of
        Axes.

    Examples
    --------
    >>> forecast = xr.Dataset(
    ...     {"forecast": (("lead", "variable"), [[1.0], [2.0]])},
    ...     {"lead": [1, 2], "time": ("lead", [8.0, 9.0]), "variable": ["u"]})
    >>> [ax.get_ylabel() for ax in plume(forecast).axes]
    ['u']
    """
    mean = take(forecast, "forecast", "lead", "variable")
    names = [str(name) for name in mean["variable"].values] if "variable" in mean.coords else []
    chosen = names[:MOST] if variables is None else list(variables)
    lacking = [name for name in chosen if name not in names]
    if lacking or not chosen:
        wrong = repr(lacking[0]) if lacking else "name"
        raise InputError(f"plume: no variable {wrong} in 'forecast'; give one of {names[:20]}")
    along = forecast["time"] if "time" in forecast.coords else mean["lead"]
    spread = take(forecast, "spread", "lead", "variable") if "spread" in forecast else None
    with matplotlib.rc_context(STYLE):
        height = 0.6 + 1.3 * len(chosen)
        figure, grid = grid_of(axes, len(chosen), 1, height=height, sharex=True)
        for ax, name in zip(grid[:, 0], chosen, strict=True):
            place = names.index(name)
            line = mean.values[:, place]
            ax.plot(along.values, line, color=LSTM, label="mean")
            if spread is not None:
                width = spread.values[:, place]
                about = {"color": LSTM, "alpha": 0.25, "linewidth": 0}
                ax.fill_between(along.values, line - width, line + width, label="spread", **about)
            ax.set_ylabel(name)
        grid[-1, 0].set_xlabel("time")
        grid[-1, 0].tick_params(axis="x", rotation=20 if along.dtype.kind == "M" else 0)
        if spread is not None:
            grid[0, 0].legend(ncols=2)
    return figure
