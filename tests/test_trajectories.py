"""Records of many trajectories: each starts afresh, and nothing is learned across a seam."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge

import daml
from daml.errors import InputError
from daml.training.engine import Blocks
from daml.training.examples import Examples

MODEL = daml.Lorenz63()
MANY, STEPS = 6, 41


@pytest.fixture(scope="module")
def starts():
    run = daml.simulate(MODEL, steps=MANY * 50, spinup=300)
    names = [f"run {n}" for n in range(MANY)]
    return (
        run.isel(time=slice(0, None, 50)).rename(time="trajectory").assign_coords(trajectory=names)
    )


@pytest.fixture(scope="module")
def truth(starts):
    return daml.simulate(MODEL, steps=STEPS, initial=starts)


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, missing=0.1, seed=1)


def each(dataset):
    return [dataset.isel(trajectory=n, drop=True) for n in range(MANY)]


def test_each_trajectory_is_a_run_of_its_own(starts, truth):
    assert truth.state.dims == ("trajectory", "time", "variable")
    np.testing.assert_array_equal(truth.trajectory, starts.trajectory)
    for start, state in zip(each(starts), truth.state, strict=True):
        np.testing.assert_array_equal(daml.simulate(MODEL, steps=STEPS, initial=start).state, state)


def test_observations_have_errors_of_their_own(truth, seen):
    assert seen.error_variance.dims == ("variable",)
    errors = (seen.observation - truth.state).values.reshape(MANY, -1)
    for n in range(1, MANY):
        both = np.isfinite(errors[0] + errors[n])
        assert abs(np.corrcoef(errors[0][both], errors[n][both])[0, 1]) < 0.4
    xr.testing.assert_equal(seen, daml.observe(truth, missing=0.1, seed=1))
    assert not seen.equals(daml.observe(truth, missing=0.1, seed=2))


@pytest.mark.parametrize("run", [daml.assimilate, daml.smooth])
def test_an_analysis_is_that_of_each_trajectory(seen, run):
    scheme = daml.schemes.ETKF(6, inflation=1.1)
    together = run(MODEL, seen, scheme)
    for alone, one in zip(each(seen), each(together), strict=True):
        xr.testing.assert_equal(run(MODEL, alone, scheme), one)
    # What is observed of one trajectory does not reach the others.
    other = seen.copy(deep=True)
    other.observation[0] += 5.0
    changed = run(MODEL, other, scheme)
    np.testing.assert_array_equal(changed.analysis[1:], together.analysis[1:])
    assert (changed.analysis[0] != together.analysis[0]).any()


def test_forecasts_and_scores_have_trajectories(truth):
    ahead = daml.forecast(MODEL, truth, leads=2, warmup=5)
    assert ahead.forecast.dims == ("trajectory", "start", "lead", "variable")
    errors = daml.verification.forecast_error(ahead, truth)
    np.testing.assert_allclose(daml.verification.mfe(errors), np.zeros((MANY, 2)), atol=1e-9)
    analysis = truth.rename(state="analysis").assign(background=truth.state + 1.0)
    found = daml.verification.analysis_error(analysis, truth, skip=0)
    np.testing.assert_allclose(found.background_rmse, np.ones(MANY))
    with pytest.raises(InputError, match="'analysis' has 6 trajectories, and 'truth' has 2"):
        daml.verification.analysis_error(analysis, truth.isel(trajectory=[0, 1]))


def test_forcings_of_each_trajectory():
    class Driven:
        variables, dt, forcings = ("x",), 1.0, ("f",)

        def start(self, x, time=None):
            return None

        def step(self, x, memory, forcing):
            return x + forcing, None

    first = xr.Dataset(
        {"state": (("trajectory", "variable"), [[0.0], [10.0]])}, {"variable": ["x"]}
    )
    same = xr.Dataset({"f": ("time", [1.0, 2.0, 3.0])}, {"time": np.arange(3.0)})
    run = daml.simulate(Driven(), steps=3, initial=first, forcings=same)
    np.testing.assert_array_equal(run.state[..., 0], [[0, 1, 3], [10, 11, 13]])
    own = xr.concat([same, 10 * same], "trajectory")
    run = daml.simulate(Driven(), steps=3, initial=first, forcings=own)
    np.testing.assert_array_equal(run.state[..., 0], [[0, 1, 3], [10, 20, 40]])
    with pytest.raises(InputError, match="'f' has the dimension 'trajectory'"):
        daml.LSTM(sequence_length=2, burn_in=0).fit(run, forcings=own)


def marked():
    """Give a record whose value says trajectory and time: 100 n + k."""
    values = 100.0 * np.arange(MANY)[:, None] + np.arange(STEPS)
    return xr.Dataset(
        {"state": (("trajectory", "time", "variable"), values[..., None])},
        {"time": np.arange(float(STEPS)), "variable": ["x"]},
    )


def test_no_example_crosses_a_seam(monkeypatch):
    monkeypatch.setattr("daml.segments.rows_at_once", lambda size: 2 * STEPS)
    examples = Examples(marked(), 12, None, owner="LSTM")
    assert len(examples) == 3
    assert examples.steps == MANY * (STEPS - 1)
    blocks = examples.blocks(lambda number: [torch.as_tensor(examples[number].states)])
    found = []
    for number in range(len(examples)):
        np.testing.assert_array_equal(examples[number].increments, 1.0)
        for first in range(blocks.slack(12)):
            (sequences,) = blocks.sequences(number, first, 12)
            assert len(sequences) == 2 * ((STEPS - 1 - first) // 12)
            found.append(sequences)
    steps = torch.diff(torch.cat(found)[..., 0], dim=1)
    assert (steps == 1.0).all()
    assert blocks.count(12) == MANY * ((STEPS - 12) // 12)
    everywhere = {int(value) for value in torch.cat(found).ravel()}
    assert len(everywhere) == MANY * (STEPS - 1)


def test_many_trajectories_of_one_length_are_many_sequences():
    blocks = Blocks(MANY * 12, 1, lambda number: [torch.arange(MANY * 12.0).view(MANY, 12)], 12)
    (sequences,) = blocks.sequences(0, 0, 12)
    assert sequences.shape == (MANY, 12)
    assert (blocks.slack(12), blocks.count(12)) == (1, MANY)


def test_a_window_does_not_reach_over_a_seam():
    class Spy(Ridge):
        def fit(self, inputs, targets):
            Spy.inputs = inputs
            return super().fit(inputs, targets)

    record = marked()
    daml.emulators.Regression(Spy(), window=3).fit(record)
    values = record.state.values
    back = Spy.inputs * values[:, :-1].std() + values[:, :-1].mean()
    assert back.shape == (MANY * (STEPS - 1), 3)
    assert (np.abs(np.diff(back, axis=1)) < 1.5).all()  # a seam is a jump of 60


def test_one_trajectory_is_a_record(truth):
    one = truth.isel(trajectory=[2])
    emulator = daml.LSTM(hidden=4, epochs=3, sequence_length=12)
    many, plain = emulator.fit(one), emulator.fit(one.isel(trajectory=0, drop=True))
    np.testing.assert_array_equal(many.history.loss, plain.history.loss)
    x = truth.state.values[:, 0]
    np.testing.assert_array_equal(many.step(x)[0], plain.step(x)[0])


EMULATORS = {
    "LSTM": lambda: daml.LSTM(hidden=6, layers=1, epochs=2, sequence_length=20, base=MODEL),
    "GRU with a window": lambda: daml.emulators.GRU(
        hidden=4, epochs=2, window=2, sequence_length=20, base=MODEL
    ),
    "Regression": lambda: daml.emulators.Regression(Ridge(1.0), base=MODEL),
}


@pytest.mark.parametrize("make", EMULATORS.values(), ids=EMULATORS)
def test_emulators_are_fitted_to_trajectories(truth, seen, make):
    analysis = daml.assimilate(MODEL, seen, daml.schemes.ETKF(6, inflation=1.1))
    fitted = make().fit(analysis)
    perfect = make().fit(truth)
    x = truth.state.values[:, 3]
    np.testing.assert_allclose(perfect.step(x)[0], MODEL.step(x)[0], atol=1e-5)
    assert np.abs(fitted.step(x)[0] - MODEL.step(x)[0]).max() < 1.0
    assert daml.forecast(fitted, truth, leads=2, warmup=5).sizes["trajectory"] == MANY


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda t, s: daml.improve(MODEL, s), "a record of 246 steps is too short"),
        (
            lambda t, s: daml.tuned(daml.ThreeDVar(), MODEL, s.drop_vars("time")),
            "no coordinate 'time'",
        ),
        (lambda t, s: daml.tuned(daml.ThreeDVar(), MODEL, s.isel(trajectory=[])), "is empty"),
        (lambda t, s: daml.improve(MODEL, s.rename(trajectory="run")), "dimension 'run'"),
        (lambda t, s: daml.on_steps(s, MODEL), "has the further dimension 'trajectory'"),
        (lambda t, s: daml.observe(t, store="x.zarr"), "observe: a store takes the result of one"),
        (lambda t, s: daml.observe(t.isel(trajectory=[])), "'truth' has no trajectory"),
        (lambda t, s: daml.LSTM().fit(t), r"a record of 41 steps is too short .* sequence_length"),
        (
            lambda t, s: daml.LSTM(sequence_length=20).fit(t, held_out=0.1),
            "a record of 246 steps is too short",
        ),
    ],
)
def test_what_needs_one_record_is_one_line(truth, seen, call, match):
    with pytest.raises(InputError, match=match) as caught:
        call(truth, seen)
    assert "\n" not in str(caught.value)


class Daily:
    """A variable that decays from day to day."""

    variables, dt = ("a",), np.timedelta64(1, "D")

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, memory


def test_trajectories_start_at_their_date():
    days = np.array(["2000-01-05", "2000-01-05"], "M8[s]")
    start = xr.Dataset(
        {"state": (("trajectory", "variable"), np.ones((2, 1)))},
        {"variable": ["a"], "time": ("trajectory", days)},
    )
    run = daml.simulate(Daily(), steps=3, initial=start)
    assert run.time.values[0] == days[0]
    days[1] = np.datetime64("2000-02-01")
    with pytest.raises(InputError, match=r"'initial' have different times.*isel\(trajectory=0\)"):
        daml.simulate(Daily(), steps=3, initial=start.assign_coords(time=("trajectory", days)))
