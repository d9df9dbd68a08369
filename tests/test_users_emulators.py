"""Emulators of a user's own: what breaks in one is one line, and what is right is kept by name."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray as xr
from comparing import without_end
from test_descriptions import improve as improve_lstm
from test_storable import covariance
from test_users_models import Damped, record

import daml
from daml.errors import DivergedError, InputError

SCHEME = daml.ThreeDVar(covariance())


@dataclass(frozen=True)
class Mean:
    """A model, and the mean increment of the analyses over it."""

    base: object
    passes: int = 0
    offset: object = None
    history = ()  # of the user's own

    @property
    def variables(self):
        return self.base.variables

    @property
    def dt(self):
        return self.base.dt

    def fit(self, analysis):
        states = analysis.analysis.values
        missed = states[1:] - self.base.step(states[:-1], None)[0]
        return replace(self, offset=missed.mean(axis=0), passes=self.passes + 1)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return self.base.step(x, None)[0] + self.offset, memory

    def to_dataset(self):
        return xr.Dataset({"offset": ("variable", self.offset)}, {"variable": list(self.variables)})

    def restored(self, dataset):
        return replace(self, offset=dataset.offset.sel(variable=list(self.variables)).values)


def drawn(model, steps=600):
    """Give observations of a model that is pushed at random in each step."""
    random = np.random.default_rng(1)
    x, size = np.zeros(len(model.variables)), len(model.variables)
    states = np.empty((steps, size))
    for row in range(steps):
        states[row] = x = model.step(x, None)[0] + 0.5 * random.standard_normal(size)
    values = states + 0.3 * random.standard_normal(states.shape)
    return record(model.variables, steps=steps).assign(observation=(("time", "variable"), values))


def improve(emulator, model=None, seen=None, **more):
    seen = drawn(Damped()) if seen is None else seen
    given = {"passes": 2, "held_out": 0} | more
    return daml.improve(model or Damped(), seen, daml.ThreeDVar(), emulator, **given)


def raising(method, error, first=1):
    """Give an emulator of which a method raises from a training on."""

    def raises(self, *args, **how):
        if self.passes >= first - (method == "fit"):
            raise error
        return getattr(Mean, method)(self, *args, **how)

    return type("Broken", (Mean,), {method: raises})(Damped())


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize(
    ("emulator", "match"),
    [
        (
            raising("fit", ValueError("no\nfit")),
            r"^pass 0: Broken: 'fit' failed \(ValueError: no\)",
        ),
        (raising("fit", ValueError("no"), 2), r"^pass 1: Broken: 'fit' failed \(ValueError: no\)$"),
        (raising("fit", SystemExit("out")), r"^pass 0: Broken: 'fit' failed \(SystemExit: out\)$"),
        (raising("step", ValueError("no")), r"^pass 0: Broken: 'step' failed \(ValueError: no\)"),
        (raising("start", ValueError("no"), 2), r"^pass 1: Broken: 'start' failed .*\(ValueErr"),
        (raising("to_dataset", ValueError("no")), r"^pass 0: Broken: 'to_dataset' failed \(Value"),
    ],
)
def test_an_emulator_that_raises_is_one_line(emulator, match, store, tmp_path):
    path = tmp_path / "store.zarr" if store else None
    with pytest.raises(InputError, match=match) as caught:
        improve(emulator, store=path)
    assert isinstance(caught.value.__cause__, (ValueError, SystemExit))
    assert not isinstance(caught.value.__cause__, InputError)
    assert "\n" not in str(caught.value)
    left = [p.name for p in tmp_path.iterdir()]
    assert left == (["store.zarr"] if store and "pass 1" in match else [])


def test_an_interruption_of_a_users_training_passes():
    with pytest.raises(KeyboardInterrupt, match="stop"):
        improve(raising("fit", KeyboardInterrupt("stop")))


def giving(method, result):
    return type("Odd", (Mean,), {method: lambda self, *args, **how: result})(Damped())


def of(dim):
    return xr.Dataset({"a": (dim, [1.0, 2.0])}, {dim: [0, 1], "other": [1]})


odd = xr.Dataset({"a": ("x", np.array([object()], dtype=object))})


@pytest.mark.parametrize(
    ("emulator", "match", "memory"),
    [
        (giving("fit", None), r"^pass 0: Odd: 'fit' gave a NoneType, which has no 'var", True),
        (giving("fit", Damped()), r"'fit' gave a Damped, which has no 'to_dataset'", True),
        (giving("to_dataset", None), r"Odd: 'to_dataset' gave a NoneType; return an xarr", True),
        (giving("to_dataset", {"a": 1}), r"Odd: 'to_dataset' gave a dict; return an xarr", True),
        (giving("to_dataset", of("time")), "'to_dataset' has a dimension 'time' that", True),
        (giving("to_dataset", of("variable")), "has a dimension 'variable' that differs", True),
        (giving("to_dataset", odd), r"^pass 0: Odd: 'to_dataset': cannot be kept in a", False),
        (giving("to_dataset", xr.Dataset({1: 2})), r"Odd: 'to_dataset': the name 1 is", False),
        (
            giving("to_dataset", xr.Dataset(attrs={"made": object()})),
            r"Odd: 'to_dataset': attribute 'made' is a object; a store holds",
            False,
        ),
    ],
)
def test_an_emulator_that_gives_nothing_of_use_is_one_line(emulator, match, memory, tmp_path):
    with pytest.raises(InputError, match=match) as caught:
        improve(emulator, store=tmp_path / "store.zarr")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    if memory:
        with pytest.raises(InputError, match=match):
            improve(emulator)


@pytest.mark.parametrize("loss", [np.array(["x"]), np.ones((2, 2)), np.ones(0), np.array([2, 1])])
def test_any_history_is_kept(loss, tmp_path):
    history = xr.Dataset({"loss": (("a", "b")[: loss.ndim], loss)})
    tree = improve(
        type("Stated", (Mean,), {"history": history})(Damped()), store=tmp_path / "a", passes=1
    )
    xr.testing.assert_equal(tree["iteration/0000/training"].to_dataset(inherit=False), history)
    wrong = type("Stated", (Mean,), {"history": of("time")})(Damped())
    with pytest.raises(InputError, match="of 'history' has a dimension 'time' that differs from"):
        improve(wrong, store=tmp_path / "b")


class Falsy(Damped):
    def __len__(self):
        return 0


def test_the_model_given_is_loaded_whatever_its_truth_value():
    tree = improve(Mean(Falsy()), Falsy(), passes=1)
    tree.attrs["chosen"] = "given"
    assert isinstance(daml.load_emulator(tree, base=Falsy()), Falsy)


def test_what_is_overwritten_outlives_an_emulator_that_raises(tmp_path):
    improve(Mean(Damped()), passes=1, store=tmp_path / "store.zarr")
    with pytest.raises(InputError, match="'fit' failed"):
        improve(raising("fit", ValueError("no")), store=tmp_path / "store.zarr", overwrite=True)
    assert daml.load_emulator(
        tmp_path / "store.zarr", 0, base=Damped(), emulator=Mean(Damped())
    ).offset.shape == (1,)


def test_a_training_that_diverges_keeps_what_can_be_resumed(tmp_path):
    with pytest.raises(DivergedError, match=r"^pass 0: "):
        improve(Diverging(Damped()), store=tmp_path / "a")
    assert (tmp_path / "a" / "imperfect").exists()


class Diverging(Mean):
    def step(self, x, memory):
        return np.full_like(x, np.inf), memory


def test_an_emulator_of_a_users_own_is_loaded_by_its_restored(tmp_path):
    tree = improve(Mean(Damped()), store=tmp_path / "store.zarr")
    for source in (tree, tmp_path / "store.zarr"):
        for iteration in (0, -1):
            found = daml.load_emulator(source, iteration, emulator=Mean(Damped()))
            kept = tree[f"iteration/000{iteration % 2}/emulator"].to_dataset()
            np.testing.assert_array_equal(found.offset, kept.offset)
    saved = tree["iteration/0000/emulator"].to_dataset()
    one = daml.load_emulator(saved, emulator=Mean(Damped()))
    assert daml.forecast(one, record().rename(observation="state"), leads=1, warmup=0).sizes[
        "start"
    ]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({}, r"'iteration/0001/emulator' holds a Mean.* emulator=Mean\(\.\.\.\)\)"),
        ({"base": Damped()}, "holds a Mean, a class of your own"),
        ({"emulator": daml.LSTM()}, "'emulator' is a LSTM, but 'iteration/0001/emulator' holds"),
        ({"emulator": raising("restored", KeyError("k"), 0)}, "'emulator' is a Broken, but"),
        ({"emulator": 3}, "load_emulator: 'emulator' is 3; give an emulator"),
    ],
)
def test_an_emulator_that_cannot_be_loaded_says_what_to_do(more, match, tmp_path):
    tree = improve(Mean(Damped()))
    with pytest.raises(InputError, match=match) as caught:
        daml.load_emulator(tree, 1, **more)
    assert "\n" not in str(caught.value)


def test_an_emulator_without_restored_is_refused():
    class Forgetful:
        variables, dt = ("u",), 1.0
        start = step = fit = to_dataset = Mean.start

    with pytest.raises(InputError, match="a Forgetful has no 'restored'; write restored"):
        daml.load_emulator(xr.Dataset(), emulator=Forgetful())
    with pytest.raises(InputError, match=r"Broken: 'restored' failed \(KeyError: 'k'\)"):
        daml.load_emulator(xr.Dataset(), emulator=raising("restored", KeyError("k"), 0))


class Chain:
    """A system whose variables differ, in whatever order."""

    dt = 1.0

    def __init__(self, order="uvw", shift=0.0):
        self.centre = {"u": 0.0, "v": 5.0, "w": -3.0}
        self.damping = {"u": 0.95, "v": 0.9, "w": 0.93}
        self.variables, self.shift = tuple(order), shift

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        centre, damping = (
            np.array([part[name] for name in self.variables])
            for part in (self.centre, self.damping)
        )
        return centre + damping * (x - centre) + self.shift, memory


@pytest.fixture(scope="module")
def chain():
    return drawn(Chain(), 1500)


def test_the_order_of_variables_changes_no_analysis_and_no_forecast(chain):
    B = xr.DataArray(
        np.diag([0.3, 0.2, 0.1]),
        {"variable": list("uvw"), "covariable": list("uvw")},
        ("variable", "covariable"),
    )
    orders = ("uvw", "wuv")
    analyses = [without_end(daml.assimilate(Chain(o), chain, daml.ThreeDVar(B))) for o in orders]
    forecasts = [daml.forecast(Chain(o), analyses[0], leads=2, warmup=5) for o in orders]
    for one, two in (analyses, forecasts):
        assert list(two["variable"].values) == list("wuv")
        xr.testing.assert_allclose(one.drop_attrs(), two.sel(variable=list("uvw")).drop_attrs())


@pytest.mark.parametrize("kind", [Mean, lambda base: daml.LSTM(base=base, hidden=2, epochs=1)])
def test_an_emulator_in_another_order_gives_the_same_loop(kind, chain):
    one, two = (
        improve(kind(Chain(order, shift=0.3)), Chain("uvw", shift=0.3), chain, held_out=0.1)
        for order in ("uvw", "wuv")
    )
    first, second = (t["iteration/0001/scores"].to_dataset() for t in (one, two))
    if kind is Mean:
        xr.testing.assert_allclose(first.held_out_square_error, second.held_out_square_error)
        xr.testing.assert_allclose(first.consistency, second.consistency)
    last = [t["iteration/0001"].analysis.load() for t in (one, two)]
    assert list(last[1]["variable"].values) == list("wuv")
    assert float(abs(last[0] - last[1]).max()) < (1e-6 if kind is Mean else 0.5)
    if kind is not Mean:
        with pytest.raises(InputError, match=r"the base steps \('u', 'v', 'w'\), the LSTM was fit"):
            daml.load_emulator(two, 0, base=Chain("uvw", shift=0.3))
        assert daml.load_emulator(two, 0, base=Chain("wuv", shift=0.3)).variables == tuple("wuv")


def test_overwriting_and_resuming_at_once_is_refused(tmp_path):
    store = tmp_path / "store.zarr"
    both = {"store": store, "overwrite": True, "resume": True}
    loop = daml.Loop(Damped(), SCHEME, Mean(Damped()), passes=1)
    for run in (
        lambda: improve(Mean(Damped()), **both),
        lambda: loop.run(record(steps=1200), **both),
        lambda: daml.paper.run("smoke", **both),
        lambda: daml.sweep({"max_variance": [1.0]}, **both),
        lambda: improve_lstm(model=Damped(), **both),
        lambda: improve(Mean(Damped()), overwrite=True, resume=True),
    ):
        with pytest.raises(InputError, match=r"^overwrite and resume are both given: .* give one"):
            run()
        assert list(tmp_path.iterdir()) == []
