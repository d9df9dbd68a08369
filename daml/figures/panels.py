"""The style, the panels and the checks that the figures share."""

from __future__ import annotations

import io
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from daml.errors import InputError, StoreError

Panels: TypeAlias = Axes | Sequence[Any] | npt.NDArray[Any] | None
WIDTH = 5.4
IMPERFECT, PERFECT, LSTM, INK = "#D55E00", "#009E73", "#0072B2", "#333333"
# Red, green, blue, purple as in the paper, in the hues of Okabe and Ito (2008).
LEADS = (
    ("#D55E00", "o"),
    ("#009E73", "s"),
    ("#0072B2", "^"),
    ("#B5609A", "D"),
    ("#E69F00", "v"),
    ("#777777", "P"),
)
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E3E6E8", "grid.linewidth": 0.6,
    "axes.prop_cycle": cycler(color=[LSTM, IMPERFECT, PERFECT, "#E69F00", "#B5609A", "#777777"]),
    "lines.linewidth": 1.5, "lines.markersize": 3.5, "savefig.dpi": 200,
}  # fmt: skip
ARROW = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "mutation_scale": 11}
ITERATION = "iteration n (0 is the first LSTM)"
LEGEND: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
SVG: Any = {"svg.hashsalt": "daml", "svg.fonttype": "path"}


class Drawing(Figure):
    """A figure that a notebook shows as an image, where it is the last expression of a cell.

    It is not registered with pyplot, so no list of open figures holds it, and it is shown once
    whether or not the notebook has loaded pyplot.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()


def save(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write a figure as PNG (200 dpi) and as SVG.

    The files of the same figure always have the same bytes: they contain no date and no random ids.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : str or path
        Folder of the files. It is made if it does not exist.
    name : str
        Name of the files without its suffix, ".png" or ".svg".

    Returns
    -------
    tuple of two paths
        Paths of the PNG and of the SVG file.

    Raises
    ------
    InputError
        If ``name`` is not a plain name, for example because it contains a "/".
    StoreError
        If the folder cannot be made or written.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from daml.figures import loop_diagram
    >>> [path.name for path in save(loop_diagram(), mkdtemp(), "loop")]
    ['loop.png', 'loop.svg']
    """
    if not name or Path(name).name != name:
        raise InputError(
            f"save: the name {name!r} is not a plain file name; give a word such as 'figure2'"
        )
    png, svg = Path(folder, f"{name}.png"), Path(folder, f"{name}.svg")
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(SVG):
            figure.savefig(png, dpi=200)
            figure.savefig(svg, dpi=200, metadata={"Date": None})
    except OSError as error:
        raise StoreError(f"save: cannot write {name!r} into {str(folder)!r}: {error}") from error
    return png, svg


def take(scores: xr.Dataset, name: str, *dims: str) -> xr.DataArray:
    """Give a variable of the scores with its dims in this order; refuse scores without it."""
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


def pick(array: xr.DataArray, dim: str, value: str) -> xr.DataArray:
    """Give the part of an array at one name."""
    has: list[Hashable] = array[dim].values.tolist() if dim in array.coords else []
    if value not in has:
        raise InputError(f"scores: no {dim} {value!r} in {array.name!r}; give one of {has}")
    return array.isel({dim: has.index(value)})


def grid_of(
    axes: Panels, rows: int, columns: int, height: float, **options: Any
) -> tuple[Figure, Any]:
    """Figure and its Axes (rows, columns): new ones, or those that the caller gave."""
    if axes is None:
        figure = Drawing(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)
    if not isinstance(axes, (Axes, Sequence, np.ndarray)):
        raise InputError(f"axes: a {type(axes).__name__} was given; give {rows} x {columns} Axes")
    try:
        given = np.atleast_1d(np.asarray(axes, dtype=object))
    except TypeError as error:
        raise InputError(f"axes: no Axes were given; give {rows} x {columns}") from error
    if given.size != rows * columns or not all(isinstance(ax, Axes) for ax in given.flat):
        kind = type(given.flat[0]).__name__ if given.size else "nothing"
        raise InputError(f"axes: {given.size} of {kind} given; give {rows} x {columns} Axes")
    return given.flat[0].get_figure(root=True), given.reshape(rows, columns)


def label_of(array: xr.DataArray) -> str:
    """Give a name with its units, for an axis; what has the unit 1 has its name alone."""
    name, units = str(array.attrs.get("long_name", array.name)), array.attrs.get("units")
    return f"{name} [{units}]" if units and units != "1" else name
