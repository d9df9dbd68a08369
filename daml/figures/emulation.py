"""How a network that knows nothing of a model learns it, pass by pass."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from daml.figures.panels import INK, LEADS, LSTM, PERFECT, STYLE, Panels, grid_of, label_of, take
from daml.labels.arguments import checked


@checked
def emulation(scores: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw how well an emulator without a base learns a model, pass by pass.

    The panels show the RMSE of the analysis against the pass; the RMSE of forecasts against the
    lead, divided by that of the climate; the power spectra of free runs of the true model and of
    the emulator, if ``scores`` has ``power``; and their Lyapunov exponents, if it has ``exponent``.

    Parameters
    ----------
    scores : Dataset
        Result of :func:`daml.experiments.brajard2020.collect`: ``analysis_rmse`` (iteration),
        ``forecast_rmse`` (iteration, lead), ``climate_rmse`` (iteration) and
        ``perfect_analysis_rmse``, a single value; and optionally ``fewer_analysis_rmse`` (observed,
        iteration), ``power`` (model, frequency) and ``exponent`` (model, number).
    axes : three Axes, or four with ``exponent``, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a score is missing, or ``axes`` has another number of Axes.

    Examples
    --------
    >>> rows = ("iteration", "lead")
    >>> scores = xr.Dataset(
    ...     {"analysis_rmse": ("iteration", [2.0, 1.0]), "climate_rmse": ("iteration", [5.0, 5.0]),
    ...      "forecast_rmse": (rows, [[1.0, 2.0], [0.5, 1.0]]), "perfect_analysis_rmse": 0.4},
    ...     {"iteration": [0, 1], "lead": [0.1, 0.2]}, {"observed": 20})
    >>> len(emulation(scores).axes)
    3
    """
    rmse = take(scores, "analysis_rmse", "iteration")
    skill = take(scores, "forecast_rmse", "iteration", "lead")
    climate = float(take(scores, "climate_rmse", "iteration")[0])
    perfect = take(scores, "perfect_analysis_rmse")
    with matplotlib.rc_context(STYLE):
        rows, columns = (2, 2) if "exponent" in scores else (1, 3)
        figure, grid = grid_of(axes, rows, columns, height=2.6 * rows)
        left, middle, right, *last = (panel for row in grid for panel in row)
        passes = np.arange(rmse.size)
        observed = scores.attrs.get("observed", "")
        left.plot(passes, rmse, color=LSTM, marker="o", label=f"{observed} observed")
        for number, part in enumerate(scores.get("fewer_analysis_rmse", ())):
            colour, marker = LEADS[(number + 3) % len(LEADS)]
            label = f"{int(part['observed'])} observed"
            left.plot(np.arange(part.size), part, color=colour, marker=marker, label=label)
        left.axhline(float(perfect), color=PERFECT, label="true model")
        left.set(xlabel="pass", ylabel="RMSE of the analysis", ylim=(0, None))
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.legend()
        for at, style in ((0, ":"), (-1, "-")):
            label = "interpolated" if at == 0 else f"pass {skill.sizes['iteration'] - 1}"
            middle.plot(
                skill["lead"], skill[at] / climate, color=LSTM, linestyle=style, label=label
            )
        middle.axhline(1, color=INK, linewidth=0.8)
        middle.set(xlabel=label_of(skill["lead"]), ylabel="forecast RMSE / climate", ylim=(0, 1.4))
        middle.legend()
        if "power" in scores:
            for part, colour in zip(
                take(scores, "power", "model", "frequency"), (PERFECT, LSTM), strict=True
            ):
                power = part[1:]  # without the mean
                right.loglog(
                    power["frequency"], power, color=colour, label=str(part["model"].values)
                )
            right.legend()
        right.set(xlabel="frequency", ylabel="power")
        if "exponent" in scores:
            pairs = zip(take(scores, "exponent", "model", "number"), (PERFECT, LSTM), strict=True)
            for part, colour in pairs:
                name = str(part["model"].values)
                last[0].plot(part["number"], part, color=colour, marker=".", label=name)
            last[0].axhline(0, color=INK, linewidth=0.8)
            last[0].set(xlabel="number", ylabel="Lyapunov exponent")
            last[0].legend()
    return figure
