"""Many trajectories go through the loop, and train through the cycle: nothing crosses a seam."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge
from test_moving import as_moving

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.labels.trajectories import in_a_row, parts_of
from daml.loop.judging import Judge
from daml.observing.records import read
from daml.schemes import ETKF, SigmaPoint
from daml.training.error_size import _sequences
from daml.training.examples import Examples
from daml.training.held_out import HeldOut
from daml.training.streams import Streams
from daml.training.through_cycle import Course

LIKE = torch.zeros((), dtype=torch.float64)


class Still(daml.models.ODE):
    """A model that moves nothing, so that a constant may be added to a trajectory."""

    variables = "x0", "x1"
    climate, climate_spread = np.zeros(2), np.ones(2)

    def tendency(self, x):
        return 0.0 * x


MODEL = Still(dt=1.0)
B = xr.DataArray(
    0.1 * np.eye(2), [("variable", list(MODEL.variables)), ("covariable", list(MODEL.variables))]
)


def record(many, steps, jump=0.0, seed=0):
    """Give observations of random walks; each trajectory lies ``jump`` from the one before."""
    random = np.random.default_rng(seed)
    states = np.cumsum(0.3 * random.standard_normal((many, steps, 2)), axis=1)
    values = states + jump * np.arange(many)[:, None, None] + random.standard_normal(states.shape)
    values[random.random(values.shape) < 0.1] = np.nan
    return xr.Dataset(
        {
            "observation": (("trajectory", "time", "variable"), values),
            "error_variance": ("variable", [1.0, 1.0]),
        },
        {"time": np.arange(float(steps)), "variable": ["x0", "x1"]},
    )


SPLITS = [(24, 60, 0.1), (3, 500, 0.1), (40, 300, 0.1), (9, 60, 0.3), (2, 1000, 0.3), (7, 211, 0.3)]


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_blocks_stay_within_trajectories(split):
    many, own, fraction = split
    held_out = HeldOut(many * own, fraction, many)
    blocks = held_out.blocks
    assert (blocks[:, 0] // own == (blocks[:, 1] - 1) // own).all()
    assert (blocks[1:, 0] >= blocks[:-1, 1]).all()
    assert (blocks[:, 0] % own >= held_out.room).all()
    assert held_out.room >= min(own // 3, 50)
    assert held_out.judged.sum() == np.diff(blocks).sum() <= fraction * many * own
    assert held_out.untrained[held_out.judged].all()
    each = held_out.untrained.reshape(many, own)
    if held_out.whole:
        assert (each.all(axis=1) == each.any(axis=1)).all()
        assert each.all(axis=1).sum() == len(blocks) == int(many * fraction)
    rows = held_out.sequences(20, 5)
    assert (rows[:, 0] // own == rows[:, -1] // own).all()
    assert np.isin(np.flatnonzero(held_out.judged), rows[:, 5:]).all()


def test_a_record_has_the_blocks_that_it_had():
    assert HeldOut(4000, 0.1).blocks[:2].tolist() == [[225, 275], [725, 775]]
    assert HeldOut(4000, 0.1).room == 225


@pytest.mark.parametrize(
    ("split", "match"),
    [
        (
            (12, 150, 0.1),
            "12 trajectories of 150 steps is too short: whole ones are held out, 0.1 of them are "
            "1, and 2 are needed; give 20 trajectories or more, or held_out=0.167, longer ones",
        ),
        ((300, 5, 0.1), "trajectories of 5 steps is too short: 12 or more are needed"),
        ((4, 100, 0.1), "a record of 400 steps is too short"),
    ],
)
def test_what_is_too_short_to_be_held_out(split, match):
    many, own, fraction = split
    with pytest.raises(InputError, match=match):
        HeldOut(many * own, fraction, many)


def test_examples_leave_out_whole_trajectories():
    many, steps = 24, 60
    values = 100.0 * np.arange(many)[:, None] + np.arange(steps)
    states = xr.Dataset(
        {"state": (("trajectory", "time", "variable"), values[..., None])},
        {"time": np.arange(float(steps)), "variable": ["x"]},
    )
    examples = Examples(states, 20, None, 0.1, owner="LSTM")
    held = HeldOut(many * steps, 0.1, many)
    number = held.blocks[:, 0] // steps
    for block in examples:
        of = block.states[:, 0, 0] // 100
        np.testing.assert_array_equal(block.weights.any(axis=1), ~np.isin(of, number))
    judged = examples.judged(20, 5)
    assert {int(b.states[0, 0] // 100) for b in judged} == set(number.tolist())
    counted = np.concatenate([b.states[b.weights > 0][:, 0] + 1 for b in judged])
    assert set(counted) <= set(in_a_row(states).state.values[held.judged, 0])
    assert len(set(counted)) >= 0.9 * held.judged.sum()
    for block in judged:
        np.testing.assert_array_equal(block.increments, 1.0)


@pytest.fixture(scope="module", params=["fixed", "gaps", "moving"])
def seen(request):
    """Give trajectories with R and missing values of their own, and the model."""
    random = np.random.default_rng(1)
    parts = parts_of(record(3, 12, jump=10.0))
    variances = random.uniform(0.5, 2.0, (3, 12, 2))
    parts = [
        part.assign(error_variance=(("time", "variable"), variance))
        for part, variance in zip(parts, variances, strict=True)
    ]
    if request.param == "gaps":
        parts = [part.isel(time=[0, 1, 3, 6, 7, 11]) for part in parts]
    if request.param == "moving":
        parts = [as_moving(part, MODEL) for part in parts]
    return xr.concat(parts, "trajectory", data_vars="all")


def test_a_record_in_a_row_is_that_of_each_trajectory(seen):
    how = MODEL.variables, MODEL.dt, "s", None, StateSpace.of(MODEL)
    row = read(in_a_row(seen), *how)
    assert (row.axis.many, row.axis.own, row.axis.length) == (3, 12, 36)
    np.testing.assert_array_equal(row.axis.grid(), np.tile(np.arange(12.0), 3))
    for number, part in enumerate(parts_of(seen)):
        alone, steps = read(part, *how), np.arange(12)
        one, many = alone.seen(steps), row.seen(steps + 12 * number)
        for name in ("values", "present", "variance"):
            np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
        x = np.random.default_rng(0).standard_normal((12, 2))
        np.testing.assert_array_equal(one.operator.apply(x), many.operator.apply(x))
        if not row.changes:
            near = row.nearest(steps + 12 * number)
            np.testing.assert_array_equal(alone.nearest(steps), near)
        else:
            near, other = (
                list(r.around(s, 3)) for r, s in ((alone, steps), (row, steps + 12 * number))
            )
            for first, second in zip(near, other, strict=True):
                np.testing.assert_array_equal(first.values, second.values)


def test_a_first_guess_is_of_its_own_trajectory(seen):
    _, analysis = daml.tuned(ETKF(4, inflation=1.1), MODEL, seen)
    away = np.abs(analysis.analysis.mean(["time", "variable"]) - [0.0, 10.0, 20.0])
    assert (away < 4.0).all()
    course = Course(MODEL, seen, 0.0, LIKE)
    start = course.tensors[2].numpy().reshape(3, 12, 2)
    assert (np.abs(start.mean(axis=(1, 2)) - [0.0, 10.0, 20.0]) < 4.0).all()


def course_of(seen, count=6):
    course = Course(MODEL, seen, 0.0, LIKE)
    objective = course.objective(lambda: MODEL, SigmaPoint(model_error=0.1), LIKE, 0)
    return Streams(course, objective, count, np.zeros(2), np.ones(2))


def test_streams_and_sequences_stay_within_trajectories():
    own = 30
    streams = course_of(record(5, own))
    random = np.random.default_rng(0)
    places = set()
    for _ in range(20):
        length = int(random.integers(5, 25))
        streams.make_room(length, random)
        assert (streams.rows // own == (streams.rows + length) // own).all()
        places |= set((streams.rows // own).tolist())
        streams.rows += length
    assert places == set(range(5))
    for rows in _sequences(streams, 7)[-1]:
        assert len(set((rows // own).tolist())) == 1
    counted = torch.cat([rows[7:] for rows in _sequences(streams, 7)[-1]])
    assert set((counted // own).tolist()) == set(range(5))
    blocks = streams.course.blocks(8)
    for rows in blocks.sequences(0, 3, 8)[-1]:
        assert len(set((rows // own).tolist())) == 1
    with pytest.raises(InputError, match="a record of 30 steps is too short to train on"):
        streams.course.blocks(31)


def test_a_jump_between_trajectories_is_not_learned_by_streams():
    random, losses = np.random.default_rng(0), []
    for jump in (0.0, 1000.0):
        streams = course_of(record(5, 30, jump))
        for _ in range(4):
            streams.make_room(10, random)
            losses.append(streams.run(10)[1].loss.numpy())
            streams.carry_on(streams.run(10)[1], 10)
    assert np.max(losses) < 5.0
    # It would be, across a seam.
    streams.rows[:] = 25
    assert streams.run(10)[1].loss.min() > 100.0


@pytest.mark.parametrize("split", [(40, 12, 0.3), (3, 500, 0.1)], ids=str)
def test_forecasts_are_judged_within_their_trajectory(split):
    many, own, fraction = split
    seen = in_a_row(record(many, own, jump=1000.0))
    random = np.random.default_rng(2)
    states = seen.observation.fillna(0.0) + random.standard_normal(seen.observation.shape)
    analysis = states.to_dataset(name="analysis")
    how = read(seen, MODEL.variables, MODEL.dt), HeldOut(many * own, fraction, many)
    judge = Judge.of(MODEL, analysis, np.array([20.0, 20.0]), *how)
    y, x = seen.observation.values, states.values
    found = [
        [np.nanmean((y[a:b] - x[a - lead : b - lead]) ** 2) for lead in judge.horizons]
        for a, b in judge.held_out.blocks.tolist()
    ]
    np.testing.assert_allclose(judge.squares(MODEL, analysis), found)


EMULATOR = {"hidden": 2, "layers": 1, "cycle_epochs": 1, "sequence_length": 20, "base": MODEL}
TEACHERS = {"3DVar": daml.ThreeDVar(B), "ETKF": ETKF(4, inflation=1.1)}


@pytest.mark.parametrize(
    "name", [n if n == "ETKF" else pytest.param(n, marks=pytest.mark.slow) for n in TEACHERS]
)
def test_trainings_through_the_cycle_take_trajectories(name):
    scheme = TEACHERS[name]
    how = {"sequence_length": 20, "burn_in": 5, "held_out": 0}

    def trained(seen):
        begun = daml.LSTM(**EMULATOR).begin(daml.assimilate(MODEL, seen, scheme))
        return begun.fit_cycle(seen, scheme, **how)

    one = record(1, 120)
    many, plain = trained(one), trained(one.isel(trajectory=0))
    xr.testing.assert_identical(many.to_dataset(), plain.to_dataset())
    near, far = trained(record(4, 30)), trained(record(4, 30, jump=1000.0))
    assert float(far.history.loss[0]) == pytest.approx(float(near.history.loss[0]), abs=0.5)


def loaded(tree):
    emulator = daml.emulators.Regression(Ridge(1.0), base=MODEL)
    return daml.load_emulator(tree, iteration=0, emulator=emulator)


def improved(seen, **how):
    emulator = daml.emulators.Regression(Ridge(1.0), base=MODEL)
    how = {"emulator": emulator, "passes": 1, "scheme": daml.ThreeDVar(B), "held_out": 0.3} | how
    with pytest.warns(UserWarning, match="no pass is significantly better"):
        return daml.improve(MODEL, seen, **how)


def test_one_trajectory_is_improved_on_as_a_record():
    seen = record(1, 1000)
    many, plain = improved(seen), improved(seen.isel(trajectory=0))
    assert many.attrs["chosen_because"] == plain.attrs["chosen_because"]
    for group in ("iteration/0000", "iteration/0000/scores", "iteration/0000/emulator"):
        found = many[group].to_dataset(inherit=False).squeeze(drop=True)
        assert found.equals(plain[group].to_dataset(inherit=False).squeeze(drop=True)), group


@pytest.fixture(scope="module")
def far():
    return record(7, 60, jump=1000.0)


def test_a_jump_between_trajectories_is_not_learned_by_a_loop(far, tmp_path):
    tree = improved(far, store=tmp_path / "far.zarr")
    for group in ("imperfect", "iteration/0000"):
        assert (tree[f"{group}/scores"].held_out_rmse < 2.0).all()
        assert float(tree[f"{group}/scores"].innovation_rmse) < 2.0
    analysis = tree["iteration/0000"].to_dataset()
    assert analysis.analysis.dims == ("trajectory", "time", "variable")
    model = loaded(tree)
    x = far.observation[:, 0].fillna(0.0).values
    assert np.abs(model.step(x)[0] - x).max() < 3.0
    again = daml.assimilate(model, far, daml.ThreeDVar(B))
    np.testing.assert_allclose(again.analysis, analysis.analysis, rtol=1e-9)


def test_held_out_trajectories_are_not_trained_on(far):
    """Each pass has the weights of a training on the other trajectories alone."""
    tree = improved(far)
    analysis = tree["imperfect"].to_dataset()
    held = HeldOut.of(analysis, 0.3).masked(analysis)
    alone = daml.emulators.Regression(Ridge(1.0), base=MODEL).fit(held)
    x = far.observation[:, 0].fillna(0.0).values
    np.testing.assert_allclose(loaded(tree).step(x)[0], alone.step(x)[0])
    changed = held.innovation.isnull().all(["time", "observed"])
    assert int(changed.sum()) == 2


@pytest.mark.slow
def test_a_loop_goes_on_from_its_store(far, tmp_path):
    store = tmp_path / "run.zarr"
    improved(far, store=store)
    resumed = improved(far, store=store, passes=2, resume=True)
    straight = improved(far, passes=2)
    for group in ("iteration/0001", "iteration/0001/scores"):
        xr.testing.assert_equal(
            resumed[group].to_dataset(inherit=False), straight[group].to_dataset(inherit=False)
        )


@pytest.mark.slow
def test_smoothed_trajectories_are_trained_on(far):
    scheme = ETKF(4, inflation=1.1)
    tree = improved(far, targets="smoothed", lag=5, scheme=scheme)
    smoothed = daml.smooth(MODEL, far, scheme, lag=5)
    alone = daml.emulators.Regression(Ridge(1.0), base=MODEL)
    alone = alone.fit(HeldOut.of(smoothed, 0.3).masked(smoothed))
    x = far.observation[:, 0].fillna(0.0).values
    np.testing.assert_allclose(loaded(tree).step(x)[0], alone.step(x)[0])


@pytest.mark.slow
def test_a_warning_says_how_many_trajectories_are_needed(far):
    with pytest.warns(UserWarning, match="held-out blocks .* give 17 trajectories or more; load"):
        daml.improve(
            *(MODEL, far, daml.ThreeDVar(B)),
            daml.emulators.Regression(Ridge(1.0), base=MODEL),
            passes=1,
            held_out=0.3,
        )


@pytest.mark.slow
def test_hidden_variables_are_taught_by_trajectories():
    def taught(seen):
        begun = daml.emulators.Augmented(1, units=4, updates=10, base=daml.Lorenz63())
        scheme = SigmaPoint(model_error=0.1)
        analysis = daml.assimilate(daml.Lorenz63(), seen, scheme, segments=1)
        return begun.begin(analysis).fit_cycle(seen, scheme, held_out=0.3)

    truth = daml.simulate(daml.CoupledLorenz63(), steps=400, spinup=300)
    whole = daml.observe(truth, variables=["x0", "x1", "x2"], seed=1)
    many, plain = taught(whole.expand_dims("trajectory")), taught(whole)
    xr.testing.assert_identical(many.to_dataset(), plain.to_dataset())
    parts = [whole.isel(time=slice(n, n + 100)) for n in range(0, 400, 100)]
    cut = [part.assign_coords(time=parts[0].time) for part in parts]
    cut = xr.concat([*cut, *cut], "trajectory", data_vars=["observation"])
    found = taught(cut)
    assert (found.history.loss < 2.0).all()
    with pytest.raises(InputError, match=r"a trajectory of 90 steps is too short .* 100 or more"):
        taught(cut.isel(time=slice(0, 90)))
