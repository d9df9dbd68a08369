"""Steps that follow the calendar, and dates of any resolution."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError

MONTHS = pd.date_range("2000-01-01", periods=120, freq="MS")


class Monthly:
    """A temperature that is driven by the season."""

    variables, dt, forcings = ("T",), "MS", ("season",)

    def start(self, x, time=None):
        return None

    def step(self, x, memory, forcing):
        return 0.8 * x + forcing, memory


class Free(Monthly):
    forcings = ()

    def step(self, x, memory):
        return 0.8 * x, memory


def season(times=MONTHS):
    return xr.Dataset({"season": ("time", np.cos(2 * np.pi * MONTHS.month / 12))}, {"time": times})


def first(time):
    return xr.Dataset({"state": ("variable", [1.0])}, {"variable": ["T"], "time": time})


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(Monthly(), steps=100, initial=first(MONTHS.values[0]), forcings=season())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_steps_of_months_are_months_at_any_resolution(unit, truth):
    times = MONTHS.values.astype(f"M8[{unit}]")
    run = daml.simulate(Monthly(), steps=100, initial=first(times[0]), forcings=season(times))
    np.testing.assert_array_equal(run.time, times[:100])
    np.testing.assert_array_equal(run.state, truth.state)
    expected = [1.0]
    for value in season().season.values[:99]:
        expected.append(0.8 * expected[-1] + value)
    np.testing.assert_allclose(run.state[:, 0], expected)
    seen = daml.observe(run, every=3, error_variance=0.01, seed=1)
    scheme = daml.ThreeDVar(daml.covariance.labelled([[0.01]], ["T"]))
    analysis = daml.assimilate(Monthly(), seen, scheme, forcings=season(times))
    np.testing.assert_array_equal(analysis.time, times[:100])
    assert np.isfinite(analysis.innovation.values[:, 0]).sum() == 34
    assert np.abs(analysis.analysis - run.state).max() < 0.3


@pytest.mark.parametrize(("dt", "months"), [("QS", 3), ("YS", 12), ("5MS", 5)])
def test_longer_steps_of_the_calendar(dt, months):
    model = type("Longer", (Free,), {"dt": dt})()
    run = daml.simulate(model, steps=4, spinup=2, initial=first(np.datetime64("2000-01-16", "ns")))
    wanted = [np.datetime64("2000-01") + months * n for n in range(2, 6)]
    np.testing.assert_array_equal(run.time.values.astype("M8[M]"), wanted)
    assert (run.time.dt.day == 16).all()


def test_a_time_stands_for_its_month_on_any_day():
    days = np.random.default_rng(0).integers(0, 28, len(MONTHS)).astype("m8[D]")
    model, times = Free(), MONTHS.values + days
    values = xr.Dataset(
        {
            "observation": (("time", "variable"), np.ones((120, 1))),
            "error_variance": ("variable", [1.0]),
        },
        {"time": times, "variable": ["T"]},
    )
    scheme = daml.schemes.ETKF(4, inflation=1.1)
    analysis = daml.assimilate(model, values.isel(time=np.r_[:50, 60:120]), scheme, segments=1)
    np.testing.assert_array_equal(analysis.time[:50], times[:50])
    np.testing.assert_array_equal(
        analysis.time.values.astype("M8[M]"), MONTHS.values.astype("M8[M]")
    )
    twice = values.isel(time=[0, *range(120)])
    twice = twice.assign_coords(time=np.concatenate([MONTHS.values[:1], times]))
    with pytest.raises(InputError, match=r"entry 1 .* lies 0 model steps after the first"):
        daml.assimilate(model, twice, scheme)
    even = daml.on_steps(twice, model)
    np.testing.assert_array_equal(even.time, MONTHS)
    assert even.attrs["merged"] == 1
    assert even.error_variance.values[0, 0] == 0.5
    with pytest.raises(InputError, match="leave it out"):
        daml.on_steps(twice, model, tolerance=np.timedelta64(3, "D"))


def test_leads_are_months_and_are_scored_at_the_right_ones(truth):
    ahead = daml.forecast(Monthly(), truth, leads=[1, 7], warmup=10, forcings=season())
    assert ahead.lead.attrs["units"] == "months"
    np.testing.assert_array_equal(ahead.lead, [1, 7])
    errors = daml.verification.mfe(daml.verification.forecast_error(ahead, truth))
    np.testing.assert_allclose(errors, 0, atol=1e-12)
    middle = truth.assign_coords(
        time=MONTHS.values[:100] + (MONTHS.days_in_month[:100] * 12) * np.timedelta64(1, "h")
    )
    ahead = daml.forecast(Free(), middle, leads=[1], warmup=0)
    wrong = daml.verification.forecast_error(ahead, middle).squared_error[:, 0]
    np.testing.assert_allclose(wrong[:99], season().season.values[:99] ** 2, atol=1e-12)
    with pytest.raises(InputError, match="the forcings reach from 2000-01-01"):
        daml.forecast(Monthly(), truth, leads=[30], warmup=10, forcings=season())


def test_an_emulator_of_a_monthly_record_steps_by_months(truth):
    emulator = daml.LSTM(hidden=3, epochs=1, sequence_length=20)
    fitted = emulator.fit(truth, forcings=season())
    assert (fitted.dt, fitted.time_unit) == (1.0, "month")
    again = daml.load_emulator(fitted.to_dataset())
    ahead = [daml.forecast(m, truth, leads=2, warmup=5, forcings=season()) for m in (fitted, again)]
    assert ahead[0].equals(ahead[1])
    assert ahead[0].lead.attrs["units"] == "months"


def test_errors_of_a_stochastic_model_go_on_by_the_calendar():
    noisy = daml.models.Stochastic(Free(), 0.1, seed=1)
    run = daml.simulate(noisy, steps=20, initial=first(MONTHS.values[0]))
    rest = daml.simulate(noisy, steps=11, initial=run.isel(time=9))
    np.testing.assert_array_equal(rest.state, run.state[9:])


def test_a_step_may_be_written_as_pandas_does():
    model = type("Hours", (Free,), {"dt": "6h"})()
    run = daml.simulate(model, steps=3, initial=first(MONTHS.values[0]))
    np.testing.assert_array_equal(np.diff(run.time), np.timedelta64(6, "h"))


@pytest.mark.parametrize(
    ("attrs", "match"),
    [
        (
            {"dt": "ME"},
            "'dt' is 'ME'; give a number, or a step as pandas writes it: '6h', 'D', or for m",
        ),
        ({"dt": "0MS"}, "'dt' is '0MS'; give a number, or a step as pandas writes it"),
        ({"dt": "often"}, "'dt' is 'often'; give a number, or a step as pandas writes it"),
        ({"dt": np.timedelta64(1, "M")}, "in the unit 'M'; give it in one of .* 'MS' for months"),
        ({"dt": 1.5, "time_unit": "month"}, "'dt' is 1.5 months; give a whole number"),
        ({"dt": "YS"}, "lies 0.0833333 model steps after the first"),
        ({"dt": 30.0, "time_unit": "D"}, "give the model the record's dt, 'MS' for one of months"),
    ],
)
def test_steps_that_cannot_be_used_are_one_line(truth, attrs, match):
    model = type("Own", (Free,), attrs)()
    with pytest.raises(InputError, match=match) as caught:
        daml.assimilate(model, daml.observe(truth), daml.schemes.ETKF(4))
    assert "\n" not in str(caught.value)


def test_a_calendar_needs_dates(truth):
    with pytest.raises(InputError, match=r"simulate: the step of Free follows the calendar; give"):
        daml.simulate(Free(), steps=3)
    numbers = daml.observe(truth.assign_coords(time=np.arange(100.0)))
    with pytest.raises(
        InputError, match="'time' is numbers, but the model's dt is the time span MS"
    ):
        daml.assimilate(Free(), numbers, daml.schemes.ETKF(4))
