"""Observations whose places change from time to time: ships, tracks and satellites."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import roster
import torch
import xarray as xr
from test_points import MODEL as WAVES
from test_points import Waves, table

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.batches import placed
from daml.observing.records import read
from daml.protocols import Forecast, Run, Update
from daml.running.starts.ensemble_start import EnsembleStart
from daml.running.starts.first_guess import FirstGuess
from daml.training.through_cycle import Course

MODEL = roster.Placed()


def as_moving(record, model=MODEL, turned=None):
    """Give a record of variables of a model, each of which is given its place at each time."""
    names = list(model.variables)
    places = [names.index(name) for name in record["variable"].values]
    place = np.broadcast_to(np.array(places)[:, None], (*record.observation.shape, 1))
    space = StateSpace.of(model)
    found = xr.Dataset(
        {
            "observation": record.observation,
            "error_variance": record.error_variance,
            "place": (("time", "variable", "corner"), place),
            "weight": (("time", "variable", "corner"), np.ones(place.shape)),
        },
        {"model_variable": names},
    )
    found = found.assign_coords(variable=[f"#{k}" for k in range(len(places))])
    if space.positions is None:
        return found
    where = space.positions[place[..., 0]]
    return found.assign_coords(position=(("time", "variable", "dimension"), where))


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.Lorenz63(), steps=60, spinup=300, seed=1)
    return daml.observe(truth, variables=["x0", "x2"], missing=0.3, seed=2)


class Doubtful(roster.Placed):
    """Says how large the error of its forecasts is."""

    def background_covariance(self, memory):
        return np.diag([0.5, 1.0, 1.0])


ENTRIES = {
    **roster.SCHEMES,
    "ThreeDVar by the model": lambda: daml.ThreeDVar("model", error_factor=1.5),
}


@pytest.mark.parametrize("make", ENTRIES.values(), ids=ENTRIES.keys())
def test_fixed_places_given_at_each_time_give_the_same_analysis(make, seen, request):
    model = Doubtful() if "by the model" in request.node.name else MODEL
    fixed, moving = (
        daml.assimilate(model, record, make(), segments=1) for record in (seen, as_moving(seen))
    )
    # Where a window goes on, its observations are kept of fixed places alone.
    timed = [{n for n in one.data_vars if "time" in one[n].dims} for one in (fixed, moving)]
    assert timed[0] == timed[1]
    for name in timed[0]:
        np.testing.assert_allclose(moving[name], fixed[name], rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("store", ["zarr", "nc"])
def test_a_record_may_be_stored_and_stay_lazy(store, seen, tmp_path):
    moving, path = as_moving(seen), tmp_path / f"record.{store}"
    if store == "zarr":
        moving.chunk(time=7).to_zarr(path, zarr_format=2)
    else:
        moving.to_netcdf(path)
    with xr.open_dataset(path, chunks={"time": 7}) as lazy:
        for name in ("ThreeDVar", "LETKF"):
            make = roster.SCHEMES[name]
            plain = daml.assimilate(MODEL, moving, make())
            xr.testing.assert_equal(daml.assimilate(MODEL, lazy, make()).compute(), plain)


def drifting(steps=12, per_step=6, seed=0):
    """Give a run of a model, and a table of points that lie on its grid, others at each time."""
    run = daml.unflatten(daml.simulate(WAVES, steps=steps, spinup=20, seed=1))
    random = np.random.default_rng(seed)
    rows = []
    for step, time in enumerate(run.time.values):
        picked = random.choice(12, per_step, replace=False)
        for field, place in zip(random.choice(["u", "h"], per_step), picked, strict=True):
            y, x = divmod(int(place), 4)
            value = float(run[field][step, y, x])
            if np.isfinite(value):
                at = {"time": time, "field": field, "y": 10.0 * y, "x": 10.0 * x}
                rows.append(at | {"observation": value + 0.1 * random.standard_normal()})
    return run, pd.DataFrame(rows).assign(error_variance=0.01)


def as_fields(run, rows):
    """Give points on the grid as fields, with NaN where none is."""
    found = xr.full_like(run, np.nan)
    for row in rows.itertuples():
        found[row.field].loc[{"time": row.time, "y": row.y, "x": row.x}] = row.observation
    return found.assign(u_error_variance=0.01, h_error_variance=0.01)


SIZE = len(WAVES.variables)
B = daml.covariance.labelled(0.1 * np.eye(SIZE) + 0.02, WAVES.variables)
WAVE_SCHEMES = {
    "ThreeDVar": lambda: daml.ThreeDVar(B),
    "cg": lambda: daml.ThreeDVar(B, method="cg"),
    "ETKF": lambda: daml.schemes.ETKF(8, model_error=0.01),
    "LETKF": lambda: daml.schemes.LETKF(8, radius=20.0, model_error=0.01),
    "EnVar": lambda: daml.schemes.EnVar(8, beta=0.3, background_covariance=B, radius=30.0),
    "SigmaPoint": lambda: daml.schemes.SigmaPoint(model_error=0.01),
}


@pytest.mark.parametrize("make", WAVE_SCHEMES.values(), ids=WAVE_SCHEMES.keys())
def test_points_fields_and_variables_give_the_same_analysis(make):
    run, rows = drifting()
    fields = as_fields(run, rows)
    flat = daml.flatten(fields)
    flat = flat.isel(variable=flat.observation.notnull().any("time").values)
    points = daml.from_points(rows, WAVES, moving=True)
    assert "place" in points
    one, *others = (
        daml.assimilate(WAVES, record, make(), segments=1) for record in (points, fields, flat)
    )
    for other in others:
        np.testing.assert_allclose(one.background, other.background, atol=1e-11)
        np.testing.assert_allclose(one.analysis, other.analysis, atol=1e-11)


def test_a_part_in_time_is_a_record(seen):
    moving = as_moving(seen)
    part = moving.sel(time=slice(moving.time[10], moving.time[40]))
    alone = moving.isel(time=slice(10, 41))
    one, two = (daml.assimilate(MODEL, record, SCHEME(), segments=1) for record in (part, alone))
    xr.testing.assert_identical(one, two)
    assert one.sizes["time"] == 31


SCHEME = roster.SCHEMES["ThreeDVar"]


def points_between(steps=10, per_step=3, seed=0, field="h"):
    """Give a run of a model, and a table of points between those of its grid."""
    run = daml.unflatten(daml.simulate(WAVES, steps=steps, spinup=20, seed=1))
    random, rows = np.random.default_rng(seed), []
    wide = run[field].pad(x=(0, 1), mode="wrap").assign_coords(x=[0.0, 10.0, 20.0, 30.0, 40.0])
    for time in run.time.values:
        for y, x in random.uniform([0, 0], [20, 40], (per_step, 2)):
            value = float(wide.sel(time=time).interp(y=y, x=x))
            rows.append({"time": time, "y": y, "x": x, "observation": value})
    return run, pd.DataFrame(rows).assign(field=field, error_variance=0.01)


def test_a_loop_over_times_by_hand_gives_the_same():
    """3DVar by NumPy: K = B H' (H B H' + R)^-1 with a dense H of each time."""
    run, rows = points_between()
    record = daml.from_points(rows, WAVES)
    start = daml.simulate(WAVES, steps=1, spinup=25, seed=1).isel(time=0)
    found = daml.assimilate(WAVES, record, daml.ThreeDVar(B), initial=start, segments=1)
    x = start.state.values[None]
    for step in range(run.sizes["time"]):
        if step:
            x, _ = WAVES.step(x, None)
        H = np.zeros((3, SIZE))
        for k in range(3):
            for corner in range(4):
                place = record.place.values[step, k, corner]
                H[k, place] += record.weight.values[step, k, corner]
        gap = record.observation.values[step] - H @ x[0]
        gain = B.values @ H.T @ np.linalg.inv(H @ B.values @ H.T + 0.01 * np.eye(3))
        np.testing.assert_allclose(found.innovation[step], gap, atol=1e-10)
        x = x + gain @ gap
        np.testing.assert_allclose(found.analysis[step], x[0], atol=1e-10)


def test_the_first_guess_follows_the_nearest_times():
    _, rows = points_between(steps=3)
    record = read(daml.from_points(rows, WAVES), WAVES.variables, 1.0, space=StateSpace.of(WAVES))
    near = list(record.around(np.array([0, 1, 2]), 2))
    assert [part.values.shape for part in near] == [(3, 3), (3, 3)]
    values = record.seen(np.arange(3)).values
    np.testing.assert_array_equal(near[-1].values, values)
    np.testing.assert_array_equal(near[0].values, values[[1, 0, 1]])


def test_the_first_guess_never_corrects_by_more_than_the_distance():
    """Also of places that lie close to each other, whose values differ by their errors."""
    rows = table(time=np.repeat([0.0, 1.0, 2.0], 2), x=[4.0, 4.1, 14.0, 14.1, 24.0, 24.1])
    rows["observation"] = [1.0, -1.0] * 3
    record = read(daml.from_points(rows, WAVES), WAVES.variables, 1.0, space=StateSpace.of(WAVES))
    guess = FirstGuess(WAVES, record, np.arange(3.0), None)
    start = EnsembleStart(WAVES, record, guess)
    assert np.abs(guess.state(np.arange(3))).max() <= 1.5
    # One value at the middle of a side, R = 0.01: of the climate's c = 1 each corner keeps half.
    one = table(time=[0.0, 1.0, 2.0], x=[5.0, 5.0, 15.0])
    record = read(daml.from_points(one, WAVES, moving=True), WAVES.variables, 1.0)
    variance = FirstGuess(WAVES, record, np.arange(3.0), None).fit.variances(
        np.array([0]), np.ones(SIZE)
    )
    corner = WAVES.variables.index("h[0,0]")
    assert variance[0, corner] == pytest.approx(1 - 0.25 / (0.5 + 0.01))
    assert variance[0, -1] == 1.0
    assert (start.deviation > 0).all()


class Still(Waves):
    """Nothing moves, so that all times see one state."""

    climate_spread = np.ones(23)

    def move(self, fields):
        return fields


def test_a_state_that_does_not_move_is_found_along_a_track():
    _, rows = points_between(steps=40, per_step=2)
    slope = 0.02 * rows.y + 0.1 * np.random.default_rng(1).standard_normal(len(rows))
    record = daml.from_points(rows.assign(observation=slope), Still())
    scheme = daml.schemes.SigmaPoint(model_error=1e-8)
    found = daml.assimilate(Still(), record, scheme, segments=1)
    found = daml.unflatten(found)["analysis"].h[-1]
    np.testing.assert_allclose(found, np.broadcast_to(0.02 * found.y, found.T.shape).T, atol=0.2)
    assert record.sizes["variable"] == 2


@pytest.mark.parametrize("missing", [0, 1])
def test_gradients_pass_through_a_moving_record(missing):
    _, rows = points_between(steps=2)
    found = daml.from_points(rows, WAVES)
    found["observation"][0, :missing] = np.nan
    record = read(found, WAVES.variables, 1.0, space=StateSpace.of(WAVES))
    setting, steps = record.setting("cpu"), np.arange(2)
    observed = placed(record.seen(steps), setting, "cpu")
    run = Run(steps, 0 * steps, 1000, frozenset({"log_likelihood"}))
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 5, SIZE))).requires_grad_()
    for scheme in (daml.schemes.ETKF(5), daml.schemes.LETKF(5, radius=20.0)):
        memory = scheme.prepare(setting)

        def function(x, scheme=scheme, memory=memory):
            return scheme.update(Forecast(x), observed, run, memory)[0].state.sum(dim=0)

        assert torch.autograd.gradcheck(function, (x,), fast_mode=True, atol=1e-6)


def test_places_that_are_seen_again_are_fixed_unless_told_otherwise():
    rows = table(time=[0.0, 1.0, 2.0, 2.0], x=[5.0, 5.0, 5.0, 15.0])
    assert "operator" in daml.from_points(rows, WAVES)
    moving = daml.from_points(rows, WAVES, moving=True)
    assert "operator" not in moving
    assert moving["variable"].values.tolist() == ["h#0", "h#1"]
    np.testing.assert_array_equal(moving.x, [[5, np.nan], [5, np.nan], [5, 15]])
    np.testing.assert_array_equal(moving.y[2], [0, 0])
    track = table(time=[0.0, 1.0, 2.0, 3.0], x=[5.0, 6.0, 7.0, 7.0])
    assert "place" in daml.from_points(track, WAVES)
    assert "operator" in daml.from_points(track, WAVES, moving=False)
    assert "operator" in daml.from_points(table(x=[5.0, 15.0, 25.0]), WAVES)  # of one time


def test_so_many_places_that_no_operator_is_made(monkeypatch):
    monkeypatch.setattr(daml.observing.points, "LARGEST", 40)
    rows = table(time=[0.0, 0.0, 1.0, 1.0], x=[5.0, 15.0, 5.0, 15.0])
    assert "place" in daml.from_points(rows, WAVES)
    with pytest.raises(InputError, match="more than 40; leave 'moving' out, or give fewer places"):
        daml.from_points(rows, WAVES, moving=False)


def test_two_instruments_count_once_each_and_the_same_one_twice_is_merged():
    rows = table(
        time=[0.0, 0.0, 0.1, 1.0],
        instrument=["a", "b", "a", "b"],
        observation=[1.0, 2.0, 3.0, 4.0],
        field=["h", "h", "h", "u"],
        x=[5.0, 5.0, 5.0, 20.0],
    )
    found = daml.from_points(rows, WAVES, moving=True)
    assert found["variable"].values.tolist() == ["h a#0", "h b#0", "u b#0"]
    assert found["field"].values.tolist() == ["h", "h", "u"]
    assert found["instrument"].values.tolist() == ["a", "b", "b"]
    nan = np.nan
    np.testing.assert_array_equal(found.observation, [[2, 2, nan], [nan, nan, 4]])
    np.testing.assert_allclose(found.error_variance, [[0.005, 0.01, nan], [nan, nan, 0.01]])
    assert found.attrs["merged"] == 1


def test_what_lies_outside_is_counted():
    rows = table(time=[0.0, 1.0, 2.0, 3.0], y=[0.0, -5.0, 1.0, 2.0])
    found = daml.from_points(rows, WAVES)
    assert found.attrs["outside"] == 1
    np.testing.assert_array_equal(found.time, [0, 2, 3])
    with pytest.raises(InputError, match=r"none of the 3 rows .* the grid of Waves"):
        daml.from_points(table(time=[0.0, 1.0, 2.0], y=[-1.0, -2.0, 50.0]), WAVES, moving=True)


@dataclass(frozen=True)
class Older:
    """A scheme that takes H from the setting, and holds it."""

    members = None

    def prepare(self, setting):
        return setting.operator

    def update(self, forecast, observed, run, operator):
        distance = (observed.values - operator.apply(forecast.state)) * observed.present
        return Update(forecast.state + 0.5 * distance @ operator.matrix()), operator


@dataclass(frozen=True)
class Tabled(roster.Nudging):
    """A scheme that takes weights from the tables of the setting."""

    def prepare(self, setting):
        return self.variance / (self.variance + setting.noise.variance)

    def update(self, forecast, observed, run, weights):
        distance = observed.values - observed.operator.apply(forecast.state)
        pull = (weights[observed.pattern] * distance)[..., None, :]
        return Update(
            forecast.state + (pull @ observed.operator.tangent(forecast.state))[..., 0, :]
        ), 0


REFUSED = [
    (Older(), "setting.operator: the places of the observations change in time, and so does H"),
    (Tabled(), "observed.pattern: H or R of this time is not that of the setting"),
]


@pytest.mark.parametrize(("scheme", "text"), REFUSED)
def test_a_scheme_that_knows_fixed_places_alone_is_refused(scheme, text, seen):
    daml.assimilate(MODEL, seen.dropna("time"), Older())
    with pytest.raises(InputError, match=re.escape(text)):
        daml.assimilate(MODEL, as_moving(seen), scheme)


def test_estimates_of_b_need_fixed_places(seen):
    text = (
        "tuned: B is estimated with a matrix H, and the places of the observations change in time"
    )
    for open_scheme in (daml.ThreeDVar("innovations"), daml.ThreeDVar("climatological")):
        with pytest.raises(InputError, match=text):
            daml.tuned(open_scheme, MODEL, as_moving(seen))
    emulator, how = roster.Polynomial(), {"passes": 1, "held_out": 0}
    with pytest.raises(InputError, match="improve: B is estimated with a matrix H, and the places"):
        daml.improve(MODEL, as_moving(seen), daml.ThreeDVar(), emulator, **how)


BROKEN = {
    "'weight' is missing": lambda o: o.drop_vars("weight"),
    r"'place' is \('time', 'variable'\)": lambda o: o.assign(place=o.place[..., 0]),
    "they have no 'error_variance'": lambda o: o.drop_vars("error_variance"),
    "the value of 0 at time 4 has no 'place'": lambda o: o.assign(
        observation=o.observation.fillna(1.0), place=o.place.where(o.time != o.time[4], 7)
    ),
    "a 'weight' that is not finite": lambda o: o.assign(weight=o.weight * np.nan),
    "among 3 variables of a model, from 'a' on": lambda o: o.assign_coords(
        model_variable=["a", "b", "c"]
    ),
    "'position' has the dimensions": lambda o: o.drop_vars("position").assign_coords(
        position=o.position.isel(dimension=[0, 0])
    ),
    "'error_variance' is -1 for variable '#": lambda o: o.assign(
        error_variance=0 * o.observation - 1
    ),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_record_is_refused(text, seen):
    with pytest.raises(InputError, match=text):
        daml.assimilate(MODEL, BROKEN[text](as_moving(seen)), SCHEME())


def test_a_loop_trains_on_a_moving_record():
    truth = daml.simulate(daml.Lorenz63(), steps=500, spinup=300, seed=1)
    seen = daml.observe(truth, missing=0.3, seed=2)
    scheme, wrong = daml.schemes.ETKF(6, inflation=1.2), daml.Lorenz63(rho=26.0)
    fixed, moving = (
        daml.improve(wrong, record, scheme, roster.Polynomial(), passes=1, held_out=0.3)
        for record in (seen, as_moving(seen, wrong))
    )
    one, two = (daml.reports.collect_innovations(tree) for tree in (fixed, moving))
    for name in ("imperfect_held_out_rmse", "held_out_rmse"):
        np.testing.assert_allclose(one[name], two[name], rtol=0.02)


@pytest.mark.parametrize("name", ["SigmaPoint", "ETKF", "ThreeDVar"])
def test_a_training_through_the_cycle_has_the_same_objective(name, seen):
    like, totals = torch.zeros((), dtype=torch.float64), []
    model = daml.Lorenz63(rho=torch.tensor(26.0, dtype=torch.float64, requires_grad=True))
    for record in (seen, as_moving(seen)):
        course = Course(MODEL, record, 0.0, like)
        objective = course.objective(lambda: model, roster.SCHEMES[name](), like, 2)
        sequences = [part.reshape(2, 30, *part.shape[1:]) for part in course.tensors]
        total = objective.total(sequences)
        (slope,) = torch.autograd.grad(total, model.rho)
        totals.append((total.item(), slope.item()))
    np.testing.assert_allclose(*totals, rtol=1e-6)


@pytest.mark.slow
def test_a_training_through_the_cycle_takes_a_moving_record():
    truth = daml.simulate(daml.Lorenz63(), steps=150, spinup=300, seed=1)
    seen = daml.observe(truth, variables=["x0", "x1", "x2"], missing=0.3, seed=2)
    emulator = daml.LSTM(hidden=3, layers=1, epochs=1, cycle_epochs=2, base=daml.Lorenz63())
    scheme = daml.schemes.ETKF(6, inflation=1.2)
    emulator = emulator.fit(daml.assimilate(daml.Lorenz63(), seen, scheme))
    fixed, moving = (
        emulator.fit_cycle(record, scheme, held_out=0)
        for record in (seen, as_moving(seen, daml.Lorenz63()))
    )
    for name, weights in fixed.to_dataset().items():
        np.testing.assert_allclose(moving.to_dataset()[name], weights, rtol=1e-4, atol=1e-6)


def test_gross_errors_of_a_moving_record_are_left_out():
    truth = daml.simulate(daml.Lorenz63(), steps=130, spinup=300, seed=1)
    seen = daml.observe(truth, variables=["x0", "x2"], seed=2)
    seen["observation"][-1, 0] += 40
    one, two = (
        daml.assimilate(MODEL, record.assign(gross_error=8.0), SCHEME(), segments=1)
        for record in (seen, as_moving(seen))
    )
    assert float(two.rejected.sum()) == 1
    np.testing.assert_array_equal(two.rejected, one.rejected)
    np.testing.assert_allclose(two.analysis, one.analysis, atol=1e-9)
