"""Short records in a loop: a result, or one clear line before anything is trained."""

import re

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.innovations import from_innovations
from daml.loop import assimilator
from daml.loop.choosing import too_short
from daml.training.held_out import HeldOut, longer

MODEL = daml.Lorenz63(rho=27.0)
TRUTH = daml.simulate(daml.Lorenz63(), steps=400, spinup=300, seed=3)
TINY = {"hidden": 2, "layers": 1, "epochs": 1, "sequence_length": 20, "burn_in": 2}
EMULATOR = daml.LSTM(**TINY, base=MODEL)


def seen(steps, **settings):
    return daml.observe(TRUTH.isel(time=slice(steps)), seed=steps, **settings)


def blind(steps, fraction, left):
    """Give a record that is observed in so many of its held-out rows, and in all others."""
    record = seen(steps)
    rows = np.flatnonzero(HeldOut(steps, fraction).judged)[left:]
    record["observation"][rows] = np.nan
    return record


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fail where a loop begins its first long step, the analysis by the model given."""

    def first(self, model):
        pytest.fail("the loop has begun")

    monkeypatch.setattr(assimilator.Assimilator, "first", first)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("record", "settings", "match"),
    [
        (
            seen(334, missing=0.9),
            {"held_out": 0.3},
            r"the 100 held-out rows hold 7 values of 'x2', and 8 are needed to estimate B for 3 "
            r"observed quantities; give a record of 384 steps or more, or another scheme",
        ),
        (
            blind(400, 0.25, 7),
            {"held_out": 0.25},
            r"100 held-out rows hold 7 values of 'x0'.* 460 steps or more, or held_out=0\.288, or",
        ),
        (
            blind(400, 0.3, 0),
            {"held_out": 0.3, "scheme": daml.ThreeDVar("climatological")},
            "none of the 120 held-out rows.*holds an observation",
        ),
        (seen(334, variables=["x0"], missing=0.9), {"held_out": 0.3}, "nothing to train on"),
        (seen(400), {}, "are 40 held-out rows, and 100 are needed; .*1000 steps.*held_out=0.25,"),
        (seen(300), {"held_out": 0.2}, "60 held-out rows, and 100 are needed; .*500 steps or more"),
        (seen(5), {"held_out": 0, "passes": 1}, "5 steps is too short to train on.*length is 20"),
        (
            seen(30, missing=0.9),
            {"held_out": 0, "passes": 1},
            r"the record of 30 steps holds \d values of 'x\d', and 8 are needed",
        ),
        (
            seen(50),
            {"held_out": 0, "passes": 1, "training": "cycle"},
            "50 steps is too short for training='cycle', which needs 100",
        ),
    ],
)
def test_a_record_that_is_too_short_is_refused_before_the_first_step(record, settings, match):
    with pytest.raises(InputError, match=match):
        daml.improve(MODEL, record, emulator=EMULATOR, **settings)


def test_a_background_that_is_not_estimated_needs_fewer_held_out_values():
    """What the error of too few values advises goes through."""
    settings = {"scheme": daml.ThreeDVar("climatological"), "held_out": 0.3, "passes": 1}
    with pytest.warns(UserWarning, match="too short to tell"):
        tree = daml.improve(MODEL, seen(334, missing=0.9), emulator=EMULATOR, **settings)
    assert tree.attrs["chosen"] == "given"


@pytest.mark.filterwarnings("ignore:improve", "ignore:tuned")
@pytest.mark.parametrize("steps", [5, 21, 50, 101, 334, 335])
@pytest.mark.parametrize("variables", [None, ["x0"]])
@pytest.mark.parametrize("missing", [0.0, 0.5, 0.9])
def test_a_record_of_any_length_gives_a_result_or_an_error_before_training(
    steps, variables, missing, monkeypatch
):
    trained, train = [], assimilator.Assimilator.trained

    def spied(self, *args):
        trained.append(args)
        return train(self, *args)

    monkeypatch.setattr(assimilator.Assimilator, "trained", spied)
    record = seen(steps, variables=variables, missing=missing)
    for held_out in (0.3, 0.0):
        trained.clear()
        message = ""
        try:
            daml.improve(MODEL, record, emulator=EMULATOR, passes=1, held_out=held_out)
        except InputError as error:
            message = str(error)
        assert bool(trained) is not bool(message)
        assert "\n" not in message


@pytest.mark.parametrize(("steps", "fraction"), [(334, 0.3), (1000, 0.1), (667, 0.15), (400, 0.25)])
def test_what_is_said_to_be_enough_is_enough_and_no_more(steps, fraction):
    assert HeldOut(steps, fraction).judged.sum() >= 100
    assert longer(100, steps - 1, fraction).startswith(f"a record of {steps} steps")
    with pytest.raises(InputError, match=f"{steps} steps or more"):
        HeldOut(steps - 1, fraction)


def test_an_estimate_of_b_says_how_many_values_it_needs():
    record = seen(7)
    B = daml.climatological(TRUTH, max_variance=2)
    analysis = daml.assimilate(MODEL, record, daml.ThreeDVar(B))
    with pytest.raises(InputError, match=r"7 values of 'x0' are too few .*, 8 are needed"):
        from_innovations(analysis, record, B)


@pytest.mark.parametrize(
    ("steps", "fraction", "advice"),
    [
        (340, 0.3, "340 steps .* 2 held-out blocks .* 5 are needed; give a record of 834 steps or"),
        (2000, 0.1, r"4 held-out blocks .* give a record of 2500 steps or more, or held_out=0.125"),
        (2500, 0.1, None),
    ],
)
def test_a_record_that_is_too_short_to_choose_from_says_how_long_is_enough(steps, fraction, advice):
    held_out = HeldOut(steps, fraction)
    errors = xr.DataArray(
        np.ones((2, len(held_out.blocks), 3)), dims=("origin", "block", "horizon")
    )
    advised = too_short(errors, held_out)
    assert bool(advised) is (advice is not None)
    assert re.search(advice or "", advised)
    if advice:
        enough = int(re.search(r"record of (\d+) steps or", advised)[1])
        assert len(HeldOut(enough, fraction).blocks) == 5
        assert len(HeldOut(enough - 1, fraction).blocks) < 5


def test_a_block_without_an_observation_does_not_count():
    errors = xr.DataArray(np.ones((6, 3)), dims=("block", "horizon"))
    errors[:3] = np.nan
    advised = too_short(errors, HeldOut(3000, 0.1))
    assert "3 held-out blocks" in advised
    assert "a record of 5000 steps or more" in advised


def test_the_usual_advice_is_for_records_that_are_long_enough():
    model, record = daml.Lorenz63(), daml.observe(daml.simulate(daml.Lorenz63(), steps=900))
    emulator = daml.LSTM(**TINY, base=model)
    with pytest.warns(UserWarning, match="no pass .*; try a longer record, or training='cycle'"):
        daml.improve(model, record, emulator=emulator, held_out=0.3, passes=1)
