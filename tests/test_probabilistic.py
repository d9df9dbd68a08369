"""Scores of ensembles: closed forms, calibrated and wrong ensembles, what is missing, laziness."""

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.stats import norm
from scores.probability import rank_histogram as oracle

import daml
from daml.errors import InputError
from daml.verification.probabilistic import crps, rank_histogram, spread_error

NAMES = ["x", "y"]
TIMES = np.arange(3000) * 0.05


def labelled(**arrays):
    """Give a Dataset; two dims are (time, variable), three (time, member, variable)."""
    dims = {2: ("time", "variable"), 3: ("time", "member", "variable")}
    data = {name: (dims[array.ndim], array) for name, array in arrays.items()}
    return xr.Dataset(data, coords={"time": TIMES, "variable": NAMES})


def drawn(seed=0, members=10, width=1.0):
    """Give an ensemble around a wandering centre, and a truth that is one more of its members."""
    random = np.random.default_rng(seed)
    shape = (len(TIMES), members, 2)
    centre = 5 * random.normal(size=(len(TIMES), 1, 2)) + [10, -3]
    ensemble = centre + width * random.normal(size=shape)
    truth = centre[:, 0] + random.normal(size=(len(TIMES), 2))
    return labelled(analysis_members=ensemble), labelled(state=truth)


def observed(truth):
    return truth.rename(state="observation").assign(error_variance=("variable", [0.5, 2.0]))


def ahead_of(ensemble):
    """Give an ensemble as if it were a forecast of one step."""
    made = ensemble.rename(analysis_members="forecast", time="start")
    return made.expand_dims(lead=[0.05])


def of_mean_and_spread(ensemble):
    members = ensemble.analysis_members
    return xr.Dataset({"analysis": members.mean("member"), "spread": members.std("member", ddof=1)})


def test_a_gaussians_score_is_the_integral_that_defines_it():
    for mean, spread, true in ((0.0, 1.0, 0.3), (2.0, 0.5, -1.0), (-1.0, 3.0, 4.0)):
        gap, found = norm(mean, spread), []
        for low, high, above in ((-40, true, 0.0), (true, 40, 1.0)):
            found.append(quad(lambda x, a=above: (gap.cdf(x) - a) ** 2, low, high)[0])  # noqa: B023
        whole = np.full((len(TIMES), 2), 1.0)
        estimate = labelled(analysis=mean * whole, spread=spread * whole)
        score = crps(estimate, labelled(state=true * whole))
        np.testing.assert_allclose(score, sum(found), rtol=1e-6)


def test_without_a_spread_the_score_is_the_absolute_error():
    whole = np.full((len(TIMES), 2), 2.0)
    estimate = labelled(analysis=whole, spread=0 * whole)
    assert crps(estimate, labelled(state=-whole)).item() == 4.0


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_ensemble_is_flat_and_its_score_is_that_of_its_gaussian(seed):
    ensemble, truth = drawn(seed)
    found = rank_histogram(ensemble, truth)
    assert found.frequency.sizes == {"rank": 11}
    np.testing.assert_allclose(found.frequency.sum(), 1)
    outside = (found.frequency < found.flat_low) | (found.frequency > found.flat_high)
    assert outside.sum() <= 3
    np.testing.assert_allclose(found.frequency, 1 / 11, atol=0.018)
    ratio = spread_error(ensemble, truth)
    assert ratio.ratio == pytest.approx(1, abs=0.03)
    assert ratio.error == pytest.approx(np.sqrt(11 / 10), abs=0.03)  # not 1: the mean is a sample
    assert crps(ensemble, truth) == pytest.approx(1 / np.sqrt(np.pi), abs=0.02)


def test_the_score_of_few_members_is_that_of_many():
    for members in (2, 40):
        ensemble, truth = drawn(1, members)
        assert crps(ensemble, truth) == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)


@pytest.mark.parametrize(("width", "shape"), [(0.4, "U"), (3.0, "hill")])
def test_too_little_spread_is_a_u_and_too_much_a_hill(width, shape):
    ensemble, truth = drawn(2, width=width)
    found = rank_histogram(ensemble, truth)
    ends, middle = found.frequency[[0, -1]], found.frequency[4:7]
    if shape == "U":
        assert ends.min() > found.flat_high > found.flat_low > middle.max()
    else:
        assert ends.max() < found.flat_low < found.flat_high < middle.min()
    ratio = spread_error(ensemble, truth).ratio
    assert (ratio < 0.7) if shape == "U" else (ratio > 1.4)
    assert crps(ensemble, truth) > crps(*drawn(2))


def test_ties_are_shared_among_ranks_as_in_scores():
    random = np.random.default_rng(3)
    ensemble = labelled(analysis_members=random.integers(0, 3, (len(TIMES), 5, 2)).astype(float))
    truth = labelled(state=random.integers(0, 3, (len(TIMES), 2)).astype(float))
    found = rank_histogram(ensemble, truth, by=["variable"]).frequency
    other = oracle(ensemble.analysis_members, truth.state, "member", preserve_dims=["variable"])
    np.testing.assert_allclose(found, other.transpose("variable", "rank"))
    np.testing.assert_allclose(found, 1 / 6, atol=0.02)


def test_bounds_of_a_flat_histogram_hold_what_they_say():
    random, inside = np.random.default_rng(4), []
    for _ in range(20):
        truth = labelled(state=random.normal(size=(len(TIMES), 2)))
        ensemble = labelled(analysis=random.normal(size=(len(TIMES), 4, 2)))
        found = rank_histogram(ensemble, truth, by=["variable"])
        inside.append((found.frequency > found.flat_low) & (found.frequency < found.flat_high))
    assert 0.88 < np.mean(inside) < 0.995


def test_a_mean_and_a_spread_are_scored_as_their_members():
    ensemble, truth = drawn(5, members=50)
    pair = of_mean_and_spread(ensemble)
    xr.testing.assert_allclose(spread_error(pair, truth, members=50), spread_error(ensemble, truth))
    assert spread_error(pair, truth).spread < spread_error(ensemble, truth).spread
    assert crps(pair, truth) == pytest.approx(crps(ensemble, truth).item(), rel=0.02)
    with pytest.raises(InputError, match="a mean and a spread only, which have no ranks"):
        rank_histogram(pair, truth)


def test_what_is_missing_of_the_truth_is_left_out():
    ensemble, truth = drawn(6)
    holes = truth.where(np.random.default_rng(6).random(truth.state.shape) > 0.3)
    holes = holes.where((holes.time < 20) | (holes.time > 30))
    keep = np.isfinite(holes.state.values)
    for of in ("x", "y"):
        rows = keep[:, NAMES.index(of)]
        there = {"time": rows}
        part, known = (d.sel(variable=[of]).isel(there) for d in (ensemble, truth))
        gaps = holes.sel(variable=[of])
        for score in (crps, rank_histogram, spread_error):
            xr.testing.assert_allclose(score(ensemble, gaps), score(part, known))
    assert rank_histogram(ensemble, holes).cases == keep.sum()
    nothing = truth.where(False)
    assert np.isnan(crps(ensemble, nothing))
    assert np.isnan(rank_histogram(ensemble, nothing).frequency).all()
    assert np.isnan(spread_error(ensemble, nothing).ratio)


def test_an_estimate_that_is_not_finite_has_an_infinite_error():
    ensemble, truth = drawn(7)
    ensemble.analysis_members[5, 3, 1] = np.nan
    assert crps(ensemble, truth, by=["variable"]).values.tolist()[1] == np.inf
    found = spread_error(ensemble, truth, by=["variable"])
    assert np.isfinite(found.ratio[0])
    assert (found.error[1], found.ratio[1]) == (np.inf, 0)
    np.testing.assert_allclose(rank_histogram(ensemble, truth).frequency.sum(), 1)
    truth.state[5, 1] = np.nan  # what is not known of the truth is no failure
    assert np.isfinite(crps(ensemble, truth))
    assert np.isfinite(spread_error(ensemble, truth).error)


@pytest.mark.parametrize("score", [crps, rank_histogram, spread_error])
def test_what_is_dasks_stays_lazy_and_chunks_change_nothing(score):
    ensemble, truth = drawn(8)
    seen = observed(truth).isel(time=slice(None, None, 3))
    for other in (truth, seen):
        lazy = score(ensemble.chunk(time=700, member=4), other.chunk(time=500), of="analysis")
        whole = score(ensemble, other, of="analysis")
        parts = lazy.to_dataset() if score is crps else lazy
        assert all(array.chunks is not None for array in parts.data_vars.values())
        xr.testing.assert_allclose(lazy.compute(), whole)


@pytest.mark.parametrize("score", [crps, rank_histogram, spread_error])
def test_order_and_names_of_dims_decide(score):
    ensemble, truth = drawn(9)
    seen = observed(truth)
    turned = ensemble.transpose("variable", "time", "member").isel(variable=[1, 0])
    for other in (truth, seen):
        kept = {"of": "analysis", "by": ["variable"]}
        one = score(ensemble, other, **kept)
        xr.testing.assert_allclose(score(turned, other, **kept).sel(variable=NAMES), one)


@pytest.mark.parametrize("given", ["error_variance", "in time", "error_covariance"])
def test_the_error_of_observations_counts(given):
    """A calibrated ensemble stays calibrated against observations: each member gets an error."""
    ensemble, truth = drawn(10)
    variance = np.array([0.5, 4.0])
    noise = np.random.default_rng(11).normal(size=truth.state.shape) * np.sqrt(variance)
    seen = labelled(observation=truth.state.values + noise)
    if given == "error_covariance":
        seen[given] = (("variable", "covariable"), np.diag(variance))
        seen = seen.assign_coords(covariable=NAMES)
    else:
        along = given == "in time"
        values = np.tile(variance, (len(TIMES), 1)) if along else variance
        seen["error_variance"] = (("time", "variable") if along else "variable", values)
    seen = seen.isel(time=slice(1, None, 2))
    estimate = ensemble.rename(analysis_members="background_members")
    found = rank_histogram(estimate, seen)
    assert found.cases == 3000
    np.testing.assert_allclose(found.frequency, 1 / 11, atol=0.025)
    assert spread_error(estimate, seen).ratio == pytest.approx(1, abs=0.05)
    expected = np.sqrt((1 + variance) / np.pi)
    np.testing.assert_allclose(crps(estimate, seen, by=["variable"]), expected, rtol=0.06)
    pair = of_mean_and_spread(ensemble).rename(analysis="background", spread="background_spread")
    np.testing.assert_allclose(crps(pair, seen, by=["variable"]), expected, rtol=0.06)


def test_an_observation_of_infinite_variance_is_missing():
    ensemble, truth = drawn(12)
    seen = observed(truth)
    half = seen.assign(error_variance=("variable", [0.5, np.inf]))
    for score in (crps, rank_histogram, spread_error):
        one = score(ensemble, half, of="analysis")
        both = score(ensemble, seen, of="analysis", by=["variable"])
        xr.testing.assert_allclose(one, both.sel(variable="x", drop=True))


def test_observations_by_a_matrix_are_compared_with_what_members_give():
    ensemble, truth = drawn(13)
    both = truth.state.sum("variable").expand_dims(variable=["sum"], axis=1)
    seen = xr.Dataset({"observation": both}).assign_coords(model_variable=NAMES)
    seen["error_variance"] = ("variable", [1e-12])
    seen["operator"] = (("variable", "model_variable"), [[1.0, 1.0]])
    summed = ensemble.sum("variable").expand_dims(variable=["sum"])
    expected = crps(summed, xr.Dataset({"state": both}))
    found = crps(ensemble, seen, of="analysis")
    assert found == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(InputError, match="made by a matrix, and the estimate has a mean and a"):
        crps(of_mean_and_spread(ensemble), seen, of="analysis")


def test_forecasts_of_a_known_ensemble_are_scored_by_lead():
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=300, spinup=500, seed=1)
    ahead = daml.forecast(model, truth, leads=[1, 5], warmup=0).forecast
    noise = np.random.default_rng(2).normal(size=(*ahead.shape, 10))
    size = xr.DataArray([0.1, 1.0], dims="lead")
    noise = xr.DataArray(noise, dims=("start", "lead", "variable", "member"))
    many = xr.Dataset({"forecast": ahead + size * noise})
    found = spread_error(many, truth)
    assert found.spread.dims == ("lead",)
    np.testing.assert_allclose(found.spread, np.sqrt(1.1) * size, rtol=0.03)
    np.testing.assert_allclose(
        found.error, np.sqrt(0.1) * size, rtol=0.1
    )  # the truth is the centre
    assert crps(many, truth, by=["lead", "variable"]).sizes == {"lead": 2, "variable": 3}
    known = rank_histogram(many, truth)
    assert known.cases.values.tolist() == [299 * 3, 295 * 3]  # the last leads are beyond the truth
    seen = daml.observe(truth, every=5, seed=3)
    assert rank_histogram(many, seen).cases.values.tolist() == [59 * 3, 59 * 3]
    with pytest.raises(InputError, match="'forecast' has the dimension 'member'; give its mean"):
        daml.verification.forecast_error(many, truth)
    mean = many.mean("member").assign_coords(lead_steps=ahead.lead_steps)
    assert daml.verification.forecast_error(mean, truth).squared_error.dims == ("start", "lead")


def test_units_are_the_truths():
    ensemble, truth = drawn(14)
    truth.state.attrs["units"] = "K"
    assert crps(ensemble, truth).units == "K"
    assert spread_error(ensemble, truth).spread.units == "K"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e, t: (e.isel(member=[0]), t), "'analysis' has one member; give 2 or more"),
        (lambda e, t: (e.mean("member"), t), "has no dimension 'member', and there is no 'spread'"),
        (lambda e, t: (e.assign_coords(variable=["p", "q"]), t), "share no variable"),
        (
            lambda e, t: (e, t.isel(time=slice(10, None))),
            "the truth lacks 10 of the .* times of the analysis",
        ),
        (lambda e, t: (e.rename(analysis_members="state"), t), "'analysis' is missing"),
        (lambda e, t: (e, t.rename(state="x")), "the data variable 'state' is missing"),
        (lambda e, t: (e.expand_dims(run=2), t), "dimensions .*'run'.*; give .time, variable."),
        (lambda e, t: (e, t.rename(state="observation")), "need 'error_variance' or 'error_cov"),
        (lambda e, t: (e, observed(t)), "'background' is missing"),
        (lambda e, t: (e.astype(str), t), "'analysis' holds values of type <U.*, not real numbers"),
        (
            lambda e, t: (e.expand_dims(lead=[0.1]), t),
            "dimensions .*'lead'.*; give .time, variable",
        ),
        (lambda e, t: (ahead_of(e).drop_vars("lead"), t), "'forecast' has no coordinate 'lead'"),
        (lambda e, t: (e, observed(t) * -1), "'error_variance' is not positive"),
        (lambda e, t: (e, observed(t).expand_dims(b=2)), "'error_variance' has the dimensions"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, text):
    estimate, truth = change(*drawn(15))
    for score in (crps, rank_histogram, spread_error):
        with pytest.raises(InputError, match=text):
            score(estimate, truth)


def test_wrong_arguments_are_refused():
    ensemble, truth = drawn(16)
    with pytest.raises(
        InputError, match=r"'by' holds 'lead', .*; give some of .'time', 'variable'."
    ):
        crps(ensemble, truth, by=["lead"])
    with pytest.raises(InputError, match="crps: 'by' is 'time'; give a list"):
        crps(ensemble, truth, by="time")
    with pytest.raises(InputError, match="'seed' is -1"):
        rank_histogram(ensemble, truth, seed=-1)
    with pytest.raises(InputError, match="'members' is 7, and the estimate has 10 members"):
        spread_error(ensemble, truth, members=7)
    seen = observed(truth)
    later = seen.assign_coords(time=TIMES + 1e6)
    with pytest.raises(InputError, match="the observations have no time in common"):
        crps(ensemble, later, of="analysis")


def with_members(truth, members=4, seed=0):
    """Give an analysis with members around a truth, as ``keep_members`` gives it."""
    noise = np.random.default_rng(seed).normal(size=(len(truth.time), members, 3))
    noise = xr.DataArray(noise, dims=("time", "member", "variable"))
    many = (truth.state + 0.1 * noise).transpose("time", "member", "variable")
    return xr.Dataset({"analysis": many.mean("member"), "analysis_members": many})


EMULATED = daml.LSTM(hidden=4, epochs=1, base=daml.Lorenz63())


@pytest.mark.parametrize("kind", ["model", "with a memory", "lazily", "dates", "as a state"])
def test_each_member_of_an_analysis_is_forecast_as_if_alone(kind):
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=260, spinup=300, seed=1)
    if kind == "dates":
        days = np.datetime64("2020-01-01", "ns") + np.arange(260) * np.timedelta64(50, "ms")
        truth = truth.assign_coords(time=days)
    model = EMULATED.fit(truth) if kind == "with a memory" else model
    analysis = with_members(truth)
    given = analysis.chunk(time=100) if kind == "lazily" else analysis
    if kind == "as a state":
        given = analysis[["analysis_members"]].rename(analysis_members="state")
        given = given.transpose("member", "variable", "time")
    found = daml.forecast(model, given, leads=[1, 3], warmup=20)
    assert found.forecast.dims == ("start", "lead", "member", "variable")
    assert (found.forecast.chunks is not None) == (kind == "lazily")
    for member in range(4):
        state = analysis.analysis_members.isel(member=member).to_dataset(name="state")
        alone = daml.forecast(model, state, leads=[1, 3], warmup=20)
        xr.testing.assert_allclose(
            found.forecast.isel(member=member, drop=True), alone.forecast, rtol=1e-6
        )
    assert crps(found, truth).dims == ("lead",)


def test_an_analysis_without_members_is_forecast_from_its_mean():
    model = daml.Lorenz63()
    truth = daml.simulate(model, steps=60, spinup=300, seed=1)
    mean = with_members(truth)[["analysis"]]
    assert daml.forecast(model, mean, warmup=0).forecast.dims == ("start", "lead", "variable")
    many = with_members(truth)
    many.analysis_members[3, 2, 1] = np.nan
    with pytest.raises(InputError, match="'analysis_members' has missing values; fill them first"):
        daml.forecast(model, many, warmup=0)
    with pytest.raises(InputError, match="'state' has the further dimension 'run'; select one"):
        daml.forecast(model, truth.expand_dims(run=2), warmup=0)


def test_one_member_that_is_not_finite_leaves_the_rank_of_the_others():
    ensemble = np.array([[[0.0] * 2, [1.0] * 2, [np.nan] * 2]] * len(TIMES))
    truth = labelled(state=np.full((len(TIMES), 2), 0.5))
    found = rank_histogram(labelled(analysis_members=ensemble), truth).frequency
    np.testing.assert_array_equal(found, [0, 1, 0, 0])


def test_fields_are_scored_as_flat_records_are():
    template = xr.Dataset({"q": ("x", np.zeros(3))}, {"x": np.arange(3.0)})
    ring = type("Ring", (daml.models.Gridded,), {"template": template, "dt": 1.0})
    ring.move = lambda _, fields: {"q": np.cos(fields["q"] + np.roll(fields["q"], 1, axis=-1))}
    truth = daml.simulate(ring(), steps=40)
    found = daml.assimilate(ring(), daml.observe(truth), daml.schemes.ETKF(5), keep_members=True)
    made, fields = daml.forecast(ring(), truth, leads=2, warmup=0), daml.unflatten(truth)
    xr.testing.assert_equal(crps(found, fields), crps(found, truth))
    for score in (daml.verification.forecast_error, daml.diagnosis.valid_time):
        xr.testing.assert_equal(score(made, fields), score(made, truth))
