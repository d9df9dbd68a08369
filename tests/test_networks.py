"""Emulators beside the LSTM: a GRU, a module of a user's, a regressor; and their names."""

import copy
import json
import logging
from dataclasses import dataclass, fields

import numpy as np
import pytest
import roster
import torch
import xarray as xr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from sklearn.svm import SVR

import daml
from daml.emulators import GRU, RNN, Module, Regression
from daml.errors import InputError

MODEL = daml.Lorenz63()
IMPERFECT = daml.Lorenz63(rho=26.0)


@pytest.fixture(scope="module")
def run():
    return daml.simulate(MODEL, steps=600, spinup=300, seed=1)


@pytest.fixture(scope="module")
def seen(run):
    return daml.observe(run, seed=2)


def module(window=1, size=3):
    return roster.layers(window * size)


def states(rows=5):
    return np.random.default_rng(0).normal([0, 0, 25], 5, (rows, 3))


def rolled(emulator, steps=6):
    """Step states, and carry the memory."""
    x, found = states(), []
    memory = emulator.start(x)
    for _ in range(steps):
        x, memory = emulator.step(x, memory)
        found.append(x)
    return np.array(found)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", [GRU, RNN])
def test_steps_are_those_of_the_network_on_the_whole_sequence(kind, window):
    network = kind(hidden=5, window=window).initial(3)
    inputs = torch.randn(4, 7, 3, generator=torch.manual_seed(0))
    memory, found = None, []
    with torch.no_grad():
        for step in range(7):
            x, memory = network.advance(inputs[:, step], memory)
            found.append(x)
        torch.testing.assert_close(torch.stack(found, 1), network(inputs), rtol=1e-4, atol=1e-5)


def test_a_gru_learns_and_is_smaller_than_an_lstm(run):
    how = {"hidden": 8, "epochs": 20, "sequence_length": 20, "burn_in": 2, "batch_size": 4}
    fitted = GRU(**how).fit(run)
    assert fitted.history.loss[-1] < 0.75 * fitted.history.loss[0]
    weights = [
        sum(w.numel() for name, w in e.initial(3).state_dict().items() if "head" not in name)
        for e in (GRU(**how), daml.LSTM(**how))
    ]
    assert weights[0] * 4 == weights[1] * 3


CYCLED = {
    "GRU": lambda: GRU(hidden=4, epochs=1, cycle_epochs=2, base=IMPERFECT, covariance="predicted"),
    "Module": lambda: Module(module(3), IMPERFECT, 3, epochs=1, cycle_epochs=2),
    "Module with B": lambda: Module(module(), epochs=1, cycle_epochs=2, covariance="constant"),
}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=() if name == "Module with B" else pytest.mark.slow)
        for name, make in CYCLED.items()
    ],
)
def test_a_training_through_the_cycle_resumes_bit_for_bit(make, seen, tmp_path):
    def improve(passes, **how):
        scheme = daml.ThreeDVar("model" if make().covariance else "innovations")
        how |= {"passes": passes, "held_out": 0, "training": "cycle"}
        return daml.improve(IMPERFECT, seen.isel(time=slice(350)), scheme, make(), **how)

    whole = improve(2)
    assert whole["iteration/0000/training"].sizes["epoch"] == 2
    improve(1, store=tmp_path / "a")
    resumed = improve(2, store=tmp_path / "a", resume=True)
    for group in ("iteration/0001", "iteration/0001/emulator"):
        one, two = (tree[group].to_dataset(inherit=False).load() for tree in (resumed, whole))
        xr.testing.assert_equal(one, two)


def test_a_module_is_never_changed_and_comes_back_with_its_settings(run, tmp_path):
    given = module(3)
    before = copy.deepcopy(given.state_dict())
    fitted = Module(given, MODEL, window=3, epochs=2, sequence_length=50).fit(run)
    assert given.training
    assert all(
        torch.equal(w, before[n]) and w.dtype == before[n].dtype
        for n, w in given.state_dict().items()
    )
    assert all(weight.requires_grad for weight in given.parameters())
    fitted.save(tmp_path / "module.zarr")
    back = daml.load_emulator(tmp_path / "module.zarr", emulator=Module(module(3)))
    assert (back.window, back.sequence_length, back.base) == (3, 50, MODEL)
    np.testing.assert_array_equal(rolled(back), rolled(fitted))
    with pytest.raises(InputError, match="holds a Module, whose 'module' no store can"):
        daml.load_emulator(tmp_path / "module.zarr")
    layers = torch.nn.Flatten(), torch.nn.Linear(9, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    other = Module(torch.nn.Sequential(*layers))
    with pytest.raises(InputError, match=r"Module: the stored weights do not fit .*module\.3"):
        daml.load_emulator(tmp_path / "module.zarr", emulator=other)
    with pytest.raises(InputError, match=r"'emulator' is a GRU, but .* holds a Module"):
        daml.load_emulator(tmp_path / "module.zarr", emulator=GRU())


def test_a_linear_module_finds_the_increment_of_a_linear_system():
    matrix = np.array([[0.9, 0.2], [-0.2, 0.9]])
    path = [np.array([1.0, 0.0])]
    for _ in range(400):
        path.append(matrix @ path[-1] + np.random.default_rng(len(path)).normal(0, 0.1, 2))
    axes = {"time": np.arange(401.0), "variable": ["u", "v"]}
    record = xr.Dataset({"state": (("time", "variable"), np.array(path))}, axes)
    how = {"burn_in": 0, "sequence_length": 10, "batch_size": 8, "learning_rate": 0.05}
    fitted = Module(torch.nn.Linear(2, 2), epochs=60, **how).fit(record)
    steps = [fitted.step(x, fitted.start(x))[0] for x in np.vstack([np.zeros((1, 2)), np.eye(2)])]
    np.testing.assert_allclose(np.array(steps[1:]) - steps[0], matrix.T, atol=0.1)
    regressed = Regression(Ridge(1e-6)).fit(record)
    steps = regressed.step(np.vstack([np.zeros((1, 2)), np.eye(2)]))[0]
    np.testing.assert_allclose(steps[1:] - steps[0], matrix.T, atol=0.05)


def test_weights_that_a_user_has_frozen_stay(run):
    given = module()
    given[1].requires_grad_(False)
    fitted = Module(given, epochs=2).fit(run)
    trained = fitted.fitted.network.module
    assert torch.equal(trained[1].weight, given[1].weight)
    assert not torch.equal(trained[3].weight, given[3].weight)


class Noisy(torch.nn.Module):
    """Dropout, and a statistic of the batch: off, so that states are treated alone."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)
        )

    def forward(self, x):
        return self.layers(x.float())


def test_a_module_runs_in_evaluation_mode(run):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = Noisy().double()
    one, two = (Module(given, epochs=1).fit(run) for _ in range(2))
    np.testing.assert_array_equal(rolled(one), rolled(two))
    assert given.layers[0].weight.dtype == torch.float64


class By(torch.nn.Module):
    """A linear layer, used in a way that is given."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = torch.nn.Linear(3, 3), how

    def forward(self, x):
        return self.how(self.layer, x)


ODD = {
    r"into shape \(4, 3\) of complex numbers": lambda layer, x: layer(x) + 0j,
    "into a ndarray": lambda layer, x: layer(x).detach().numpy(),
    "the gradient of By failed": lambda layer, x: layer(x) + x.zero_(),
}


class Mixing(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Complex(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))

    def forward(self, x):
        return ((x + 0j) @ self.weight).real


class Extra(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, 3)

    def get_extra_state(self):
        return {"calls": 1}


@dataclass
class Given:
    """An estimator that predicts by what is given, and writes into what it is fitted to."""

    how: object

    def fit(self, inputs, targets):
        inputs[...], targets[...] = np.nan, np.nan

    def predict(self, inputs):
        return self.how(inputs)


PREDICTIONS = {
    "Given predicted complex128": lambda x: x * 1j,
    "Given predicted object": lambda x: x.astype(object),
    r"Given predicted float64 \(3, 100\)": lambda x: x.T,
    "Given failed on inputs .*ZeroDivisionError": lambda x: 1 / 0,
}


def test_an_estimator_may_write_into_what_it_is_fitted_to(run):
    found = Regression(Given(np.sin)).fit(run)
    assert np.isfinite(found.to_dataset().targets).all()


def test_an_estimator_that_fails_later_is_one_line(run):
    def few(x):
        return x if len(x) > 20 else x[:0].reshape(7)

    fitted = Regression(Given(few)).fit(run)
    with pytest.raises(InputError, match=r"Given failed to predict from inputs \(5, 3\) \(Value"):
        fitted.step(states(), fitted.start(states()))


def test_an_estimator_of_one_variable_warns_of_nothing(run):
    found = Regression(SVR()).fit(run.isel(variable=[0]))
    assert np.isfinite(daml.forecast(found, run.isel(variable=[0]), leads=2).forecast).all()


class Masked(torch.nn.Module):
    """Attention to earlier states only: a mask that is infinite, and one of truth values."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(3, 1, batch_first=True)
        self.head = torch.nn.Linear(6, 3)
        self.register_buffer("later", torch.triu(torch.full((2, 2), -torch.inf), 1))
        self.register_buffer("observed", torch.tensor([True, False, True]))

    def forward(self, x):
        x = x * self.observed
        return self.head(self.attention(x, x, x, attn_mask=self.later)[0].flatten(1))


def test_buffers_of_any_kind_are_stored(run, tmp_path):
    fitted = Module(Masked(), window=2, epochs=1).fit(run)
    fitted.save(tmp_path / "masked.zarr")
    back = daml.load_emulator(tmp_path / "masked.zarr", emulator=Module(Masked(), window=2))
    x = states()
    np.testing.assert_array_equal(
        back.step(x, back.start(x))[0], fitted.step(x, fitted.start(x))[0]
    )


class Broken(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("no\nway")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        *((lambda f=f: Module(By(f)), text) for text, f in ODD.items()),
        (lambda: Module(Mixing()), "Mixing gives a different result for a state alone"),
        (lambda: Module(Complex()), "'weight' of Complex is complex"),
        (lambda: Module(Extra()), "'_extra_state' of Extra is a dict"),
        (
            lambda: Module(torch.nn.Linear(3, 2)),
            r"Linear turned .*\(4, 3\) into shape \(4, 2\)",
        ),
        (lambda: Module(torch.nn.Linear(2, 3)), r"Linear failed on .* shape \(4, 3\) \(RuntimeErr"),
        (lambda: Module(torch.nn.Linear(3, 3), window=2), r"into shape \(4, 2, 3\)"),
        (lambda: Module(torch.nn.LSTM(3, 3)), "LSTM turned .* into a tuple"),
        (lambda: Module(Broken()), r"Broken failed on .*\(RuntimeError: no"),
        (lambda: Module(3), "Module: 'module' is a int; give a torch.nn.Module"),
        (lambda: Module(module(), covariance="predicted"), r"Module: 'covariance' is 'predicted'"),
        (lambda: Module(module(), epochs=0), "Module: 'epochs' is 0"),
        (lambda: GRU(hidden=0), "GRU: 'hidden' is 0"),
        (lambda: GRU(covariance="constant", window=3), "GRU: 'covariance' needs a memory"),
        (lambda: Regression(Ridge), "'estimator' is not an estimator"),
        (lambda: Regression(3), "'estimator' is not an estimator: it has no 'fit'"),
        (lambda: Regression(Ridge(), window=0), "Regression: 'window' is 0"),
        *((lambda f=f: Regression(Given(f)), text) for text, f in PREDICTIONS.items()),
        (lambda: Regression(Ridge(), window=600), r"more steps than window \(600\)"),
        (lambda: Regression(SVR()), r"SVR failed .* wrap .*: .*MultiOutputRegressor\(SVR\(\)\)"),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_training(make, match, run, monkeypatch):
    monkeypatch.setattr(daml.emulators.fitting, "train", None)
    with pytest.raises(InputError, match=match) as caught:
        make().fit(run)
    assert "\n" not in str(caught.value)


def test_errors_name_the_class_that_was_used(run):
    with pytest.raises(InputError, match=r"^GRU: not fitted yet; use the result of gru\.fit"):
        GRU().step(states())
    with pytest.raises(InputError, match=r"^GRU\.fit: a record of 30 steps is too short"):
        GRU().fit(run.isel(time=slice(30)))
    with pytest.raises(InputError, match=r"^GRU\.fit: 'analysis' is 3; give an xarray"):
        GRU().fit(3)
    with pytest.raises(InputError, match=r"^GRU\.begin: it has no base to correct; give GRU\(base"):
        GRU().begin(run)


ESTIMATORS = {
    "linear": lambda: Ridge(1e-3),
    "trees": lambda: ExtraTreesRegressor(4, max_depth=5),
    "process": lambda: GaussianProcessRegressor(alpha=1e-2),
}


@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
def test_an_estimator_comes_back_given_or_fitted_again(make, run, tmp_path):
    given = make()
    before = copy.deepcopy(given.get_params())
    fitted = Regression(given, window=2).fit(run.isel(time=slice(200)))
    assert str(given.get_params()) == str(before)
    assert not hasattr(given, "n_features_in_")  # not fitted
    fitted.save(tmp_path / "store.zarr")
    expected = rolled(fitted)
    again = daml.load_emulator(tmp_path / "store.zarr", emulator=Regression(make()))
    assert again.window == 2
    np.testing.assert_array_equal(rolled(again), expected)
    known = fitted.fitted.estimator
    back = daml.load_emulator(tmp_path / "store.zarr", emulator=Regression(known))
    assert back.fitted.estimator is known
    other = Regression(Ridge(100.0))
    with pytest.raises(InputError, match="the Ridge given is not the one that was stored: its pre"):
        daml.load_emulator(tmp_path / "store.zarr", emulator=other)


def test_an_estimator_that_is_fitted_already_is_the_same_setting(seen, tmp_path):
    fitted = ExtraTreesRegressor(2, max_depth=3).fit(np.ones((9, 3)), np.ones((9, 3)))
    how = {"passes": 1, "held_out": 0, "store": tmp_path / "a"}
    scheme = daml.ThreeDVar(roster.climatology())
    one = daml.improve(MODEL, seen, scheme, Regression(fitted), **how)
    plain = Regression(ExtraTreesRegressor(2, max_depth=3))
    two = daml.improve(MODEL, seen, scheme, plain, **how, resume=True)
    assert one.attrs["emulator"] == two.attrs["emulator"]
    np.testing.assert_array_equal(two["iteration/0000"].analysis, one["iteration/0000"].analysis)
    other = Regression(ExtraTreesRegressor(2, max_depth=4))
    with pytest.raises(InputError, match="emulator"):
        daml.improve(MODEL, seen, scheme, other, **how, resume=True)


@dataclass
class Nearest:
    """An estimator that is none of scikit-learn's: the target of the nearest example."""

    def fit(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def predict(self, inputs):
        distance = ((inputs[:, None] - self.inputs) ** 2).sum(-1)
        return self.targets[distance.argmin(1)]


def test_anything_that_fits_and_predicts_is_an_estimator(run):
    fitted = Regression(Nearest()).fit(run)
    x, follows = run.state.values[:-1], run.state.values[1:]
    np.testing.assert_allclose(fitted.step(x)[0], follows, atol=1e-12)
    back = Regression(Nearest()).restored(fitted.to_dataset())
    np.testing.assert_array_equal(back.step(x)[0], fitted.step(x)[0])


def test_rows_that_were_not_observed_are_no_examples(run):
    count = run.sizes["time"]
    innovation = np.where(np.arange(count) % 2, np.nan, 0.0)
    record = run.rename(state="analysis").assign(
        innovation=(("time", "observed"), innovation[:, None])
    )
    inputs = Regression(Nearest()).fit(record).fitted.examples.inputs
    assert len(inputs) == (count - 1) // 2


def test_a_forecast_that_leaves_the_finite_numbers_is_not_an_error_of_the_estimator(run):
    fitted = Regression(Ridge()).fit(run)
    x = states(2)
    x[0] = np.inf
    moved, _ = fitted.step(x)
    assert np.isnan(moved[0]).all()
    assert np.isfinite(moved[1]).all()


@pytest.mark.parametrize("name", ["LSTM with a base", "GRU", "Module", "Regression"])
def test_a_step_without_a_memory_is_the_first_one(name, run):
    fitted, x = roster.EMULATORS[name]().fit(run), states(2)
    first = fitted.step(x, fitted.start(x))[0]
    np.testing.assert_array_equal(fitted.step(x)[0], first)
    np.testing.assert_array_equal(fitted.step(x, None)[0], first)


NAMES = {
    "LSTM": roster.EMULATORS["LSTM"],
    "GRU": roster.EMULATORS["GRU"],
    "Regression": roster.EMULATORS["Regression"],
    "Polynomial": roster.Polynomial,
}


@pytest.mark.parametrize(("name", "make"), NAMES.items(), ids=NAMES)
def test_reports_use_the_name_of_the_class(name, make, seen, tmp_path, caplog):
    caplog.set_level(logging.INFO, "daml")
    scheme = daml.ThreeDVar(roster.climatology())
    tree = daml.improve(MODEL, seen, scheme, make(), passes=1, held_out=0.3, store=tmp_path / "a")
    assert any(f"{name}-0, pass 1 of 1" in line for line in caplog.messages)
    assert f"innovations of {name}-0, the least" in tree.attrs["chosen_because"]
    assert json.loads(tree.attrs["emulator"])["class"] == name
    assert f"\n{name}-0 " in daml.reports.innovation_table(tree)
    figure = daml.figures.innovations(daml.reports.collect_innovations(tree))
    assert figure.axes[0].get_xlabel() == f"iteration n (0 is the first {name})"
    assert figure.axes[0].get_legend_handles_labels()[1][0] == f"{name}-n"
    others = set(NAMES) - {name}
    assert not any(f"{other}-" in " ".join(caplog.messages) for other in others)


@pytest.mark.parametrize("name", ["GRU", "Module", "Regression"])
def test_one_of_a_loop_comes_back(name, seen, tmp_path):
    scheme, make = daml.ThreeDVar(roster.climatology()), roster.EMULATORS[name]
    how = {"passes": 1, "held_out": 0, "store": tmp_path / "a"}
    tree = daml.improve(MODEL, seen, scheme, make(), **how)
    more = {} if name == "GRU" else {"emulator": make()}
    found = daml.load_emulator(tmp_path / "a", 0, **more)
    again = daml.assimilate(found, seen, scheme)
    np.testing.assert_array_equal(again.analysis, tree["iteration/0000"].analysis)


def test_settings_of_an_lstm_stand_where_they_stood():
    names = [f.name for f in fields(daml.LSTM)]
    assert names == [
        *("hidden", "layers", "epochs", "window", "base", "device", "seed", "sequence_length"),
        *("burn_in", "batch_size", "learning_rate", "rate_decay", "covariance", "cycle_epochs"),
        *("variance_floor", "fitted"),
    ]
    assert [f.name for f in fields(Module)][:3] == ["module", "base", "window"]
    assert repr(daml.LSTM()).startswith("LSTM(hidden=100, layers=2, epochs=None, window=None, base")
    kept = daml.LSTM(hidden=2, epochs=1).fit(daml.simulate(MODEL, steps=200)).to_dataset().attrs
    assert kept["emulator"] == "LSTM"
    assert list(json.loads(kept["settings"])) == [n for n in names if n not in ("base", "fitted")]


@dataclass(frozen=True)
class Ring:
    """A model of a user's that is no ODE, and says that it steps torch tensors."""

    arrays = ("numpy", "torch")
    variables, dt = ("x0", "x1", "x2"), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return MODEL.step(x, None)[0], memory


def test_a_model_that_says_that_it_steps_torch_is_differentiated_by_torch():
    from daml.training.bases import differentiable, takes_tensors

    assert takes_tensors(Ring())
    assert differentiable(Ring(), states()).tensors  # few variables: by differences, for speed
    assert differentiable(Ring(), states(), device="cuda") == Ring()
