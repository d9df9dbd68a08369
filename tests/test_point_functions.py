"""Points at which functions of the model's fields are observed."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge
from test_points import MODEL, Waves, table

import daml
from daml.errors import InputError
from daml.observing.places.pointwise import PointFunctions
from daml.observing.records import read

SPEED = {"speed": lambda fields: (fields["u"] ** 2 + fields["h"] ** 2 + 0.01) ** 0.5}
SIZE = len(MODEL.variables)
B = daml.covariance.labelled(0.1 * np.eye(SIZE) + 0.02, MODEL.variables)
PLACES = ("[2,1]", "[1,3]", "[0,2]")


def by_state(x):
    """Give the same of states, at three points of the grid."""
    places = [[MODEL.variables.index(field + at) for at in PLACES] for field in ("u", "h")]
    return (x[..., places[0]] ** 2 + x[..., places[1]] ** 2 + 0.01) ** 0.5


@pytest.fixture(scope="module")
def run():
    return daml.simulate(MODEL, steps=12, spinup=20, seed=1)


@pytest.fixture(scope="module")
def fixed(run):
    names = [f"speed{at}" for at in PLACES]
    return daml.observe(
        run, operator=by_state, variables=names, error_variance=0.01, missing=0.2, seed=2
    )


@pytest.fixture(scope="module")
def points(fixed):
    y, x = ([float(at[place]) * 10 for at in PLACES] for place in (1, 3))
    steps = fixed.sizes["time"]
    rows = table(
        time=np.repeat(fixed.time.values, 3),
        field="speed",
        y=np.tile(y, steps),
        x=np.tile(x, steps),
        observation=fixed.observation.values.ravel(),
    )
    return daml.from_points(rows, MODEL, operator=SPEED)


SCHEMES = {
    "ThreeDVar": lambda: daml.ThreeDVar(B),
    "ETKF": lambda: daml.schemes.ETKF(8, inflation=1.1, model_error=0.01),
    "EnVar": lambda: daml.schemes.EnVar(8, beta=0.3, background_covariance=B, radius=30.0),
    "SigmaPoint": lambda: daml.schemes.SigmaPoint(model_error=0.01),
    "ExtendedKalman": lambda: daml.schemes.ExtendedKalman(model_error=0.01),
    "FourDVar": lambda: daml.schemes.FourDVar(B, window=1),
}


@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES.keys())
def test_functions_at_points_of_the_grid_are_functions_of_the_state(make, run, fixed, points):
    how = {"initial": run.isel(time=0) + 0.05, "segments": 1}
    one = daml.assimilate(MODEL, fixed, make(), operator=by_state, **how)
    two = daml.assimilate(MODEL, points, make(), operator=SPEED, **how)
    np.testing.assert_allclose(two.analysis, one.analysis, atol=1e-8)
    np.testing.assert_allclose(
        np.sort(two.innovation.fillna(9)), np.sort(one.innovation.fillna(9)), atol=1e-8
    )


def record_between(field="speed"):
    """Give functions and a field at places between the points of the grid, the last time half."""
    rows = table(
        time=[0.0, 0.0, 0.0, 1.0],
        field=[field, "h", field, field],
        y=[15.0, 2.5, 17.0, 18.0],
        x=[12.0, 33.0, 25.0, 7.0],
    )
    return daml.from_points(rows, MODEL, operator=SPEED)


def test_the_tangent_is_that_of_differences():
    record = read(record_between(), MODEL.variables, 1.0, operator=PointFunctions(SPEED))
    operator = record.seen(np.arange(2)).operator
    x = np.random.default_rng(0).standard_normal((2, SIZE))
    step = 1e-6 * np.eye(SIZE)
    ahead, back = (operator.apply(x[:, None] + sign * step) for sign in (1, -1))
    slope = np.swapaxes(ahead - back, -1, -2) / 2e-6
    np.testing.assert_allclose(operator.tangent(x), slope, atol=1e-7)
    change, around = np.ones_like(x), operator.linearised(x)
    np.testing.assert_allclose(around.apply(change), slope.sum(-1), atol=1e-7)
    weights = np.arange(1.0, slope.shape[-2] + 1) * np.ones_like(slope[..., 0])
    expected = (weights[..., None] * slope).sum(-2)
    np.testing.assert_allclose(around.adjoint(weights), expected, atol=1e-6)
    assert (slope[1, 1:] == 0).all()  # nothing is there
    at = torch.as_tensor(x).requires_grad_()
    np.testing.assert_allclose(operator.tangent(at).detach(), slope, atol=1e-7)
    assert torch.autograd.gradcheck(lambda x: operator.apply(x), (at,))
    assert torch.autograd.gradcheck(lambda x: operator.tangent(x), (at,))


def test_what_is_interpolated_first_is_what_the_function_takes():
    found = record_between()
    assert found.sizes["corner"] == 8
    record = read(found, MODEL.variables, 1.0, operator=PointFunctions(SPEED))
    plane = {"u": lambda y, x: 0.1 * y + x, "h": lambda y, x: 3.0 - y}
    grid = daml.labels.templates.Template.of(MODEL)
    y, x = np.meshgrid([0.0, 10.0, 20.0], [0.0, 10.0, 20.0, 30.0], indexing="ij")
    state = grid.state({name: of(y, x) for name, of in plane.items()})
    expected = [
        (plane["u"](y, x) ** 2 + plane["h"](y, x) ** 2 + 0.01) ** 0.5
        for y, x in ((15.0, 12.0), (17.0, 25.0))
    ]
    seen = record.seen(np.array([0])).operator.apply(state[None])[0]
    np.testing.assert_allclose(seen[:2], expected)
    assert found["variable"].values.tolist() == ["speed#0", "speed#1", "h#0"]


def test_it_is_stored_and_read_again(points, tmp_path):
    points.to_netcdf(tmp_path / "record.nc")
    plain = daml.assimilate(MODEL, points, daml.ThreeDVar(B), operator=SPEED)
    with xr.open_dataset(tmp_path / "record.nc", chunks={"time": 5}) as lazy:
        found = daml.assimilate(MODEL, lazy, daml.ThreeDVar(B), operator=SPEED).compute()
    xr.testing.assert_equal(found, plain)


def test_a_loop_takes_them(points):
    emulator = daml.emulators.Regression(Ridge(1.0))
    how = {"passes": 1, "held_out": 0, "operator": SPEED}
    tree = daml.improve(MODEL, points, daml.ThreeDVar(B), emulator, **how)
    assert np.isfinite(tree["iteration/0000"].analysis).all()


def failing(fields):
    raise ValueError("no")


GIVEN = {
    r"'speed' is observed at points through .* again: operator=\{'speed'": None,
    "operator\\['spee'\\] is given, and no points observe 'spee'": {
        **SPEED,
        "spee": SPEED["speed"],
    },
    r"operator\['speed'\] is a int; give a function of a dict of fields": {"speed": 3},
    r"operator\['speed'\] failed \(ValueError: no\)": {"speed": failing},
    r"operator\['speed'\] turned fields of shape \(\d+, 3\) into a ndarray of shape \(\d+,\)": {
        "speed": lambda fields: fields["u"].sum(axis=-1)
    },
    "the observations have places of their own": lambda x: x[..., :1],
}


@pytest.mark.parametrize("text", GIVEN)
def test_wrong_functions_are_refused(text, points):
    with pytest.raises(InputError, match=text):
        daml.assimilate(MODEL, points, daml.schemes.ETKF(4), operator=GIVEN[text], segments=1)


MADE = {
    "'speed' is not a field of the model, which has u, h; rename it, or give a function": {},
    "'operator' is a int; give a dict of functions": {"operator": 3},
    "from_points: 'moving' is False, and points": {"operator": SPEED, "moving": False},
    r"operator\['h'\] has the name of a field": {"operator": {**SPEED, "h": SPEED["speed"]}},
    r"operator\['speed'\] gives numbers that are not finite for the means .* u=0.1, h=0.2": {
        "operator": {"speed": lambda fields: np.log(fields["u"] - 1)}
    },
    r"operator\['speed'\] failed \(KeyError: 'v'\); it takes a dict of fields at points, here u": {
        "operator": {"speed": lambda fields: fields["v"]}
    },
}


@pytest.mark.parametrize("text", MADE)
def test_points_of_wrong_functions_are_refused(text):
    with pytest.raises(InputError, match=text):
        daml.from_points(table(field="speed", y=20.0), MODEL, **MADE[text])


def test_functions_need_points_and_a_matrix_is_none_of_them(run, points):
    with pytest.raises(InputError, match="'operator' is a dict of functions of fields at points"):
        daml.assimilate(MODEL, daml.observe(run), daml.ThreeDVar(B), operator=SPEED)
    interpolating = daml.schemes.OptimalInterpolation(daml.simulate(MODEL, steps=50))
    with pytest.raises(InputError, match="'operator' is not linear, and a matrix H is needed here"):
        daml.assimilate(MODEL, points, interpolating, operator=SPEED)


def test_units_of_points_are_those_of_the_field():
    class Metres(Waves):
        template = Waves.template.assign(h=Waves.template.h.assign_attrs(units="m"))

    rows = table(time=[0.0, 1.0], x=[3.0, 4.0]).to_xarray()
    rows["observation"].attrs["units"] = "m"
    assert "place" in daml.from_points(rows, Metres(), moving=True)
    rows["observation"].attrs["units"] = "cm"
    with pytest.raises(InputError, match=r"'observation' is in cm, and the field 'h' .* in m;"):
        daml.from_points(rows, Metres())
