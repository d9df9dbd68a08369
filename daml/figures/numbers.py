"""How many hidden variables a model needs, as a figure."""

from __future__ import annotations

from typing import Any

import matplotlib
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.errors import InputError
from daml.figures.panels import IMPERFECT, INK, LEGEND, LSTM, STYLE, grid_of, label_of, take
from daml.labels.arguments import checked


@checked
def hidden_numbers(numbers: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw the score of each number of hidden variables, and mark the number that was chosen.

    Each point is the negative log-likelihood of the held-out innovations after a short training,
    and its error bar the standard error of the difference from the best score. The dotted line is
    at the best score. The smallest number whose bar reaches this line is chosen.

    Parameters
    ----------
    numbers : Dataset
        Property ``numbers`` of a :class:`daml.emulators.Augmented` that was trained with
        ``hidden_variables="auto"``: ``number_loss`` and ``number_error`` (number), and the
        attribute ``chosen``.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, its dim or the attribute ``chosen`` is missing, or ``axes`` is not an Axes.

    Examples
    --------
    >>> numbers = xr.Dataset(
    ...     {"number_loss": ("number", [0.70, 0.65, 0.60]),
    ...      "number_error": ("number", [0.01, 0.01, 0.0])},
    ...     coords={"number": [0, 1, 2]}, attrs={"chosen": 2})
    >>> [text.get_text() for text in hidden_numbers(numbers).axes[0].get_legend().texts]
    ['tried', 'chosen: 2', 'best']
    """
    loss, error = (take(numbers, f"number_{name}", "number") for name in ("loss", "error"))
    number = take(numbers, "number", "number")
    chosen: Any = numbers.attrs.get("chosen")
    if chosen not in number.values:
        raise InputError(
            "scores: the attribute 'chosen' is needed, one of 'number'; give the 'numbers' of a "
            "daml.emulators.Augmented"
        )
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.0)
        ax: Axes = grid[0, 0]
        ax.errorbar(
            number, loss, yerr=error, color=LSTM, marker="o", capsize=2.5, elinewidth=1, zorder=3,
            label="tried",
        )  # fmt: skip
        ax.plot(
            chosen, loss.sel(number=chosen), color=IMPERFECT, marker="o", markersize=9,
            fillstyle="none", markeredgewidth=1.5, linestyle="", zorder=4,
            label=f"chosen: {chosen}",
        )  # fmt: skip
        ax.axhline(float(loss.min()), color=INK, linewidth=0.8, linestyle=":", label="best")
        ax.set(xlabel=label_of(number), ylabel=label_of(loss))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, names = ax.get_legend_handles_labels()
        order = [names.index(name) for name in ("tried", f"chosen: {chosen}", "best")]
        ax.legend([handles[k] for k in order], [names[k] for k in order], ncols=3, **LEGEND)
    return figure
