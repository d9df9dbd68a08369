"""Emulators of forced systems: forcings as further inputs, with forced bases, and in the loop."""

import numpy as np
import pytest
import roster
import torch
import xarray as xr
from click.testing import CliRunner
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from test_forcings import START, Driven, drive

import daml
from daml.cli import main
from daml.errors import InputError
from daml.training.examples import Examples

STEPS = 700


@pytest.fixture(scope="module")
def truth():
    start = START.assign_coords(time=0.0)
    return daml.simulate(Driven(), steps=STEPS, initial=start, forcings=drive(STEPS + 20))


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, seed=1, error_variance=0.01)


def error(model, truth, forcings=None):
    """Give the RMSE of forecasts of two steps, in the last part of the record."""
    part = truth.isel(time=slice(400, None))
    found = daml.forecast(model, part, leads=[2], warmup=5, forcings=forcings).forecast[:, 0].values
    right = part.state.values[7:]
    return np.sqrt(((found[: len(right)] - right) ** 2).mean())


def polynomials():
    return daml.emulators.Regression(make_pipeline(PolynomialFeatures(3), Ridge(1e-6)))


EMULATORS = {
    "Regression": lambda inputs: polynomials(),
    "Regression with a window": lambda inputs: daml.emulators.Regression(
        Ridge(1e-6), base=daml.Lorenz63(), window=2
    ),
    "LSTM with a base": lambda inputs: daml.LSTM(
        hidden=8, layers=1, epochs=40, learning_rate=2e-2, base=daml.Lorenz63()
    ),
    "GRU with a window": lambda inputs: daml.emulators.GRU(
        hidden=8, epochs=80, learning_rate=1e-2, window=2, base=daml.Lorenz63()
    ),
    "CNN with a base and a window": lambda inputs: daml.emulators.CNN(
        (8,), kernel=3, epochs=60, batch_size=4, learning_rate=1e-2, window=2, base=roster.Placed()
    ),
    "Module": lambda inputs: daml.emulators.Module(
        torch.nn.Linear(inputs, 3), epochs=200, learning_rate=3e-2, base=daml.Lorenz63()
    ),
}


@pytest.mark.statistical
@pytest.mark.parametrize("make", EMULATORS.values(), ids=EMULATORS)
def test_an_emulator_that_sees_the_forcing_forecasts_better(truth, make):
    train, known = truth.isel(time=slice(0, 400)), drive(STEPS + 20)
    torch.manual_seed(0)
    emulator = make(4)
    forced = emulator.fit(train, forcings=known)
    assert forced.forcings == ("drive",)
    assert error(forced, truth, known) < 0.5 * error(make(3).fit(train), truth)
    again = daml.load_emulator(forced.to_dataset(), emulator=emulator, base=emulator.base)
    assert again.forcings == ("drive",)
    assert error(again, truth, known) == error(forced, truth, known)


def test_examples_pair_a_state_with_the_forcing_of_its_time(truth):
    table = daml.labels.forcings.Forcings.read(drive(STEPS + 20))
    examples = Examples(truth, 20, None, owner="LSTM", forcings=table)
    block = examples[0]
    np.testing.assert_array_equal(block.forcing[:, 0], drive(STEPS + 20).drive[: len(block.states)])
    scaling = examples.forcing_scaling()
    np.testing.assert_allclose(scaling["forcing_mean"], drive(STEPS - 1).drive.mean())
    np.testing.assert_allclose(scaling["forcing_spread"], drive(STEPS - 1).drive.std())
    perfect = Examples(truth, 20, Driven(), owner="LSTM", forcings=table)
    np.testing.assert_array_equal(perfect[0].increments, 0)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_forced_base_gets_its_own_of_the_forcings(truth, kind):
    known = drive(STEPS + 20)
    known = known.assign(aside=known.drive[::-1].drop_vars("time") * 0 + 3.0)[["aside", "drive"]]
    emulator = daml.LSTM(hidden=4, epochs=1, base=Driven()).fit(truth, forcings=known)
    assert emulator.forcings == ("aside", "drive")
    x, forcing = truth.state.values[:5], np.array([[3.0, 2.0]] * 5)
    given = [x, forcing] if kind == "numpy" else [torch.tensor(x), torch.tensor(forcing)]
    moved = np.asarray(emulator.step(given[0], emulator.start(given[0]), given[1])[0])
    # The perfect base leaves nothing to correct.
    np.testing.assert_allclose(moved, Driven().step(x, None, forcing[:, 1:])[0], atol=1e-6)


def gradient(emulator, x, forcing):
    state = torch.tensor(x, requires_grad=True)
    moved = emulator.step(state, emulator.start(state), torch.tensor(forcing))[0]
    return torch.autograd.grad(moved.sum(), state)[0].numpy()


def test_the_gradient_through_a_base_by_differences_is_that_at_its_forcing(truth):
    numpy_only = type("ByNumpy", (Driven,), {"arrays": ("numpy",)})
    known = drive(STEPS + 20)
    x, forcing = truth.state.values[:4], np.array([[1.0], [2.0], [-3.0], [8.0]])
    found = [
        gradient(daml.LSTM(hidden=4, epochs=1, base=base()).fit(truth, forcings=known), x, forcing)
        for base in (Driven, numpy_only)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("learner", ["LSTM", "Augmented"])
def test_a_training_through_the_cycle_is_forced(truth, seen, learner):
    known = drive(STEPS + 20)
    if learner == "LSTM":
        first = daml.LSTM(hidden=4, epochs=1, cycle_epochs=1, base=Driven())
        emulator, scheme = first.fit(truth, forcings=known), daml.ThreeDVar(identity(0.05))
    else:
        first = daml.emulators.Augmented(0, base=Driven(), updates=3)
        emulator, scheme = first.begin(truth, forcings=known), daml.schemes.ETKF(6, inflation=1.1)
    trained = emulator.fit_cycle(seen, scheme, forcings=known, held_out=0)
    # Without its forcing the base is off by much more than the observations' errors.
    loss = trained.history.loss.values[-1]
    wrong = emulator.fit_cycle(seen, scheme, forcings=-known, held_out=0).history.loss.values[-1]
    assert loss < 0.7 * wrong if wrong > 0 else loss < wrong
    with pytest.raises(InputError, match=r"takes the forcings .*, and none are given"):
        emulator.fit_cycle(seen, scheme)
    with pytest.raises(InputError, match=r"the forcings reach from 0.0 to 4.95"):
        emulator.fit_cycle(seen, scheme, forcings=drive(100))


def identity(size):
    return daml.covariance.labelled(size * np.eye(3), Driven.variables)


class Pendulum:
    """A damped oscillator with a drive of known size."""

    variables, dt, forcings, size = ("x", "v"), 0.1, ("drive",), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory, forcing):
        moved = x @ np.array([[0.98, -0.1], [0.1, 0.96]])
        moved[..., 1] += 0.1 * self.size * forcing[..., 0]
        return moved, memory


class Weak(Pendulum):
    """It has half of the drive alone."""

    size = 0.5


def swinging(steps):
    times = np.arange(steps) * 0.1
    known = np.random.default_rng(0).normal(size=steps).cumsum()
    return xr.Dataset({"drive": ("time", known - known.mean())}, {"time": times})


@pytest.fixture(scope="module")
def swing():
    known = swinging(1300)
    truth = daml.simulate(Pendulum(), steps=1200, seed=1, forcings=known)
    return known, truth, daml.observe(truth, error_variance=0.01, seed=2)


def test_a_loop_learns_what_its_model_lacks_of_a_forcing(swing, tmp_path):
    known, truth, seen = swing
    correction = daml.emulators.Regression(Ridge(1e-3), base=Weak())
    how = {"emulator": correction, "forcings": known, "held_out": 0}
    tree = daml.improve(Weak(), seen, passes=1, store=tmp_path / "loop.zarr", **how)
    tree = daml.improve(Weak(), seen, passes=2, store=tmp_path / "loop.zarr", resume=True, **how)
    straight = daml.improve(Weak(), seen, passes=2, **how)
    np.testing.assert_array_equal(*(t["iteration/0001"].analysis for t in (tree, straight)))
    better = daml.load_emulator(tree, emulator=correction, base=Weak())
    errors = [
        np.abs(found.forecast[: 1200 - 105, 4] - truth.state.values[105:]).mean()
        for found in (
            daml.forecast(model, truth, leads=5, forcings=known) for model in (better, Weak())
        )
    ]
    assert errors[0] < 0.3 * errors[1]
    how |= {"store": tmp_path / "loop.zarr", "resume": True, "forcings": known + 1}
    with pytest.raises(InputError, match=r"another configuration .*forcings"):
        daml.improve(Weak(), seen, passes=2, **how)


def test_what_a_loop_cannot_force_is_one_line(swing):
    known, _, seen = swing
    with pytest.raises(InputError, match=r"Weak: it takes the forcings \('drive',\), and none"):
        daml.improve(Weak(), seen)
    with pytest.raises(InputError, match="'drive' is missing"):
        daml.improve(Weak(), seen, forcings=known.rename(drive="wind"))
    with pytest.raises(InputError, match=r"reach from 0.0 to 9.9"):
        daml.improve(Weak(), seen, forcings=known.isel(time=slice(0, 100)))

    class Plain:
        variables, dt = ("x", "v"), 0.1

        def start(self, x, time=None):
            return None

        def step(self, x, memory):
            return x, memory

        def fit(self, analysis):
            return self

        def to_dataset(self):
            return xr.Dataset()

    with pytest.raises(InputError, match="neither Plain nor Plain takes any"):
        daml.improve(Plain(), seen, emulator=Plain(), forcings=known)
    fitted = daml.LSTM(hidden=4, epochs=1, sequence_length=20).fit(swing[1])
    with pytest.raises(InputError, match="LSTM: it was fitted without forcings"):
        fitted.fit(swing[1], forcings=known)


SCRIPT = """
import numpy as np

class Weak:
    variables, dt, forcings = ("x", "v"), 0.1, ("drive",)

    def start(self, x, time=None):
        return None

    def step(self, x, memory, forcing):
        moved = x @ np.array([[0.98, -0.1], [0.1, 0.96]])
        moved[..., 1] += 0.05 * forcing[..., 0]
        return moved, memory
"""


def test_the_command_line_takes_forcings(swing, tmp_path):
    known, _, seen = swing
    (tmp_path / "weak.py").write_text(SCRIPT)
    known.to_netcdf(tmp_path / "known.nc", engine="h5netcdf")
    seen.to_netcdf(tmp_path / "seen.nc", engine="h5netcdf")
    words = [str(tmp_path / "seen.nc"), "--model", f"{tmp_path / 'weak.py'}:Weak"]
    words += ["--forcings", str(tmp_path / "known.nc"), "--store"]
    done = CliRunner().invoke(main, ["assimilate", *words, str(tmp_path / "analysis.zarr")])
    assert done.exit_code == 0, done.output
    own = daml.tuned(daml.ThreeDVar(), Weak(), seen, forcings=known)[1]
    there = xr.open_zarr(tmp_path / "analysis.zarr")
    np.testing.assert_array_equal(there.analysis, own.analysis)
    words += [str(tmp_path / "loop.zarr"), "--passes", "1", "--epochs", "1"]
    done = CliRunner().invoke(main, ["improve", *words])
    assert done.exit_code == 0, done.output
    assert daml.load_emulator(tmp_path / "loop.zarr", 0, base=Weak()).forcings == ("drive",)
