"""Models of a user's own: what is no model is refused before it runs, what breaks says when."""

import datetime
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.running.checks import check_model
from daml.scripts import load_model

B = xr.DataArray([[1.0]], {"variable": ["u"], "covariable": ["u"]}, ("variable", "covariable"))

TWO = daml.covariance.labelled(np.eye(2), ["u", "v"])


class Damped:
    """A model that is right; the others differ from it in one thing."""

    variables, dt = ("u",), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, None


def record(variables=("u",), times=None, steps=60):
    times = np.arange(steps) * 1.0 if times is None else times
    values = np.random.default_rng(0).normal(size=(len(times), len(variables)))
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", np.full(len(variables), 0.1)),
        },
        coords={"time": times, "variable": list(variables)},
    )


def with_step(step, **attrs):
    return type("Own", (Damped,), {"step": lambda self, x, memory: step(x, memory)} | attrs)()


@pytest.mark.parametrize(
    ("attrs", "match"),
    [
        ({"dt": "1.0"}, "'dt' is '1.0'; give a number"),
        ({"dt": None}, "'dt' is None; give a number"),
        ({"dt": True}, "'dt' is True; give a number"),
        ({"dt": np.nan}, "'dt' is nan; give a number"),
        ({"dt": [1.0]}, "'dt' is a list; give a number"),
        ({"dt": np.inf}, "'dt' is inf; give a step > 0"),
        ({"dt": -1}, "'dt' is -1; give a step > 0"),
        ({"dt": np.timedelta64("NaT")}, "'dt' is NaT; give a step > 0"),
        ({"time_unit": "parsec"}, "'time_unit' is 'parsec', which is no unit"),
        ({"time_unit": None}, "'time_unit' is None, which is no unit"),
        ({"variables": (v for v in "u")}, "'variables' is a generator; give a tuple"),
        ({"variables": {"u", "v"}}, "'variables' is a set; give a tuple"),
        ({"variables": "uv"}, "'variables' is 'uv'; give a tuple"),
        (
            {"variables": (1, 2)},
            r"'variables' is a tuple \[1, 2\]; give a tuple",
        ),
        ({"variables": ["u", "u"]}, "give a tuple of different names"),
        ({"variables": []}, "give a tuple of different names"),
        ({"climate": [1.0, 2.0]}, r"'climate' is a list of shape \(2,\); give an array"),
        ({"climate_spread": [1.0, 2.0]}, r"'climate_spread' is a list of shape \(2,\); give an"),
    ],
)
def test_attributes_that_are_none_are_refused(attrs, match):
    with pytest.raises(InputError, match=match):
        daml.simulate(type("Own", (Damped,), attrs)(), steps=3)


DATED = np.arange(60) * np.timedelta64(1, "h") + np.datetime64("2020-01-01", "ns")


@pytest.mark.parametrize(
    ("attrs", "match"),
    [
        ({"dt": np.timedelta64(5, "as")}, r"timedelta64 in the unit 'as'; give it in one of 'ns'"),
        ({"dt": np.timedelta64(5, "fs")}, r"timedelta64 in the unit 'fs'; give it in one of 'ns'"),
        ({"dt": np.timedelta64(1, "M")}, r"timedelta64 in the unit 'M'; give it in one of 'ns'"),
        ({"dt": np.timedelta64(1, "Y")}, r"timedelta64 in the unit 'Y'; give it in one of 'ns'"),
        ({"dt": np.timedelta64(1)}, r"timedelta64 without a unit; give it in one of 'ns'"),
        ({"dt": np.timedelta64(300_000, "D")}, "'dt' is 300000 days; .* 1 ns to 292 years"),
        (
            {"time_unit": "as"},
            "'time_unit' is 'as', which is no unit of time; give one of 'ns'",
        ),
        ({"time_unit": "M"}, "'time_unit' is 'M', which is no unit of time; give one of 'ns'"),
        ({"time_unit": ""}, "'time_unit' is '', which is no unit of time; give one of 'ns'"),
        ({"time_unit": 3}, "'time_unit' is 3, which is no unit of time; give one of 'ns'"),
        ({"dt": 1e-12}, "'dt' is 1e-12 s; .* 1 ns to 292 years"),
        ({"dt": 1e6, "time_unit": "D"}, "'dt' is 1000000.0 D; .* 1 ns to 292 years"),
        ({"dt": 1e300}, r"'dt' is 1e\+300 s; .* 1 ns to 292 years"),
    ],
)
def test_a_step_that_dates_cannot_take_is_refused_with_the_units_that_can(attrs, match):
    model = type("Own", (Damped,), attrs)()
    scheme = daml.ThreeDVar(B)
    with pytest.raises(InputError, match=match):
        daml.assimilate(model, record(times=DATED), scheme)


@pytest.mark.parametrize(
    ("old", "unit", "dt"),
    [("H", "h", 1), ("T", "min", 60), ("S", "s", 3600), ("L", "ms", 3.6e6), ("d", "D", 1 / 24)],
)
def test_an_old_name_of_a_unit_means_its_new_one(old, unit, dt):
    made = [
        daml.assimilate(
            type("Own", (Damped,), {"dt": dt, "time_unit": name})(),
            record(times=DATED),
            daml.ThreeDVar(B),
        )
        for name in (old, unit)
    ]
    assert made[0].sizes["time"] == 60
    xr.testing.assert_equal(*made)


@pytest.mark.parametrize(
    "attrs",
    [
        {"dt": np.float32(0.5)},
        {"dt": np.int64(2)},
        {"dt": 1},
        {"dt": np.timedelta64(1, "h")},
        {"dt": pd.Timedelta("1h")},
        {"dt": datetime.timedelta(hours=1)},
        {"variables": np.array(["u"])},
        {"variables": ["u"]},
        {"variables": pd.Index(["u"])},
    ],
)
def test_attributes_whose_meaning_is_clear_are_taken(attrs):
    model = type("Own", (Damped,), attrs)()
    truth = daml.simulate(model, steps=300)
    _, analysis = daml.tuned(daml.ThreeDVar(B), model, daml.observe(truth))
    assert analysis.sizes["time"] == 300
    assert daml.forecast(model, analysis, warmup=10).sizes["start"] == 290


@pytest.mark.parametrize("dt", [pd.Timedelta("1h"), np.timedelta64(3600, "s")])
def test_a_span_of_time_is_the_step_of_dates(dt):
    seen = record(times=pd.date_range("2020-01-01", periods=60, freq="h"))
    model = type("Own", (Damped,), {"dt": dt})()
    hours = type("Own", (Damped,), {"dt": 1.0, "time_unit": "h"})()
    one, two = (daml.assimilate(m, seen, daml.ThreeDVar(B)) for m in (model, hours))
    np.testing.assert_array_equal(one.analysis, two.analysis)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (lambda x, m: x, r"'step' must give \(state, memory\), not a ndarray"),
        (lambda x, m: (x, m, 1), r"'step' must give \(state, memory\), not a tuple of 3"),
        (lambda x, m: [x, m], r"'step' must give \(state, memory\), not a list"),
        (lambda x, m: (x.tolist(), m), "turned an array of numbers into a list"),
        (lambda x, m: ("x", m), "turned an array of numbers into a str"),
        (lambda x, m: (None, m), "turned an array of numbers into a NoneType"),
        (lambda x, m: (xr.DataArray(x), m), "turned an array of numbers into a DataArray"),
        (lambda x, m: (x * 1j, m), "into a ndarray of type complex128"),
        (lambda x, m: (x > 0, m), "into a ndarray of type bool"),
        (lambda x, m: (x.astype(str), m), "into a ndarray of type <U32"),
        (lambda x, m: (x[0], m), r"turned states of shape \(3, 2\) into \(2,\)"),
        (lambda x, m: (x[:, :1], m), r"turned states of shape \(3, 2\) into \(3, 1\)"),
        (lambda x, m: (1 / 0, m), r"'step' failed \(ZeroDivisionError: division by zero\)"),
        (lambda x, m: sys.exit(), r"'step' failed \(SystemExit"),
    ],
)
def test_a_step_that_gives_no_state_is_refused(step, match):
    with pytest.raises(InputError, match=match) as caught:
        daml.simulate(with_step(step, variables=("u", "v")), steps=3)
    assert "\n" not in str(caught.value)


def rolled(axis):
    def step(x, memory):
        around = {} if axis is None else {"axis": axis}
        return x + 0.1 * (np.roll(x, 1, **around) - x), memory

    return step


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_step_that_mixes_the_states_of_a_batch_is_refused(size):
    names = tuple(f"x{n}" for n in range(size))
    with pytest.raises(InputError, match=r"mixes the states of a batch .* axis=-1"):
        daml.assimilate(with_step(rolled(None), variables=names), record(names), daml.ThreeDVar())
    check_model(with_step(rolled(-1), variables=names))


def moved_in_place(x, memory):
    x *= 0.9
    return x, memory


def counted_in_place(x, memory):
    memory += 1
    return x * 0.9, memory


class Buffered(Damped):
    """It writes each result into the same array."""

    def __init__(self):
        self.room = np.empty((1000, 1))

    def step(self, x, memory):
        self.room[: len(x)] = 0.9 * x
        return self.room[: len(x)], memory


def clipped_in_place(x, memory):
    x[x < 0] = 0
    return 0.9 * x, memory


@pytest.mark.parametrize(
    ("one", "pure"),
    [
        (moved_in_place, lambda x, memory: (0.9 * x, memory)),
        (clipped_in_place, lambda x, memory: (0.9 * np.where(x < 0, 0.0, x), memory)),
    ],
)
def test_a_step_that_writes_into_its_state_changes_nothing_else(one, pure):
    runs = [daml.assimilate(with_step(step), record(), daml.ThreeDVar(B)) for step in (one, pure)]
    np.testing.assert_array_equal(*(run.analysis for run in runs))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            with_step(counted_in_place, start=lambda self, x, time=None: np.zeros(len(x))),
            "changes the state or the memory that it is given",
        ),
        (Buffered(), "gives the same array each time"),
    ],
)
def test_a_step_that_changes_what_others_hold_is_refused(model, match):
    with pytest.raises(InputError, match=match):
        daml.simulate(model, steps=3)


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize(
    "step",
    [
        lambda x, m: (x + NOISE.normal(size=x.shape), m),  # random
        lambda x, m: (np.exp(1000 * x) - np.exp(1000 * x), m),  # NaN
        lambda x, m: (np.exp(1000 * x), m),  # infinite
        lambda x, m: (np.sqrt(x - 1e6), m),
        lambda x, m: (x, m),  # persistence
        lambda x, m: (x.astype(np.float32) * np.float32(0.9), m),
    ],
)
def test_a_step_that_is_odd_but_its_own_is_taken(step):
    check_model(with_step(step, variables=("u", "v")))


def test_a_state_stays_in_double_precision():
    def single(x, memory):
        assert x.dtype == np.float64
        return (x.astype(np.float32) * np.float32(0.9)), memory

    truth = daml.simulate(with_step(single), steps=300, seed=3)
    assert truth.state.dtype == np.float64
    seen = daml.observe(truth)
    found = daml.assimilate(with_step(single), seen, daml.ThreeDVar(B))
    double = daml.assimilate(Damped(), seen, daml.ThreeDVar(B))
    np.testing.assert_allclose(found.analysis, double.analysis, atol=1e-6)
    assert daml.forecast(with_step(single), truth, warmup=0).forecast.dtype == np.float64


def test_a_step_may_give_another_kind_of_array():
    for kind in (np.ma.masked_array, lambda x: x.view(np.recarray)):
        model = with_step(lambda x, m, kind=kind: (kind(0.9 * x), m))
        found = daml.assimilate(model, record(), daml.ThreeDVar(B))
        np.testing.assert_array_equal(
            found.analysis, daml.assimilate(Damped(), record(), daml.ThreeDVar(B)).analysis
        )
    missing = with_step(lambda x, m: (np.ma.masked_where(abs(x) > 2, 0.9 * x), m))
    with pytest.raises(daml.errors.DivergedError, match=r"diverged: .* not finite"):
        daml.assimilate(missing, record(), daml.ThreeDVar(B))


class Breaks(Damped):
    """It raises at its 40th call after the checks."""

    def __init__(self, calls=40):
        self.left = None
        self.calls = calls

    def start(self, x, time=None):
        self.left = self.calls
        return None

    def step(self, x, memory):
        self.left -= 1
        if self.left < 0:
            raise ValueError("a table ends\nhere")
        return 0.9 * x, None


@pytest.mark.parametrize(
    ("run", "match"),
    [
        (lambda m, o: daml.simulate(m, steps=100), r"this was step 41, to time 41\.0"),
        (lambda m, o: daml.simulate(m, steps=100, spinup=10), r"this was step 41, to time 31\.0"),
        (
            lambda m, o: daml.assimilate(m, o, daml.ThreeDVar(B), segments=1),
            r"this was step 41, to time 41\.0",
        ),
        (
            lambda m, o: daml.forecast(m, o.rename(observation="state"), warmup=0, leads=1),
            r"this was step 41, to time 40\.0",
        ),
    ],
)
def test_a_step_that_breaks_later_says_when_and_why(run, match):
    with pytest.raises(InputError, match=r"failed \(ValueError: a table ends\)") as one:
        run(Breaks(), record())
    assert isinstance(one.value.__cause__, ValueError)
    assert "\n" not in str(one.value)
    one.match(match)


class Forced:
    """Driven by the hour of the day, which it takes from dates."""

    variables, dt, time_unit = ("u",), 1.0, "h"

    def start(self, x, time=None):
        return (time - time.astype("M8[D]")) / np.timedelta64(1, "h")

    def step(self, x, hours):
        return x + 0.1 * (5 * np.sin(2 * np.pi * hours / 24)[..., None] - x), hours + 1.0


def test_a_model_driven_by_dates_is_tried_at_those_of_the_record():
    truth = daml.simulate(
        Forced(),
        steps=1200,
        initial=xr.Dataset(
            {"state": ("variable", [1.0])},
            {"variable": ["u"], "time": np.datetime64("2026-01-01T06")},
        ),
    )
    assert truth.time.values[-1] == np.datetime64("2026-01-01T06") + np.timedelta64(1199, "h")
    morning = truth.state.isel(variable=0).groupby("time.hour").mean()
    assert morning.max() > 1 > -1 > morning.min()
    seen = daml.observe(truth, error_variance=0.01)
    network = daml.LSTM(base=Forced(), hidden=4, epochs=1)
    tree = daml.improve(Forced(), seen, emulator=network, passes=1)
    assert tree["iteration/0000"].sizes["time"] == 1200
    with pytest.raises(InputError, match=r"'start' failed .* at the times 0\.0"):
        daml.simulate(Forced(), steps=3)


SCRIPTS = {
    "raise SystemExit": "ends the program when it is imported; put what it runs under",
    "import sys; sys.exit(0)": "ends the program when it is imported",
    "import nothing_of_that_name": "failed with ModuleNotFoundError: No module named",
    "class Own:\n    def __init__(self):\n        raise SystemExit": "failed with SystemExit",
    "class Own:\n    pass": "Own is not a model: it has no 'variables'",
}


@pytest.mark.parametrize(("script", "match"), SCRIPTS.items())
def test_a_script_that_gives_no_model_is_refused(script, match, tmp_path):
    (tmp_path / "own.py").write_text(script)
    with pytest.raises(InputError, match=match):
        load_model(f"{tmp_path}/own.py:Own")


def test_a_class_in_place_of_a_model_is_refused():
    with pytest.raises(InputError, match=r"'model' is the class Lorenz63; .* make one"):
        daml.simulate(daml.Lorenz63, steps=3)


class Humidity(Damped):
    """A model that refuses states that cannot be."""

    variables = ("temperature", "humidity")

    def step(self, x, memory):
        if (x[..., 0] < 200).any():
            raise ValueError("temperature below 200 K")
        return 1.0 * x, None


def test_the_error_of_a_model_that_refuses_a_trial_state_comes_first():
    with pytest.raises(InputError, match="has no 'climate': give it one") as raised:
        daml.simulate(Humidity(), steps=3)
    start = (
        "Humidity: 'step' failed (ValueError: temperature below 200 K) at the state temperature="
    )
    assert str(raised.value).startswith(start)
    assert "x[..., 0]" not in str(raised.value)


def test_a_climate_makes_the_trial_states_right():
    model = type("Own", (Humidity,), {"climate": [280.0, 0.01]})()
    check_model(model)
    cold = type("Own", (Humidity,), {"climate": [190.0, 0.01]})()
    with pytest.raises(InputError, match=r"200 K.* at the state .*within 10 % of its 'climate'"):
        check_model(cold)


@pytest.mark.parametrize(
    ("variables", "step"),
    [
        (("u", "v"), lambda x, memory: (np.array([x[0], x[2 - 1]]) * np.eye(2)[0, 0], memory)),
        (("u", "v", "w"), lambda x, memory: (np.stack([a * b for a, b in [(x[0], x[5])]]), memory)),
        (("u", "v"), lambda x, memory: (x @ np.eye(2) if x[0] > 0 else x, memory)),
    ],
)
def test_a_step_of_the_wrong_axis_is_shown_the_right_one(variables, step):
    model = with_step(step, variables=variables)
    with pytest.raises(InputError, match=r"x\[\.\.\., 0\], not x\[0\]"):
        check_model(model)


class Unseen(Damped):
    """A model that diverges, with a variable that is not observed."""

    variables = ("u", "v")

    def step(self, x, memory):
        return 100.0 * x + 1, None


@pytest.mark.parametrize(
    "call",
    [
        lambda model, seen: daml.assimilate(model, seen, daml.ThreeDVar(TWO)),
        lambda model, seen: daml.tuned(daml.ThreeDVar(TWO), model, seen),
        lambda model, seen: daml.improve(model, seen, daml.ThreeDVar(TWO), held_out=0, passes=1),
    ],
)
def test_what_an_error_advises_is_an_argument_that_there_is(call):
    """No start is known for a variable: every function takes a model that knows its climate."""
    seen = record(steps=400)
    with pytest.raises(InputError, match=r"'v' is not observed.*; give the model a 'climate'"):
        call(Unseen(), seen)


def test_a_climate_is_a_start():
    model = type("Own", (Unseen,), {"climate": [0.0, 0.0], "step": Damped.step})()
    assert daml.assimilate(model, record(), daml.ThreeDVar(TWO)).sizes["time"] == 60


def decaying(**body):
    return type("Decaying", (daml.models.ODE,), {"variables": ("u",), "tendency": None, **body})


@pytest.mark.parametrize("decorated", [True, False])
@pytest.mark.parametrize(("name", "value"), [("dt", 0.01), ("time_unit", "D")])
def test_a_setting_of_an_ode_that_python_would_ignore_is_refused(name, value, decorated):
    made = decaying(**{name: value})
    made = dataclass(frozen=True)(made) if decorated else made
    with pytest.raises(InputError, match=f"Decaying: '{name} = .*' in the class has no effect"):
        made()


def test_a_setting_of_an_ode_with_its_type_is_its_default():
    kinds = {"dt": float, "time_unit": str}
    made = dataclass(frozen=True)(decaying(dt=0.01, time_unit="D", __annotations__=kinds))()
    assert (made.dt, made.time_unit) == (0.01, "D")
    assert decaying(dt=0.05)().dt == 0.05  # what it is anyway
