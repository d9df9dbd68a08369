"""Scores of ensembles as figures: ranks, CRPS, spread and error."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.errors import InputError
from daml.figures.panels import (
    INK,
    LEADS,
    LEGEND,
    LSTM,
    STYLE,
    Panels,
    grid_of,
    label_of,
    take,
)
from daml.labels.arguments import checked

ACROSS = 4
"""Histograms in a row."""
WORDS = ("RMSE of the mean", "spread")
MANY = 30
"""Points of a line that still have a marker each."""


@checked
def rank_histogram(found: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw how often the truth has each rank among the members of an ensemble.

    A grey band shows where 95 % of the bars of a flat histogram lie. If the result has a further
    dim, such as ``lead`` or ``variable``, there is one panel for each of its values.

    Parameters
    ----------
    found : Dataset
        Result of :func:`daml.verification.probabilistic.rank_histogram`: ``frequency`` (rank) or
        (another dim, rank), with ``flat_low`` and ``flat_high``.
    axes : Axes, or array of Axes with one per panel, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable or a dim is missing, there are several further dims, or the Axes do not fit.

    Examples
    --------
    >>> found = xr.Dataset(
    ...     {"frequency": ("rank", [0.3, 0.2, 0.5]), "flat_low": 0.25, "flat_high": 0.4},
    ...     coords={"rank": [1, 2, 3]})
    >>> len(rank_histogram(found).axes[0].patches)
    4
    """
    other = _further(found, "frequency", "rank")
    frequency = take(found, "frequency", *other, "rank")
    low, high = (take(found, name, *other) for name in ("flat_low", "flat_high"))
    panels = list(_parts(other, frequency, low, high))
    columns = min(len(panels), ACROSS)
    rows = -(-len(panels) // columns)
    share = {"sharex": True, "sharey": True}
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, rows, columns, height=0.5 + 2.3 * rows, **share)
        for ax in grid.flat[len(panels) :]:
            ax.set_axis_off()
        for ax, (name, (bars, bottom, top)) in zip(grid.flat, panels, strict=False):
            ax.axhspan(
                float(bottom), float(top), color=INK, alpha=0.15, linewidth=0,
                label="95 % of a flat histogram",
            )  # fmt: skip
            ax.bar(bars["rank"], bars, width=0.8, color=LSTM, zorder=0.9)
            ax.set_title(name, loc="left")
            ax.grid(visible=False, axis="x")
            ax.set_xlim(bars["rank"].values[0] - 0.6, bars["rank"].values[-1] + 0.6)
        for ax in grid[-1]:
            ax.set_xlabel("rank" if other else label_of(frequency["rank"]))
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for ax in grid[:, 0]:
            ax.set_ylabel(label_of(frequency))
        if other:  # titles stand where the legend of a single panel does
            handles = grid[0, 0].get_legend_handles_labels()
            figure.legend(*handles, loc="outside upper center")
        else:
            grid[0, 0].legend(**LEGEND)
    return figure


@checked
def crps(scores: xr.Dataset | xr.DataArray, axes: Axes | None = None) -> Figure:
    """Draw the continuous ranked probability score (CRPS) against the lead, or against time.

    If the scores have another dim, there is one line for each of its values.

    Parameters
    ----------
    scores : Dataset or DataArray
        Result of :func:`daml.verification.probabilistic.crps`: ``crps`` (lead) or (time), and
        perhaps another dim such as ``scheme``.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the variable or the dim is missing, there are several further dims, or ``axes`` is not an
        Axes.

    Examples
    --------
    >>> scores = xr.Dataset({"crps": ("lead", [0.1, 0.2])}, coords={"lead": [0.05, 0.1]})
    >>> crps(scores).axes[0].get_xlabel()
    'lead'
    """
    if isinstance(scores, xr.DataArray):
        scores = scores.to_dataset(name="crps")
    along = _along(scores, "crps")
    other = _further(scores, "crps", along)
    score = take(scores, "crps", *other, along)
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.0)
        ax: Axes = grid[0, 0]
        for number, (name, (line,)) in enumerate(_parts(other, score)):
            _against(ax, line, along, number, label=name)
        ax.set(ylabel=label_of(score), ylim=(0, None))
        if other:
            ax.legend(ncols=4, **LEGEND)
    return figure


@checked
def spread_error(found: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw the spread of an ensemble and the error of its mean against the lead, or against time.

    Parameters
    ----------
    found : Dataset
        Result of :func:`daml.verification.probabilistic.spread_error`: ``spread`` and ``error``
        (lead) or (time), and perhaps another dim such as ``scheme``, with one colour per value.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable or a dim is missing, there are several further dims, or ``axes`` is not an
        Axes.

    Examples
    --------
    >>> found = xr.Dataset(
    ...     {"spread": ("lead", [0.1, 0.2]), "error": ("lead", [0.1, 0.3])},
    ...     coords={"lead": [0.05, 0.1]})
    >>> [line.get_label() for line in spread_error(found).axes[0].lines]
    ['RMSE of the mean', 'spread']
    """
    along = _along(found, "spread")
    other = _further(found, "spread", along)
    error, spread = (take(found, name, *other, along) for name in ("error", "spread"))
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.0)
        ax: Axes = grid[0, 0]
        for number, (name, lines) in enumerate(_parts(other, error, spread)):
            for place, (line, words) in enumerate(zip(lines, WORDS, strict=True)):
                label = f"{name}, {words}" if other else words
                colour = number if other else 2 * place
                _against(ax, line, along, colour, label=label, linestyle=("-", "--")[place])
        units = error.attrs.get("units", "1")
        ax.set(ylabel="spread and error" + (f" [{units}]" if units != "1" else ""), ylim=(0, None))
        ax.legend(ncols=4 if not other else 2, **LEGEND)
    return figure


def _along(scores: xr.Dataset, name: str) -> str:
    """Give the dim of the horizontal axis."""
    dims = scores[name].dims if name in scores else ()
    return next((dim for dim in ("lead", "time") if dim in dims), "lead")


def _further(scores: xr.Dataset, name: str, along: str) -> tuple[str, ...]:
    """Give the dim beside the one of the horizontal axis, if there is one."""
    dims = scores[name].dims if name in scores else ()
    found = tuple(str(dim) for dim in dims if dim != along)
    if len(found) > 1:
        raise InputError(
            f"scores: {name!r} has the dims {dims}; give ({along}) and at most one more: take "
            "the mean over the others, or select"
        )
    return found


def _parts(
    other: tuple[str, ...], *arrays: xr.DataArray
) -> Iterator[tuple[str, list[xr.DataArray]]]:
    """Yield name and parts of arrays for each value of a dim; without one, the arrays."""
    if not other:
        yield "", list(arrays)
    for place in range(arrays[0].sizes[other[0]] if other else 0):
        parts = [array.isel({other[0]: place}) for array in arrays]
        value = parts[0][other[0]] if other[0] in parts[0].coords else place
        yield _named(other[0], value), parts


def _named(dim: Hashable, value: Any) -> str:
    """Say which value of a dim something is of; a text speaks for itself."""
    plain = np.asarray(value)
    if plain.dtype.kind in "OUST":
        return str(plain)
    return f"{dim} {plain:.3g}" if plain.dtype.kind in "fiu" else f"{dim} {plain}"


def _against(ax: Axes, line: xr.DataArray, along: str, number: int, **style: Any) -> None:
    """Draw a line; spans of time are shown in hours."""
    x, label = line[along].values, label_of(line[along])
    if x.dtype.kind == "m":
        x, label = x / np.timedelta64(1, "h"), f"{along} [h]"
    colour, marker = LEADS[number % len(LEADS)]
    points: Any = {"marker": marker} if len(x) <= MANY else {"linewidth": 0.8}
    ax.plot(x, line, color=colour, **points, **style)
    ax.set_xlabel(label)
