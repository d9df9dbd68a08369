"""The page "Reproduce the paper": each of its commands runs, at a small size."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from daml import paper
from daml.cli import main
from daml.reports import published
from daml.stores.opening import open_tree

PAGE = (Path(__file__).parents[1] / "docs" / "paper.md").read_text()
COMMANDS = re.findall(r"^\$ daml (.*)$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("fast", "literal"):
        size = replace(paper.PRESETS[name], steps=500, skip=50, passes=1, epochs=1)
        monkeypatch.setitem(paper.PRESETS, name, size)


def run(command):
    command = re.sub(r"--(passes|epochs) \d+", r"--\1 1", command.replace("--device cuda", ""))
    done = CliRunner().invoke(main, shlex.split(command))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_figures_are_drawn_by_their_commands(tmp_path):
    first, *drawn = [c for c in COMMANDS if "results/paper.zarr" in c]
    run(first)
    assert len(list((tmp_path / "results").glob("figure_?_*.png"))) == 4
    for number, command in enumerate(drawn, 1):
        assert f"figures/figure_{number}_" in run(command)
    assert len(list((tmp_path / "figures").iterdir())) == 8


VARIANTS = [c for c in COMMANDS if "--seed" in c]


@pytest.mark.parametrize(
    "command", [VARIANTS[0], *(pytest.param(c, marks=pytest.mark.slow) for c in VARIANTS[1:])]
)
def test_a_variant_is_kept_with_its_settings_and_not_resumed_with_others(command):
    run(f"{command} --store variant.zarr")
    attrs = open_tree("variant.zarr").attrs
    assert attrs["window"] == (int(m[1]) if (m := re.search(r"--window (\d+)", command)) else None)
    warm = "--no-warm-start" not in command and "literal" not in command
    assert attrs["warm_start"] == warm
    more = re.sub(r"--passes \d+", "", command) + " --store variant.zarr --resume"
    done = CliRunner().invoke(main, shlex.split(f"{more} --epochs 2".replace("--device cuda", "")))
    assert done.exit_code == 2
    assert "epochs: 1 there, 2 now" in done.output


def test_scores_are_drawn_from_a_file(tmp_path):
    published("variants").to_netcdf("variants.nc")
    assert "figures/figure_3_variants.png" in run("figures variants.nc")
    published("seed_0").to_netcdf("scores.nc")
    run("figures scores.nc --figures all")
    assert len(list((tmp_path / "all").glob("*.png"))) == 4
    done = CliRunner().invoke(main, ["figures", "scores.nc", "--only", "5"])
    assert done.exit_code == 2
    assert "figure 5 is unknown; give one of 1, 2, 3, 4" in done.output
    assert not Path("figures/figure_1_loop.png").exists()


def test_a_window_does_not_go_through_the_cycle():
    done = CliRunner().invoke(main, ["paper", "--window", "3", "--beyond", "--store", "x.zarr"])
    assert done.exit_code == 2
    assert "'window' is 3 with 'beyond'" in done.output
    assert not Path("x.zarr").exists()


def test_the_page_names_each_variant_that_is_published():
    variants = published("variants")
    assert variants.sizes["variant"] == 6
    for command in variants.command.values[1:]:
        flags = set(re.findall(r"--[a-z-]+ ?[\w]*", command))
        assert any(flags <= set(re.findall(r"--[a-z-]+ ?[\w]*", c)) for c in COMMANDS), command
