"""Forcings, known inputs in time: what a step gets of them, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.labels.forcings import Forcings, Schedule
from daml.models.ode import joined, parted

RATE, SIZE = 2.0, 8.0
START = xr.Dataset({"state": ("variable", [1.0, 2.0, 20.0])}, {"variable": ["x0", "x1", "x2"]})


def tendency(x, drive):
    x0, x1, x2 = parted(x)
    return joined(x, 10 * (x1 - x0), 28 * x0 - x1 - x2 * x0 + drive, x0 * x1 - 8 / 3 * x2)


class Driven(daml.models.ODE):
    """Lorenz 63 with a term a sin(wt), held during a step, in its second equation."""

    variables = daml.Lorenz63.variables
    forcings = ("drive",)

    def tendency(self, x, forcing):
        return tendency(x, forcing[..., 0])


class Clocked:
    """The same, with a clock of its own as memory."""

    variables, dt, arrays = daml.Lorenz63.variables, 0.05, ("numpy", "torch")

    def start(self, x, time=None):
        return np.rint(np.broadcast_to(time, x.shape[:-1]) / self.dt)

    def step(self, x, memory):
        drive = SIZE * np.sin(RATE * memory * self.dt)
        model = type("Now", (Driven,), {"tendency": lambda self, x: tendency(x, drive)})
        return model(dt=self.dt).step(x)[0], memory + 1


def drive(steps, dt=0.05, first=0.0):
    times = first + np.arange(steps) * dt
    return xr.Dataset({"drive": ("time", SIZE * np.sin(RATE * times))}, {"time": times})


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(
        Driven(), steps=300, initial=START.assign_coords(time=0.0), forcings=drive(400)
    )


def test_an_exponent_is_that_along_the_forced_run(truth):
    model = daml.models.forced(Driven(), drive(400))
    start = truth.isel(time=[0]).assign_coords(time=[0.0])
    found = daml.lyapunov_exponent(model, start, steps=40, spinup=150)
    size, x, growth = 1e-7, truth.state.values[1:2], 0.0
    ahead = x + size / np.sqrt(3)
    for number in range(190):
        forcing = drive(400).drive.values[number + 1][None, None]
        x, ahead = (Driven().step(state, None, forcing)[0] for state in (x, ahead))
        apart = np.linalg.norm(ahead - x)
        growth += np.log(apart / size) if number >= 150 else 0.0
        ahead = x + (ahead - x) * size / apart
    assert found == pytest.approx(growth / 2.0, abs=0.02)
    all_of_them = daml.lyapunov_spectrum(model, start, steps=40, spinup=150)
    assert float(all_of_them.exponent[0]) == pytest.approx(found, abs=1e-6)


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, seed=1)


def test_a_forced_run_is_that_of_a_model_with_its_own_clock(truth):
    clocked = daml.simulate(Clocked(), steps=300, initial=START)
    np.testing.assert_array_equal(truth.state, clocked.state)
    np.testing.assert_array_equal(truth.time, clocked.time)
    free = daml.simulate(daml.Lorenz63(), steps=300, initial=START)
    assert np.abs(truth.state - free.state).max() > 1


SCHEMES = [
    daml.ThreeDVar(daml.covariance.labelled(np.eye(3), Driven.variables)),
    daml.schemes.ETKF(8, inflation=1.1),
    daml.schemes.SigmaPoint(model_error=0.01),  # refuses a memory of states: a clock is none
    daml.schemes.ExtendedKalman(model_error=0.01),
    daml.schemes.IEnKS(members=6, window=4, shift=2, inflation=1.1),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("segments", [1, 3])
def test_an_analysis_is_that_of_a_model_with_its_own_clock(seen, scheme, segments):
    seen, how = seen.isel(time=slice(0, 120)), {"segments": segments, "spinup": 20, "tolerance": 99}
    one = daml.assimilate(Driven(), seen, scheme, forcings=drive(400), **how)
    two = daml.assimilate(Clocked(), seen, scheme, **how)
    np.testing.assert_allclose(one.analysis, two.analysis, rtol=1e-9)


def test_a_window_has_the_tangents_of_its_own_steps(seen):
    B = daml.covariance.labelled(np.eye(3), Driven.variables)
    scheme = daml.schemes.FourDVar(B, window=4, shift=4)
    seen = seen.isel(time=slice(0, 13))
    found = [
        daml.assimilate(Driven(), seen, s, forcings=drive(400), segments=1).analysis
        for s in (scheme, daml.schemes.FourDVar(B, window=4, shift=4, method="cg", tolerance=1e-8))
    ]
    np.testing.assert_allclose(*found, atol=1e-3)


def test_a_smoothed_record_and_a_tuned_scheme_are_forced(seen):
    seen, scheme = seen.isel(time=slice(0, 100)), daml.schemes.ETKF(8, inflation=1.1)
    smoothed = [
        daml.smooth(model, seen, scheme, lag=5, segments=1, **how).analysis
        for model, how in ((Driven(), {"forcings": drive(400)}), (Clocked(), {}))
    ]
    np.testing.assert_allclose(*smoothed, rtol=1e-9)
    three = daml.ThreeDVar("climatological")
    tuned = [
        daml.tuned(three, model, seen, **how)[1].analysis
        for model, how in ((Driven(), {"forcings": drive(400)}), (Clocked(), {}))
    ]
    np.testing.assert_allclose(*tuned, rtol=1e-6)


def test_a_forecast_beyond_the_record_needs_forcings_for_all_its_leads(truth):
    ahead = daml.forecast(Driven(), truth, leads=[1, 6], warmup=290, forcings=drive(305))
    own = daml.forecast(Clocked(), truth, leads=[1, 6], warmup=290)
    np.testing.assert_array_equal(ahead.forecast, own.forecast)
    with pytest.raises(InputError, match=r"reach from 0.0 to 15.1.*to 15.2.*for all of them"):
        daml.forecast(Driven(), truth, leads=[1, 6], warmup=290, forcings=drive(303))


def test_a_step_takes_what_is_interpolated_to_its_start():
    hours = pd.date_range("2020-01-01", periods=3, freq="h").values
    table = Forcings(hours, ("sun",), np.array([[0.0], [3.0], [9.0]]))
    schedule = Schedule(table, 20.0, "min")
    clock = schedule.clock(hours[0] + np.arange(8) * np.timedelta64(20, "m"))
    np.testing.assert_allclose(
        schedule.at(clock)[:, 0], [0, 1, 2, 3, 5, 7, 9, 9], rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(clock, schedule.clock(hours[:1]) + np.arange(8))
    np.testing.assert_array_equal(schedule.at(clock[[0, 3, 6]]), table.values)
    between = schedule.clock(hours[:1] + np.timedelta64(10, "m"))
    assert between == 0.5
    np.testing.assert_allclose(schedule.at(between + 1), [[1.5]], atol=1e-5)
    nearly = schedule.clock(hours[1:2] + np.timedelta64(1, "s"))  # as records may be off
    np.testing.assert_array_equal(schedule.at(nearly), [[3.0]])
    seconds = hours.astype("M8[s]")
    np.testing.assert_array_equal(schedule.clock(seconds), [0.0, 3.0, 6.0])
    far = np.array(["1000-01-01", "1000-01-03"], "M8[s]")  # nanoseconds end in 1677
    old = Schedule(Forcings(far, ("sun",), np.zeros((2, 1))), 1.0, "D")
    np.testing.assert_array_equal(old.clock(np.array(["2000-01-02"], "M8[ns]")), [365243.0])


def test_rows_of_months_are_rows_where_they_are():
    months = pd.date_range("2020-01-01", periods=3, freq="MS").values
    schedule = Schedule(Forcings(months, ("sun",), np.array([[0.0], [31.0], [60.0]])), 1.0, "D")
    days = schedule.clock(pd.date_range("2020-01-01", "2020-03-01").values)
    np.testing.assert_allclose(schedule.at(days)[:, 0], np.arange(61.0), atol=1e-4)


class Bath:
    """A model of two variables with a field of forcing, and one number."""

    variables, dt, time_unit, forcings = ("a", "b"), 1.0, "h", ("rain", "heat")

    def start(self, x, time=None):
        return None

    def step(self, x, memory, forcing):
        assert forcing.shape == (*x.shape[:-1], 5)
        return 0.5 * x + forcing[..., 1:3] + forcing[..., 4:], None


def test_a_field_gives_its_points_in_their_order():
    times = pd.date_range("2020-01-01", periods=5, freq="h")
    rain = np.arange(20.0).reshape(2, 5, 2)
    given = xr.Dataset(
        {"heat": ("time", np.arange(5) * 100.0), "rain": (("y", "time", "x"), rain)},
        {"time": times},
    )
    start = xr.Dataset({"state": ("variable", [0.0, 0.0])}, {"variable": ["a", "b"]})
    run = daml.simulate(Bath(), steps=3, initial=start, forcings=given)
    np.testing.assert_array_equal(run.time, times[:3])
    first = [rain[0, 0, 1], rain[1, 0, 0]]
    second = 0.5 * np.array(first) + [rain[0, 1, 1] + 100, rain[1, 1, 0] + 100]
    np.testing.assert_array_equal(run.state, [[0, 0], first, second])
    late = daml.simulate(Bath(), steps=2, spinup=1, initial=start, forcings=given)
    np.testing.assert_array_equal(late.state, run.state[1:])
    np.testing.assert_array_equal(late.time, times[1:3])


def test_wrapped_models_pass_their_forcings_on(truth):
    class One:
        variables, dt, forcings = Driven.variables, 0.05, ("drive",)

        def start(self, x, time=None):
            return None

        def step(self, x, memory, forcing):
            assert (x.shape, forcing.shape) == ((3,), (1,))
            return Driven().step(x, None, forcing)[0], memory

    start = START.assign_coords(time=0.0)
    run = daml.simulate(daml.models.each(One()), steps=20, initial=start, forcings=drive(30))
    np.testing.assert_allclose(run.state, truth.state[:20], rtol=1e-12)
    noisy = daml.models.Stochastic(Driven(), 1e-20)
    run = daml.simulate(noisy, steps=20, initial=start, forcings=drive(30))
    np.testing.assert_allclose(run.state, truth.state[:20], rtol=1e-6)
    assert isinstance(daml.models.forced(noisy, drive(30)).certain.model, Driven)
    bound = daml.models.forced(Driven(), drive(30))
    run = daml.simulate(bound, steps=20, initial=start)
    np.testing.assert_array_equal(run.state, truth.state[:20])


def dated(forcings):
    times = np.datetime64("2020-01-01", "ns") + np.arange(forcings.sizes["time"])
    return forcings.assign_coords(time=times)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: None, r"Driven: it takes the forcings \('drive',\), and none are given"),
        (lambda f: f.rename(drive="wind"), r"'drive' is missing \(there is \('wind',\)\)"),
        (lambda f: f.where(f.time != 5), r"'drive' has 1 time\(s\) with values that are missing"),
        (lambda f: f.astype(str), "'drive' holds values of type <U32, not real numbers"),
        (lambda f: f.isel(time=0), "'drive' lacks the dimension 'time'"),
        (lambda f: f.drop_vars("time"), "'drive' has no coordinate 'time'"),
        (lambda f: f.isel(time=slice(None, None, -1)), "not increasing"),
        (lambda f: f.isel(time=slice(4, None)), "reach from 0.2.*start at times from 0.0"),
        (lambda f: f.isel(time=slice(0, 200)), "reach from 0.0 to 9.95.* to 14.9"),
        (dated, "their times are dates and those of the model numbers"),
        (lambda f: f.drive, "'forcings' is a DataArray"),
    ],
)
def test_forcings_that_cannot_be_used_are_one_line(seen, change, match):
    with pytest.raises(InputError, match=match) as caught:
        daml.assimilate(Driven(), seen, SCHEMES[0], forcings=change(drive(400)))
    assert "\n" not in str(caught.value)


def test_forcings_for_a_model_that_takes_none_are_refused(seen):
    with pytest.raises(InputError, match="assimilate: forcings are given, and Lorenz63 takes none"):
        daml.assimilate(daml.Lorenz63(), seen, SCHEMES[0], forcings=drive(400))
    with pytest.raises(InputError, match=r"'forcings' is 3; give a tuple of different names"):
        daml.simulate(type("Odd", (Driven,), {"forcings": 3})(), steps=3)
    starts = xr.Dataset({"state": (("time", "variable"), np.ones((9, 3)))}, START.coords)
    with pytest.raises(InputError, match=r"Driven: it takes the forcings .*, and none are given"):
        daml.lyapunov_exponent(Driven(), starts.assign_coords(time=np.arange(9.0)))
    for model in (Driven(), daml.models.forced(Driven(), drive(400))):
        with pytest.raises(InputError, match="takes forcings, and parameters can be estimated"):
            daml.fit_parameters(model, ["dt"], seen, daml.schemes.ETKF(5))
    broken = type("Broken", (Bath,), {"step": lambda self, x, memory: (x, memory)})()
    rain = xr.Dataset({"rain": ("time", np.zeros(9)), "heat": ("time", np.zeros(9))})
    with pytest.raises(InputError, match=r"'step' failed .* it takes x .*, memory and forcing"):
        daml.simulate(broken, steps=3, forcings=rain.assign_coords(time=np.arange(9) * 3600.0))


class Broken(daml.Lorenz63):
    """A model that goes wrong, each time otherwise."""

    forcings = ("sun",)
    how = "raises"

    def step(self, x, memory, forcing):
        if self.how == "raises":
            raise ValueError("no sun")
        return (np.inf * x, memory) if self.how == "diverges" else (x[..., :2], memory)


class Raising(Broken):
    how = "raises"


class Diverging(Broken):
    how = "diverges"


class Narrow(Broken):
    how = "narrow"


@pytest.mark.parametrize("around", ["forcings", "forced", "stochastic"])
@pytest.mark.parametrize("kind", [Raising, Diverging, Narrow])
def test_errors_name_the_model_that_was_given(kind, around):
    """Not the one that daml has put around it."""
    sun = xr.Dataset({"sun": ("time", np.zeros(20))}, {"time": 0.05 * np.arange(20)})
    model, how = kind(), {"forcings": sun}
    if around != "forcings":
        model, how = daml.models.forced(model, sun), {}
    if around == "stochastic":
        model = daml.models.Stochastic(model, 0.1)
    seen = daml.observe(daml.simulate(daml.Lorenz63(), steps=10))
    B = daml.covariance.labelled(np.eye(3), ["x0", "x1", "x2"])
    first = seen.observation[0].drop_vars("time").to_dataset(name="state")
    for call in (
        lambda: daml.simulate(model, steps=5, initial=first, **how),
        lambda: daml.assimilate(model, seen, daml.ThreeDVar(B), **how),
        lambda: daml.tuned(daml.ThreeDVar(), model, seen, **how),
    ):
        with pytest.raises(daml.errors.DamlError, match=kind.__name__) as caught:
            call()
        assert not re.search("Forced|Held|Stochastic", str(caught.value))


def test_errors_of_pairs_name_the_model_that_was_given():
    class Sunny(daml.Lorenz63):
        forcings = ("sun",)

        def step(self, x, memory, forcing):
            return super().step(x, memory)

    sun = xr.Dataset({"sun": ("time", np.zeros(20))}, {"time": 0.05 * np.arange(20)})
    seen = daml.observe(daml.simulate(daml.Lorenz63(), steps=10))
    for scheme in (daml.schemes.LETKF(5, radius=1.0), daml.ThreeDVar("model")):
        with pytest.raises(InputError, match="Sunny"):
            daml.assimilate(Sunny(), seen, scheme, forcings=sun)
    local = {"LETKF": daml.schemes.LETKF(5, radius=1.0)}
    with pytest.raises(InputError, match="Sunny"):
        daml.compare_schemes(daml.models.forced(Sunny(), sun), seen, local)
