"""A field on its grid, at one time or in motion."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daml.errors import InputError
from daml.figures.panels import STYLE, grid_of, label_of
from daml.labels.arguments import checked


@checked
def field(array: xr.DataArray, axes: Axes | None = None) -> Figure:
    """Draw a field with two dimensions, (y, x) or (time, x), as a map.

    Parameters
    ----------
    array : DataArray
        A field with two dimensions, such as
        ``daml.unflatten(analysis)["analysis"].u.isel(time=0)``. Missing values stay white.
    axes : Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the array does not have two dimensions, or ``axes`` is not an Axes.

    Examples
    --------
    >>> heights = xr.DataArray(np.eye(3), dims=("y", "x"), attrs={"units": "m"})
    >>> field(heights).axes[0].get_xlabel()
    'x'
    """
    _check(array, 2)
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 1, 1, height=3.4)
        array.plot.pcolormesh(
            ax=grid[0, 0], **_colours(array), cbar_kwargs={"label": label_of(array)}
        )
        _titled(grid[0, 0], array)
    return figure


@checked
def animation(array: xr.DataArray, dim: str = "time", interval: int = 100) -> FuncAnimation:
    """Animate a field with two dimensions along a third one.

    Parameters
    ----------
    array : DataArray
        A field with ``dim`` and two other dimensions.
    dim : str
        Dimension along which the field is animated.
    interval : int
        Time from one picture to the next, in milliseconds.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        The animation. Its ``to_jshtml()`` shows it in a notebook, and ``save("field.gif")`` writes
        it to a file.

    Raises
    ------
    InputError
        If the array has other dimensions.

    Examples
    --------
    >>> waves = xr.DataArray(np.random.default_rng(0).random((4, 3, 5)), dims=("time", "y", "x"))
    >>> "<img" in animation(waves).to_jshtml()
    True
    """
    _check(array, 3)
    if dim not in array.dims:
        raise InputError(f"animation: the array has no dimension {dim!r}, but {array.dims}")
    frames = array.transpose(dim, ...)
    colours = _colours(array)
    figure = field(frames[0])
    (mesh,) = figure.axes[0].collections
    mesh.set(clim=(colours["vmin"], colours["vmax"]), cmap=colours["cmap"])

    def draw(number: int) -> tuple[Any, ...]:
        mesh.set_array(frames[number].values)
        _titled(figure.axes[0], frames[number])
        return (mesh,)

    return FuncAnimation(figure, draw, frames=len(frames), interval=interval)


def _check(array: xr.DataArray, count: int) -> None:
    if array.ndim != count:
        raise InputError(
            f"field: the array has the dimensions {array.dims}, and {count} are needed; select, "
            "e.g. array.isel(time=0)"
        )


def _colours(array: xr.DataArray) -> dict[str, Any]:
    """Give limits and colours: around 0 where there are values of both signs."""
    low, high = (float(bound) for bound in (array.min(), array.max()))
    if low < 0 < high:
        return {"vmin": -max(-low, high), "vmax": max(-low, high), "cmap": "RdBu_r"}
    return {"vmin": low, "vmax": high, "cmap": "viridis"}


def _titled(axes: Axes, array: xr.DataArray) -> None:
    """Write above a map at which time it is."""
    at = array.coords.get("time")
    if at is None or at.ndim:
        axes.set_title("")
        return
    label = np.datetime_as_string(at.values, "s") if at.dtype.kind == "M" else f"{at.item():g}"
    axes.set_title(f"time {label}", loc="left")
    axes.set_title("")
