"""Scores of a sweep as drawings: the mean over the seeds, and how far they lie apart."""

from __future__ import annotations

from typing import Any, cast

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.errors import InputError
from daml.figures.panels import (
    INK,
    ITERATION,
    LEADS,
    LEGEND,
    LSTM,
    STYLE,
    Panels,
    grid_of,
    label_of,
    pick,
    take,
)
from daml.labels.arguments import checked

NEEDED = ("seed", "iteration")


@checked
def sweep_scores(
    result: xr.Dataset,
    name: str = "analysis_rmse",
    over: str | None = None,
    record: str = "test",
    axes: Axes | None = None,
) -> Figure:
    """Draw a score of a sweep against the iteration, with one line per value of a parameter.

    Each point is the mean over the seeds, and its error bar their standard deviation (no bar for a
    single seed). Members of the sweep that failed are left out.

    Parameters
    ----------
    result : Dataset
        Result of :func:`daml.sweep`, with the score (..., seed, iteration).
    name : str
        Name of the score in ``result``.
    over : str, optional
        Name of the parameter. Default: the parameter that has more than one value.
    record : str
        Record whose scores are drawn, ``"train"`` or ``"test"``, if the score has this dim.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the score, a dim or the record is missing, another dim has more than one value, or
        ``axes`` is not an Axes.

    Examples
    --------
    >>> result = xr.Dataset(
    ...     {"mfe": (("hidden", "seed", "iteration"), [[[3.0], [5.0]], [[2.0], [4.0]]])},
    ...     coords={"hidden": [50, 100], "seed": [0, 1], "iteration": [0]})
    >>> [text.get_text() for text in sweep_scores(result, "mfe").axes[0].get_legend().texts]
    ['hidden 50', 'hidden 100']
    """
    lines = _lines(result, name, over, record)
    lines_dim = str(lines.dims[0])
    mean, bars = lines.mean("seed"), _deviation(lines)
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.2)
        ax: Axes = grid[0, 0]
        for k, value in enumerate(lines[lines_dim].values):
            colour, marker = LEADS[k % len(LEADS)] if len(mean) > 1 else (LSTM, "o")
            shift = 0.03 * (k - (len(mean) - 1) / 2)  # bars side by side can be seen apart
            ax.errorbar(
                lines["iteration"] + shift, mean[k], yerr=bars[k], color=colour, marker=marker,
                capsize=2.5, elinewidth=1, zorder=3, label=_named(lines_dim, value),
            )  # fmt: skip
        ax.set(xlabel=ITERATION, ylabel=label_of(lines))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(ncols=4, **LEGEND)
    return figure


@checked
def attribution(result: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw the errors of several methods: of their analyses, and of their forecasts.

    The upper panel shows the error of the analyses, the middle one the error of forecasts that
    start from these analyses, and the lower one the error of forecasts that start from true states.
    Points are means over the seeds, and error bars their standard deviation.

    Parameters
    ----------
    result : Dataset
        ``analysis_rmse`` (case, seed), ``forecast_rmse`` (case, seed, lead) of forecasts from
        analyses, and ``mfe`` (case, seed, lead) of forecasts from true states, with the coordinates
        ``case``, the names of the methods, and ``lead_steps`` (lead).
    axes : three Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim or a coordinate is missing, or the Axes do not fit.

    Examples
    --------
    >>> result = xr.Dataset(
    ...     {"analysis_rmse": (("case", "seed"), [[1.0], [0.6]]),
    ...      "forecast_rmse": (("case", "seed", "lead"), [[[1.2]], [[0.8]]]),
    ...      "mfe": (("case", "seed", "lead"), [[[0.3]], [[0.1]]])},
    ...     coords={"case": ["model", "loop"], "lead_steps": ("lead", [1])})
    >>> [t.get_text() for t in attribution(result).axes[0].get_yticklabels()]
    ['model', 'loop']
    """
    start = take(result, "analysis_rmse", "case", "seed")
    cases, steps = start["case"].values, take(result, "lead_steps", "lead")
    marks = [LEADS[k % len(LEADS)] for k in range(len(cases))]
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 3, 1, height=7.6)
        top, *others = grid[:, 0]
        mean, bars = start.mean("seed"), _deviation(start)
        top.barh(
            cases, mean, xerr=bars, color=[c for c, _ in marks], height=0.65, capsize=2.5, zorder=3
        )
        top.invert_yaxis()
        top.grid(visible=False, axis="y")
        top.set(xlabel=label_of(start))
        for ax, name in zip(others, ("forecast_rmse", "mfe"), strict=True):
            error = take(result, name, "case", "seed", "lead")
            mean, bars = error.mean("seed"), _deviation(error)
            for k, (colour, marker) in enumerate(marks):
                ax.errorbar(
                    steps, mean[k], yerr=bars[k], color=colour, marker=marker, capsize=2.5,
                    elinewidth=1,
                )  # fmt: skip
            ax.set(xlabel="lead [steps of dt]", ylabel=label_of(error), ylim=(0, None))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@checked
def ladder(result: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw the RMSE of the analyses of several methods, one row per method.

    Each point is the mean over the seeds, with its value above it. The bar reaches from the
    smallest to the largest value of a seed.

    Parameters
    ----------
    result : Dataset
        ``analysis_rmse`` (case, seed), with the coordinate ``case``, the names of the methods.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the variable or a dim is missing, or ``axes`` is not an Axes.

    Examples
    --------
    >>> result = xr.Dataset(
    ...     {"analysis_rmse": (("case", "seed"), [[0.7, 0.6], [0.5, 0.4]])},
    ...     coords={"case": ["model", "loop"]})
    >>> [t.get_text() for t in ladder(result).axes[0].get_yticklabels()]
    ['model', 'loop']
    """
    rmse = take(result, "analysis_rmse", "case", "seed")
    mean = rmse.mean("seed")
    span = np.stack([mean - rmse.min("seed"), rmse.max("seed") - mean])
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=0.7 + 0.34 * len(mean))
        ax: Axes = grid[0, 0]
        cases = mean["case"].values.tolist()
        ax.errorbar(mean, cases, xerr=span, color=LSTM, marker="o", linestyle="", capsize=2.5)
        for case, value in zip(cases, mean.values, strict=True):
            ax.annotate(
                f"{value:.2f}", (value, case), xytext=(0, 5), textcoords="offset points",
                ha="center", color=INK,
            )  # fmt: skip
        ax.invert_yaxis()
        ax.set_ylim(top=-0.7)
        ax.set(xlabel=label_of(rmse), xlim=(0, None))
    return figure


def _deviation(array: xr.DataArray) -> xr.DataArray:
    """Give the standard deviation over the seeds; NaN for a single one, which has no spread."""
    count = array.count("seed")
    squares = ((array - array.mean("seed")) ** 2).sum("seed")
    return cast("xr.DataArray", np.sqrt(squares / (count - 1).where(count > 1)))


def _lines(result: xr.Dataset, name: str, over: str | None, record: str) -> xr.DataArray:
    """Give a score with the dims of lines, seeds and iterations."""
    dims = result[name].dims if isinstance(result, xr.Dataset) and name in result else NEEDED
    score = take(result, name, *map(str, dims))
    for needed in NEEDED:
        if needed not in score.dims:
            raise InputError(f"scores: {name!r} has no dim {needed!r}; give a result of daml.sweep")
    if "record" in score.dims:
        score = pick(score, "record", record)
    more = {str(d): n for d, n in score.sizes.items() if d not in NEEDED}
    if over is not None and over not in more:
        raise InputError(f"scores: no parameter {over!r} in {name!r}; give one of {list(more)}")
    varied = [dim for dim, size in more.items() if size > 1]
    chosen = over or next(iter([*varied, *more]), "scores")
    rest = [dim for dim in more if dim != chosen]
    for dim in rest:
        if more[dim] > 1:
            raise InputError(
                f"scores: {name!r} has {more[dim]} values of {dim!r} beside {chosen!r}; give "
                f"result.isel({dim}=0), or over={dim!r}"
            )
    score = score.isel(dict.fromkeys(rest, 0))
    if chosen not in score.dims:
        score = score.expand_dims({chosen: [name]})
    return score.transpose(chosen, "seed", "iteration")


IN_WORDS = {
    "correction": {True: "corrects the imperfect model", False: "predicts the increment"},
    "warm_start": {True: "goes on from the last weights", False: "each training from scratch"},
}
"""How the values of a parameter read that is true or false."""


def _named(dim: str, value: Any) -> str:
    """Give the name of a line."""
    if dim == "scores":
        return "mean over seeds"
    if dim in IN_WORDS:
        return IN_WORDS[dim][bool(value)]
    return f"{dim} {value:g}" if isinstance(value, float) else f"{dim} {value}"
