"""A model with hidden variables in the loop: its defaults, interruptions, and what is refused."""

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.emulators import Augmented
from daml.emulators.hidden import learning, lessons
from daml.errors import DivergedError, InputError
from daml.loop import defaults
from daml.models import Lorenz96
from daml.schemes import ETKF, ExtendedKalman, SigmaPoint
from daml.schemes.gaussian import open_error
from daml.stores import keeper
from daml.training import error_size, stages
from daml.training.through_cycle import Course

STEPS, NAMES = 340, ["x0", "x1", "x2"]
MODEL = daml.Lorenz63()


SHORT = tuple(stage._replace(length=8) for stage in learning.STAGES)


@pytest.fixture(scope="module", autouse=True)
def quickly():
    """Train on short stretches, judge on short sequences, and end searches early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "STAGES", SHORT)
        patch.setattr(lessons, "JUDGED", 60)
        patch.setattr(stages, "JUDGED", 2)
        patch.setattr(error_size, "TRIALS", 1)
        patch.setattr(open_error, "FACTORS", (0.02, 0.1, 0.5))
        yield


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=500, seed=1)
    return daml.observe(truth, variables=NAMES, seed=2)


@pytest.fixture(scope="module")
def begun(seen):
    analysis = daml.assimilate(MODEL, seen, SigmaPoint(0.3))
    return Augmented(2, base=MODEL, updates=4).begin(analysis, held_out=0.3)


class Saved:
    """A checkpoint that stops the training at its save of a number."""

    def __init__(self, stop):
        self.stop, self.count, self.kept = stop, 0, None

    def load(self):
        return self.kept

    def due(self):
        return True

    def save(self, arrays):
        self.count += 1
        self.kept = {name: np.array(array) for name, array in arrays.items()}
        if self.count == self.stop:
            raise Stopped


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def straight(begun, seen):
    return begun.fit_cycle(seen, SigmaPoint(), held_out=0.3)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_training_that_was_stopped_goes_on_bit_for_bit_in_each_stage(stop, begun, seen, straight):
    checkpoint = Saved(stop)
    with pytest.raises(Stopped):
        begun.fit_cycle(seen, SigmaPoint(), held_out=0.3, checkpoint=checkpoint)
    resumed = begun.fit_cycle(seen, SigmaPoint(), held_out=0.3, checkpoint=checkpoint)
    assert checkpoint.count == 4  # one save an update, and none is made again
    xr.testing.assert_identical(resumed.to_dataset(), straight.to_dataset())


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_the_loop_resumes_and_gives_a_pair_that_assimilates_new_observations(
    seen, tmp_path, monkeypatch
):
    def improve(name, **how):
        emulator = Augmented(2, base=MODEL, updates=3)
        where = {"store": tmp_path / name, "held_out": 0.3, "training": "cycle"}
        return daml.improve(MODEL, seen, emulator=emulator, **where, **how)

    monkeypatch.setattr(keeper, "PAUSE", 0.0)
    whole = improve("whole.zarr")
    save = keeper.TrainingCheckpoint.save

    def stop(self, arrays):
        save(self, arrays)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(keeper.TrainingCheckpoint, "save", stop)
        with pytest.raises(Stopped):
            improve("store.zarr")
    resumed = improve("store.zarr", resume=True)
    for group in ("imperfect", "iteration/0000", "iteration/0000/emulator"):
        xr.testing.assert_identical(
            *(tree[group].to_dataset(inherit=False).load() for tree in (whole, resumed))
        )
    scores = whole["iteration/0000/scores"]
    assert np.isfinite(scores.held_out_square_error).all()
    emulator, scheme = daml.load_emulator(resumed, 0), daml.load_scheme(resumed, 0)
    assert scheme == SigmaPoint()
    assert emulator.variables == (*NAMES, "hidden0", "hidden1")
    again = daml.assimilate(emulator, seen, scheme)
    xr.testing.assert_identical(again.analysis, resumed["iteration/0000"].analysis.load())
    given = daml.load_scheme(resumed, None if resumed.attrs["chosen"] == "given" else 0)
    assert given.open == ()
    truth = daml.simulate(daml.CoupledLorenz63(), steps=60, spinup=500, seed=7)
    fresh = daml.observe(truth, variables=["x0"], seed=8)
    assert np.isfinite(daml.assimilate(emulator, fresh, scheme).analysis).all()


class Many:
    """More variables than small models have, which lie nowhere."""

    variables, dt = tuple(f"x{number:02d}" for number in range(defaults.SMALL + 1)), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, memory


def test_hidden_variables_lie_nowhere():
    base = Lorenz96(n=5)
    seen = daml.observe(daml.simulate(base, steps=120, spinup=100))
    begun = Augmented(hidden_variables=1, base=base, updates=3).begin(
        daml.assimilate(base, seen, SigmaPoint(0.1)), held_out=0
    )
    assert begun.positions is not None
    taught = begun.fit_cycle(seen, SigmaPoint(), held_out=0)
    assert taught.positions is None
    assert np.isfinite(daml.assimilate(taught, seen, SigmaPoint()).analysis).all()


def test_the_default_fits_the_model_and_the_scheme(seen):
    def default(model, observations=seen, scheme=None, training="cycle"):
        return type(defaults.emulator_for(model, observations, scheme, training)).__name__

    assert default(MODEL) == "Augmented"
    assert default(MODEL, scheme=ExtendedKalman(0.1)) == "Augmented"
    assert default(MODEL, scheme=ETKF(6)) == "LSTM"
    assert default(MODEL, scheme=daml.ThreeDVar("innovations")) == "LSTM"
    assert default(MODEL, training="analyses") == "LSTM"
    for large in (Lorenz96(n=5), Many()):
        run = daml.observe(daml.simulate(large, steps=3))
        assert default(large, run) == "LSTM"
        assert defaults.emulator_for(large, run, None, "cycle").covariance == "predicted"
    assert defaults.scheme_for(Augmented(base=MODEL), "cycle") == SigmaPoint("innovations")
    assert defaults.scheme_for(daml.LSTM(covariance="predicted"), "cycle") == daml.ThreeDVar(
        "model"
    )
    assert defaults.scheme_for(daml.LSTM(), "cycle") == daml.ThreeDVar("innovations")


def test_a_model_that_remembers_keeps_the_other_default(seen):
    class Remembering(daml.Lorenz63):
        def start(self, x, time=None):
            return x

        def step(self, x, memory):
            return super().step(0.9 * x + 0.1 * memory, None)[0], x

    assert not defaults.hides(Remembering(), seen, None, "cycle")


def test_analyses_teach_no_hidden_variables(seen, begun):
    with pytest.raises(
        InputError, match=r"Augmented cannot be trained on analyses; give training='"
    ):
        daml.improve(MODEL, seen, emulator=Augmented(base=MODEL))
    with pytest.raises(
        InputError, match=r"Augmented: analyses do not show hidden .* the cycle: beg"
    ):
        begun.fit(daml.assimilate(MODEL, seen, SigmaPoint(0.3)))


class Faster(daml.Lorenz63):
    """A model that moves by many times its dt."""

    def step(self, x, memory):
        for _ in range(20):
            x, memory = super().step(x, memory)
        return x, memory


def test_a_training_that_follows_no_observation_ends_with_what_to_try(seen):
    analysis = daml.assimilate(
        Faster(),
        seen,
        daml.ThreeDVar(daml.climatological(daml.simulate(MODEL, steps=200), max_variance=2)),
    )
    begun = Augmented(2, base=Faster(), updates=4).begin(analysis)
    with pytest.raises(
        DivergedError, match=r"lost the observations .* the record do .* model's dt"
    ):
        begun.fit_cycle(seen, SigmaPoint(), held_out=0)


def test_what_the_record_alone_says_of_a_value_is_its_gaussian_likelihood(seen):
    like = torch.zeros((), dtype=torch.float64)
    values = seen.observation.values
    expected = 0.5 + np.linalg.slogdet(np.cov(values.T, ddof=0))[1] / 6
    assert Course(MODEL, seen, 0, like).ignorance == pytest.approx(expected)
    holes = seen.observation.where(np.random.default_rng(0).random(values.shape) > 0.1)
    some = Course(MODEL, seen.assign(observation=holes), 0, like).ignorance
    assert expected < some < 0.5 + np.log(values.var(axis=0)).mean() / 2 + 0.1


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_the_record_of_a_stranger_is_learned_from(tmp_path):
    """NumPy only, names of its own, dates, a tenth missing, an operator for the whole state."""

    class Pond:
        variables, dt, time_unit = ("warm", "cold", "deep"), 0.05, "D"

        def start(self, x, time=None):
            return None

        def step(self, x, memory):
            assert isinstance(x, np.ndarray)
            return np.asarray(MODEL.step(x, None)[0]), memory

    truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=500, seed=3)
    seen = daml.observe(truth, variables=NAMES, missing=0.1, seed=4)
    days = np.datetime64("2001-02-03") + np.arange(STEPS) * np.timedelta64(72, "m")
    seen = seen.assign_coords(variable=list(Pond.variables), time=days.astype("M8[ns]"))
    seen = seen.drop_vars("state", errors="ignore")
    emulator = defaults.emulator_for(Pond(), seen, None, "cycle")
    assert isinstance(emulator, Augmented)

    def observed(x):
        return x**2 / 10 + x

    small = Augmented(2, base=Pond(), updates=3)
    how = {"training": "cycle", "held_out": 0.3}
    tree = daml.improve(Pond(), seen, emulator=small, store=tmp_path / "a.zarr", **how)
    model = daml.load_emulator(tree, 0, base=Pond())
    assert model.variables == (*Pond.variables, "hidden0", "hidden1")
    assert (tree["iteration/0000"].time == seen.time).all()
    found = daml.assimilate(model, seen, daml.load_scheme(tree, 0))
    xr.testing.assert_identical(found.analysis, tree["iteration/0000"].analysis.load())
    curved = seen.assign(observation=observed(seen.observation))
    found = daml.assimilate(model, curved, SigmaPoint(), operator=observed)
    assert np.isfinite(found.analysis).all()
