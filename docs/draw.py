"""Draw the logo and the landing page's pictures."""

from pathlib import Path

import matplotlib
import xarray as xr
from matplotlib.figure import Figure

import daml
from daml import figures

LINE, DOT = "#0072B2", "#E69F00"


def logo() -> str:
    """Give an attractor with observations of it, as SVG."""
    run = daml.simulate(daml.Lorenz63(dt=0.02), steps=420, spinup=900, seed=0)
    x, z = (run.state.sel(variable=v).values for v in ("x0", "x2"))
    places = list(zip(32 + 1.45 * x, 66 - 1.32 * z, strict=True))
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.4" fill="{DOT}"/>' for a, b in places[9::43]
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="4 4 56 56">'
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.8" '
        f'stroke-linejoin="round"/>{dots}</svg>\n'
    )


def result(scores: xr.Dataset) -> Figure:
    """Give the loop's result: the analyses and the forecasts, pass by pass."""
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        figures.analysis_rmse(scores, axes=left)
        figures.error_reduction(scores, axes=right)
    return figure


def pictures(folder: Path) -> None:
    """Write all into a folder of the docs."""
    (folder / "_static" / "logo.svg").write_text(logo())
    figures.save(figures.loop_diagram(), folder / "images", "loop")
    scores = daml.reports.published("seed_0")
    figures.save(result(scores), folder / "images", "result")
