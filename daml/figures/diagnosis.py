"""Calibration of a predicted covariance, as a figure."""

from __future__ import annotations

import matplotlib
import xarray as xr
from matplotlib.figure import Figure

from daml.figures.panels import INK, LEADS, LEGEND, STYLE, Panels, grid_of, label_of, take
from daml.labels.arguments import checked


@checked
def calibration(found: xr.Dataset, axes: Panels = None) -> Figure:
    """Draw how well an emulator predicts the size of its innovations.

    The three panels show chi-square over time; the probability integral transform (PIT) of the
    normalized innovations; and the actual against the expected RMS of the innovations. A perfect
    prediction gives 1 in the first two panels, and points on the diagonal in the third.

    Parameters
    ----------
    found : Dataset
        Result of :func:`daml.diagnosis.calibration`.
    axes : three Axes, optional
        Axes to draw into. Default: a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a variable or a dim is missing, or ``axes`` are not three Axes.

    Examples
    --------
    >>> import numpy as np
    >>> both = (("observed", "spread_bin"), np.ones((1, 2)))
    >>> found = xr.Dataset(
    ...     {"chi_square": ("window", [1.0, 0.9]), "pit": (("observed", "probability"), [[1, 1]]),
    ...      "expected_rms": both, "innovation_rms": both},
    ...     coords={"observed": ["x0"], "probability": [0.25, 0.75], "window": [0, 1]})
    >>> len(calibration(found).axes)
    3
    """
    chi = take(found, "chi_square", "window")
    pit = take(found, "pit", "observed", "probability")
    expected = take(found, "expected_rms", "observed", "spread_bin")
    actual = take(found, "innovation_rms", "observed", "spread_bin")
    with matplotlib.rc_context(STYLE):
        figure, grid = grid_of(axes, 3, 1, height=7.6)
        first, second, third = grid.flat
        first.plot(chi["window"], chi, color=INK, linewidth=1)
        first.axhline(1, color=INK, linewidth=0.8, linestyle=":")
        first.set(xlabel=label_of(chi["window"]), ylabel=label_of(chi), ylim=(0, None))
        for place, name in enumerate(found["observed"].values):
            colour, marker = LEADS[place % len(LEADS)]
            second.step(
                pit["probability"], pit.isel(observed=place), where="mid", color=colour, label=name
            )
            third.plot(
                expected.isel(observed=place), actual.isel(observed=place), color=colour,
                marker=marker, linestyle="", label=name,
            )  # fmt: skip
        second.axhline(1, color=INK, linewidth=0.8, linestyle=":")
        second.set(xlabel="probability", ylabel=label_of(pit), xlim=(0, 1), ylim=(0, None))
        low = float(min(expected.min(), actual.min()))
        high = float(max(expected.max(), actual.max()))
        third.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=":")
        third.set(xlabel=label_of(expected), ylabel=label_of(actual))
        second.legend(ncols=3, **LEGEND)
    return figure
