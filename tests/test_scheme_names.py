"""Schemes by name: on the command line, in a table, and with the arguments of their classes."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import roster
import xarray as xr
from click.testing import CliRunner

import daml
from daml.cli import main
from daml.errors import InputError
from daml.schemes import by_name
from daml.scripts import MODELS

SCRIPT = """
from dataclasses import dataclass

from daml.protocols import Update


@dataclass(frozen=True)
class Nudging:
    weight: float
    hard: bool = False

    def prepare(self, setting):
        return setting.operator

    def update(self, forecast, observed, run, operator):
        distance = (observed.values - operator.apply(forecast.state)) * observed.present
        return Update(forecast.state + self.weight * distance @ operator.matrix()), operator


class Broken:
    def __init__(self):
        raise RuntimeError("no")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    truth = daml.simulate(daml.Lorenz63(), steps=120, spinup=500, seed=1)
    seen = daml.observe(truth, seed=2)
    seen.to_netcdf(folder / "record.nc")
    daml.simulate(daml.Lorenz63(), steps=300, spinup=100).to_netcdf(folder / "run.nc")
    ring = daml.models.Lorenz96()
    daml.observe(daml.simulate(ring, steps=30, spinup=200)).to_netcdf(folder / "ring.nc")
    (folder / "mine.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def assimilate(*more, store, model="lorenz63", record="record.nc"):
    return call("assimilate", record, "--model", model, "--store", store, *more)


ROTATED = "--scheme etkf --members 5 --inflation RTPS(0.9) --rotate"
HYPHENS = "--scheme En-KF --members 6 --set seed=3 --set rotate=no"
OF_A_FILE = "--scheme optimal_interpolation --set climatology=run.nc"
SAME = {
    ROTATED: lambda: daml.schemes.ETKF(5, inflation=daml.schemes.RTPS(0.9), rotate=True),
    HYPHENS: lambda: daml.schemes.EnKF(6, seed=3),
    OF_A_FILE: lambda: daml.schemes.OptimalInterpolation(xr.load_dataset("run.nc")),
}


@pytest.mark.parametrize("words", SAME)
def test_a_scheme_of_the_command_line_is_that_of_python(folder, words, tmp_path):
    store = tmp_path / "out.zarr"
    done = assimilate(*words.split(), "--segments", 1, store=store)
    assert done.exit_code == 0, done.output
    assert "chi-square" in done.output
    expected = daml.assimilate(
        daml.Lorenz63(), xr.load_dataset("record.nc"), SAME[words](), segments=1
    )
    found = xr.open_zarr(store)
    np.testing.assert_array_equal(found.analysis, expected.analysis)
    assert found.attrs["scheme"] == expected.attrs["scheme"]


def test_without_a_scheme_b_is_estimated(folder, tmp_path):
    done = assimilate(store=tmp_path / "out.zarr")
    assert done.exit_code == 0, done.output
    seen = xr.load_dataset("record.nc")
    _, expected = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen)
    found = xr.open_zarr(tmp_path / "out.zarr")
    np.testing.assert_allclose(found.analysis, expected.analysis)
    again = assimilate(store=tmp_path / "out.zarr")
    assert (again.exit_code, again.output.count("\n")) == (2, 1)
    assert "exists; give another path, or remove it" in again.output


def test_a_local_scheme_and_one_in_a_script(folder, tmp_path):
    words = ("--scheme", "letkf", "--members", 4, "--radius", 4, "--no-rotate", "--keep-members")
    done = assimilate(*words, store=tmp_path / "a.zarr", model="lorenz96", record="ring.nc")
    assert done.exit_code == 0, done.output
    assert xr.open_zarr(tmp_path / "a.zarr").analysis_members.sizes["member"] == 4
    words = ("--scheme", "mine.py:Nudging", "--set", "weight=0.3", "--set", "hard=on")
    done = assimilate(*words, store=tmp_path / "b.zarr")
    assert done.exit_code == 0, done.output
    assert "weight" in xr.open_zarr(tmp_path / "b.zarr").attrs["scheme"]


IMPROVE = ("improve", "record.nc", "--model", "lorenz63", "--passes", 1, "--epochs", 1)
ENSEMBLE = ("--scheme", "etkf", "--members", 4)


@pytest.mark.slow
def test_a_model_is_improved_with_an_ensemble(folder, tmp_path):
    done = call(*IMPROVE, *ENSEMBLE, "--held-out", 0, "--store", tmp_path / "out.zarr")
    assert done.exit_code == 0, done.output
    assert daml.load_scheme(tmp_path / "out.zarr", 0) == daml.schemes.ETKF(4)


def test_a_scheme_and_the_b_of_the_default_one_are_refused(folder):
    both = call(*IMPROVE, *ENSEMBLE, "--store", "b.zarr", "--background", "innovations")
    assert (both.exit_code, both.output.count("\n")) == (2, 1)
    assert "--scheme threedvar --set background_covariance=innovations" in both.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--scheme etfk", "'etfk' is unknown; did you mean 'etkf'? give one of denkf, enkf,"),
        ("--scheme 3dvar", "did you mean 'threedvar'?"),
        ("--scheme xyz", "'xyz' is unknown; give one of denkf,"),
        ("--scheme letkf --members 7", "LETKF needs 'radius'; give a value for each, as daml.s"),
        ("--scheme letkf", "LETKF needs 'members' and 'radius'"),
        ("--scheme letkf --set radios=3", "LETKF has no argument 'radios'; did you mean 'radius'?"),
        ("--scheme etkf --radius 3", "ETKF has no argument 'radius'; it has members, inflation"),
        ("--members 5", "--members is an option of a scheme, and none is given; add one"),
        ("--no-rotate", "--rotate is an option of a scheme, and none is given; add one"),
        ("--set a=b", "--set is an option of a scheme, and none is given; add one"),
        ("--scheme etkf --set members=five", "--scheme: 'members' is 'five'; give a whole number"),
        ("--scheme etkf --members five", "'members' is 'five'; give a whole number"),
        ("--scheme etkf --members 4 --inflation RTPS(3)", "RTPS: 'weight' is 3"),
        ("--scheme etkf --members 4 --inflation RTPS()", "RTPS needs 'weight'; give a value"),
        ("--scheme etkf --members 4 --inflation rtps(wait=1)", "did you mean 'weight'?"),
        ("--scheme etkf --members 4 --inflation strong", "'inflation' is 'strong'; give"),
        ("--scheme etkf --set rotate=2", "'rotate' is '2'; give true or false"),
        ("--scheme etkf --set members", "--set is 'members'; give NAME=VALUE"),
        ("--scheme etkf --members 4 --set members=5", "--set members and --members are given;"),
        ("--scheme etkf --set seed=1 --set seed=2 --members 4", "--set seed is given twice"),
        ("--scheme etkf --members 1", "ETKF: 'members' is 1; give 2 or more"),
        ("--scheme letkf --members 4 --radius 3", "does not say where its variables lie"),
        ("--scheme threedvar --set background_covariance=guess", "give one of ('innovations'"),
        ("--scheme optimalinterpolation --set climatology=gone.nc", "gone.nc: no such file"),
        ("--scheme gone.py:Mine", "--scheme: the script gone.py does not exist; check its path"),
        ("--scheme mine.py:Nudge", "--scheme: mine.py has no class 'Nudge'; check the name"),
        ("--scheme mine.py:Nudging", "--scheme: Nudging needs 'weight'"),
        ("--scheme mine.py:Broken", "--scheme: Broken() failed with RuntimeError: no"),
    ],
)
def test_a_wrong_scheme_is_one_line_with_the_fix(folder, words, text, tmp_path):
    result = assimilate(*words.split(), store=tmp_path / "out.zarr")
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert text in result.output
    assert not (tmp_path / "out.zarr").exists()


def test_every_scheme_is_listed_with_what_it_needs():
    lines = call("schemes").output.splitlines()[1:]
    names = [line.split()[0] for line in lines]
    public = {name.partition(" ")[0] for name in roster.SCHEMES} - {"a"}
    assert names == sorted(name.lower() for name in public)
    rows = dict(zip(names, lines, strict=True))
    assert re.search("members, radius +positions +Local ensemble", rows["letkf"])
    assert re.search("members +any +Ensemble transform", rows["etkf"])
    assert re.search("- +any +Three-dimensional", rows["threedvar"])
    assert re.search("climatology +any +Optimal interpolation", rows["optimalinterpolation"])
    assert re.search("- +no memory, its Q, if it has one +Sigma-point", rows["sigmapoint"])


def test_a_scheme_is_described_with_its_arguments():
    printed = call("schemes", "LETKF").output
    for words in (
        "LETKF: Local ensemble",
        "needs of the model: positions",
        "radius: float (required)",
        "rotate: bool (default: False)",
        "inflation: float or str or RTPP or RTPS or Additive (default: 1.0)",
        "Half-width of the localisation",
        "see ETKF.",
    ):
        assert words in printed.replace("daml.schemes.ETKF", "ETKF"), printed
    assert ":class:" not in printed
    wrong = call("schemes", "letfk")
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)


def test_a_new_scheme_is_on_the_command_line_by_its_class_alone(folder, monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Hybrid(daml.schemes.ETKF):
        """A scheme that is new."""

        blend: float = 0.5
        needs = frozenset({"positions"})

    monkeypatch.setattr(daml.schemes, "Hybrid", Hybrid, raising=False)
    monkeypatch.setattr(daml.schemes, "__all__", [*daml.schemes.__all__, "Hybrid"])
    assert re.search("hybrid +members +positions +A scheme that is new.", call("schemes").output)
    words = "--scheme hybrid --members 30 --set blend=0.1"
    done = assimilate(*words.split(), store=tmp_path / "a.zarr", model="lorenz96", record="ring.nc")
    assert done.exit_code == 0, done.output
    assert '"blend": 0.1' in xr.open_zarr(tmp_path / "a.zarr").attrs["scheme"]


NAMED = {"variable": ["x", "y"], "covariable": ["x", "y"]}


def test_text_becomes_what_an_argument_may_be(folder):
    @dataclass
    class Kind:
        number: float | None = None
        count: int | str = 1
        flag: bool = False
        data: "xr.DataArray | str" = ""
        either: "Any" = None  # noqa: F821

    def read(name, text):
        return by_name.from_text(Kind, name, text, "--set")

    assert read("number", "1e-3") == 0.001
    assert read("number", "None") is None
    assert read("count", "3") == 3
    assert read("count", "many") == "many"
    assert read("flag", "Yes") is True
    assert read("data", "innovations") == "innovations"
    xr.Dataset({"B": (("variable", "covariable"), np.eye(2))}, NAMED).to_netcdf("b.nc")
    for name in ("data", "either"):
        np.testing.assert_array_equal(read(name, "b.nc"), np.eye(2))
    assert (read("either", "0.01"), read("either", "none"), read("either", "a")) == (
        0.01,
        None,
        "a",
    )
    etkf = daml.schemes.ETKF
    found = by_name.from_text(etkf, "inflation", "Additive(b.nc, scale=0.5)", "--set")
    assert (found.scale, found.covariance.shape) == (0.5, (2, 2))
    assert by_name.from_text(etkf, "inflation", "innovations", "--set") == "innovations"
    with pytest.raises(InputError, match="'number' is 'x'; give a number or none"):
        read("number", "x")
    with pytest.raises(InputError, match="it has 2 data variables; give a file with one"):
        read("data", "record.nc")


def test_the_command_line_lists_models():
    listed = CliRunner().invoke(main, ["models"])
    assert listed.exit_code == 0
    lines = {line.split()[0]: line for line in listed.output.splitlines()}
    assert set(lines) == set(MODELS)
    assert "x0, x1, x2, x3, x4" in lines["coupled-lorenz63"]
    assert "40 variables" in lines["lorenz96"]
