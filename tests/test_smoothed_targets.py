"""A loop that trains on smoothed analyses."""

import numpy as np
import pytest
import roster
import xarray as xr
from click.testing import CliRunner

import daml
from daml.cli import main
from daml.errors import InputError

SCHEME = daml.schemes.ETKF(8, inflation=1.2)
HOW = {"targets": "smoothed", "lag": 5}


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=600, spinup=500, seed=1)
    return daml.observe(truth, variables=["x0", "x1", "x2"], missing=0.2, seed=2)


def improve(seen, passes=1, emulator=None, scheme=SCHEME, **how):
    emulator = emulator or roster.Polynomial()
    how = {"held_out": 0, **HOW, **how}
    return daml.improve(daml.Lorenz63(), seen, scheme, emulator, passes=passes, **how)


@pytest.mark.parametrize("lag", [5, None])
def test_an_emulator_is_trained_on_the_smoothed_record(seen, lag):
    tree = improve(seen, lag=lag)
    smoothed = daml.smooth(daml.Lorenz63(), seen, SCHEME, lag=lag)
    weights = roster.Polynomial().fit(smoothed).weights
    np.testing.assert_array_equal(tree["iteration/0000/emulator"].weights, weights)
    xr.testing.assert_equal(
        tree["imperfect"].analysis, daml.assimilate(daml.Lorenz63(), seen, SCHEME).analysis
    )
    assert tree.attrs["targets"] == "smoothed"
    assert tree.attrs["lag"] == ("all" if lag is None else lag)


def test_a_run_goes_on_where_it_ended_and_takes_no_other_lag(seen, tmp_path):
    store = tmp_path / "loop.zarr"
    whole = improve(seen, passes=2)
    improve(seen, store=store)
    for other in ({"lag": 6}, {"targets": "analyses", "lag": None}):
        with pytest.raises(InputError, match=r"another configuration \((lag|training): "):
            improve(seen, passes=2, store=store, resume=True, **other)
    resumed = improve(seen, passes=2, store=store, resume=True)
    for group in ("iteration/0001", "iteration/0001/emulator"):
        one, two = (tree[group].to_dataset().load() for tree in (whole, resumed))
        xr.testing.assert_equal(one, two)


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_passes_are_judged_by_the_analyses_themselves(seen):
    trees = [
        improve(seen, held_out=0.2, targets=targets, lag=lag)
        for targets, lag in (("smoothed", 5), ("analyses", None))
    ]
    xr.testing.assert_equal(*(tree["imperfect/scores"].to_dataset() for tree in trees))
    weights = [tree["iteration/0000/emulator"].weights for tree in trees]
    assert not np.array_equal(*weights)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"targets": "smooth"}, r"'targets' is 'smooth'; give one of \('analyses', 'smoothed'\)"),
        ({"targets": "analyses"}, "'lag' is 5, but nothing is smoothed; give targets='smoothed'"),
        ({"lag": 0}, "'lag' is 0; give 1 model step or more"),
        ({"lag": 600}, "improve: targets='smoothed': 'lag' is 600, and the record has 600 steps"),
        ({"training": "cycle", "emulator": daml.LSTM()}, "training='cycle' trains on innovations"),
        ({"scheme": None}, "targets='smoothed': ThreeDVar has one state and carries no covariance"),
    ],
)
def test_targets_that_there_are_not_are_refused(seen, how, text):
    with pytest.raises(InputError, match=text):
        improve(seen, **how)


def test_the_command_line_takes_targets(seen, tmp_path):
    seen.to_netcdf(tmp_path / "seen.nc")
    words = ["improve", str(tmp_path / "seen.nc"), "--model", "lorenz63"]
    words += ["--store", str(tmp_path / "out.zarr"), "--targets", "smoothed", "--lag", "5"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "targets='smoothed': ThreeDVar has one state and carries no covariance" in result.output
    words += ["--scheme", "etkf", "--members", "8", "--inflation", "1.2"]
    words += ["--passes", "1", "--epochs", "1", "--held-out", "0"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert xr.open_datatree(tmp_path / "out.zarr", engine="zarr").attrs["targets"] == "smoothed"
