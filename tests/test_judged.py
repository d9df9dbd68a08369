"""A loop that tunes and judges itself: held-out blocks, B anew for each pass, when to end."""

from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from comparing import without_end
from hypothesis import given
from hypothesis import strategies as st
from test_resume import equal

import daml
from daml.cli import main
from daml.covariance import labelled
from daml.errors import InputError
from daml.innovations import observed_pairs
from daml.loop import assimilator, choosing, loop
from daml.loop.choosing import best, chosen, gain, settled
from daml.loop.judging import SQUARES, Judge
from daml.observing.records import read
from daml.reports import collect_innovations
from daml.schemes import estimation
from daml.training.held_out import HeldOut

EMULATOR = daml.LSTM(hidden=8, epochs=3)


@given(steps=st.integers(1000, 200_000), fraction=st.floats(0.1, 0.3))
def test_blocks_lie_apart_and_cover_what_is_asked(steps, fraction):
    held_out = HeldOut(steps, fraction)
    blocks = held_out.blocks
    assert (blocks[1:, 0] > blocks[:-1, 1]).all()
    assert blocks[0, 0] > 0
    assert blocks[-1, 1] < steps
    assert abs(held_out.judged.sum() - steps * fraction) <= len(blocks) + 1
    assert (held_out.untrained >= held_out.judged).all()
    for first, stop in blocks:
        assert not held_out.judged[[first - 1, stop]].any()
        assert held_out.untrained[[first - 1, stop]].all()


@pytest.mark.parametrize(
    ("steps", "fraction", "text"), [(500, 0.1, "too short"), (5000, 0.5, "held_out")]
)
def test_what_cannot_be_held_out(steps, fraction, text):
    with pytest.raises(InputError, match=text):
        HeldOut(steps, fraction)


def test_what_is_held_out_does_not_train(observations, scheme):
    """Whatever stands in the held-out rows as a target, the trained weights are the same."""
    analysis = daml.assimilate(daml.Lorenz63(), observations, scheme)
    held_out = HeldOut(analysis.sizes["time"], 0.1)
    masked = held_out.masked(analysis)
    gone = masked.innovation.isnull().all("observed").values
    np.testing.assert_array_equal(gone, held_out.untrained)
    xr.testing.assert_identical(masked.analysis, analysis.analysis)


def errors(*levels, given=None, blocks=12, seed=0):
    """Give held-out errors of passes with so large a mean square, noisy alike.

    ``given`` has those of forecasts from the analyses of the model given, where they are others.
    """
    noise = np.random.default_rng(seed).lognormal(0.0, 0.1, (2, blocks, 3))
    own = np.random.default_rng(seed + 1).lognormal(0.0, 0.01, (len(levels), 2, blocks, 3))
    size = np.stack((levels, levels if given is None else given), axis=1)
    coords = {"iteration": np.arange(len(levels)), "origin": ["own", "given"]}
    dims = ("iteration", "origin", "block", "horizon")
    return xr.DataArray(size[..., None, None] * noise * own, dims=dims, coords=coords)


@pytest.mark.parametrize("seed", range(5))
def test_a_loop_goes_on_while_it_gains_and_ends_when_it_does_not(seed):
    falling = errors(2.0, 1.5, 1.3, 1.2, 1.15, seed=seed)
    assert not settled(falling[:3])
    assert not settled(falling)
    assert settled(errors(2.0, 1.5, 1.3, 1.31, 1.32, 1.33, seed=seed))
    # One late gain is enough to go on.
    assert not settled(errors(2.0, 1.5, 1.51, 1.52, 1.3, seed=seed))


def test_the_best_pass_is_chosen_and_told():
    found = errors(2.0, 1.5, 1.2, 1.3)
    assert int(best(found).iteration) == 2
    attrs = chosen(found, errors(4.0)[0], "GRU")
    assert attrs["chosen"] == 2
    assert "% below that of the model given" in attrs["chosen_because"]


@pytest.mark.parametrize(
    ("found", "given"),
    [
        (errors(2.0, 1.5), errors(0.3)[0]),  # worse
        (errors(2.0, 1.999), errors(2.001, seed=3)[0]),  # as good, but for noise
        (errors(1.5, given=[2.1]), errors(2.0)[0]),  # worse from the analyses of the model given
        (errors(1.5, blocks=1), errors(2.0, blocks=1)[0]),  # a single block says nothing
    ],
)
def test_the_model_given_stays_unless_a_pass_is_clearly_better(found, given):
    choice = chosen(found, given, "LSTM")
    assert choice["chosen"] == "given"
    assert "that of the model given" in choice["chosen_because"]


def test_a_gain_by_hand():
    before = xr.DataArray(np.full((4, 2), 4.0), dims=("block", "horizon"))
    # Log ratios of -1.0, -0.9, -1.1, -1.0: their t is -24.5, of three degrees of freedom.
    after = before * np.exp(-xr.DataArray([1.0, 0.9, 1.1, 1.0], dims="block"))
    part, probability = gain(before, after)
    assert part == pytest.approx(1 - np.exp(-0.5), rel=0.01)
    assert probability == pytest.approx(7.4e-5, rel=0.02)
    assert gain(before, before) == (0.0, 1.0)
    assert gain(after, before)[1] > 0.99


@pytest.mark.statistical
def test_the_judge_sees_forecasts_of_the_perfect_model_err_by_what_they_must():
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=20_000, spinup=500)
    seen = daml.observe(truth, seed=1, error_variance=4.0)
    scheme, analysis = daml.tuned(daml.ThreeDVar(), model, seen)
    record = read(seen, model.variables, model.dt)
    judge = Judge.of(
        model, analysis, observed_pairs(seen)[0].diagonal(), record, HeldOut(20_000, 0.2)
    )
    found = judge.scores(model, analysis, analysis)
    assert (np.diff(judge.horizons) > 0).all()
    one = Judge(judge.record, judge.times, judge.held_out, (1, 2, 3))
    first = one.scores(model, analysis, analysis)
    # The innovation's variance is that of the background error and that of the observation.
    rows = HeldOut(20_000, 0.2).judged
    error = (analysis.background - truth.state).values[rows]
    expected = np.sqrt(1 + np.mean(error**2) / 4)
    assert float(first.held_out_rmse[0]) == pytest.approx(expected, rel=0.02)
    np.testing.assert_array_equal(*found[SQUARES])  # the model given is judged by its own
    assert (np.diff(found.held_out_rmse) > 0).all()
    assert float(found.consistency) == pytest.approx(1, abs=0.06)
    double = daml.ThreeDVar(4 * scheme.background_covariance)
    doubled = daml.assimilate(model, seen, double)
    assert float(judge.scores(model, doubled, doubled).consistency) < 0.8


@pytest.mark.statistical
def test_b_from_innovations_is_better_than_the_climatology():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=20_000, spinup=1000)
    seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=1)
    rmse = {}
    for way in ("climatological", "innovations"):
        _, analysis = daml.tuned(daml.ThreeDVar(way), daml.Lorenz63(), seen)
        rmse[way] = float(daml.verification.analysis_error(analysis, truth).analysis_rmse)
    assert rmse["innovations"] < 0.62  # 0.596 by the best scale of B
    assert rmse["innovations"] < 0.95 * rmse["climatological"]


def test_a_given_b_stays(observations, scheme):
    found, analysis = daml.tuned(scheme, daml.Lorenz63(), observations)
    assert found is scheme
    again = daml.assimilate(daml.Lorenz63(), observations, scheme)
    xr.testing.assert_identical(analysis, without_end(again))


def test_an_open_b_is_told(observations):
    with pytest.raises(InputError, match=r"daml\.tuned"):
        daml.assimilate(daml.Lorenz63(), observations, daml.ThreeDVar())
    with pytest.raises(InputError, match="innovations"):
        daml.ThreeDVar("innovation")


def test_only_some_is_observed_and_some_of_it_missing(truth):
    seen = daml.observe(truth, variables=["x0"], missing=0.3, seed=1)
    scheme, analysis = daml.tuned(daml.ThreeDVar(), daml.Lorenz63(), seen)
    assert np.linalg.eigvalsh(scheme.background_covariance)[0] > 0
    assert np.isfinite(analysis.analysis).all()


def test_improve_without_any_setting_chooses_a_pass(observations, monkeypatch):
    monkeypatch.setattr(loop, "MOST", 4)
    tree = daml.improve(daml.Lorenz63(), observations, emulator=EMULATOR)
    found = collect_innovations(tree)
    best = int(np.argmin(np.log(found.held_out_rmse**2).mean("horizon").values))
    assert tree.attrs["chosen"] in (best, "given")
    assert f"held-out innovations of LSTM-{best}," in tree.attrs["chosen_because"]
    first = tree["imperfect/scheme"].background_covariance
    later = tree["iteration/0000/scheme"].background_covariance
    assert not np.allclose(first, later)


def test_a_loop_reads_the_covariance_of_its_record_once(observations, monkeypatch):
    read, pairwise = [], estimation.pairwise

    def spied(values):
        read.append(values.name)
        return pairwise(values)

    monkeypatch.setattr(estimation, "pairwise", spied)
    daml.improve(daml.Lorenz63(), observations, emulator=EMULATOR, passes=1)
    assert read.count("observation") == 1
    assert read.count("innovation") > 4


def test_auto_ends_a_loop_that_no_longer_gains(observations, monkeypatch):
    monkeypatch.setattr(choosing, "LEVEL", -1.0)  # any gain is none
    tree = daml.improve(daml.Lorenz63(), observations, emulator=EMULATOR)
    assert sorted(tree["iteration"].children) == ["0000", "0001", "0002", "0003"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"passes": "often"}, "'auto'"),
        ({"passes": 0}, "1 or more"),
        ({"held_out": 0}, "held_out > 0"),
        ({"held_out": 0.7}, "fraction"),
    ],
)
def test_a_loop_that_cannot_be(settings, text, observations):
    with pytest.raises(InputError, match=text):
        daml.improve(daml.Lorenz63(), observations, emulator=EMULATOR, **settings)


def test_a_tuned_loop_is_resumed_to_the_same_bits(observations, tmp_path, monkeypatch):
    made = daml.Loop(daml.Lorenz63(), daml.ThreeDVar(), EMULATOR, 3)
    straight = made.run(observations, tmp_path / "straight")
    trained = assimilator.Assimilator.trained

    def interrupted(self, emulator, done, store):
        if done.iteration == 1:
            raise KeyboardInterrupt
        return trained(self, emulator, done, store)

    monkeypatch.setattr(assimilator.Assimilator, "trained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.run(observations, tmp_path / "again")
    monkeypatch.setattr(assimilator.Assimilator, "trained", trained)
    again = made.run(observations, tmp_path / "again", resume=True)
    equal(again, straight)
    assert again.attrs == straight.attrs


def test_the_command_line_tells_what_was_chosen(observations, tmp_path):
    observations.to_netcdf(tmp_path / "record.nc")
    words = ["improve", str(tmp_path / "record.nc"), "--model", "lorenz63", "--epochs", "2"]
    words += ["--store", str(tmp_path / "store.zarr")]
    result = CliRunner().invoke(main, [*words, "--passes", "2"])
    assert result.exit_code == 0
    assert "chosen: " in result.output
    assert "held-out innovations" in result.output
    info = CliRunner().invoke(main, ["info", str(tmp_path / "store.zarr")])
    assert "2 of 2: finished" in info.output
    wrong = CliRunner().invoke(main, [*words, "--overwrite", "--background", "guess"])
    assert wrong.exit_code == 2
    assert "climatological" in wrong.output


def test_b_is_a_plain_matrix_in_the_store(observations):
    tree = daml.improve(daml.Lorenz63(), observations, emulator=EMULATOR, passes=1)
    kept = tree["iteration/0000/scheme"].background_covariance
    scheme = daml.ThreeDVar(labelled(kept.values, list(kept["variable"].values)))
    emulator = daml.load_emulator(tree, iteration=0)
    again = daml.assimilate(emulator, observations, scheme)
    np.testing.assert_array_equal(again.analysis, tree["iteration/0000"].analysis)


@pytest.mark.statistical
@pytest.mark.parametrize("given", [0.5, 2.0])
def test_a_wrong_size_of_r_is_found(given):
    """Halved or doubled, R comes out the same, and the analysis is that of the right R."""
    truth = daml.simulate(daml.Lorenz63(), steps=10_000, spinup=500, seed=1)
    seen = daml.observe(truth, seed=2)
    wrong = seen.assign(error_variance=given * seen.error_variance)
    model = daml.Lorenz63(rho=28.3)
    scheme, analysis = daml.tuned(daml.ThreeDVar(error_factor="estimated"), model, wrong)
    assert scheme.error_factor * given == pytest.approx(1, abs=0.12)
    _, right = daml.tuned(daml.ThreeDVar(), model, seen)
    rmse = [
        float(daml.verification.analysis_error(a, truth).analysis_rmse) for a in (analysis, right)
    ]
    assert rmse[0] < 1.1 * rmse[1]
    warned = pytest.warns(UserWarning, match="R is too large") if given > 1 else nullcontext()
    with warned:
        _, misled = daml.tuned(daml.ThreeDVar(), model, wrong)
    # No more than so: what is far from forecasts that lose the truth is no part of B.
    assert float(daml.verification.analysis_error(misled, truth).analysis_rmse) > 1.05 * rmse[1]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"error_factor": 0.0}, "factor > 0"),
        ({"error_factor": "guess"}, "'estimated'"),
        (
            {"background_covariance": "climatological", "error_factor": "estimated"},
            "only together with B",
        ),
    ],
)
def test_a_factor_on_r_that_cannot_be(settings, text):
    with pytest.raises(InputError, match=text):
        daml.ThreeDVar(**settings)
