"""What goes into a store comes out equal, or is refused in one line before any work."""

import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml.errors import InputError
from daml.running import segmented
from daml.stores import filling, storable
from daml.stores.keeper import keeper
from daml.stores.opening import open_record, open_tree

UNITS = ("s", "ms", "us", "ns")
LIMITS = {"s": 10**11, "ms": 10**14, "us": 10**16, "ns": 10**18}
"""Counts since 1970 that are generated: years -1200 to 5100, less where a unit holds less."""


@st.composite
def times(draw, unit):
    count = draw(st.integers(1, 6))
    start = draw(st.integers(-LIMITS[unit], LIMITS[unit]))
    step = draw(st.integers(1, 10**9))
    return (start + step * np.arange(count)).astype("int64").view(f"M8[{unit}]")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=True)
arrays = st.sampled_from(["i4", "f4", "f8", "?", "U3"]).flatmap(
    lambda kind: st.lists(st.integers(0, 9), max_size=3).map(lambda v: np.array(v).astype(kind))
)
scalars = st.none() | st.booleans() | numbers | texts | arrays
numpys = st.integers(-9, 9).map(np.int16) | st.booleans().map(np.bool_)
numpys |= st.floats(width=32).map(np.float32)
values = st.recursive(
    scalars | numpys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(texts.map("k{}".format), values, max_size=3)
labels = st.sampled_from(
    [
        ["a", "b"],
        ["a", "bcd é"],
        [850, 500],
        [0.5, -0.0],
        [True, False],
        np.array([3, 1], "u2"),
        np.array([5, 7], "m8[us]"),
        pd.MultiIndex.from_product([["T"], [850, 500]], names=["quantity", "level"]),
        pd.MultiIndex.from_arrays([pd.to_datetime(["1999", "2001"]), [2, 1]]),
    ]
)


def plain(value):
    """Give an attribute with arrays as lists: what JSON knows of it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return "nan" if value != value else value


def equal(found, given):
    """Hold two Datasets to each other, with the type of each variable and all attributes."""
    xr.testing.assert_equal(found, given)
    assert plain(found.attrs) == plain(given.attrs)
    for name in given.variables:
        assert plain(found[name].attrs) == plain(given[name].attrs)
        kinds = {found[name].dtype.kind, given[name].dtype.kind}
        assert kinds <= set("UTO") or found[name].dtype == given[name].dtype


@st.composite
def datasets(draw):
    unit = draw(st.sampled_from(UNITS))
    time, names = draw(times(unit)), draw(labels)
    kind = draw(st.sampled_from(["f8", "f4", "i8", "u1", "?"]))
    data = np.arange(2 * len(time)).reshape(-1, 2).astype(kind)
    ds = xr.Dataset({"value": (("time", "variable"), data)}, {"time": time})
    if isinstance(names, pd.MultiIndex):
        ds = ds.assign_coords(xr.Coordinates.from_pandas_multiindex(names, "variable"))
    else:
        ds = ds.assign_coords(variable=names)
    seen = np.append(time, np.datetime64("NaT", unit))[1:]
    ds = ds.assign_coords(seen=("time", seen), since=("time", seen - time[0]), station="north")
    ds.attrs = draw(attributes)
    for name in ("value", "time", "variable", "seen"):
        ds[name].attrs = draw(attributes)
    return ds


@settings(max_examples=25)
@given(datasets())
def test_a_dataset_comes_back_equal(tmp_path_factory, ds):
    store = tmp_path_factory.mktemp("any") / "store.zarr"
    filling.check(ds, "given")
    filling.write(ds, store)
    equal(open_record(store).load(), ds)


ODD = {
    "pair": ("a", 2.0),
    "none": (),
    "grid": np.arange(6, dtype="f4").reshape(2, 3),
    "names": np.array(["a", "bé"]),
    "scalar": np.array(3),
    "inside": {"pair": (1, (2, [3, (4,)])), "list": [1, np.arange(2)], "plain": [1]},
}


def same(one, two):
    """Whether two attributes are equal, and tuples and arrays of the same kind."""
    if isinstance(two, np.ndarray):
        return isinstance(one, np.ndarray) and one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in two)
    if isinstance(two, (list, tuple)):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return one == two


def test_tuples_and_arrays_in_attributes_come_back_as_they_were(tmp_path):
    ds = record(600).assign_attrs(ODD)
    ds["observation"].attrs = ODD
    ds["time"].attrs = ODD
    names = pd.MultiIndex.from_arrays([["T"], [850]], names=["quantity", "level"])
    ds = ds.assign_coords(xr.Coordinates.from_pandas_multiindex(names, "place"))
    ds["place"].attrs = ODD
    filling.check(ds, "given")
    filling.write(ds, tmp_path / "record.zarr")
    found = open_record(tmp_path / "record.zarr")
    run = daml.improve(
        Damped(),
        ds.drop_dims("place"),
        daml.ThreeDVar(covariance()),
        daml.LSTM(base=Damped(), hidden=2, epochs=1),
        **{"passes": 1, "held_out": 0, "store": tmp_path / "run.zarr"},
    )
    for back in (found, open_tree(tmp_path / "run.zarr")["observations"], run["observations"]):
        for held in (back, back["observation"], back["time"]):
            assert same(held.attrs, ODD)
    assert same(found["place"].attrs, ODD)


def test_damaged_types_of_attributes_leave_lists(tmp_path):
    filling.write(record(10).assign_attrs(pair=(1, 2)), tmp_path / "a.zarr")
    for wrong in (3, {"": 3}, {"": {"pair": ["tuple", None]}}, {"x": {}}, {"": {"pair": "wrong"}}):
        ds = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
        found = storable.restored(ds.assign_attrs({storable.TYPES: wrong}))
        assert found.attrs["pair"] in ([1, 2], (1, 2))
        assert storable.TYPES not in found.attrs


@settings(max_examples=15)
@given(datasets())
def test_labels_of_a_record_come_back_equal(tmp_path_factory, ds):
    store = tmp_path_factory.mktemp("any") / "store.zarr"
    rows = {"filled": (("time", "variable"), {"units": "K"})}
    with filling.new_record(store, ds, rows, 2) as (rooms, attrs):
        rooms["filled"][:] = 1.0
        attrs["late"] = 1
    wanted = ds.assign(filled=(("time", "variable"), np.ones(ds["value"].shape), {"units": "K"}))
    equal(open_record(store).load(), wanted.assign_attrs(late=1))


REFUSED = [
    (lambda ds: ds.assign_attrs(when=np.datetime64("2020-01-01")), "'when' is a datetime64"),
    (lambda ds: ds.assign_attrs(when=datetime.date(2020, 1, 1)), "'when' is a date"),
    (lambda ds: ds.assign_attrs({3: "x"}), "the key 3 is a int"),
    (lambda ds: ds.assign_attrs(a={"b": {1: 2}}), "attribute 'a': the key 1 is a int"),
    (lambda ds: ds.assign_attrs(a=b"x"), "'a' is a bytes"),
    (lambda ds: ds.assign_attrs(a=1j), "'a' is a complex"),
    (lambda ds: ds.assign_attrs(a=abs), "'a' is a builtin_function_or_method"),
    (lambda ds: ds.assign_attrs(coordinates="x"), "would lose the attribute 'coordinates'"),
    (lambda ds: ds.assign({3: ds.observation}), r"the name 3 is a int; .*ds.rename"),
    (lambda ds: ds.assign({"a/b": ds.observation}), "the name 'a/b'"),
    (lambda ds: ds.assign(c=("p", np.array([1, "a"], object))), "mixed native types"),
    (lambda ds: ds.assign(c=("p", pd.Categorical(["a", "b"]))), "pandas' type category"),
    (
        lambda ds: ds.assign_coords(p=pd.period_range("2020", periods=2, freq="M")),
        "pandas' type period",
    ),
    (lambda ds: ds.assign_coords(p=pd.date_range("2020", periods=2, tz="UTC")), "a time zone"),
    (lambda ds: with_attribute(ds, "scale_factor", 2.0), "has the attribute 'scale_factor'"),
    (lambda ds: with_attribute(ds, "missing_value", -99.0), "has the attribute 'missing_value'"),
    (lambda ds: with_attribute(ds, "units", "days since 2000-01-01"), "attribute 'units'"),
    (lambda ds: ds.assign_attrs(a=nested(10_000)), "nested more than 50 deep"),
]


def with_attribute(ds, name, value):
    return ds.assign(observation=ds.observation.assign_attrs({name: value}))


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Damped:
    """A model of one variable that forgets."""

    variables, dt, climate = ("u",), 10.0, np.zeros(1)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.9 * x, None


def covariance(**attrs):
    names = {"variable": ["u"], "covariable": ["u"]}
    return xr.DataArray([[1.0]], coords=names, dims=("variable", "covariable"), attrs=attrs)


def record(steps=1200, start="2026-01-01", unit="us"):
    first = np.datetime64(start).astype(f"M8[{unit}]")
    time = first + (10 * np.arange(steps)).astype("m8[s]").astype(f"m8[{unit}]")
    values = np.random.default_rng(0).normal(size=(steps, 1))
    ds = xr.Dataset({"observation": (("time", "variable"), values)}, {"time": time})
    return ds.assign(error_variance=("variable", [0.1])).assign_coords(variable=["u"])


def improve(observations, store=None, scheme=None, **more):
    emulator = daml.LSTM(base=Damped(), hidden=2, epochs=1)
    how = {"passes": 1, "store": store} | more
    return daml.improve(Damped(), observations, scheme or daml.ThreeDVar(covariance()), **how,
                        emulator=emulator)  # fmt: skip


@pytest.mark.parametrize(("change", "text"), REFUSED)
def test_what_a_store_would_change_is_refused_before_any_work(tmp_path, change, text, monkeypatch):
    monkeypatch.setattr(segmented, "cycle", None)  # which any work would call
    with pytest.raises(InputError, match=text) as caught:
        improve(change(record()), tmp_path / "store.zarr")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_covariance_that_a_store_would_change_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(segmented, "cycle", None)
    scheme = daml.ThreeDVar(covariance(made=datetime.date(2020, 1, 1)))
    with pytest.raises(InputError, match=r"scheme: 'B'.*'made' is a date"):
        improve(record(), tmp_path / "store.zarr", scheme)
    assert not list(tmp_path.iterdir())


def test_units_that_are_refused_by_a_new_record(tmp_path):
    seen = record().assign_attrs()
    seen["observation"].attrs["units"] = datetime.date(2020, 1, 1)
    with pytest.raises(InputError, match="'units' is a date"):
        daml.assimilate(
            Damped(), seen, daml.ThreeDVar(covariance()), store=tmp_path / "analysis.zarr"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", UNITS)
def test_dates_of_any_resolution_are_kept_and_resumed(tmp_path, unit):
    seen = record(unit=unit)
    tree = improve(seen, tmp_path / "store.zarr")
    anyone = xr.open_datatree(tmp_path / "store.zarr", engine="zarr")
    for group in ("observations", "imperfect", "iteration/0000"):
        assert tree[group].time.dtype == seen["time"].dtype
        np.testing.assert_array_equal(tree[group].time, seen["time"])
        np.testing.assert_array_equal(anyone[group].time, seen["time"])
    equal(tree["observations"].to_dataset().load(), seen)
    again = improve(seen, tmp_path / "store.zarr", resume=True)
    assert again["iteration/0000"].time.dtype == seen["time"].dtype


@settings(max_examples=5)
@given(attributes, attributes, st.sampled_from(UNITS), st.integers(-8, 8))
def test_a_run_keeps_any_attributes_and_dates(tmp_path_factory, record_has, name_has, unit, power):
    folder = tmp_path_factory.mktemp("any")
    seen = record(1010, unit=unit).assign_attrs(record_has)
    for name in ("observation", "error_variance", "time"):
        seen[name].attrs = name_has
    seen["observation"].attrs["units"] = f"1e{power} K"
    tree = improve(seen, folder / "store.zarr")
    equal(tree["observations"].to_dataset().load(), seen)
    analysis = daml.assimilate(
        Damped(), seen, daml.ThreeDVar(covariance()), store=folder / "analysis.zarr"
    )
    for found in (analysis, tree["imperfect"]):
        assert found["analysis"].attrs["units"] == f"1e{power} K"
        assert plain(found["time"].attrs) == plain(name_has)
        assert found["time"].dtype == seen["time"].dtype
        np.testing.assert_array_equal(found["time"], seen["time"])


@pytest.mark.parametrize("start", ["0001-01-01", "1000-01-01", "1677-09-21", "9000-01-01"])
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_dates_that_nanoseconds_do_not_reach(tmp_path, start, unit):
    seen = record(300, start, unit)
    analysis = daml.assimilate(
        Damped(), seen, daml.ThreeDVar(covariance()), store=tmp_path / "store.zarr"
    )
    assert analysis["time"].dtype == seen["time"].dtype
    np.testing.assert_array_equal(analysis["time"], seen["time"])


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("years", [0, 1])
@pytest.mark.parametrize("step", ["s", "ns"])
def test_far_dates_of_a_step_in_another_unit(every, years, step):
    """A record of 600 years is longer than nanoseconds reach."""
    seconds = 365 * 86400 * years or 10
    time = np.datetime64("1000-01-01", "s") + seconds * np.arange(600).astype("m8[s]")
    seen = record(600).assign_coords(time=time).isel(time=slice(None, None, every))
    model = Damped()
    model.dt = np.timedelta64(seconds, "s").astype(f"m8[{step}]")
    analysis = daml.assimilate(model, seen, daml.ThreeDVar(covariance()))
    np.testing.assert_array_equal(analysis["time"], time[: len(analysis["time"])])
    assert analysis["time"].dtype == time.dtype


@pytest.mark.filterwarnings("ignore:tuned. forecasts")
def test_a_multiindex_of_variables_is_kept(tmp_path):
    class Levels(Damped):
        variables, dt, climate = ("('T', 850)", "('T', 500)"), 1.0, np.zeros(2)

    values = np.random.default_rng(0).normal(size=(1200, 2))
    coords = {"time": np.arange(1200.0), "level": [850, 500]}
    seen = xr.Dataset({"T": (("time", "level"), values)}, coords).to_dataarray("quantity")
    seen = seen.stack(variable=("quantity", "level")).transpose("time", "variable")
    seen = seen.to_dataset(name="observation").assign(error_variance=("variable", [0.1, 0.2]))
    emulator = daml.LSTM(base=Levels(), hidden=2, epochs=1)

    def run(**more):
        store = tmp_path / "store.zarr"
        return daml.improve(Levels(), seen, emulator=emulator, passes=1, store=store, **more)

    equal(run()["observations"].to_dataset().load(), seen)
    equal(open_tree(tmp_path / "store.zarr")["observations"].to_dataset().load(), seen)
    equal(run(resume=True)["observations"].to_dataset().load(), seen)


def test_groups_may_be_added_in_any_order(tmp_path):
    """Zarr reads a group only where all that lies in it is named together."""
    part = xr.Dataset({"a": ("x", [1.0, 2.0])})
    keep = keeper(tmp_path / "a.zarr", {"daml_version": daml.__version__})
    groups = ["iteration/0000/scores", "correction/b/scores", "correction/a", "iteration/0001"]
    with keep.open():
        for group in groups:
            keep({group: part})
    tree = keep.tree()
    for group in groups:
        xr.testing.assert_equal(tree[group].to_dataset(), part)
    assert list(tree["correction"].children) == ["b", "a"]
