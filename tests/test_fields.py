"""Fields on one axis, and back."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import daml
from daml.errors import InputError

DIMS = ("y", "x", "level")
TYPES = ("f4", "f8", "i4")


@st.composite
def fields(draw, record=False):
    """Give a Dataset of fields with dimensions, coordinates, types and attributes of their own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = {dim: draw(st.integers(1, 4)) for dim in DIMS}
    leading = draw(st.sampled_from([("time",), ("time",), ("member", "time"), ("start", "lead")]))
    if record:
        leading = ("time",)
    sizes |= {dim: draw(st.integers(1, 3)) for dim in leading}
    found = {}
    names = st.lists(st.sampled_from(["u", "h", "sst", "q[1]"]), min_size=1, unique=True)
    for name in draw(names):
        space = draw(st.lists(st.sampled_from(DIMS), unique=True, max_size=3))
        dims = draw(st.permutations([*space, *leading]))
        values = rng.integers(-50, 50, [sizes[d] for d in dims])
        kind = draw(st.sampled_from(TYPES))
        attrs = draw(
            st.sampled_from([{}, {"units": "m s-1"}, {"units": "K", "valid_range": [0, 9]}])
        )
        found[name] = (tuple(dims), values.astype(kind), attrs)
        if record:
            some = [d for d in dims if draw(st.booleans())]
            errors = rng.uniform(0.5, 2, [sizes[d] for d in some])
            found[f"{name}_error_variance"] = (tuple(some), errors, {"units": "1"})
    coords = {}
    for dim in {d for dims, *_ in found.values() for d in dims}:
        kind = draw(st.sampled_from(["none", "numbers", "dates", "names"]))
        if kind == "numbers":
            coords[dim] = (dim, np.linspace(0, 1, sizes[dim]), {"units": "degrees"})
        if kind == "dates":
            coords[dim] = np.datetime64("2026-01-01", "s") + np.arange(sizes[dim])
        if kind == "names":
            coords[dim] = [f"{dim}{k}" for k in range(sizes[dim])]
    used = {d for dims, *_ in found.values() for d in dims}
    if {"y", "x"} <= used and draw(st.booleans()):
        coords["lat"] = (
            ("y", "x"),
            rng.random((sizes["y"], sizes["x"])),
            {"units": "degrees_north"},
        )
    if draw(st.booleans()):
        coords["kind"] = 3
    return xr.Dataset(found, coords, {"title": "generated"})


@settings(deadline=None, max_examples=60)
@given(fields())
def test_flatten_and_unflatten_are_inverse(dataset):
    flat = daml.flatten(dataset)
    assert flat["state"].dims[-1] == "variable"
    assert flat.indexes["variable"].is_unique
    back = daml.unflatten(flat)
    xr.testing.assert_identical(back, dataset)
    assert {n: (v.dims, v.dtype) for n, v in back.variables.items()} == {
        n: (v.dims, v.dtype) for n, v in dataset.variables.items()
    }


@settings(deadline=None, max_examples=40)
@given(fields(record=True))
def test_a_record_of_fields_comes_back_with_its_errors(dataset):
    flat = daml.flatten(dataset)
    assert flat["observation"].dims == ("time", "variable")
    xr.testing.assert_identical(daml.unflatten(flat), dataset)


def test_it_is_kept_in_a_store(tmp_path):
    dataset = xr.Dataset(
        {"u": (("time", "y", "x"), np.arange(24.0).reshape(4, 2, 3), {"units": "m s-1"})},
        {"time": np.arange(4), "lat": (("y", "x"), np.ones((2, 3)))},
    )
    daml.flatten(dataset).to_zarr(tmp_path / "flat.zarr", consolidated=False)
    daml.flatten(dataset).to_netcdf(tmp_path / "flat.nc")
    for stored in (
        xr.open_zarr(tmp_path / "flat.zarr", consolidated=False),
        xr.open_dataset(tmp_path / "flat.nc"),
    ):
        xr.testing.assert_equal(daml.unflatten(stored.load()), dataset)


def test_values_and_names_are_where_they_should_be():
    dataset = xr.Dataset(
        {"u": (("x", "time", "y"), np.arange(12).reshape(3, 2, 2)), "p": ("time", [7, 8])}
    )
    flat = daml.flatten(dataset)
    assert flat["variable"].values.tolist() == [
        *("u[0,0]", "u[0,1]", "u[1,0]", "u[1,1]", "u[2,0]", "u[2,1]", "p")
    ]
    assert flat.state.sel(variable="u[2,1]").values.tolist() == [9, 11]
    assert flat.at_y.values.tolist() == [0, 1, 0, 1, 0, 1, -1]
    assert flat.field.values.tolist() == ["u"] * 6 + ["p"]


def test_dask_stays_lazy():
    dataset = xr.Dataset({"u": (("time", "y", "x"), np.ones((8, 2, 3)))}).chunk(time=2)
    flat = daml.flatten(dataset)
    assert flat.state.chunks[0] == (2, 2, 2, 2)
    assert daml.unflatten(flat).u.chunks is not None


def test_an_analysis_becomes_a_tree_of_fields():
    shape = (("time", "y", "x"), np.arange(12.0).reshape(2, 2, 3), {"units": "K", "long_name": "T"})
    flat = daml.flatten(xr.Dataset({"t": shape}, {"x": [0.5, 1.0, 1.5]}))
    analysis = flat.rename(state="analysis").assign(
        spread=0 * flat.state, chi_square=("time", [1.0, 1.1])
    )
    analysis["analysis"].attrs = {"long_name": "analysis"}
    tree = daml.unflatten(analysis)
    assert set(tree.children) == {"analysis", "spread"}
    assert tree["analysis"].t.sel(x=1.0).values.tolist() == [[1, 4], [7, 10]]
    assert tree["analysis"].t.attrs == {"units": "K", "long_name": "analysis"}
    assert tree.chi_square.values.tolist() == [1.0, 1.1]


def test_what_was_left_out_is_missing():
    dataset = xr.Dataset({"u": (("time", "x"), np.arange(6).reshape(2, 3)), "p": ("time", [1, 2])})
    part = daml.flatten(dataset).isel(variable=[2, 0])
    back = daml.unflatten(part)
    np.testing.assert_array_equal(back.u, [[0, np.nan, 2], [3, np.nan, 5]])
    assert "p" not in back


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ({"u": (("time", "x"), [[1.0]]), "h": ("x", [1.0])}, "'h' has the dimensions"),
        ({"u": (("time",), ["a"])}, "'u' holds values of type <U1"),
        (
            {"u": ("time", [1.0]), "v": ("time", [1.0]), "u_error_variance": 1.0},
            "'v' has no 'v_error_variance', and 'u' has one",
        ),
        (
            {"u": ("time", [1.0]), "u_error_variance": ("x", [1.0])},
            r"'u_error_variance' has the dimensions \('x',\)",
        ),
    ],
)
def test_what_cannot_lie_on_one_axis_is_refused(dataset, text):
    with pytest.raises(InputError, match=text):
        daml.flatten(xr.Dataset(dataset))


def test_what_is_flat_stays_and_what_has_no_fields_cannot_be_unflattened():
    states = daml.simulate(daml.Lorenz63(), steps=3)
    assert daml.flatten(states) is states
    with pytest.raises(InputError, match="no coordinates that assign"):
        daml.unflatten(states)
