"""Laws that every model, scheme and emulator obeys."""

import inspect
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import roster
import xarray as xr
from sklearn.linear_model import Ridge

import daml
from daml.errors import InputError
from daml.pairing import certain
from daml.protocols import Update
from daml.schemes.variational import gains


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.CoupledLorenz63(), steps=400, spinup=500, seed=1)


@pytest.fixture(scope="module")
def seen(truth):
    record = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
    missing = np.random.default_rng(3).random(record.observation.shape) < 0.2
    return record.assign(observation=record.observation.where(~missing))


schemes = pytest.mark.parametrize("make", roster.SCHEMES.values(), ids=roster.SCHEMES.keys())
models = pytest.mark.parametrize("make", roster.MODELS.values(), ids=roster.MODELS.keys())
emulators = pytest.mark.parametrize("make", roster.EMULATORS.values(), ids=roster.EMULATORS.keys())


@pytest.mark.parametrize(
    ("package", "listed", "needed"),
    [
        ("models", roster.MODELS, "step"),
        ("schemes", roster.SCHEMES, "update"),
        ("emulators", roster.EMULATORS, "fit"),
    ],
)
def test_no_public_class_is_left_out(package, listed, needed):
    module = __import__(f"daml.{package}", fromlist=["daml"])
    public = {name: getattr(module, name) for name in module.__all__}
    for name, kind in public.items():
        if inspect.isclass(kind) and hasattr(kind, needed) and "tendency" not in vars(kind):
            bare = name == "ODE"
            assert bare or any(entry.split()[0] == name for entry in listed), name


class Reversed:
    """A model with the variables of another in reversed order."""

    def __init__(self, model):
        self.model, self.dt = model, model.dt
        self.variables = tuple(reversed(model.variables))
        self.positions = model.positions[::-1]

    def start(self, x, time=None):
        return self.model.start(x[..., ::-1], time)

    def step(self, x, memory):
        moved, memory = self.model.step(x[..., ::-1], memory)
        return moved[..., ::-1], memory


@models
def test_a_model_treats_each_state_of_a_batch_alone(make):
    model = certain(make())
    states = np.random.default_rng(0).standard_normal((2, 3, len(model.variables)))
    together, _ = model.step(states, model.start(states))
    for at in np.ndindex(2, 3):
        alone, _ = model.step(states[at], model.start(states[at]))
        np.testing.assert_allclose(together[at], alone, rtol=1e-13)


@models
def test_a_run_goes_on_where_it_ended(make):
    whole = daml.simulate(make(), steps=20, spinup=10, seed=0)
    first = whole.isel(time=slice(10))
    rest = daml.simulate(make(), steps=11, initial=first.isel(time=-1))
    np.testing.assert_array_equal(rest.state[1:], whole.state[10:])


@schemes
def test_segments_agree_with_the_run_in_one(make, seen):
    one = daml.assimilate(roster.Placed(), seen, make(), segments=1)
    many = daml.assimilate(roster.Placed(), seen, make(), segments=3)
    assert many.attrs["segments"] > 1
    if "spread" in one:  # an ensemble never forgets its start to rounding
        apart = ((many.analysis - one.analysis) ** 2).mean("time") / (one.spread**2).mean("time")
        assert float(apart.max()) < 0.5
    else:
        np.testing.assert_allclose(many.analysis, one.analysis, atol=0.02)


@schemes
def test_chunks_do_not_matter(make, seen):
    plain = daml.assimilate(roster.Placed(), seen, make())
    lazy = daml.assimilate(roster.Placed(), seen.chunk(time=37), make()).compute()
    xr.testing.assert_equal(lazy, plain)


@schemes
def test_a_missing_value_is_one_of_infinite_variance(make, seen):
    filled = seen.assign(observation=seen.observation.fillna(3.0))
    # The pull of a perturbed observation falls with the deviation alone: that must be large.
    variance = xr.where(seen.observation.isnull(), 1e24, seen.error_variance)
    filled["error_variance"] = variance.transpose("time", "variable")
    # From a state that is given: a first guess from what is observed would follow the fillers.
    start = xr.Dataset({"state": ("variable", [1.0, 2.0, 20.0])}, {"variable": seen["variable"]})
    how = {"initial": start, "segments": 1}
    given, other = (daml.assimilate(roster.Placed(), s, make(), **how) for s in (seen, filled))
    np.testing.assert_allclose(given.analysis, other.analysis, rtol=1e-9, atol=1e-9)


@schemes
def test_the_order_of_the_variables_does_not_matter(make, seen):
    plain = daml.assimilate(roster.Placed(), seen, make())
    turned = daml.assimilate(Reversed(roster.Placed()), seen.isel(variable=[2, 0, 1]), make())
    turned = turned.sel(variable=plain["variable"])
    np.testing.assert_allclose(turned.analysis, plain.analysis, rtol=1e-7, atol=1e-9)


@schemes
def test_the_truth_does_not_leak(make, seen, truth):
    with_truth = seen.assign(state=truth.state.sel(variable=["x0", "x1", "x2"]))
    plain = daml.assimilate(roster.Placed(), seen, make())
    xr.testing.assert_identical(daml.assimilate(roster.Placed(), with_truth, make()), plain)


class Raises(roster.Nudging):
    def to_dataset(self):
        raise RuntimeError("no disk")


class Other(roster.Nudging):
    def to_dataset(self):
        return {"variance": 1.0}


class Foreign(roster.Nudging):
    def to_dataset(self):
        return xr.Dataset({"bias": ("variable", [1.0])}, {"variable": ["u"]})


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (Raises(), r"Raises: 'to_dataset' failed \(RuntimeError: no disk\)"),
        (Other(), "Other: 'to_dataset' gave a dict; return an xarray.Dataset"),
        (Foreign(), "Foreign: 'to_dataset' gave 'variable' without all variables of the model"),
    ],
)
def test_a_scheme_that_keeps_something_else_is_refused(scheme, text, seen):
    with pytest.raises(InputError, match=text):
        daml.improve(daml.Lorenz63(), seen, scheme, roster.Polynomial(), passes=1, held_out=0)


BROKEN = {
    "'observation' is missing": lambda o: o.drop_vars("observation"),
    "not increasing": lambda o: o.isel(time=slice(None, None, -1)),
    "only missing values": lambda o: o.assign(observation=o.observation * np.nan),
    "has no variable 'a'": lambda o: o.assign_coords(variable=["a", "x1", "x2"]),
    "neither is there": lambda o: o.drop_vars("error_variance"),
}


@schemes
@pytest.mark.parametrize("text", BROKEN)
def test_what_breaks_the_contract_is_refused(make, text, seen):
    with pytest.raises(InputError, match=text):
        daml.assimilate(roster.Placed(), BROKEN[text](seen), make())


@emulators
def test_a_fitted_emulator_is_a_model(make, seen):
    analysis = daml.assimilate(daml.Lorenz63(), seen, roster.SCHEMES["ThreeDVar"]())
    made = make()
    fitted = (made.fit if learns_from_analyses(made) else made.begin)(analysis)
    assert fitted.variables == ("x0", "x1", "x2")
    record = analysis[["analysis"]].rename(analysis="state")
    forecast = daml.forecast(fitted, record, leads=2, warmup=10)
    assert np.isfinite(forecast.forecast).all()
    back = make().restored(fitted.to_dataset())
    again = daml.forecast(back, record, leads=2, warmup=10)
    np.testing.assert_array_equal(again.forecast, forecast.forecast)


def learns_from_analyses(emulator):
    return "analyses" in getattr(emulator, "trainings", ("analyses",))


PAIRS = [
    *(
        ("ThreeDVar", emulator)
        for emulator, make in roster.EMULATORS.items()
        if learns_from_analyses(make())
    ),
    ("a scheme of the tests", "LSTM"),
    ("a scheme of the tests", "an emulator of the tests"),
]


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
@pytest.mark.parametrize(("scheme", "emulator"), PAIRS)
def test_a_loop_goes_on_where_it_was_interrupted(scheme, emulator, seen, tmp_path):
    def improve(passes, **how):
        parts = roster.SCHEMES[scheme](), roster.EMULATORS[emulator]()
        return daml.improve(daml.Lorenz63(), seen, *parts, passes=passes, held_out=0, **how)

    whole = improve(2)
    improve(1, store=tmp_path / "loop.zarr")
    resumed = improve(2, store=tmp_path / "loop.zarr", resume=True)
    for group in ("iteration/0000", "iteration/0001"):
        np.testing.assert_array_equal(resumed[group].analysis, whole[group].analysis)
    weights = "iteration/0001/emulator"
    xr.testing.assert_equal(resumed[weights].to_dataset().load(), whole[weights].to_dataset())


class Older:
    """A scheme as an older daml had them: plain arrays, and a record."""

    def start(self, variables, record):
        gain = np.swapaxes(record.matrices(), 1, 2)
        error = np.diagonal(record.kind_covariance, axis1=1, axis2=2)
        return record.operator, gain * (0.5 / (0.5 + error))[:, None, :]

    def update(self, background, values, kind, memory):
        operator, weight = memory
        distance = values - operator.apply(background)
        return background + np.einsum("...vo,...o->...v", weight[kind], distance), memory


def test_a_scheme_of_the_older_kind_works_for_a_release(seen):
    new = daml.assimilate(daml.Lorenz63(), seen, roster.Nudging())
    with pytest.warns(DeprecationWarning, match=r"Older: schemes with 'start' are deprecated"):
        old = daml.assimilate(daml.Lorenz63(), seen, Older())
    np.testing.assert_allclose(old.analysis, new.analysis, rtol=1e-10, atol=1e-10)


def test_a_factor_on_r_that_is_given_stays_when_b_is_estimated(seen):
    scheme, _ = daml.tuned(daml.ThreeDVar(error_factor=1.5), daml.Lorenz63(), seen)
    assert scheme.error_factor == 1.5


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("how", [{}, {"method": "cg"}, {"error_factor": 2.5}])
@pytest.mark.parametrize("table", [gains.TABLE, 0])
def test_chi_square_is_that_of_the_expected_innovations(table, how, correlated, seen, monkeypatch):
    monkeypatch.setattr(gains, "TABLE", table)  # with 0 gains are worked out a batch at a time
    R = np.diag(seen.error_variance)
    if correlated:
        R = R + 0.5
        labels = {"covariable": seen["variable"].values}
        seen = seen.drop_vars("error_variance").assign_coords(labels)
        seen = seen.assign(error_covariance=(("variable", "covariable"), R))
    scheme = replace(roster.SCHEMES["ThreeDVar"](), **how)
    found = daml.assimilate(daml.Lorenz63(), seen, scheme, segments=1)
    B, there = scheme.background_covariance.values, found.innovation.notnull().values
    for row in range(50, 60):
        part = np.ix_(there[row], there[row])
        expected = (B + scheme.error_factor * R)[part]
        gap = found.innovation.values[row][there[row]]
        if len(gap):
            square = gap @ np.linalg.solve(expected, gap) / len(gap)
            assert float(found.chi_square[row]) == pytest.approx(square)
        else:
            assert np.isnan(found.chi_square[row])


@dataclass(frozen=True)
class Telling(roster.Nudging):
    """Nudging that gives how far it moved, and says what it gives."""

    outputs: dict = field(default_factory=lambda: {"moved": (("time",), {"units": "1"})})
    name: str = "moved"
    many: int = 1

    def update(self, forecast, observed, run, operator):
        update, operator = super().update(forecast, observed, run, operator)
        moved = abs(update.state - forecast.state).sum(-1)
        extras = {self.name: moved if self.many == 1 else np.stack([moved] * self.many, -1)}
        return Update(update.state, extras), operator


def test_what_a_scheme_gives_besides_is_in_the_analysis(seen):
    found = daml.assimilate(daml.Lorenz63(), seen, Telling())
    moved = abs(found.analysis - found.background).sum("variable")
    np.testing.assert_allclose(found.moved, moved, atol=1e-12)
    assert found.moved.dims == ("time",)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (Telling(name="stirred"), r"Telling: 'update' gave no 'moved', and its outputs say"),
        (Telling(many=2), r"gave 'moved' of shape \(\d+, 2\)"),
        (Telling(outputs={"moved": (("level",), {})}), "with the dimensions"),
        (Telling(outputs={"analysis": (("time",), {})}), "another name than background"),
    ],
)
def test_outputs_that_are_not_what_a_scheme_says_are_refused(scheme, text, seen):
    with pytest.raises(InputError, match=text):
        daml.assimilate(daml.Lorenz63(), seen, scheme)


@schemes
def test_a_scheme_comes_back_from_a_store(make, seen, tmp_path):
    given, emulator = make(), daml.emulators.Regression(Ridge(1.0), base=daml.Lorenz63())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        daml.improve(
            *(roster.Placed(), seen, given, emulator),
            passes=1,
            held_out=0,
            store=tmp_path / "loop.zarr",
        )
    own = given if type(given).__module__ == "roster" else None
    back = daml.load_scheme(tmp_path / "loop.zarr", scheme=own)
    one, two = (daml.assimilate(roster.Placed(), seen, scheme) for scheme in (given, back))
    xr.testing.assert_equal(one, two)


def test_a_scheme_of_ones_own_has_to_be_given_again(seen):
    tree = daml.improve(
        *(daml.Lorenz63(), seen, roster.Nudging(), roster.Polynomial()), passes=1, held_out=0
    )
    with pytest.raises(InputError, match=r"made by a Nudging, a class of your own.*scheme=Nudging"):
        daml.load_scheme(tree)
    with pytest.raises(InputError, match="iteration 3 is not there; the experiment has 1"):
        daml.load_scheme(tree, 3)
