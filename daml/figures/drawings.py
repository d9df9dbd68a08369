"""Scores as drawings."""

from __future__ import annotations

import math
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.figures import beyond
from daml.figures.panels import (
    IMPERFECT,
    INK,
    ITERATION,
    LEADS,
    LEGEND,
    LSTM,
    PERFECT,
    STYLE,
    Panels,
    grid_of,
    label_of,
    pick,
    take,
)
from daml.labels.arguments import checked


@checked
def analysis_rmse(scores: xr.Dataset, record: str = "test", axes: Panels = None) -> Figure:
    """Draw Figure 2 of the paper: RMSE of the analysis against the iteration.

    Horizontal lines show the RMSE of 3DVar with the imperfect and with the perfect model. The other
    parts of the figure depend on which optional variables ``scores`` has:

    - ``background_rmse`` adds a line for the error of the background.
    - ``sensitivity_analysis_rmse`` adds a horizontal line for the perfect model with the best size
      of B, and a second panel with the RMSE of both models against the largest background variance.
      A vertical line marks the variance used in the experiment (the attribute ``max_variance`` of
      ``scores``), and "raw" is the climatological covariance without scaling.
    - ``beyond_analysis_rmse`` and ``beyond_seconds`` add a horizontal line for each model that was
      trained through the cycle, with the time that the training took.
    - ``floor_analysis_rmse`` adds a horizontal line for each filter with the perfect model.

    Parameters
    ----------
    scores : Dataset
        ``analysis_rmse`` (record, iteration), ``imperfect_analysis_rmse`` and
        ``perfect_analysis_rmse`` (record), and optionally ``background_rmse`` (record, iteration),
        ``sensitivity_analysis_rmse`` (model, max_variance) of the test record,
        ``beyond_analysis_rmse`` (record, beyond) with ``beyond_seconds`` (beyond), and
        ``floor_analysis_rmse`` (record, filter). Results of :func:`daml.paper.run` have them.
    record : str
        Record whose scores are drawn: ``"train"`` or ``"test"``.
    axes : Axes or two Axes, optional
        Axes to draw into; a single one gets the first panel alone. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim, the record or a model is missing, or the Axes do not fit.
    """
    both = "sensitivity_analysis_rmse" in scores and not isinstance(axes, Axes)
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1 + both, 1, height=3.2 + 2.6 * both)
        ax: Axes = grid[0, 0]
        _analysis(ax, scores, record)
        if "sensitivity_analysis_rmse" in scores and record == "test":
            sizes = take(scores, "sensitivity_analysis_rmse", "model", "max_variance")
            best = float(pick(sizes, "model", "perfect").min())
            ax.axhline(best, color=PERFECT, linestyle=":", label="perfect model, with its best B")
        beyond.levels(ax, scores, record)
        ax.legend(ncols=2, **LEGEND)
        if both:
            _sensitivity(grid[1, 0], scores)
    return figure


@checked
def error_reduction(scores: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw Figure 3 of the paper: reduction of the forecast error against the iteration.

    There is one line per lead. With several seeds, lines are means over the seeds, and bands reach
    from the smallest to the largest value. Models that were trained through the cycle have columns
    of their own at the right, and a horizontal line shows the perfect model, if ``scores`` has
    the optional variables.

    Parameters
    ----------
    scores : Dataset
        ``mfe_reduction`` (iteration, lead) or (seed, iteration, lead) in %, with the coordinate
        ``lead_steps`` (lead), and optionally ``beyond_mfe_reduction`` (beyond, lead) with
        ``beyond_seconds`` (beyond), and ``floor_mfe_reduction`` (lead). Iterations without values
        are left out.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim or a coordinate is missing, or ``axes`` is not an Axes.
    """
    seeds = ("seed",) if "seed" in scores.get("mfe_reduction", xr.DataArray()).dims else ()
    reduction = take(scores, "mfe_reduction", *seeds, "iteration", "lead")
    reduction = reduction.dropna("iteration", how="all")
    steps = take(scores, "lead_steps", "lead")
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.2)
        ax: Axes = grid[0, 0]
        _reductions(ax, reduction, steps)
        beyond.columns(ax, scores)
        low, high = min(0.0, ax.get_ylim()[0]), max(0.0, ax.get_ylim()[1])
        _worse(ax, low, high)
        ax.annotate(
            "larger error than the imperfect model", (0.985, 0.055), xycoords="axes fraction",
            ha="right", va="center", color="#5C5048",
        )  # fmt: skip
        ax.legend(ncols=5, **LEGEND)
    return figure


@checked
def variants(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw Figure 3 of the paper for several variants of the experiment, two panels per row.

    Parameters
    ----------
    scores : Dataset
        ``mfe_reduction`` (variant, seed, iteration, lead) in %, with the coordinates ``variant``,
        whose values are the titles of the panels, and ``lead_steps`` (lead). A variant with fewer
        iterations has NaN in the others. The attribute ``emulator`` is the name of the class that
        is trained (default: "LSTM").
    axes : array of Axes, optional
        Axes to draw into, an even number that suffices for all variants. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim or a coordinate is missing, or the Axes do not fit.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"mfe_reduction": (("variant", "seed", "iteration", "lead"), [[[[-5.0], [5.0]]]])},
    ...     coords={"variant": ["window 3"], "seed": [0], "iteration": [0, 1],
    ...             "lead_steps": ("lead", [1])})
    >>> variants(scores).axes[0].get_title(loc="left")
    'window 3'
    """
    reduction = take(scores, "mfe_reduction", "variant", "seed", "iteration", "lead")
    steps = take(scores, "lead_steps", "lead")
    low, high = min(0.0, float(reduction.min())), max(0.0, float(reduction.max()))
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(reduction, axes)
        for ax, of_variant in zip(grid.flat, reduction, strict=False):
            _reductions(ax, of_variant.dropna("iteration", how="all"), steps)
            _worse(ax, low - 0.03 * (high - low), 1.05 * high)
            ax.set_title(str(of_variant["variant"].values), loc="left")
            ax.set_ylabel(fill(label_of(reduction), 24))
            ax.set_xlabel(_iterations(scores))
        for ax in grid[:, 1:].flat:
            ax.set_ylabel("")
        handles = grid[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=4)
    return figure


@checked
def analysis_variants(scores: xr.Dataset, record: str = "test", axes: Panels = None) -> Figure:
    """Draw Figure 2 of the paper for several variants of the experiment, two panels per row.

    Parameters
    ----------
    scores : Dataset
        ``analysis_rmse`` (variant, record, iteration), ``imperfect_analysis_rmse`` and
        ``perfect_analysis_rmse`` (variant, record), and optionally ``background_rmse`` (variant,
        record, iteration). The coordinate ``variant`` has the titles of the panels. A variant with
        fewer iterations has NaN in the others. The attribute ``emulator`` is the name of the class
        that is trained (default: "LSTM").
    record : str
        Record whose scores are drawn: ``"train"`` or ``"test"``.
    axes : array of Axes, optional
        Axes to draw into, an even number that suffices for all variants. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim or the record is missing, or the Axes do not fit.

    Examples
    --------
    >>> dims = ("variant", "record")
    >>> scores = xr.Dataset(
    ...     {"analysis_rmse": ((*dims, "iteration"), [[[0.6, 0.5]]]),
    ...      "imperfect_analysis_rmse": (dims, [[0.7]]), "perfect_analysis_rmse": (dims, [[0.4]])},
    ...     coords={"variant": ["3DVar"], "record": ["test"], "iteration": [0, 1]})
    >>> analysis_variants(scores).axes[0].get_title(loc="left")
    '3DVar'
    """
    rmse = take(scores, "analysis_rmse", "variant", "record", "iteration")
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(rmse, axes, sharey=True)
        for number, name in enumerate(rmse["variant"].values):
            ax, part = grid.flat[number], scores.isel(variant=number)
            known = part["analysis_rmse"].notnull().any("record")
            _analysis(ax, part.isel(iteration=np.flatnonzero(known)), record)
            ax.set_title(str(name), loc="left")
        for ax in grid[:, 1:].flat:
            ax.set_ylabel("")
        grid[0, 0].set_ylim(bottom=0)  # of all panels, when all are drawn
        handles = grid[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2)
    return figure


@checked
def error_maps(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw Figure 4 of the paper: maps of the forecast error over x0 and x2.

    Rows are leads, and columns are cases (models). Each row has one colour scale, from zero to the
    99th percentile of its values. Bins without data are blank.

    Parameters
    ----------
    scores : Dataset
        ``mfe_map`` (case, lead, x0_bin, x2_bin), NaN in empty bins, with the coordinates ``case``,
        ``lead_steps`` (lead), ``x0_bin`` and ``x2_bin`` (centres of the bins).
    axes : array of Axes (lead, case), optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable, a dim or a coordinate is missing, or the Axes are not (lead, case).
    """
    maps = take(scores, "mfe_map", "lead", "case", "x0_bin", "x2_bin")
    cases, steps = take(scores, "case", "case").values, take(scores, "lead_steps", "lead").values
    x0, x2 = take(scores, "x0_bin", "x0_bin"), take(scores, "x2_bin", "x2_bin")
    share = {"sharex": True, "sharey": True}
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, len(steps), len(cases), 0.7 + 1.5 * len(steps), **share)
        for row, of_lead, step in zip(grid, maps, steps, strict=True):
            known = of_lead.values[np.isfinite(of_lead.values)]
            top = float(np.quantile(known, 0.99)) if known.size else 1.0
            for ax, of_case in zip(row, of_lead, strict=True):
                ax.grid(visible=False)
                # Rasterized: an SVG with a path for each bin is slow to open.
                mesh = ax.pcolormesh(
                    x0, x2, of_case.values.T, cmap="viridis", vmin=0, vmax=top or 1.0,
                    shading="nearest", rasterized=True,
                )  # fmt: skip
            row[0].set_ylabel(f"{step} dt\n{label_of(x2)}")
            bar = figure.colorbar(mesh, ax=list(row), extend="max", aspect=14, pad=0.02)
            bar.set_label(fill(label_of(maps), 18))
        for ax, case in zip(grid[0], cases, strict=True):
            ax.set_title(str(case))
        for ax in grid[-1]:
            ax.set_xlabel(label_of(x0))
    return figure


@checked
def innovations(scores: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw the RMSE of the innovations against the iteration, for a record without a truth.

    Parameters
    ----------
    scores : Dataset
        ``innovation_rmse`` (iteration) of the emulators and ``imperfect_innovation_rmse``, a single
        value, of the imperfect model.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable or a dim is missing, or ``axes`` is not an Axes.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"innovation_rmse": ("iteration", [1.9, 1.7]), "imperfect_innovation_rmse": 2.0},
    ...     coords={"iteration": [0, 1]})
    >>> innovations(scores).axes[0].get_xlabel()
    'iteration n (0 is the first LSTM)'
    """
    rmse = take(scores, "innovation_rmse", "iteration")
    level = take(scores, "imperfect_innovation_rmse")
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.0)
        name = str(scores.attrs.get("emulator", "LSTM"))
        _against_iteration(grid[0, 0], rmse, f"{name}-n")
        grid[0, 0].set_xlabel(ITERATION.replace("LSTM", name))
        grid[0, 0].axhline(float(level), color=IMPERFECT, linestyle="--", label="imperfect model")
        grid[0, 0].legend(ncols=2, **LEGEND)
    return figure


def _analysis(ax: Axes, scores: xr.Dataset, record: str) -> None:
    """Draw the RMSE of the analyses of one loop, with the levels of both models."""
    rmse = pick(take(scores, "analysis_rmse", "record", "iteration"), "record", record)
    name = scores.attrs.get("emulator", "LSTM")
    if "background_rmse" in scores:
        background = pick(take(scores, "background_rmse", "record", "iteration"), "record", record)
        style = {"marker": "o", "markerfacecolor": "white", "linestyle": ":"}
        _against_iteration(ax, background, f"{name}-n, background", **style)
    _against_iteration(ax, rmse, f"{name}-n, analysis")
    for model, colour, line in (("imperfect", IMPERFECT, "--"), ("perfect", PERFECT, "-.")):
        level = float(pick(take(scores, f"{model}_analysis_rmse", "record"), "record", record))
        ax.axhline(level, color=colour, linestyle=line, label=f"{model} model, analysis")
    ax.set_xlabel(_iterations(scores))
    ax.set_ylabel(f"RMSE, {record} record" if "background_rmse" in scores else label_of(rmse))


def _iterations(scores: xr.Dataset) -> str:
    """Give the label of the iterations, which leaves room for a short name alone."""
    return ITERATION if scores.attrs.get("emulator", "LSTM") == "LSTM" else "iteration n"


def _panels(array: xr.DataArray, axes: Panels, **options: Any) -> tuple[Figure, Any]:
    """Give a figure with an Axes for each variant, two in a row."""
    count = array.sizes["variant"]
    rows = math.ceil(count / 2)
    figure, grid = grid_of(axes, rows, 2, height=2.4 * rows, **options)
    for place in grid.flat[count:]:
        place.set_axis_off()
    return figure, grid


def _against_iteration(ax: Axes, array: xr.DataArray, label: str, **style: Any) -> None:
    options = {"color": LSTM, "marker": "o", "zorder": 3, **style}
    ax.plot(array["iteration"], array, label=label, **options)
    ax.set(xlabel=ITERATION, ylabel=label_of(array))
    if array.sizes["iteration"] > 1:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:  # the locator finds no whole number but one
        ax.set_xticks(array["iteration"].values)


def _reductions(ax: Axes, reduction: xr.DataArray, steps: xr.DataArray) -> None:
    """Draw a line per lead; of several seeds the mean, and a band that spans them."""
    for k, step in enumerate(steps.values):
        colour, marker = LEADS[k % len(LEADS)]
        line = reduction.isel(lead=k)
        if "seed" in line.dims:
            span = line.min("seed"), line.max("seed")
            ax.fill_between(line["iteration"], *span, color=colour, alpha=0.2, linewidth=0)
            line = line.mean("seed", keep_attrs=True)
        _against_iteration(ax, line, f"lead {step} dt", color=colour, marker=marker)


def _worse(ax: Axes, low: float, high: float) -> None:
    """Shade what is below zero, with a strip below all data, where words never cover a line."""
    bottom = low - 0.14 * (high - low)
    ax.set_ylim(bottom, high)
    ax.axhspan(bottom, 0, color="#E9E4E0", zorder=0, linewidth=0)
    ax.axhline(0, color="black", linewidth=1.2, zorder=1.5)


def _sensitivity(ax: Axes, scores: xr.Dataset) -> None:
    rmse = take(scores, "sensitivity_analysis_rmse", "model", "max_variance")
    rmse = rmse.sortby("max_variance")
    variance = rmse["max_variance"].values.astype(float)
    finite = variance[np.isfinite(variance)]
    # A log axis has no place for the infinite one: it stands half a decade to the right.
    end = 3.0 * float(finite.max()) if finite.size else 1.0
    place = np.where(np.isfinite(variance), variance, end)
    for model, colour, marker in (("imperfect", IMPERFECT, "s"), ("perfect", PERFECT, "D")):
        line = pick(rmse, "model", model)
        ax.plot(place, line, color=colour, marker=marker, label=f"{model} model, analysis")
    ax.set_xscale("log")
    used = scores.attrs.get("max_variance")
    if used is not None:
        at = float(used) if np.isfinite(float(used)) else end
        ax.axvline(at, color=INK, linewidth=1, linestyle=":", zorder=1, label="B used here")
    names = ["raw" if np.isinf(value) else f"{value:g}" for value in variance]
    ax.set_xticks(place, names)
    ax.minorticks_off()
    ax.set(xlabel=label_of(rmse["max_variance"]), ylabel=label_of(rmse))
    ax.legend(ncols=2, **LEGEND)
