"""What was trained through the cycle, beside the passes of the paper's loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from daml.figures.panels import INK, LEADS, PERFECT, pick, take

STYLES = {
    "correction": ("-", "LSTM\ncorrects"),
    "LSTM": (":", "LSTM\nalone"),
    "hidden": ("--", "hidden\nvariables"),
}
FLOORS: dict[str, Any] = {"ETKF": (0, (4, 1, 1, 1, 1, 1)), "sigma points": (0, (1, 1))}
"""Lines of the perfect model's filters."""
BESIDE = 0.31
"""Part of the width by which labels stand apart: levels may lie close together."""
SMALL: Any = {"fontsize": 7, "color": INK}


def levels(ax: Axes, scores: xr.Dataset, record: str) -> None:
    """Draw the RMSE of each as a level, with the seconds that it took; nothing if none is there.

    The filters of the perfect model are levels, too; no training can go below the best of them.
    """
    if "floor_analysis_rmse" in scores:
        floor = pick(take(scores, "floor_analysis_rmse", "record", "filter"), "record", record)
        for name in floor["filter"].values:
            level, label = float(floor.sel(filter=name)), f"perfect model, {name}"
            dashes = FLOORS[str(name)]
            ax.axhline(level, color=PERFECT, linestyle=dashes, linewidth=1.2, label=label)
    if "beyond_analysis_rmse" not in scores:
        return
    rmse = pick(take(scores, "beyond_analysis_rmse", "record", "beyond"), "record", record)
    seconds = take(scores, "beyond_seconds", "beyond")
    for number, name in enumerate(rmse["beyond"].values):
        line, title = STYLES[str(name)]
        level, took = (float(array.sel(beyond=name)) for array in (rmse, seconds))
        ax.axhline(level, color=INK, linestyle=line, linewidth=1.2)
        words = f"beyond the paper: {title}, {took:.0f} s".replace("\n", " ")
        ax.annotate(
            words, (0.99 - BESIDE * number, level), xycoords=("axes fraction", "data"),
            xytext=(0, 1.5), textcoords="offset points", ha="right", va="bottom", **SMALL,
        )  # fmt: skip


def columns(ax: Axes, scores: xr.Dataset) -> None:
    """Draw the reductions of each to the right of the passes, one mark per lead, in its colour."""
    if "beyond_mfe_reduction" not in scores:
        return
    reduction = take(scores, "beyond_mfe_reduction", "beyond", "lead")
    seconds = take(scores, "beyond_seconds", "beyond")
    last = float(scores["iteration"].max())
    width = 0.1 * max(last, 1.0)
    edge = last + width / 2
    places = edge + width * (np.arange(len(reduction)) + 0.6)
    for at, values in zip(places, reduction.values, strict=True):
        for lead, value in enumerate(values):
            colour, marker = LEADS[lead % len(LEADS)]
            ax.plot([at], [value], color=colour, marker=marker, markersize=5, zorder=4)
    if "floor_mfe_reduction" in scores:
        floor = take(scores, "floor_mfe_reduction", "lead")
        level = float(floor.mean("lead"))
        ax.axhline(level, color=PERFECT, linestyle=(0, (1, 1)))
        ax.annotate(
            "perfect model", (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, -2),
            textcoords="offset points", ha="left", va="top", fontsize=7, color=PERFECT,
        )  # fmt: skip
    ax.axvline(edge, color=INK, linewidth=0.8, linestyle=":")
    ax.annotate(
        "beyond the paper", (edge, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2),
        textcoords="offset points", ha="left", va="bottom", **SMALL,
    )  # fmt: skip
    numbers = [n for n in MaxNLocator(integer=True).tick_values(0, last) if 0 <= n <= last]
    took = seconds.sel(beyond=reduction["beyond"]).values
    titles = [STYLES[str(name)][1] for name in reduction["beyond"].values]
    words = [f"{name}\n{time:.0f} s" for name, time in zip(titles, took, strict=True)]
    ax.set_xticks([*numbers, *places], [*(f"{n:g}" for n in numbers), *words])
    for label in ax.get_xticklabels()[len(numbers) :]:
        label.set_fontsize(7)
    ax.set_xlim(right=places[-1] + width / 2)
