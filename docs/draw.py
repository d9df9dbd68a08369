"""Draw the logo, and the pictures of the pages."""

from pathlib import Path

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


def drawn() -> dict[str, Figure]:
    """Give the figures of the paper, its variants, the ring and what comes after, by name."""
    scores, ring = (daml.reports.published(name) for name in ("seed_0", "ring"))
    return {
        "loop": figures.loop_diagram(),
        "paper_2": figures.analysis_rmse(scores),
        "paper_3": figures.error_reduction(scores),
        "paper_4": figures.error_maps(scores),
        "variants": figures.variants(daml.reports.published("variants")),
        "ring_2": figures.analysis_variants(ring.mean("seed", keep_attrs=True)),
        "ring_3": figures.variants(ring),
        "ladder": figures.ladder(daml.reports.published("ladder")),
    }


def pictures(folder: Path) -> None:
    """Write all into a folder of the docs."""
    (folder / "_static" / "logo.svg").write_text(logo())
    for name, figure in drawn().items():
        figures.save(figure, folder / "images", name)
