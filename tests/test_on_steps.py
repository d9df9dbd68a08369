"""Observations at uneven times, on the steps of a model."""

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import InputError

MODEL = daml.Lorenz63(dt=0.05)


def record(times, values, variance=(1.0, 4.0, 1.0)):
    return xr.Dataset(
        {
            "observation": (("time", "variable"), np.broadcast_to(values, (len(times), 3))),
            "error_variance": ("variable", list(variance)),
        },
        {"time": times, "variable": ["x0", "x1", "x2"]},
    )


def test_what_lies_on_steps_stays_as_it_is():
    seen = daml.observe(daml.simulate(MODEL, steps=40, seed=1), every=3, missing=0.2, seed=2)
    even = daml.on_steps(seen, MODEL)
    one, two = (
        daml.assimilate(
            MODEL, o, daml.ThreeDVar(daml.covariance.labelled(np.eye(3), MODEL.variables))
        )
        for o in (even, seen)
    )
    np.testing.assert_allclose(one.analysis, two.analysis, rtol=1e-12)
    assert (even.attrs["moved"], even.attrs["left_out"], even.attrs["merged"]) == (0, 0, 0)


def test_values_move_to_the_nearest_step_and_meet_as_a_weighted_mean():
    times = [0.0, 0.048, 0.053, 0.121, 0.2]
    seen = record(times, np.array([1.0, 2.0, 5.0, 7.0, 9.0])[:, None])
    seen["observation"] = seen.observation.copy()
    seen["observation"][2, 2] = np.nan
    seen["error_variance"] = (("time", "variable"), np.tile([[1.0, 4.0, 1.0]], (5, 1)))
    seen["error_variance"][1, 1] = 12.0
    even = daml.on_steps(seen, MODEL)
    np.testing.assert_allclose(even.time, [0.0, 0.05, 0.1, 0.2])
    np.testing.assert_allclose(even.observation[1], [3.5, (2 / 12 + 5 / 4) / (1 / 12 + 1 / 4), 2.0])
    np.testing.assert_allclose(even.error_variance[1], [0.5, 3.0, 1.0])
    assert even.attrs["moved"] == 8
    assert even.attrs["merged"] == 2
    assert even.attrs["farthest_move"] == pytest.approx(0.42)


def test_what_is_too_far_is_left_out_and_counted():
    seen = record([0.0, 0.06, 0.124, 0.15], 1.0)
    even = daml.on_steps(seen, MODEL, tolerance=0.011)
    np.testing.assert_allclose(even.time, [0.0, 0.05, 0.15])
    assert even.attrs["left_out"] == 3
    with pytest.raises(InputError, match="no value lies within 'tolerance'"):
        daml.on_steps(seen, MODEL, tolerance=0.001, start=0.02)


def test_dates_equal_times_and_times_in_any_order_will_do():
    slow = daml.Lorenz63(dt=1.0, time_unit="h")
    start = np.datetime64("2026-01-01T00:00", "s")
    seconds = np.array([11_000, 30, 3_500, 3_500])
    seen = record(start + seconds.astype("m8[s]"), np.array([4.0, 1.0, 2.0, 3.0])[:, None])
    even = daml.on_steps(seen, slow, start=start)
    hours = (even.time.values - start) / np.timedelta64(1, "h")
    np.testing.assert_array_equal(hours, [0, 1, 3])
    np.testing.assert_allclose(even.observation.sel(variable="x0"), [1.0, 2.5, 4.0])
    few = daml.on_steps(seen, slow, tolerance=np.timedelta64(2, "m"), start=start)
    assert few.sizes["time"] == 2
    assert few.attrs["left_out"] == 3


def test_fields_are_put_on_steps_too():
    class Ring(daml.models.Gridded):
        template = xr.Dataset({"q": ("x", [0.1, 0.2])})
        dt = 1.0

        def move(self, fields):
            return {"q": np.cos(3 * fields["q"])}

    fields = xr.Dataset(
        {"q": (("time", "x"), [[1.0, 2.0], [3.0, 4.0]]), "q_error_variance": 1.0},
        {"time": [0.0, 2.2]},
    )
    even = daml.on_steps(fields, Ring())
    assert even.time.values.tolist() == [0.0, 2.0]
    assert daml.unflatten(even).q.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"tolerance": np.timedelta64(1, "s")}, "'tolerance' is .*; give a number"),
        ({"tolerance": -1.0}, "'tolerance' is -1.0; give 0 or more"),
        ({"tolerance": "5 s"}, "'tolerance' is '5 s'; give a number"),
        ({"start": "2026-01-01"}, "'start' is '2026-01-01'; give a time like those"),
    ],
)
def test_wrong_arguments_are_named(how, text):
    with pytest.raises(InputError, match=text):
        daml.on_steps(record([0.0, 0.07], 1.0), MODEL, **how)


def test_correlated_errors_are_refused():
    seen = record([0.0, 0.07], 1.0).drop_vars("error_variance")
    with pytest.raises(InputError, match="from their error variances"):
        daml.on_steps(seen, MODEL)
