"""Observations at any places, from a table."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daml
from daml.errors import InputError

Y, X = np.arange(3) * 10.0, np.arange(4) * 10.0


class Waves(daml.models.Gridded):
    """Two fields on a channel that is periodic in x, with a masked point in one."""

    template = xr.Dataset(
        {
            "u": (("y", "x"), np.where(np.eye(3, 4) * [1, 0, 0, 0] > 0, np.nan, 0.1)),
            "h": (("y", "x"), np.full((3, 4), 0.2)),
        },
        {"y": Y, "x": X},
    )
    dt, period = 1.0, (None, 40.0)

    def move(self, fields):
        u, h = fields["u"], fields["h"]
        return {"u": np.roll(np.sin(2 * h), 1, axis=-1), "h": np.cos(3 * u + h)}


MODEL = Waves()
SCHEME = daml.ThreeDVar(daml.covariance.labelled(0.1 * np.eye(23), MODEL.variables))


def table(**columns):
    given = {"time": 0.0, "field": "h", "y": 0.0, "x": 0.0, "observation": 1.0} | columns
    rows = range(max(map(np.size, given.values())))
    return pd.DataFrame({"error_variance": 0.01, **given}, index=rows)


def weights(record):
    """Give the weights of each place, by the names of the model's variables."""
    rows = record.operator.to_pandas()
    return [row[row != 0].round(12).to_dict() for _, row in rows.iterrows()]


def test_a_place_is_interpolated_from_the_grid_around_it():
    found = daml.from_points(table(y=[2.5, 20.0], x=[13.0, 30.0]), MODEL)
    assert weights(found) == [
        {"h[0,1]": 0.525, "h[0,2]": 0.225, "h[1,1]": 0.175, "h[1,2]": 0.075},
        {"h[2,3]": 1.0},
    ]
    assert found["variable"].values.tolist() == ["h@2.5,13", "h@20,30"]
    np.testing.assert_array_equal(found.position, [[2.5, 13.0], [20.0, 30.0]])


def test_interpolation_is_exact_for_what_is_linear():
    random = np.random.default_rng(0)
    y, x = random.uniform(0, 20, 30), random.uniform(0, 30, 30)
    found = daml.from_points(table(y=y, x=x), MODEL)
    plane = 3 + 2 * Y[:, None] - X[None]
    state = np.concatenate((np.zeros(11), plane.ravel()))
    np.testing.assert_allclose(found.operator.values @ state, 3 + 2 * y - x, rtol=1e-12)


def test_a_ring_closes():
    found = daml.from_points(table(x=[35.0, -5.0, 75.0]), MODEL)
    assert weights(found)[0] == {"h[0,0]": 0.5, "h[0,3]": 0.5}
    assert weights(found)[1] == weights(found)[2] == weights(found)[0]


def test_masked_points_have_no_weight_and_places_among_them_are_left_out():
    found = daml.from_points(table(field="u", x=[6.0, 4.0], y=[0.0, 0.0]), MODEL)
    assert weights(found) == [{"u[0,1]": 1.0}]
    assert found.attrs["outside"] == 1


def test_what_lies_outside_of_the_grid_is_counted():
    found = daml.from_points(table(y=[-1.0, 5.0, 21.0]), MODEL)
    assert found.sizes["variable"] == 1
    assert found.attrs["outside"] == 2
    with pytest.raises(InputError, match=r"none of the 2 rows .* the grid of Waves \(y 0 to 20"):
        daml.from_points(table(y=[-1.0, 50.0]), MODEL)


def test_a_place_keeps_its_variable_in_time_and_instruments_are_apart():
    found = daml.from_points(
        table(
            time=[0.0, 1.2, 2.0, 2.1, 2.0],
            observation=[1.0, 2.0, 3.0, 5.0, 9.0],
            instrument=["a", "a", "a", "a", "b"],
        ),
        MODEL,
    )
    assert found["variable"].values.tolist() == ["h@0,0 a", "h@0,0 b"]
    np.testing.assert_array_equal(found.time, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(found.observation, [[1, np.nan], [2, np.nan], [4, 9]])
    np.testing.assert_allclose(found.error_variance[2], [0.005, 0.01])
    assert (found.attrs["moved"], found.attrs["merged"]) == (2, 1)


def test_points_on_the_grid_give_the_analysis_of_the_record_of_fields():
    run = daml.simulate(MODEL, steps=60, spinup=20, seed=1)
    seen = daml.observe(run, variables=["h"], error_variance=0.01, missing=0.3, seed=2)
    fields = daml.unflatten(seen)
    rows = (
        fields.to_dataframe()
        .reset_index()
        .rename(columns={"h": "observation", "h_error_variance": "error_variance"})
    )
    points = daml.from_points(rows.assign(field="h"), MODEL)
    one, two = (daml.assimilate(MODEL, record, SCHEME) for record in (points, fields))
    np.testing.assert_allclose(one.analysis, two.analysis, rtol=1e-9, atol=1e-12)


def test_local_schemes_know_where_the_points_lie():
    run = daml.unflatten(daml.simulate(MODEL, steps=80, spinup=20, seed=1))
    random = np.random.default_rng(3)
    rows = []
    for y, x in random.uniform(0, [20, 40], (6, 2)):
        wide = run.h.pad(x=(0, 1), mode="wrap").assign_coords(x=[*X, 40.0])
        values = wide.interp(y=y, x=x).values + 0.1 * random.standard_normal(80)
        rows.append(pd.DataFrame({"time": run.time, "y": y, "x": x, "observation": values}))
    points = pd.concat(rows).assign(error_variance=0.01, field="h")
    found = daml.from_points(points, MODEL)
    scheme = daml.schemes.LETKF(10, radius=20.0, model_error=0.3)
    analysis = daml.assimilate(MODEL, found, scheme)
    assert analysis.sizes["observed"] == 6


def test_fields_that_are_not_seen_need_no_coordinates_and_a_model_says_where_points_lie():
    """A field of numbers has a place of its own, which the model alone knows."""

    class Driven(Waves):
        template = Waves.template.assign(push=("source", [0.0, 0.1]))
        positions = np.concatenate([Waves().positions, [[5.0, 5.0], [15.0, 5.0]]])

    points = table(y=[14.0, 16.0], x=[5.0, 15.0], field="u")
    found, plain = (daml.from_points(points, model) for model in (Driven(), Waves()))
    assert "push[0]" in found.model_variable
    np.testing.assert_array_equal(found.position, plain.position)


def test_dates_and_a_dataset_of_points_will_do():
    class Daily(Waves):
        dt = np.timedelta64(1, "D")

    rows = table(time=pd.date_range("2026-01-01 01:00", periods=3, freq="D"))
    found = daml.from_points(rows.to_xarray(), Daily(), start="2026-01-01")
    assert found.time.dt.hour.values.tolist() == [0, 0, 0]
    assert found.attrs["farthest_move"] == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (lambda: table().drop(columns="error_variance"), "the column 'error_variance' is missing"),
        (lambda: table().drop(columns="field"), "the column 'field' is missing"),
        (lambda: table().drop(columns="x"), "the column 'x' is missing, along which 'h' lies"),
        (lambda: table(field="sst"), "'sst' is not a field of the model, which has u, h"),
        (lambda: table(error_variance=[-1.0]), "'error_variance' is -1.0 in row 0"),
        (lambda: table().iloc[:0], "'points' is a DataFrame; give a pandas.DataFrame"),
        (lambda: [1, 2], "'points' is a list; give"),
    ],
)
def test_a_table_that_lacks_something_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        daml.from_points(given(), MODEL)


def test_a_model_without_a_grid_is_refused():
    with pytest.raises(InputError, match="Lorenz63 has no template"):
        daml.from_points(table(), daml.Lorenz63())

    class Unplaced(Waves):
        template = Waves.template.drop_vars("x")

    with pytest.raises(InputError, match="no coordinate of numbers along 'x'"):
        daml.from_points(table(), Unplaced())


@pytest.mark.parametrize("units", ["degrees_east", "degree_E"])
@pytest.mark.parametrize("around", [True, False])
def test_longitudes_close_where_they_lie_all_around_the_globe(units, around):
    """A region has an outside, and its places may be given a turn away."""
    longitudes = np.arange(0.0, 360.0, 10.0) if around else np.arange(-5.0, 6.0)
    axis = {"lon": ("lon", longitudes, {"units": units})}

    class Belt(daml.models.Gridded):
        template = xr.Dataset({"q": ("lon", 0.1 * longitudes)}, axis)
        dt = 1.0

        def move(self, fields):
            return {"q": np.cos(fields["q"])}

    table = pd.DataFrame(
        {"time": np.arange(4.0), "lon": [355.5, 4.5, 50.0, 200.0]}
        | {"observation": 0.5, "error_variance": 0.01}
    )
    record = daml.from_points(table, Belt(), moving=False)
    assert record.attrs["outside"] == (0 if around else 2)
    at = record.operator.values @ (np.exp(1j * np.deg2rad(longitudes)))
    expected = np.exp(1j * np.deg2rad(table.lon.to_numpy()))[: len(at)]
    np.testing.assert_allclose(np.angle(at), np.angle(expected), atol=0.01)


def test_rows_without_a_time_are_refused():
    days = pd.to_datetime(["2000-01-02", None, "2000-01-03"])
    table = pd.DataFrame({"time": days, "x": 5.0, "y": 5.0, "field": "h"})
    with pytest.raises(InputError, match=r"1 of 3 rows have no 'time'.*dropna"):
        daml.from_points(table.assign(observation=0.1, error_variance=0.1), MODEL)
