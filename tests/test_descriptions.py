"""Settings that differ read differently, and those that are equal read alike."""

import functools
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from test_storable import Damped, covariance, record

import daml
from daml.errors import InputError
from daml.labels.descriptions import description
from daml.running import segmented

RECORD = record(1200)


def read(settings):
    return json.loads(description(settings, "model"))


class Own(Damped):
    """A user's model with whatever setting."""

    def __init__(self, setting):
        self.setting = setting
        self._cached = lambda: None


@dataclass(frozen=True)
class Inner:
    rate: object = 1.0


def named(values, names):
    return xr.DataArray(values, coords={"variable": names}, dims="variable")


def test_a_description_is_json_that_is_sorted_and_has_every_field():
    text = description(daml.Lorenz63(rho=np.int64(20), dt=np.float32(0.5)), "model")
    assert text == json.dumps(json.loads(text), sort_keys=True)
    assert json.loads(text) == {
        **{"class": "Lorenz63", "dt": 0.5, "substeps": 1, "time_unit": "s"},
        **{"sigma": 10.0, "rho": 20, "beta": 8 / 3},
    }
    assert read(daml.LSTM(base=daml.Lorenz63()))["base"]["rho"] == 28.0
    assert read(Own(Inner(np.float64(2.0))))["setting"]["rate"] == 2.0


a = np.array([1.0, 2.0])
DIFFERENT = [
    (1, 2),
    (1, "1"),
    (1, True),
    (None, "None"),
    (np.float32(0.1), 0.1),
    (float("inf"), float("nan")),
    (a, a + 1e-16 * a + np.spacing(a)),
    (a, a.astype("f4")),
    (a, a[None]),
    (a, np.array(["1.0", "2.0"])),
    (torch.ones(2), torch.zeros(2)),
    (named(a, ["u", "v"]), named(a, ["v", "u"])),
    (named(a, ["u", "v"]), named(a[::-1], ["u", "v"])),
    (xr.Dataset({"a": ("x", a)}), xr.Dataset({"b": ("x", a)})),
    ([1, 2], [2, 1]),
    (list(range(1000)), list(range(1, 1001))),
    ({"a": 1}, {"a": 2}),
    ({1: 2}, {"1": 3}),
    ({1, 2}, {1, 3}),
    (Inner(1.0), Inner(2.0)),
    (Inner(a), Inner(2 * a)),
    (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    (np.tanh, np.sin),
    (record, covariance),
    (np.datetime64("2020-01-01"), np.datetime64("2020-01-02")),
    (daml.Lorenz63(), daml.CoupledLorenz63()),
    (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)),
    (torch.nn.ReLU(), torch.nn.Tanh()),
]


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_settings_that_differ_read_differently(one, two):
    assert description(Own(one), "model") != description(Own(two), "model")
    assert description(Own(one), "model") == description(Own(one), "model")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (np.int64(3), 3),
        (np.bool_(True), True),
        (a, a.astype(">f8")),
        (named(a, ["u", "v"]), named(a, np.array(["u", "v"], object)).assign_attrs(k=1)),
        (torch.ones(2), np.ones(2, "f4")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2}, {2, 1}),
    ],
)
def test_settings_that_are_equal_read_alike(one, two):
    assert description(Own(one), "model") == description(Own(two), "model")


def closure():
    return lambda x: x


def itself():
    found = Own(None)
    found.setting = found
    return found


@pytest.mark.parametrize(
    "setting",
    [
        *(closure(), functools.partial(record, 1), np.random.default_rng(), iter([1])),
        *([1, closure()], {"a": closure()}, Inner(closure()), itself()),
    ],
)
def test_what_cannot_be_described_is_an_error_where_a_run_is_kept(setting, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"model: 'setting'.* a store cannot describe") as caught:
        description(Own(setting), "model")
    assert "\n" not in str(caught.value)
    assert json.loads(description(Own(setting), "model", exact=False))["class"] == "Own"
    run = daml.simulate(Own(setting), steps=5, store=tmp_path / "run.zarr")
    assert json.loads(run.attrs["model"])["defined_by"] == "user"
    monkeypatch.setattr(segmented, "cycle", None)  # which any work would call
    with pytest.raises(InputError, match="model: 'setting'"):
        daml.improve(Own(setting), RECORD, passes=1, store=tmp_path / "store.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def improve(store, model, B=1.0, base=None, hidden=2, **more):
    emulator = daml.LSTM(base=base, hidden=hidden, epochs=1)
    scheme = daml.ThreeDVar(B * covariance())
    return daml.improve(model, RECORD, scheme, emulator, passes=1, store=store, **more)


def test_a_resume_with_other_settings_is_refused_with_what_differs(tmp_path):
    given = {"model": Own(np.array([1.0])), "base": Own(1), "B": 1.0, "hidden": np.int64(2)}
    improve(tmp_path / "store.zarr", **given)
    improve(tmp_path / "store.zarr", resume=True, **given)
    for other, text in [
        ({"model": Own(np.array([2.0]))}, r"model\.setting\.sha256: \w+ there"),
        ({"model": Own(1)}, r"model\.setting: "),
        ({"base": Own(np.int64(2))}, r"emulator\.base\.setting: 1 there, 2 now"),
        ({"base": None}, r"emulator\.base: .* there, None now"),
        ({"B": 2.0}, r"scheme\.background_covariance\.\S+: \w+ there"),
        ({"hidden": 3}, r"emulator\.hidden: 2 there, 3 now"),
    ]:
        with pytest.raises(InputError, match=text) as caught:
            improve(tmp_path / "store.zarr", resume=True, **(given | other))
        assert len(str(caught.value)) < 800
