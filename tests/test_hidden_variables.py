"""Models with hidden variables: their step, their streams, and what a training gains."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import daml
from daml.running.tuning import tuned
from daml.training.error_size import fit_error_size
from daml.training.streams import Streams
from daml.training.through_cycle import Course, Innovations

SIGMA = daml.schemes.SigmaPoint()


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.CoupledLorenz63(), steps=3000, spinup=1000, seed=5)


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, variables=["x0", "x1", "x2"], seed=6)


def begun(seen, **settings):
    """An emulator with two hidden variables and first weights, as a training starts from it."""
    base = daml.Lorenz63()
    analysis = daml.assimilate(base, seen, daml.schemes.SigmaPoint(model_error=0.3))
    emulator = daml.emulators.Augmented(hidden_variables=2, base=base, **settings).begin(analysis)
    network = emulator.network(5, 2)
    return replace(emulator, fitted=emulator.known.widened(emulator.names_of(2), network))


def test_a_step_is_half_a_correction_the_step_of_the_base_and_half_a_correction(seen):
    emulator = begun(seen.isel(time=slice(300)))
    x = np.random.default_rng(0).standard_normal((4, 5)) * 3

    def half(u):
        return u + 0.5 * emulator.known.increment(torch.as_tensor(u), None)[0].detach().numpy()

    before = half(x)
    between = np.concatenate((daml.Lorenz63().step(before[:, :3])[0], before[:, 3:]), axis=1)
    np.testing.assert_allclose(emulator.step(x)[0], half(between), rtol=1e-6)
    tensor, _ = emulator.step(torch.as_tensor(x))
    np.testing.assert_allclose(emulator.step(x)[0], tensor.detach().numpy(), rtol=1e-6)


def streams_of(emulator, seen, scheme=SIGMA, count=3):
    like = torch.zeros((), dtype=torch.float64)
    course = Course(emulator, seen, 0.0, like)
    sized = scheme.sized(emulator.variables)
    objective = Innovations(lambda: emulator, sized, course.record, like, 0)
    known = emulator.known
    return Streams(course, objective, count, known.climate, known.climate_spread)


def test_streams_go_on_as_one_cycle_does(seen):
    emulator = begun(seen.isel(time=slice(300)))
    carried, whole = (streams_of(emulator, seen.isel(time=slice(300))) for _ in range(2))
    with torch.no_grad():
        for length in (7, 13):
            _, done = carried.run(length)
            assert carried.carry_on(done, length) == 0
        _, done = whole.run(20)
    np.testing.assert_allclose(carried.state, done.state, rtol=1e-10, atol=1e-10)
    assert list(carried.rows) == [20, 120, 220]


def test_a_stream_that_is_lost_starts_again_from_what_is_observed(seen):
    short = seen.isel(time=slice(300))
    streams = streams_of(begun(short), short)
    streams.state = streams.state.clone()
    streams.state[1] += 100.0
    with torch.no_grad():
        loss, done = streams.run(5)
        assert loss < 10  # the others' alone
        assert streams.carry_on(done, 5) == 1
    value = short.observation.isel(time=105).values
    np.testing.assert_allclose(streams.state[1].mean(0)[:3], value, atol=1e-9)


def test_a_stream_at_the_end_of_a_record_starts_elsewhere(seen):
    short = seen.isel(time=slice(300))
    streams = streams_of(begun(short), short)
    streams.make_room(120, np.random.default_rng(0))
    assert list(streams.rows[:2]) == [0, 100]
    assert streams.rows[2] <= 300 - 1 - 120


@dataclass(frozen=True)
class Damped:
    """x' = 0.9 x in two variables; the truth adds an error of a standard deviation of 0.5."""

    variables = ("a", "b")
    dt = 1.0
    arrays = ("numpy", "torch")

    def start(self, x, time=None):
        return None

    def step(self, x, memory=None):
        return 0.9 * x, None


def test_the_size_of_the_model_error_is_found():
    model = daml.models.Stochastic(Damped(), model_error=0.25)
    truth = daml.simulate(model, steps=3000, seed=1)
    seen = daml.observe(truth, error_variance=0.1, seed=2)
    analysis = daml.assimilate(Damped(), seen, daml.schemes.SigmaPoint(model_error=0.25))
    emulator = daml.emulators.Augmented(hidden_variables=0, base=Damped()).begin(analysis)
    streams = streams_of(emulator, seen, count=10)
    scale = emulator.known.network.error_scale
    fit_error_size(scale, [slice(0, 2)], streams)
    assert np.sqrt(np.diag(emulator.model_error)) == pytest.approx([0.5, 0.5], rel=0.08)


def rmse(analysis, truth):
    seen = {"variable": ["x0", "x1", "x2"]}
    error = analysis.analysis.sel(seen) - truth.state.sel(seen)
    return float(np.sqrt((error.isel(time=slice(500, None)) ** 2).mean()))


def taught(seen, updates, seed=0):
    """The imperfect model's analysis, and the emulator taught through the cycle."""
    base = daml.Lorenz63()
    _, analysis = tuned(daml.ThreeDVar("innovations"), base, seen)
    settings = {"hidden_variables": 2, "updates": updates, "seed": seed}
    emulator = daml.emulators.Augmented(base=base, **settings).begin(analysis, held_out=0.1)
    return analysis, emulator.fit_cycle(seen, SIGMA)


def test_a_short_training_makes_a_better_filter_than_the_base(truth, seen, tmp_path):
    seen, truth = (d.isel(time=slice(1500)) for d in (seen, truth))
    analysis, emulator = taught(seen, updates=12)
    found = daml.assimilate(emulator, seen, SIGMA)
    assert rmse(found, truth) < 0.97 * rmse(analysis, truth)
    assert 0.9 < float(found.chi_square[500:].mean()) < 1.1
    emulator.save(tmp_path / "e.zarr")
    back = daml.load_emulator(tmp_path / "e.zarr")
    assert back.variables == ("x0", "x1", "x2", "hidden0", "hidden1")
    x = found.analysis.values[::500]
    np.testing.assert_array_equal(back.step(x)[0], emulator.step(x)[0])
    np.testing.assert_array_equal(back.model_error, emulator.model_error)
    np.testing.assert_array_equal(back.climate, emulator.climate)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_minute_of_training_halves_the_error(seed):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=10_000, spinup=2000, seed=seed)
    seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=seed + 100)
    analysis, emulator = taught(seen, updates=120, seed=seed)
    found = daml.assimilate(emulator, seen, SIGMA)
    assert rmse(analysis, truth) == pytest.approx(0.6, rel=0.03)
    assert rmse(found, truth) < 0.3
