"""Times of a record: which are taken, what a model's step means on them, what is refused."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.labels.datasets import check_time, time_axis
from daml.stores.opening import open_record


def record(times):
    values = np.random.default_rng(0).normal(size=(len(times), 1))
    return xr.Dataset(
        {"observation": (("time", "variable"), values), "error_variance": ("variable", [0.1])},
        coords={"time": times, "variable": ["T"]},
    )


def steps(times, dt, unit="s"):
    return time_axis(record(times), "observation", dt, unit).length


DAYS = pd.date_range("2020-01-01", periods=60)
YEARS = pd.date_range("2015-01-01", "2025-01-01")


class Daily:
    """Its dt is meant as a day; the time_unit is forgotten."""

    variables, dt = ("T",), 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, None


@pytest.mark.parametrize(
    ("times", "dt", "unit", "match"),
    [
        (DAYS, 1.0, "s", r"1 days 00:00:00 apart, 86400 times .* set the model's time_unit='D'"),
        (YEARS, 0.05, "s", r"1728000 times .* \(0.05 s\), .* set the model's time_unit='D'"),
        (YEARS[::30], 1.0, "min", "set the model's time_unit='D'"),
        (pd.date_range("2020-01-01", periods=9, freq="h"), 1, "ms", "time_unit='h'"),
        (np.arange(10) * np.timedelta64(3600, "s"), 1.0, "s", "time_unit='h'"),
        (np.arange(10) * 86400.0, 0.05, "s", "1728000 times the model's dt 0.05"),
    ],
)
def test_a_step_in_another_unit_than_the_record_is_refused(times, dt, unit, match):
    with pytest.raises(InputError, match=match) as caught:
        steps(times, dt, unit)
    assert "\n" not in str(caught.value)


def test_such_a_step_is_refused_before_any_work():
    with pytest.raises(InputError, match="the record would be mostly missing"):
        daml.improve(Daily(), record(DAYS))
    seen = record(YEARS).assign_coords(variable=["x0"])
    with pytest.raises(InputError, match="the record would be mostly missing"):
        daml.improve(daml.Lorenz63(), seen)


@pytest.mark.parametrize(
    ("times", "dt", "unit", "length"),
    [
        (DAYS, 1.0, "D", 60),
        (DAYS, 86400, "s", 60),
        (DAYS, 600.0, "s", 59 * 144 + 1),  # a day is 144 steps
        (DAYS, np.timedelta64(10, "s"), "s", 59 * 8640 + 1),  # meant: a span says so
        (DAYS[[0, 1, 2, 3, 59]], 1.0, "D", 60),  # a long gap
        (np.arange(20) * 100.0, 1.0, "s", 1901),  # every hundredth step
        (np.arange(20) * 2000.0, 1.0, "s", 38001),
        (np.array([0.0]), 0.05, "s", 1),
    ],
)
def test_a_record_of_few_observations_is_taken(times, dt, unit, length):
    assert steps(times, dt, unit) == length


def zoned():
    times = DAYS.tz_localize("Europe/Vienna")
    return record(DAYS).assign_coords(time=times)


def calendar(name):
    pytest.importorskip("cftime")
    times = xr.date_range("2020-01-01", periods=60, freq="D", calendar=name, use_cftime=True)
    return record(DAYS).assign_coords(time=times)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (zoned, "has the time zone Europe/Vienna; give UTC without a zone"),
        (partial(calendar, "noleap"), "of this calendar"),
        (partial(calendar, "360_day"), "of this calendar"),
        (lambda: record(DAYS.astype(str)), "if it is text"),
    ],
)
def test_times_of_another_kind_are_refused_with_advice_that_works(make, match):
    seen = make()
    with pytest.raises(InputError, match=match) as caught:
        check_time(seen, "observation")
    code = str(caught.value).rpartition(": ")[2]  # the message ends with it
    made = eval(code, {"ds": seen, "pandas": pd})
    assert check_time(made, "observation").dtype.kind == "M"


class Dated(Daily):
    dt = np.timedelta64(1, "D")


VARIANCE = xr.DataArray([[0.5]], [("variable", ["T"]), ("covariable", ["T"])])


@pytest.mark.parametrize(("name", "length"), [("noleap", 61), ("360_day", 60)])
def test_a_file_in_another_calendar_is_taken_when_it_is_converted(name, length, tmp_path):
    """From 1 January 2020 on: the other calendars lack 29 February, or 31 January."""
    calendar(name).to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    ds = open_record(tmp_path / "record.nc")
    with pytest.raises(InputError, match="of this calendar") as caught:
        daml.assimilate(Dated(), ds, daml.ThreeDVar(VARIANCE))
    made = eval(str(caught.value).rpartition(": ")[2], {"ds": ds})
    found = daml.assimilate(Dated(), made, daml.ThreeDVar(VARIANCE))
    assert found.sizes["time"] == length
    values = ds.observation.values[: made.sizes["time"]]
    np.testing.assert_array_equal(made.observation, values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: record(DAYS.astype(str)),
        partial(calendar, "noleap"),
    ],
    ids=["text", "noleap"],
)
def test_states_at_times_of_another_kind_are_refused(make):
    states = make().rename(observation="state")
    emulator = daml.LSTM(sequence_length=10, burn_in=2)
    with pytest.raises(InputError, match=r"'time' of 'state' is of type .*; give numbers or"):
        emulator.fit(states)
    with pytest.raises(InputError, match=r"'time' of 'initial' is 2020-01-01.*, neither a number"):
        daml.simulate(Dated(), steps=3, initial=states.isel(time=0))


def test_spans_of_time_are_times_too():
    seen = record(np.arange(300) * np.timedelta64(1, "h"))
    model = type("Hourly", (Daily,), {"dt": 1.0, "time_unit": "h"})()
    B = xr.DataArray([[0.5]], {"variable": ["T"], "covariable": ["T"]}, ("variable", "covariable"))
    dated = seen.assign_coords(time=np.datetime64("2020-01-01") + seen.time.values)
    one, two = (daml.assimilate(model, s, daml.ThreeDVar(B)) for s in (seen, dated))
    np.testing.assert_array_equal(one.analysis, two.analysis)
    assert one.time.dtype.kind == "m"


class Slow:
    """Two variables that decay."""

    variables = ("a", "b")

    def __init__(self, dt):
        self.dt = dt

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, memory


def test_a_step_of_a_part_of_whole_times_gives_each_step_a_time():
    model = Slow(0.25)
    truth = daml.simulate(model, steps=41, spinup=100)
    seen = daml.observe(truth).isel(time=slice(None, None, 4)).assign_coords(time=np.arange(11))
    found = daml.assimilate(model, seen, daml.schemes.ETKF(4))
    np.testing.assert_array_equal(found.time, np.arange(41) * 0.25)


def test_a_step_of_a_part_of_a_second_gives_each_step_a_time():
    model = Slow(np.timedelta64(500, "ms"))
    seconds = np.datetime64("1000-01-01", "s") + np.arange(11)
    seen = xr.Dataset(
        {"observation": (("time", "variable"), np.ones((11, 2)))},
        {"time": seconds, "variable": list(model.variables)},
    ).assign(error_variance=("variable", [1.0, 1.0]))
    found = daml.assimilate(model, seen, daml.schemes.ETKF(4))
    half = np.timedelta64(500, "ms")
    np.testing.assert_array_equal(found.time, seconds[0] + np.arange(21) * half)


def test_forecasts_of_early_dates_are_scored():
    model = Slow(np.timedelta64(1, "D"))
    first = xr.Dataset(
        {"state": ("variable", [1.0, 2.0])},
        {"variable": list(model.variables), "time": np.datetime64("1000-01-01", "s")},
    )
    truth = daml.simulate(model, steps=20, initial=first)
    assert truth.time.values[-1] == np.datetime64("1000-01-20")
    made = daml.forecast(model, truth, leads=3, warmup=2)
    assert float(daml.verification.forecast_error(made, truth).squared_error.max()) < 1e-20
    assert (daml.diagnosis.valid_time(made, truth) == np.timedelta64(3, "D")).all()


@pytest.mark.parametrize("dt", [1.0, np.timedelta64(1, "h")])
def test_a_clock_of_a_model_counts_as_its_record_does(dt):
    class Tides(Slow):
        def start(self, x, time=None):
            return np.broadcast_to(time, x.shape[:-1]) / self.dt

        def step(self, x, memory):
            return 0.5 * x + np.sin(memory)[..., None], memory + 1

    model = Tides(dt)
    run = daml.simulate(model, steps=40, spinup=6)
    made = daml.forecast(model, run, leads=1, warmup=0)
    assert float(daml.verification.forecast_error(made, run).squared_error.max()) < 1e-20
