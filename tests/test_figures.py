"""Figures of published scores: images in a notebook, and no figure left open."""

import io
import subprocess
import sys

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

import daml
from daml.errors import InputError
from daml.reports import published

SCORES = (
    *("ablation", "attribution", "climate", "cycle", "innovations", "ladder", "paper", "seed_0"),
    "variants",
)
FIGURES = {
    "analysis_rmse": lambda: daml.figures.analysis_rmse(published("seed_0")),
    "attribution": lambda: daml.figures.attribution(published("attribution")),
    "error_maps": lambda: daml.figures.error_maps(published("seed_0")),
    "error_reduction": lambda: daml.figures.error_reduction(published("seed_0")),
    "ladder": lambda: daml.figures.ladder(published("ladder")),
    "loop_diagram": lambda: daml.figures.loop_diagram(),
    "sweep_scores": lambda: daml.figures.sweep_scores(published("paper"), "mfe", over="lead"),
    "variants": lambda: daml.figures.variants(published("variants")),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_an_image_in_a_notebook_and_unknown_to_pyplot(name):
    figure = FIGURES[name]()
    image = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    height, width, _ = image.shape
    assert (width, height) == tuple(np.round(figure.get_size_inches() * figure.dpi))
    assert image.std() > 0.05
    assert not plt.get_fignums()


def test_with_axes_it_draws_there():
    figure, axes = plt.subplots()
    try:
        assert daml.figures.error_reduction(published("seed_0"), axes=axes) is figure
        assert axes.lines
    finally:
        plt.close(figure)


@pytest.mark.parametrize("name", SCORES)
def test_published_scores_are_found_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = published(name)
    assert scores.sizes
    assert all(scores[n].notnull().any() for n in scores.data_vars if scores[n].dtype.kind == "f")


@pytest.mark.parametrize("name", ["seed_1", "../reports", "paper.nc", ""])
def test_scores_that_are_not_published_are_refused(name):
    with pytest.raises(InputError, match="is unknown; give one of ablation, attribution, climate"):
        published(name)


def test_figures_need_no_display_and_no_pyplot():
    code = (
        "import sys, daml; daml.figures.loop_diagram(); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
