"""The contract of the Datasets: what is packed comes back, and what breaks it is refused."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import daml
from daml.errors import InputError
from daml.labels.datasets import pack


@given(
    st.permutations(["member", "time", "variable"]),
    st.sampled_from(["float32", "float64", "int16"]),
)
def test_unpacking_what_was_packed_is_the_identity(dims, dtype):
    sizes = {"member": 2, "time": 3, "variable": 4}
    values = np.arange(24).reshape([sizes[d] for d in dims]).astype(dtype)
    dataset = xr.Dataset(
        {"state": (dims, values, {"units": "K"}), "other": ("time", [1, 2, 3])},
        coords={"variable": list("abcd"), "time": [0.0, 1.0, 2.0], "height": 10},
        attrs={"title": "a run"},
    )
    packed, layout = pack(dataset, "state")
    assert packed.shape == (2, 3, 4)
    xr.testing.assert_identical(layout.unpack(packed), dataset)


def changed(observations, **values):
    return observations.copy(deep=True).assign(**values)


def with_time(observations, time):
    return observations.assign_coords(time=time)


def with_value(observations, value):
    broken = observations.copy(deep=True)
    broken["observation"][5, 1] = value
    return broken


def with_variance(observations, value):
    broken = observations.copy(deep=True)
    broken["error_variance"][1] = value
    return broken


BROKEN = {
    "no observation": (lambda o: o.rename(observation="obs"), "'observation' is missing"),
    "no time": (lambda o: o.isel(time=0, drop=True), "lacks the dimension 'time'"),
    "no variable": (lambda o: o.rename(variable="name"), "lacks the dimension 'variable'"),
    "decreasing": (lambda o: o.isel(time=slice(None, None, -1)), "not increasing"),
    "twice": (lambda o: with_time(o, [0, 0, *o.time.values[2:]]), "is twice at entry 1"),
    "time missing": (lambda o: with_time(o, [np.nan, *o.time.values[1:]]), "missing at entry 0"),
    "no time values": (lambda o: o.drop_vars("time"), "no coordinate 'time'"),
    "off the steps": (lambda o: with_time(o, o.time * 1.01), "not a multiple of the model's dt"),
    "text time": (lambda o: with_time(o, o.time.values.astype(str)), "give numbers or datetime64"),
    "same name": (lambda o: o.assign_coords(variable=["x0", "x0", "x2"]), "'x0' more than once"),
    "infinite": (lambda o: with_value(o, np.inf), "infinite, for variable 'x1'"),
    "fill value": (lambda o: with_value(o, 1e20), "above 1e.14, for variable 'x1'"),
    "text": (lambda o: changed(o, observation=o.observation.astype(str)), "not real numbers"),
    "complex": (lambda o: changed(o, observation=o.observation * 1j), "not real numbers"),
    "empty": (lambda o: o.isel(time=slice(0)), "is empty"),
    "all missing": (
        lambda o: changed(o, observation=o.observation * np.nan),
        "only missing values",
    ),
    "unknown": (lambda o: o.assign_coords(variable=["a", "x1", "x2"]), "has no variable 'a'"),
    "no variance": (lambda o: o.drop_vars("error_variance"), "neither is there"),
    "zero variance": (lambda o: with_variance(o, 0), "'error_variance' is 0 for variable 'x1'"),
    "negative": (lambda o: with_variance(o, -0.5), "is -0.5 for variable 'x1'"),
    "nan variance": (lambda o: with_variance(o, np.nan), "is nan for variable 'x1'"),
}


@pytest.mark.parametrize(("spoil", "text"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_the_contract_is_refused(spoil, text, observations, scheme):
    with pytest.raises(InputError, match=text):
        daml.assimilate(daml.Lorenz63(), spoil(observations.isel(time=slice(50))), scheme)


def test_an_error_is_one_line(observations, scheme):
    with pytest.raises(InputError, match="no coordinate 'time'") as caught:
        daml.assimilate(daml.Lorenz63(), observations.drop_vars("time"), scheme)
    assert "\n" not in str(caught.value)
