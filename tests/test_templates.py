"""Models whose states are fields: records on their grid, masks, positions, results."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from comparing import without_end

import daml
from daml.cli import main
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.labels.templates import Template

LAND = np.zeros((3, 4), bool)
LAND[1, 2] = True
TEMPLATE = xr.Dataset(
    {
        "u": (("y", "x"), np.where(LAND, np.nan, 0.1), {"units": "m s-1", "long_name": "wind"}),
        "h": (("y", "x"), np.zeros((3, 4)), {"units": "m"}),
    },
    {"y": [0.0, 10.0, 20.0], "x": [0.0, 10.0, 20.0, 30.0]},
)


class Waves(daml.models.Gridded):
    """Two fields that drift and feel each other."""

    template, dt, period = TEMPLATE, 1.0, (None, 40.0)
    arrays = ("numpy", "torch")

    def move(self, fields):
        u, h = fields["u"], fields["h"]
        if isinstance(u, np.ndarray):
            turned = np.roll(u, 1, axis=-1)
            return {"u": 0.9 * turned + 0.3 * np.sin(h), "h": h + 0.2 * np.cos(turned + h)}
        turned = torch.roll(u, 1, dims=-1)
        return {"u": 0.9 * turned + 0.3 * torch.sin(h), "h": h + 0.2 * torch.cos(turned + h)}


MODEL = Waves()
RUN = daml.simulate(MODEL, steps=60, spinup=20, seed=1)
FIELDS = daml.unflatten(RUN)
SEEN = daml.observe(FIELDS, variables=["u"], error_variance=0.01, seed=2)
RECORD = daml.unflatten(SEEN)
SCHEME = daml.schemes.ETKF(10, inflation=1.02)


def test_a_step_moves_the_fields():
    x = np.random.default_rng(0).normal(size=(5, 23))
    moved = MODEL.step(x, None)[0]
    u = np.zeros((5, 12))
    u[:, np.flatnonzero(~LAND.ravel())] = x[:, :11]
    expected = MODEL.move({"u": u.reshape(5, 3, 4), "h": x[:, 11:].reshape(5, 3, 4)})
    np.testing.assert_array_equal(moved[:, 11:], expected["h"].reshape(5, 12))
    np.testing.assert_array_equal(moved[:, :11], expected["u"].reshape(5, 12)[:, ~LAND.ravel()])
    np.testing.assert_allclose(MODEL.step(torch.from_numpy(x), None)[0].numpy(), moved, rtol=1e-14)


def test_a_mask_is_no_variable_and_is_missing_in_fields():
    assert "u[1,2]" not in MODEL.variables
    assert len(MODEL.variables) == 23
    assert FIELDS.u.isnull().any("time").values.tolist() == LAND.tolist()
    assert FIELDS.u.attrs == {"units": "m s-1", "long_name": "wind"}
    point = RUN.state.sel(variable="u[0,1]").values
    np.testing.assert_array_equal(FIELDS.u.sel(x=10.0, y=0.0), point)
    np.testing.assert_array_equal(MODEL.climate, [0.1] * 11 + [0.0] * 12)


def test_a_free_run_starts_about_the_template():
    warm = type("Warm", (Waves,), {"template": TEMPLATE + 290.0})()
    first = daml.simulate(warm, steps=1, seed=4).state[0].values
    drawn = np.random.default_rng(np.random.SeedSequence(4)).standard_normal(23)
    np.testing.assert_allclose(first, warm.climate + drawn)


def test_a_record_of_fields_gives_the_analysis_of_the_flat_one():
    by_fields, flat = (daml.assimilate(MODEL, seen, SCHEME) for seen in (RECORD, SEEN))
    xr.testing.assert_identical(without_end(by_fields), without_end(flat))
    tabular = SEEN.drop_vars([name for name in SEEN.coords if name not in ("time", "variable")])
    found = daml.assimilate(MODEL, tabular, SCHEME)
    xr.testing.assert_equal(by_fields.analysis, found.analysis)


def test_results_come_back_as_fields():
    tree = daml.unflatten(daml.assimilate(MODEL, RECORD, SCHEME))
    for name in ("analysis", "background", "spread"):
        assert tree[name].u.dims == tree[name].h.dims == ("time", "y", "x")
    assert tree["analysis"].h.attrs["units"] == "m"
    assert tree["analysis"].u.isel(time=3).sel(y=10, x=20).isnull()
    assert tree.chi_square.dims == ("time",)
    flat = daml.assimilate(MODEL, SEEN, SCHEME)
    np.testing.assert_array_equal(
        tree["analysis"].h.values.reshape(60, 12), flat.analysis.values[:, 11:]
    )


def test_dimensions_of_a_record_come_in_any_order_and_a_part_of_the_grid_will_do():
    part = RECORD.isel(x=[2, 0])
    turned = part.transpose("x", "time", "y")
    B = daml.covariance.labelled(0.1 * np.eye(23), MODEL.variables)
    scheme = daml.ThreeDVar(B)
    one, two = (daml.assimilate(MODEL, seen, scheme) for seen in (part, turned))
    assert one.sizes["observed"] == 5
    np.testing.assert_array_equal(one.analysis, two.analysis)
    chosen = SEEN.isel(variable=np.isin(SEEN.at_x, [0, 2]))
    np.testing.assert_array_equal(one.analysis, daml.assimilate(MODEL, chosen, scheme).analysis)


def test_coordinates_off_by_rounding_are_taken_and_others_refused():
    near = RECORD.assign_coords(x=RECORD.x.values + 1e-7)
    one, two = (daml.assimilate(MODEL, seen, SCHEME) for seen in (near, RECORD))
    np.testing.assert_array_equal(one.analysis, two.analysis)
    far = RECORD.assign_coords(x=RECORD.x.values + 1.5)
    with pytest.raises(InputError, match=r"'u': 'x' has 1.5, .*nearest is 0.0.*interp"):
        daml.assimilate(MODEL, far, SCHEME)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r.rename(u="v", u_error_variance="v_error_variance"), "'v' is not a field of"),
        (lambda r: r.isel(y=0), r"'u' has the dimensions \('x',\) in space"),
        (lambda r: r.fillna(1.0), r"values of 'u\[1,2\]', where the model's template has none"),
        (lambda r: r.drop_vars("x").isel(x=[0, 1]), "'u' has 2 entries along 'x'.*template 4"),
        (
            lambda r: r.drop_vars("u_error_variance"),
            "'u' is read as a field, but it has no error",
        ),
    ],
)
def test_a_record_that_does_not_match_the_template_is_refused(change, text):
    with pytest.raises(InputError, match=text):
        daml.assimilate(MODEL, change(RECORD), SCHEME)


@pytest.mark.parametrize(
    ("units", "warned"), [("km s-1", True), ("m/s", False), ("m s**-1", False), ("", False)]
)
def test_a_record_in_other_units_than_the_template_is_warned_of(units, warned, recwarn):
    record = xr.Dataset({"u": (("time", "y", "x"), np.ones((5, 3, 4)), {"units": units})})
    record = record.where(~LAND).assign_coords(time=np.arange(5.0))
    Template.of(Waves()).aligned(record)
    messages = [
        str(one.message) for one in recwarn if "'km s-1', and in the model's" in str(one.message)
    ]
    assert len(messages) == warned


def test_a_template_that_is_none_is_refused():
    class Wrong(Waves):
        template = TEMPLATE.expand_dims(time=[0.0])

    with pytest.raises(InputError, match="those of space alone"):
        daml.simulate(Wrong(), steps=2)

    class Named(Waves):
        variables = ("a", "b")

    with pytest.raises(InputError, match="'variables' are 2 names that begin with 'a'"):
        daml.simulate(Named(), steps=2)
    with pytest.raises(InputError, match="'template' is a int; give an xarray"):
        Template.given(3, "Waves")


def test_a_template_may_be_a_map_of_a_record_with_its_date():
    class Dated(Waves):
        template = TEMPLATE.assign_coords(time=np.datetime64("2005-04-01", "ns"))

    found = daml.assimilate(Dated(), RECORD, SCHEME)
    xr.testing.assert_equal(found.analysis, daml.assimilate(MODEL, RECORD, SCHEME).analysis)


def test_positions_follow_from_the_coordinates():
    space = StateSpace.of(MODEL)
    names = MODEL.variables
    at = [names.index(name) for name in ("u[0,0]", "u[0,3]", "h[2,0]")]
    np.testing.assert_allclose(space.distance(at[:1], at[1:]), [[10.0, 20.0]])  # around the ring
    globe = xr.Dataset(
        {"t": (("lat", "lon"), np.zeros((3, 2)))},
        {
            "lat": ("lat", [-1.0, 0.0, 1.0], {"units": "degrees_north"}),
            "lon": ("lon", [359.0, 0.0], {"units": "degrees_east"}),
        },
    )
    km = Template.given(globe, "Globe").positions
    degree = 2 * np.pi * 6371 / 360
    np.testing.assert_allclose(np.linalg.norm(km[2] - km[3]), degree, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(km[0] - km[2]), degree, rtol=1e-4)
    slanted = xr.Dataset(
        {"t": (("j", "i"), np.zeros((1, 2)))},
        {
            "lat": (("j", "i"), [[60.0, 60.0]], {"units": "degrees_north"}),
            "lon": (("j", "i"), [[10.0, 11.0]], {"units": "degrees_east"}),
        },
    )
    km = Template.given(slanted, "Slanted").positions
    np.testing.assert_allclose(np.linalg.norm(km[0] - km[1]), degree / 2, rtol=1e-3)
    mixed = xr.Dataset({"a": ("x", [0.0, 1.0]), "b": (("y", "x"), [[0.0, 1.0]])})
    assert Template.given(mixed, "Mixed").positions is None


class Staggered(daml.models.Gridded):
    """Heights and currents along one axis, at different places."""

    template = xr.Dataset({"h": ("middle", np.zeros(3)), "u": ("edge", np.zeros(3))})
    dt = 1.0

    def move(self, fields):
        return {"h": 0.9 * fields["h"], "u": 0.8 * fields["u"]}


class Placed(Staggered):
    positions = np.array([0.5, 1.5, 2.5, 0.0, 1.0, 2.0])


def test_fields_of_different_dimensions_have_positions_if_the_model_gives_them():
    record = xr.Dataset(
        {"h": (("time", "middle"), np.ones((9, 3)))}, {"time": np.arange(9.0)}
    ).assign(h_error_variance=0.1)
    scheme = daml.schemes.LETKF(4, radius=1.0)
    with pytest.raises(InputError, match="fields of its template have different dimensions"):
        daml.assimilate(Staggered(), record, scheme)
    assert daml.assimilate(Placed(), record, scheme).analysis.shape == (9, 6)


def test_localisation_works_on_fields():
    scheme = daml.schemes.LETKF(6, radius=15.0, inflation=1.05)
    analysis = daml.assimilate(MODEL, RECORD, scheme)
    error = daml.verification.analysis_error(analysis, FIELDS, skip=20, variables=["u"])
    assert float(error.analysis_rmse) < 0.1


def test_the_error_of_fields_is_taken_one_after_the_other():
    analysis = daml.assimilate(MODEL, RECORD, SCHEME)
    with pytest.raises(InputError, match=r"different units \('u' in m s-1, 'h' in m\).*variables="):
        daml.verification.analysis_error(analysis, FIELDS, skip=10)
    found = daml.verification.analysis_error(analysis, FIELDS, skip=10, variables=["h"])
    error = daml.unflatten(analysis)["analysis"].h - FIELDS.h
    expected = float(np.sqrt((error.isel(time=slice(10, None)) ** 2).mean()))
    assert float(found.analysis_rmse) == pytest.approx(expected)


def test_forecasts_start_from_fields_and_are_fields():
    made = daml.forecast(MODEL, FIELDS, leads=2, warmup=0)
    tree = daml.unflatten(made)
    assert tree["forecast"].u.dims == ("start", "lead", "y", "x")
    np.testing.assert_allclose(
        tree["forecast"].h.isel(start=4, lead=1), FIELDS.h.isel(time=6), rtol=1e-12
    )
    again = daml.simulate(MODEL, steps=3, initial=FIELDS.isel(time=5))
    np.testing.assert_allclose(daml.unflatten(again).h[2], FIELDS.h[7], rtol=1e-12)


def test_scalars_beside_each_other_are_fields_of_no_space():
    truth = daml.simulate(daml.Lorenz63(), steps=30, seed=1)
    seen = daml.observe(truth, seed=2)
    record = seen.observation.to_dataset("variable").assign(
        {f"x{k}_error_variance": 1.0 for k in range(3)}
    )
    one, two = (daml.assimilate(daml.Lorenz63(), r, SCHEME) for r in (record, seen))
    np.testing.assert_array_equal(one.analysis, two.analysis)


def test_a_loop_takes_a_record_of_fields(tmp_path):
    network = daml.LSTM(base=MODEL, hidden=4, epochs=1, batch_size=2, sequence_length=20)
    scheme = daml.schemes.ETKF(8, inflation=1.1)
    tree = daml.improve(
        MODEL, RECORD, scheme, network, passes=1, held_out=0, store=tmp_path / "loop.zarr"
    )
    emulator = daml.load_emulator(tree, base=MODEL)
    analysis = daml.assimilate(emulator, RECORD, scheme)
    for found in (tree["iteration/0000"].to_dataset(), analysis):
        assert daml.unflatten(found)["analysis"].u.dims == ("time", "y", "x")


def test_fields_have_no_place_in_a_model_without_a_template():
    with pytest.raises(InputError, match="Lorenz63: it has no 'template', so that"):
        daml.assimilate(daml.Lorenz63(), RECORD, SCHEME)


def test_a_record_in_another_order_of_memory_is_read():
    values = np.asfortranarray(SEEN.observation.values)
    turned = SEEN.assign(observation=(("time", "variable"), values))
    one, two = (daml.assimilate(MODEL, seen, SCHEME) for seen in (turned, SEEN))
    np.testing.assert_array_equal(one.analysis, two.analysis)


def test_the_command_line_takes_and_writes_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(
        "import numpy as np, xarray as xr, daml\n"
        "class Ring(daml.models.Gridded):\n"
        "    template = xr.Dataset({'q': (('y', 'x'), [[0.1, np.nan, 0.2]], {'units': 'K'})})\n"
        "    dt = np.timedelta64(1, 'h')\n"
        "    def move(self, fields):\n"
        "        return {'q': np.cos(3 * np.roll(fields['q'], 1, axis=-1))}\n"
    )
    from daml.scripts import load_model

    model = load_model("model.py:Ring")
    start = model.template.assign_coords(time=np.datetime64("2026-01-01", "s"))
    truth = daml.simulate(model, steps=60, initial=start)
    record = daml.unflatten(daml.observe(truth, error_variance=0.01, missing=0.1))
    record.isel(time=np.r_[0:20, 25:60]).to_netcdf("record.nc")
    given = ["assimilate", "record.nc", "--model", "model.py:Ring", "--store", "out.zarr"]
    given += ["--scheme", "etkf", "--members", "8", "--fields", "out.nc"]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    with xr.open_datatree("out.nc") as tree:
        assert tree["analysis"].q.dims == ("time", "y", "x")
        assert tree["analysis"].q.isnull().all("time").values.tolist() == [[False, True, False]]
        flat = xr.open_zarr("out.zarr", consolidated=False)
        xr.testing.assert_allclose(daml.unflatten(flat)["spread"].q, tree["spread"].q)
    again = CliRunner().invoke(main, [*given[:5], "b.zarr", *given[6:]])
    assert "--fields: out.nc exists; give another path" in again.output
    bare = ["assimilate", "record.nc", "--model", "lorenz63", "--store", "c.zarr"]
    refused = CliRunner().invoke(main, [*bare, "--fields", "c.nc"])
    assert "Lorenz63 has no 'template'" in refused.output


def test_values_outside_of_the_range_that_a_record_declares_are_missing():
    truth = daml.simulate(daml.Lorenz63(), steps=30, seed=1)
    seen = daml.observe(truth, seed=2)
    broken = seen.copy(deep=True)
    broken["observation"][5, 1], broken["observation"][9, 0] = 999.0, -999.0
    expected = seen.copy(deep=True)
    expected["observation"][5, 1], expected["observation"][9, 0] = np.nan, np.nan
    B = daml.covariance.labelled(np.eye(3), daml.Lorenz63.variables)
    one, two = (
        daml.assimilate(daml.Lorenz63(), record, daml.ThreeDVar(B))
        for record in (
            broken.assign(observation=broken.observation.assign_attrs(valid_range=[-100, 100])),
            expected,
        )
    )
    np.testing.assert_array_equal(one.analysis, two.analysis)
    fields = RECORD.copy(deep=True)
    fields["u"][7, 0, 0] = 50.0
    fields["u"].attrs["valid_max"] = 10.0
    found = daml.assimilate(MODEL, fields, SCHEME)
    assert np.isnan(found.innovation.sel(observed="u[0,0]")[7])
    fields["u"].attrs["valid_range"] = 3
    with pytest.raises(InputError, match="'u': 'valid_range' is 3; give the smallest"):
        daml.assimilate(MODEL, fields, SCHEME)
