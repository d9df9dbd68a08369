"""Scores as drawings."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.arguments import checked
from daml.figures import beyond
from daml.figures.panels import (
    IMPERFECT,
    INK,
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


@checked
def analysis_rmse(scores: xr.Dataset, record: str = "test", axes: Panels = None) -> Figure:
    """Draw Figure 2: RMSE of the analysis against the iteration, with that of both models.

    Where `scores` has `sensitivity_analysis_rmse`, a second panel shows the RMSE of both models'
    3DVar against the largest background variance, with a vertical line at the attribute
    `max_variance` of `scores`; "raw", at the right, is the infinite one: climatology unscaled.

    Parameters
    ----------
    scores : Dataset
        With `analysis_rmse` (record, iteration), `imperfect_analysis_rmse` and
        `perfect_analysis_rmse` (record), and optionally `sensitivity_analysis_rmse`
        (model, max_variance).
    record : str
        ``"train"`` or ``"test"``.
    axes : Axes or two Axes, optional
        With a single one, only the first panel is drawn.

    Raises
    ------
    InputError
        If a variable, a dim, the record or a model is missing, or the Axes do not fit.
    """
    rmse = pick(take(scores, "analysis_rmse", "record", "iteration"), "record", record)
    imperfect, perfect = (
        float(pick(take(scores, f"{model}_analysis_rmse", "record"), "record", record))
        for model in ("imperfect", "perfect")
    )
    both = "sensitivity_analysis_rmse" in scores and not isinstance(axes, Axes)
    with matplotlib.rc_context(STYLE):
        ratios = {"width_ratios": [3, 2]} if both else None
        figure, grid = grid_of(axes, 1, 1 + both, height=3.0, gridspec_kw=ratios)
        _against_iteration(grid[0, 0], rmse, f"LSTM-n, {record}")
        grid[0, 0].axhline(imperfect, color=IMPERFECT, linestyle="--", label="imperfect model")
        grid[0, 0].axhline(perfect, color=PERFECT, linestyle="-.", label="perfect model")
        beyond.levels(grid[0, 0], scores, record)
        grid[0, 0].legend(ncols=3 - both, **LEGEND)
        if both:
            _sensitivity(grid[0, 1], scores)
    return figure


@checked
def error_reduction(scores: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Draw Figure 3: reduction of the forecast error against the iteration, one line per lead.

    Parameters
    ----------
    scores : Dataset
        With `mfe_reduction` (iteration, lead) in % and the coordinate `lead_steps` (lead).
    axes : Axes, optional

    Raises
    ------
    InputError
        If a variable, a dim or a coordinate is missing, or `axes` is not an Axes.
    """
    reduction = take(scores, "mfe_reduction", "iteration", "lead")
    steps = take(scores, "lead_steps", "lead")
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.2)
        ax: Axes = grid[0, 0]
        for k, step in enumerate(steps.values):
            colour, marker = LEADS[k % len(LEADS)]
            line = reduction.isel(lead=k)
            _against_iteration(ax, line, f"lead {step} dt", color=colour, marker=marker)
        beyond.columns(ax, scores)
        low, high = min(0.0, ax.get_ylim()[0]), max(0.0, ax.get_ylim()[1])
        # A strip below all data, so that the words in it never cover a line.
        bottom = low - 0.14 * (high - low)
        ax.set_ylim(bottom, high)
        ax.axhspan(bottom, 0, color="#E9E4E0", zorder=0, linewidth=0)
        ax.axhline(0, color="black", linewidth=1.2, zorder=1.5)
        ax.annotate(
            "larger error than the imperfect model", (0.985, 0.055), xycoords="axes fraction",
            ha="right", va="center", color="#5C5048",
        )  # fmt: skip
        ax.legend(ncols=5, **LEGEND)
    return figure


@checked
def error_maps(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw Figure 4: maps of the forecast error over x0 and x2; rows are leads, columns cases.

    Each row has one colour scale, from zero to its 99th percentile. Bins without data are blank.

    Parameters
    ----------
    scores : Dataset
        With `mfe_map` (case, lead, x0_bin, x2_bin), NaN in empty bins, and the coordinates
        `case`, `lead_steps` (lead), `x0_bin` and `x2_bin` (the centres).
    axes : array of Axes (lead, case), optional

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
        With `innovation_rmse` (iteration) and `imperfect_innovation_rmse` ().
    axes : Axes, optional

    Raises
    ------
    InputError
        If a variable or a dim is missing, or `axes` is not an Axes.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"innovation_rmse": ("iteration", [1.9, 1.7]), "imperfect_innovation_rmse": 2.0},
    ...     coords={"iteration": [0, 1]})
    >>> innovations(scores).axes[0].get_xlabel()
    'iteration'
    """
    rmse = take(scores, "innovation_rmse", "iteration")
    level = take(scores, "imperfect_innovation_rmse")
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.0)
        _against_iteration(grid[0, 0], rmse, "LSTM-n")
        grid[0, 0].axhline(float(level), color=IMPERFECT, linestyle="--", label="imperfect model")
        grid[0, 0].legend(ncols=2, **LEGEND)
    return figure


def _against_iteration(ax: Axes, array: xr.DataArray, label: str, **style: Any) -> None:
    options = {"color": LSTM, "marker": "o", "zorder": 3, **style}
    ax.plot(array["iteration"], array, label=label, **options)
    ax.set(xlabel="iteration", ylabel=label_of(array))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


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
        ax.plot(place, line, color=colour, marker=marker, label=f"{model} model")
    ax.set_xscale("log")
    used = scores.attrs.get("max_variance")
    if used is not None:
        at = float(used) if np.isfinite(float(used)) else end
        ax.axvline(at, color=INK, linewidth=1, linestyle=":", zorder=1, label="used")
    names = ["raw" if np.isinf(value) else f"{value:g}" for value in variance]
    ax.set_xticks(place, names)
    ax.minorticks_off()
    ax.set(xlabel=label_of(rmse["max_variance"]), ylabel=label_of(rmse))
    ax.legend(ncols=2, **LEGEND)
