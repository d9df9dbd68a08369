"""What was trained through the cycle, beside the passes of the paper's loop."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from daml.figures.panels import INK, LEADS, pick, take

STYLES = {"correction": ("-", "corrects the model"), "LSTM": (":", "LSTM alone")}


def levels(ax: Axes, scores: xr.Dataset, record: str) -> None:
    """Draw the RMSE of each as a level, with the seconds that it took; nothing if none is there."""
    if "beyond_analysis_rmse" not in scores:
        return
    rmse = pick(take(scores, "beyond_analysis_rmse", "record", "beyond"), "record", record)
    seconds = take(scores, "beyond_seconds", "beyond")
    for name in rmse["beyond"].values:
        line, told = STYLES[str(name)]
        level, took = (float(array.sel(beyond=name)) for array in (rmse, seconds))
        label = f"beyond the paper: {told}, {took:.0f} s"
        ax.axhline(level, color=INK, linestyle=line, linewidth=1.2, label=label)


def columns(ax: Axes, scores: xr.Dataset) -> None:
    """Put the reductions of each right of the passes, a mark a lead, in the leads' colours."""
    if "beyond_mfe_reduction" not in scores:
        return
    reduction = take(scores, "beyond_mfe_reduction", "beyond", "lead")
    seconds = take(scores, "beyond_seconds", "beyond")
    last = float(scores["iteration"].max())
    gap = max(0.06 * last, 0.5)
    edge = last + 0.6 * gap
    ax.axvline(edge, color=INK, linewidth=0.8, linestyle=":")
    for place, name in enumerate(reduction["beyond"].values):
        at = edge + (place + 0.9) * 1.6 * gap
        for lead, value in enumerate(reduction.sel(beyond=name).values):
            colour, marker = LEADS[lead % len(LEADS)]
            ax.plot([at], [value], color=colour, marker=marker, markersize=5, zorder=4)
        told = f"{STYLES[str(name)][1]}, {float(seconds.sel(beyond=name)):.0f} s"
        ax.annotate(
            told, (at, 0.1), xycoords=("data", "axes fraction"), rotation=90,
            ha="center", va="bottom", fontsize=7, color=INK,
        )  # fmt: skip
    ax.annotate(
        "beyond the paper", (edge, 1.0), xycoords=("data", "axes fraction"),
        xytext=(3, -3), textcoords="offset points", ha="left", va="top", fontsize=7, color=INK,
    )  # fmt: skip
    ax.set_xlim(right=edge + (len(reduction) + 0.6) * 1.6 * gap)
