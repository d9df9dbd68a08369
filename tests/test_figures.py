"""Figures of published scores: images in a notebook, and no figure left open."""

import io
import subprocess
import sys

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.reports import published

SCORES = (
    *("ablation", "attribution", "climate", "cycle", "hidden", "innovations", "ladder", "paper"),
    *("seed_0", "variants"),
)
LEADS = {"lead": [0.05, 0.1], "scheme": ["ETKF", "LETKF"], "rank": [1, 2, 3]}
RANKS = xr.Dataset(
    {
        "frequency": (("lead", "rank"), [[0.5, 0.1, 0.4], [0.4, 0.3, 0.3]]),
        "flat_low": ("lead", [0.3, 0.2]),
        "flat_high": ("lead", [0.4, 0.5]),
        "spread": (("scheme", "lead"), [[0.2, 0.5], [0.3, 0.6]]),
        "error": (("scheme", "lead"), [[0.25, 0.55], [0.35, 0.7]], {"units": "K"}),
        "crps": (("scheme", "lead"), [[0.1, 0.2], [0.15, 0.3]], {"long_name": "CRPS"}),
    },
    LEADS,
)
NUMBERS = xr.Dataset(
    {"number_loss": ("number", [0.7, 0.6, 0.59]), "number_error": ("number", [0.02, 0.01, 0.0])},
    {"number": [0, 1, 2]},
    {"chosen": 1},
)
COSTS = xr.Dataset(
    {
        "analysis_rmse": ("scheme", [0.2, 0.4, np.nan, 0.3]),
        "log_likelihood": ("scheme", [-1.5, np.nan, np.nan, -1.4]),
        "seconds": ("scheme", [0.05, 0.01, np.nan, 0.1]),
    },
    {"scheme": ["ETKF", "3DVar", "lost", "EnKF"]},
)
FIELD = xr.DataArray(
    np.where(np.eye(4) > 0, np.nan, np.arange(48.0).reshape(3, 4, 4)),
    {"time": np.array(["2026-01-01", "2026-01-02", "2026-01-03"], "M8[s]"), "x": np.arange(4.0)},
    ("time", "y", "x"),
    attrs={"long_name": "height", "units": "m"},
)
FIGURES = {
    "analysis_rmse": lambda: daml.figures.analysis_rmse(published("seed_0")),
    "analysis_variants": lambda: daml.figures.analysis_variants(published("ring").mean("seed")),
    "attribution": lambda: daml.figures.attribution(published("attribution")),
    "error_maps": lambda: daml.figures.error_maps(published("seed_0")),
    "error_reduction": lambda: daml.figures.error_reduction(published("seed_0")),
    "field": lambda: daml.figures.field(FIELD.isel(time=0)),
    "hidden_numbers": lambda: daml.figures.hidden_numbers(NUMBERS),
    "ladder": lambda: daml.figures.ladder(published("ladder")),
    "loop_diagram": lambda: daml.figures.loop_diagram(),
    "rank_histogram": lambda: daml.figures.rank_histogram(RANKS),
    "crps": lambda: daml.figures.crps(RANKS),
    "scheme_costs": lambda: daml.figures.scheme_costs(COSTS),
    "spread_error": lambda: daml.figures.spread_error(RANKS),
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


@pytest.mark.parametrize(
    ("score", "names", "best"),
    [
        ("analysis_rmse", ["3DVar", "ETKF", "EnKF"], [0.01, 0.05]),
        ("log_likelihood", ["ETKF", "EnKF"], [0.05, 0.1]),
    ],
)
def test_schemes_are_drawn_by_their_cost_and_the_best_ones_joined(score, names, best):
    (axes,) = daml.figures.scheme_costs(COSTS, score).axes
    assert [text.get_text() for text in axes.get_legend().texts] == names
    assert axes.lines[0].get_xdata().tolist() == best


def test_a_field_is_a_map_with_its_units_and_its_time():
    figure = daml.figures.field(FIELD.isel(time=1))
    axes, bar = figure.axes
    assert axes.get_title(loc="left") == "time 2026-01-02T00:00:00"
    assert bar.get_ylabel() == "height [m]"
    (mesh,) = axes.collections
    assert np.ma.getmaskarray(mesh.get_array()).sum() == 4
    assert mesh.get_clim() == (1 + 16, 14 + 16)


def test_a_field_of_both_signs_has_white_at_0():
    (mesh,) = daml.figures.field(FIELD.isel(time=0) - 5).axes[0].collections
    assert mesh.get_clim() == (-9, 9)


def test_an_animation_moves_through_all_times_with_the_same_colours(tmp_path):
    moving = daml.figures.animation(FIELD)
    moving.save(tmp_path / "field.gif", writer="pillow")
    assert (tmp_path / "field.gif").read_bytes()[:3] == b"GIF"
    (mesh,) = moving._fig.axes[0].collections
    assert mesh.get_clim() == (1, 46)


def test_a_field_needs_two_dimensions():
    with pytest.raises(InputError, match="and 2 are needed; select"):
        daml.figures.field(FIELD)
    with pytest.raises(InputError, match="no dimension 'level'"):
        daml.figures.animation(FIELD, "level")


def test_schemes_that_all_failed_cannot_be_drawn():
    with pytest.raises(InputError, match="no scheme has 'analysis_rmse'"):
        daml.figures.scheme_costs(COSTS.isel(scheme=[2]))


def test_with_axes_it_draws_there():
    figure, axes = plt.subplots()
    try:
        assert daml.figures.error_reduction(published("seed_0"), axes=axes) is figure
        assert axes.lines
    finally:
        plt.close(figure)


def test_panels_of_variants_hold_all_points_and_name_whole_iterations():
    """Loops of one pass and of several, the second one with the larger errors."""
    dims, nan = ("variant", "record", "iteration"), np.nan
    level = (dims[:2], [[0.7], [0.7]])
    scores = xr.Dataset(
        {
            "analysis_rmse": (dims, [[[0.6, nan, nan]], [[0.8, 1.4, 2.5]]]),
            "imperfect_analysis_rmse": level,
            "perfect_analysis_rmse": level,
        },
        {"variant": ["one", "three"], "record": ["test"], "iteration": [0, 1, 2]},
        {"emulator": "CNN"},
    )
    one, three = daml.figures.analysis_variants(scores).axes
    assert one.get_ylim() == three.get_ylim()
    assert three.get_ylim()[0] == 0
    assert three.get_ylim()[1] > 2.5
    assert one.get_xticks().tolist() == [0]
    assert one.get_xlabel() == "iteration n"
    assert one.lines[0].get_label() == "CNN-n, analysis"


def test_what_goes_beyond_the_paper_has_levels_and_columns():
    """Each training is a level and a column, each filter of the perfect model a level."""
    names, filters = ["correction", "LSTM", "hidden"], ["ETKF", "sigma points"]
    beyond = {
        "beyond_analysis_rmse": (("record", "beyond"), [[0.25, 0.31, 0.19], [0.26, 0.32, 0.195]]),
        "beyond_seconds": ("beyond", [300.0, 406.0, 480.0]),
        "beyond_mfe_reduction": (("beyond", "lead"), [[91.0] * 4, [75.0] * 4, [97.0] * 4]),
        "floor_analysis_rmse": (("record", "filter"), [[0.2, 0.18], [0.21, 0.185]]),
        "floor_mfe_reduction": ("lead", [99.9] * 4),
    }
    scores = published("seed_0").assign(beyond)
    scores = scores.assign_coords(beyond=names, filter=filters, record=["train", "test"])
    figure = daml.figures.analysis_rmse(scores)
    found = [float(np.ravel(line.get_ydata())[0]) for line in figure.axes[0].lines]
    assert {0.26, 0.32, 0.195, 0.21, 0.185} < set(found)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "beyond the paper: hidden variables, 480 s" in texts
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {f"perfect model, {name}" for name in filters} < set(labels)
    axes = daml.figures.error_reduction(scores).axes[0]
    heights = [float(np.ravel(line.get_ydata())[0]) for line in axes.lines]
    assert heights.count(97.0) == 4
    assert np.isclose(heights, 99.9).sum() == 1
    assert "hidden\nvariables\n480 s" in [label.get_text() for label in axes.get_xticklabels()]


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


def test_ranks_are_drawn_as_bars_over_the_band_of_a_flat_histogram():
    one = daml.figures.rank_histogram(RANKS.isel(lead=0)).axes
    assert [bar.get_height() for bar in one[0].patches[1:]] == [0.5, 0.1, 0.4]
    two = daml.figures.rank_histogram(RANKS).axes
    assert [ax.get_title(loc="left") for ax in two] == ["lead 0.05", "lead 0.1"]
    for ax, lead in zip(two, (0, 1), strict=True):
        band, *bars = ax.patches
        low, high = band.get_xy()[1], band.get_xy()[1] + band.get_height()
        assert low == pytest.approx(RANKS.flat_low.values[lead])
        assert high == pytest.approx(RANKS.flat_high.values[lead])
        assert [bar.get_height() for bar in bars] == RANKS.frequency[lead].values.tolist()


def test_scores_are_drawn_against_lead_or_time():
    spread = daml.figures.spread_error(RANKS)
    labels = [line.get_label() for line in spread.axes[0].lines]
    assert labels == [
        f"{scheme}, {of}" for scheme in ("ETKF", "LETKF") for of in ("RMSE of the mean", "spread")
    ]
    assert spread.axes[0].get_ylabel() == "spread and error [K]"
    dated = RANKS.assign_coords(lead=np.array([6, 12]) * np.timedelta64(1, "h"))
    lines = daml.figures.crps(dated.crps.sel(scheme="ETKF")).axes[0].lines
    assert lines[0].get_xydata().tolist() == [[6, 0.1], [12, 0.2]]
    days = np.array(["2020-01-01", "2020-01-02"], dtype="M8[ns]")
    along = RANKS.isel(scheme=0).rename(lead="time").assign_coords(time=days)
    assert daml.figures.spread_error(along).axes[0].get_xlabel() == "time"


def test_scores_that_cannot_be_drawn_are_refused():
    with pytest.raises(InputError, match=r"'crps' \(lead\) is needed"):
        daml.figures.crps(RANKS[["spread"]])
    with pytest.raises(InputError, match=r"give .lead. and at most one more"):
        daml.figures.crps(RANKS.expand_dims(run=2))
    with pytest.raises(InputError, match=r"'flat_low' .lead. is needed"):
        daml.figures.rank_histogram(RANKS.drop_vars("flat_low"))
    with pytest.raises(InputError, match="give 1 x 2 Axes"):
        daml.figures.rank_histogram(RANKS, axes=daml.figures.loop_diagram().axes[0])
