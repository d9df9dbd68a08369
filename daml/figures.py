"""Scores to matplotlib: one style, one function a figure; nothing is computed here.

Every function takes the Dataset of scores, reads units and names from the attributes of its
variables, and returns the `matplotlib.figure.Figure` that holds the drawing; with `axes` it
draws there, without it in a new figure. No figure is registered with pyplot: none stays open,
and no display is needed. `save` writes one as PNG and SVG. Figures 1 to 4 are those of
Goodliff and Miyoshi (2025), egusphere-2025-933.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from daml.errors import InputError, StoreError

Panels: TypeAlias = Axes | Sequence[Any] | npt.NDArray[Any] | None
WIDTH = 6.5
IMPERFECT, PERFECT, LSTM, INK = "#D55E00", "#009E73", "#0072B2", "#333333"
# Red, green, blue, purple as in the paper, in the hues of Okabe and Ito (2008).
LEADS = (("#D55E00", "o"), ("#009E73", "s"), ("#0072B2", "^"), ("#B5609A", "D"), ("#E69F00", "v"))
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E3E6E8", "grid.linewidth": 0.6,
    "lines.linewidth": 1.5, "lines.markersize": 3.5, "savefig.dpi": 200,
}  # fmt: skip
ARROW = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "mutation_scale": 11}
LEGEND: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
SVG: Any = {"svg.hashsalt": "daml", "svg.fonttype": "path"}
# The diagram, in its own units: boxes are (x, y, words, fill, edge).
BOXES = (
    (7.75, 5.55, "Observations", "#FFF4D6", "#E69F00"),
    (7.75, 1.3, "Train LSTM-n", "#E3F0F8", LSTM),
    (4.55, 4.0, "Forecast\nby the model", "#E3F0F8", LSTM),
    (4.55, 1.3, "LSTM-n replaces\nthe model", "#E3F0F8", LSTM),
    (10.95, 4.0, "Analysis\nby 3DVar", "#DFF3EC", PERFECT),
    (10.95, 1.3, "Analysis\ntrajectory", "#DFF3EC", PERFECT),
    (1.25, 4.0, "Imperfect\nmodel", "#FBE7DB", IMPERFECT),
    (1.25, 1.3, "Improved\nmodel", "#E3F0F8", LSTM),
)  # fmt: skip
ARROWS = (
    ((2.4, 4.0), (3.4, 4.0)), ((5.7, 4.22), (9.8, 4.22)), ((9.8, 3.72), (5.7, 3.72)),
    ((8.9, 5.55), (10.95, 4.55)), ((10.95, 3.45), (10.95, 1.85)), ((9.8, 1.3), (8.9, 1.3)),
    ((6.6, 1.3), (5.7, 1.3)), ((4.55, 1.85), (4.55, 3.45)), ((3.4, 1.3), (2.4, 1.3)),
)  # fmt: skip
NOTES = (
    (1.25, 4.82, "start, n = 0"), (7.75, 4.45, "background"), (7.75, 3.47, "initial state"),
    (5.2, 2.4, "next n"), (1.25, 2.12, "result, last n"),
)  # fmt: skip


def loop_diagram(axes: Axes | None = None) -> Figure:
    """Figure 1, a diagram of the loop: the DA cycle inside the outer loop that trains the model.

    Raises
    ------
    InputError
        If `axes` is not a matplotlib Axes.
    """
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(axes, 1, 1, height=3.6)
        ax = grid[0, 0]
        ax.set(xlim=(0, 13), ylim=(0, 7.2), aspect="equal")
        ax.set_axis_off()
        ax.text(3.1, 6.62, "Outer loop: iteration n", weight="bold", va="center")
        ax.text(3.4, 5.85, "DA cycle", weight="bold", va="center")
        frame: Any = {"boxstyle": "round,pad=0,rounding_size=0.18", "linewidth": 1.1}
        ax.add_patch(FancyBboxPatch((2.8, 0.15), 9.95, 6.9, fc="white", ec="#8A9299", **frame))
        ax.add_patch(FancyBboxPatch((3.1, 2.95), 9.3, 3.3, fc="#F1F3F5", ec="#8A9299", **frame))
        for x, y, words, fc, ec in BOXES:
            ax.add_patch(FancyBboxPatch((x - 1.15, y - 0.55), 2.3, 1.1, fc=fc, ec=ec, **frame))
            ax.text(x, y, words, ha="center", va="center", linespacing=1.25)
        for start, end in ARROWS:
            corner = start[0] != end[0] and start[1] != end[1]
            bend = "angle,angleA=0,angleB=90" if corner else "arc3"
            ax.annotate("", end, start, arrowprops={**ARROW, "connectionstyle": bend})
        for x, y, words in NOTES:
            ax.text(x, y, words, ha="center", va="center", size=8, color=INK)
    return figure


def analysis_rmse(scores: xr.Dataset, record: str = "test", axes: Panels = None) -> Figure:
    """Figure 2: analysis RMSE against the iteration, between the imperfect and the perfect model.

    Where `scores` has `sensitivity_analysis_rmse`, a second panel shows the RMSE of both models'
    3DVar against the largest background variance, with a vertical line at the attribute
    `max_variance` of `scores`; "raw", at the right, is the infinite one: climatology unscaled.

    Parameters
    ----------
    scores : Dataset
        With `analysis_rmse` (record, iteration), `imperfect_analysis_rmse` and
        `perfect_analysis_rmse` (record), perhaps `sensitivity_analysis_rmse`
        (model, max_variance).
    record : str
        Which record: ``"train"`` or ``"test"``.
    axes : Axes or two Axes, optional
        One draws the first panel only.

    Raises
    ------
    InputError
        If a variable, a dim, the record or a model is missing, or the Axes do not fit.
    """
    rmse = _pick(_take(scores, "analysis_rmse", "record", "iteration"), "record", record)
    imperfect, perfect = (
        float(_pick(_take(scores, f"{model}_analysis_rmse", "record"), "record", record))
        for model in ("imperfect", "perfect")
    )
    both = "sensitivity_analysis_rmse" in scores and not isinstance(axes, Axes)
    with matplotlib.rc_context(STYLE):
        ratios = {"width_ratios": [3, 2]} if both else None
        figure, grid = _panels(axes, 1, 1 + both, height=3.0, gridspec_kw=ratios)
        _against_iteration(grid[0, 0], rmse, f"LSTM-n, {record}")
        grid[0, 0].axhline(imperfect, color=IMPERFECT, linestyle="--", label="imperfect model")
        grid[0, 0].axhline(perfect, color=PERFECT, linestyle="-.", label="perfect model")
        grid[0, 0].legend(ncols=3 - both, **LEGEND)
        if both:
            _sensitivity(grid[0, 1], scores)
    return figure


def error_reduction(scores: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Figure 3: reduction of the model forecast error against the iteration, a line a lead.

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
    reduction = _take(scores, "mfe_reduction", "iteration", "lead")
    steps = _take(scores, "lead_steps", "lead")
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(axes, 1, 1, height=3.2)
        ax: Axes = grid[0, 0]
        for k, step in enumerate(steps.values):
            colour, marker = LEADS[k % len(LEADS)]
            line = reduction.isel(lead=k)
            _against_iteration(ax, line, f"lead {step} dt", color=colour, marker=marker)
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


def error_maps(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Figure 4: maps of the model forecast error over x0 and x2: rows are leads, columns cases.

    A row shares one colour scale, from zero to its 99th percentile; bins without data are blank.

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
    maps = _take(scores, "mfe_map", "lead", "case", "x0_bin", "x2_bin")
    cases, steps = _take(scores, "case", "case").values, _take(scores, "lead_steps", "lead").values
    x0, x2 = _take(scores, "x0_bin", "x0_bin"), _take(scores, "x2_bin", "x2_bin")
    share = {"sharex": True, "sharey": True}
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(axes, len(steps), len(cases), 0.7 + 1.5 * len(steps), **share)
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
            row[0].set_ylabel(f"{step} dt\n{_label(x2)}")
            bar = figure.colorbar(mesh, ax=list(row), extend="max", aspect=14, pad=0.02)
            bar.set_label(fill(_label(maps), 18))
        for ax, case in zip(grid[0], cases, strict=True):
            ax.set_title(str(case))
        for ax in grid[-1]:
            ax.set_xlabel(_label(x0))
    return figure


def innovations(scores: xr.Dataset, axes: Axes | None = None) -> Figure:
    """RMSE of the background's innovations against the iteration, for a record without truth.

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
    rmse = _take(scores, "innovation_rmse", "iteration")
    level = _take(scores, "imperfect_innovation_rmse")
    with matplotlib.rc_context(STYLE):
        figure, grid = _panels(axes, 1, 1, height=3.0)
        _against_iteration(grid[0, 0], rmse, "LSTM-n")
        grid[0, 0].axhline(float(level), color=IMPERFECT, linestyle="--", label="imperfect model")
        grid[0, 0].legend(ncols=2, **LEGEND)
    return figure


def save(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Paths of NAME.png (200 dpi) and NAME.svg, written into `folder`.

    The same scores, drawn anew, give the same bytes: no date and no random ids.

    Raises
    ------
    InputError
        If `name` is not a plain name.
    StoreError
        If the folder cannot be made or written.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> [path.name for path in save(loop_diagram(), mkdtemp(), "loop")]
    ['loop.png', 'loop.svg']
    """
    if not name or Path(name).name != name:
        raise InputError(f"save: name {name!r} is not plain; give a word such as 'figure2'")
    png, svg = Path(folder, f"{name}.png"), Path(folder, f"{name}.svg")
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(SVG):
            figure.savefig(png, dpi=200)
            figure.savefig(svg, dpi=200, metadata={"Date": None})
    except OSError as error:
        raise StoreError(f"save: cannot write {name!r} into {str(folder)!r}: {error}") from error
    return png, svg


def _take(scores: xr.Dataset, name: str, *dims: str) -> xr.DataArray:
    if not isinstance(scores, xr.Dataset):
        raise InputError(f"scores: a {type(scores).__name__} was given; give an xarray Dataset")
    need = f"{name!r} ({', '.join(dims)})"
    if name not in scores.variables:
        has = ", ".join(map(str, scores.data_vars)) or "no variables"
        raise InputError(f"scores: {need} is needed; the Dataset given has {has}")
    if set(scores[name].dims) != set(dims):
        has = ", ".join(map(str, scores[name].dims))
        raise InputError(f"scores: {need} is needed; {name!r} given has dims ({has})")
    return scores[name].transpose(*dims)


def _pick(array: xr.DataArray, dim: str, value: str) -> xr.DataArray:
    has: list[Hashable] = array[dim].values.tolist() if dim in array.coords else []
    if value not in has:
        raise InputError(f"scores: no {dim} {value!r} in {array.name!r}; give one of {has}")
    return array.isel({dim: has.index(value)})


def _panels(
    axes: Panels, rows: int, columns: int, height: float, **options: Any
) -> tuple[Figure, Any]:
    """Figure and its Axes (rows, columns): new ones, or those that the caller gave."""
    if axes is None:
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)
    given = np.atleast_1d(np.asarray(axes, dtype=object))
    if given.size != rows * columns or not all(isinstance(ax, Axes) for ax in given.flat):
        kind = type(given.flat[0]).__name__ if given.size else "nothing"
        raise InputError(f"axes: {given.size} of {kind} given; give {rows} x {columns} Axes")
    return given.flat[0].get_figure(root=True), given.reshape(rows, columns)


def _label(array: xr.DataArray) -> str:
    name = str(array.attrs.get("long_name", array.name))
    return f"{name} [{array.attrs['units']}]" if array.attrs.get("units") else name


def _against_iteration(ax: Axes, array: xr.DataArray, label: str, **style: Any) -> None:
    options = {"color": LSTM, "marker": "o", "zorder": 3, **style}
    ax.plot(array["iteration"], array, label=label, **options)
    ax.set(xlabel="iteration", ylabel=_label(array))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _sensitivity(ax: Axes, scores: xr.Dataset) -> None:
    rmse = _take(scores, "sensitivity_analysis_rmse", "model", "max_variance")
    rmse = rmse.sortby("max_variance")
    variance = rmse["max_variance"].values.astype(float)
    finite = variance[np.isfinite(variance)]
    # A log axis has no place for the infinite one: it stands half a decade to the right.
    end = 3.0 * float(finite.max()) if finite.size else 1.0
    place = np.where(np.isfinite(variance), variance, end)
    for model, colour, marker in (("imperfect", IMPERFECT, "s"), ("perfect", PERFECT, "D")):
        line = _pick(rmse, "model", model)
        ax.plot(place, line, color=colour, marker=marker, label=f"{model} model")
    ax.set_xscale("log")
    used = scores.attrs.get("max_variance")
    if used is not None:
        at = float(used) if np.isfinite(float(used)) else end
        ax.axvline(at, color=INK, linewidth=1, linestyle=":", zorder=1, label="used")
    names = ["raw" if np.isinf(value) else f"{value:g}" for value in variance]
    ax.set_xticks(place, names)
    ax.minorticks_off()
    ax.set(xlabel=_label(rmse["max_variance"]), ylabel=_label(rmse))
    ax.legend(ncols=2, **LEGEND)
