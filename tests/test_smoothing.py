"""Smoothers: of a linear model with Gaussian errors all are the Rauch-Tung-Striebel smoother."""

from dataclasses import dataclass

import numpy as np
import pytest
import roster
import test_filters as linear
import xarray as xr
from comparing import without_end

import daml
from daml import segments
from daml.errors import InputError
from daml.running.cycling import tangents

ERROR = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, 0.0], [0.0, 0.0, 0.1]])


class Exact(daml.schemes.ETKF):
    """An ensemble that starts with the exact moments, and is never inflated."""

    wide = 1.0

    def first_members(self, mean, deviation):
        return linear.exact(self.members)


class ByTorch(linear.Linear):
    """The linear model, whose step torch differentiates."""

    arrays = "numpy", "torch"

    def step(self, x, memory):
        turned = linear.MATRIX.T
        return x @ (turned if isinstance(x, np.ndarray) else x.new_tensor(turned)), memory


class Tangents(daml.schemes.ExtendedKalman):
    """A filter that starts with the exact covariance."""

    def prepare(self, setting):
        return super().prepare(setting)._replace(covariance=linear.FIRST)


class Points(daml.schemes.SigmaPoint):
    """Points that start with the exact moments."""

    def first_members(self, mean, deviation):
        away = 3**0.5 * np.linalg.cholesky(linear.FIRST).T
        return (linear.START + np.concatenate((away, -away)))[None]


def record(correlated):
    """Give observations of a run of the model, with missing values where they are there."""
    seen = linear.record(correlated)
    random, states = np.random.default_rng(3), [linear.START + np.array([1.0, -0.5, 0.3])]
    while len(states) < linear.STEPS:
        states.append(linear.MATRIX @ states[-1])
    errors = random.standard_normal(seen.observation.shape) @ np.linalg.cholesky(linear.ERROR).T
    values = np.array(states) @ seen.operator.values.T + errors
    return seen.assign(observation=seen.observation * 0 + values)


def filtered(seen, correlated, error):
    """Give mean and covariance of each forecast and analysis: the textbook's Kalman filter."""
    found, mean, covariance = [], linear.START, linear.FIRST
    R = linear.ERROR if correlated else np.diag(np.diag(linear.ERROR))
    for row in seen.observation.values:
        before = mean, covariance
        there = np.isfinite(row)
        H, part = seen.operator.values[there], R[np.ix_(there, there)]
        gain = covariance @ H.T @ np.linalg.inv(H @ covariance @ H.T + part)
        mean = mean + gain @ (row[there] - H @ mean)
        covariance = (np.eye(3) - gain @ H) @ covariance
        found.append((*before, mean, covariance))
        mean = linear.MATRIX @ mean
        covariance = linear.MATRIX @ covariance @ linear.MATRIX.T + error
    return found


def rts(found, lag):
    """Give mean and variances of each time from so many later ones: the textbook's smoother."""
    means, variances = [], []
    for time in range(len(found)):
        last = min(time + lag, len(found) - 1)
        mean, covariance = found[last][2:]
        for back in range(last - 1, time - 1, -1):
            gain = found[back][3] @ linear.MATRIX.T @ np.linalg.inv(found[back + 1][1])
            mean = found[back][2] + gain @ (mean - found[back + 1][0])
            covariance = found[back][3] + gain @ (covariance - found[back + 1][1]) @ gain.T
        means.append(mean)
        variances.append(np.diag(covariance))
    return np.array(means), np.array(variances)


@pytest.mark.parametrize("lag", [1, 4, None])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(
    ("scheme", "error"),
    [
        (Exact(members=8), 0 * ERROR),
        (Exact(members=8, rotate=True), 0 * ERROR),
        (Exact(members=4), 0 * ERROR),  # as many directions as variables
        (Points(), 0 * ERROR),
        (Points(model_error=ERROR), ERROR),
        (Tangents(), 0 * ERROR),
        (Tangents(model_error=ERROR), ERROR),
    ],
)
def test_a_linear_smoother_is_that_of_rauch_tung_and_striebel(
    scheme, error, correlated, lag, monkeypatch
):
    monkeypatch.setattr(tangents, "FEW", 0)  # tangents are torch's
    seen = record(correlated)
    start = xr.Dataset({"state": ("variable", linear.START)}, {"variable": list(linear.NAMES)})
    found = daml.smooth(ByTorch(), seen, scheme, lag=lag, segments=1, initial=start)
    steps = linear.STEPS if lag is None else lag
    mean, variance = rts(filtered(seen, correlated, error), steps)
    np.testing.assert_allclose(found.analysis, mean, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.spread**2, variance, rtol=1e-10, atol=1e-10)
    assert found.attrs["lag"] == min(steps, linear.STEPS - 1)


class Unwidened(daml.schemes.ETKF):
    wide = 1.0


def enks(model, first, seen, lag):
    """Give mean and spread of an ensemble Kalman smoother: an ETKF's transform of past ensembles.

    ``seen`` has all variables with errors of variance 1.
    """
    past, members = [], len(first)
    for row in seen.observation.values:
        there = np.isfinite(row)
        now = first if not past else model.step(past[-1], None)[0]
        away = (now - now.mean(axis=0))[:, there] / (members - 1) ** 0.5
        values, vectors = np.linalg.eigh(np.eye(members) + away @ away.T)
        weights = (vectors / values) @ vectors.T @ away @ (row - now.mean(axis=0))[there]
        transform = (vectors / values**0.5) @ vectors.T + weights / (members - 1) ** 0.5
        centre = np.full((members, members), 1 / members)
        transform = centre + transform @ (np.eye(members) - centre)
        past.append(now)
        for back in range(max(len(past) - 1 - lag, 0), len(past)):
            past[back] = transform @ past[back]
    states = np.array(past)
    return states.mean(axis=1), states.std(axis=1, ddof=1)


@pytest.mark.parametrize("lag", [1, 7, 39])
def test_with_no_more_members_than_variables_it_is_the_ensemble_kalman_smoother(lag):
    model = daml.models.Lorenz96(n=8)
    seen = daml.observe(daml.simulate(model, steps=40, spinup=200), missing=0.3, seed=3)
    scheme = Unwidened(members=6)
    kept = daml.assimilate(model, seen, scheme, segments=1, keep_members=True)
    mean, spread = enks(model, kept.background_members.values[0], seen, lag)
    found = daml.smooth(model, seen, scheme, lag=lag, segments=1)
    np.testing.assert_allclose(found.analysis, mean, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-7, atol=1e-7)


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.Lorenz63(), steps=400, spinup=500, seed=1)


@pytest.fixture(scope="module")
def seen(truth):
    return daml.observe(truth, missing=0.2, seed=2)


def scheme(**how):
    return daml.schemes.ETKF(8, **({"inflation": 1.02, "rotate": True} | how))


def test_a_lag_to_the_end_is_the_whole_record(seen):
    whole = daml.smooth(daml.Lorenz63(), seen, scheme())
    one = daml.smooth(daml.Lorenz63(), seen, scheme(), lag=399, segments=1)
    xr.testing.assert_identical(one, whole)
    assert whole.attrs["lag"] == 399


def test_what_is_not_smoothed_is_the_filters(seen):
    how = {"segments": 3, "spinup": 60}
    filtered = daml.assimilate(daml.Lorenz63(), seen, scheme(), **how)
    found = daml.smooth(daml.Lorenz63(), seen, scheme(), lag=20, **how)
    assert found.attrs == filtered.attrs | {"lag": 20}
    assert found.attrs["segments"] == 3
    names = ["analysis", "spread"]
    xr.testing.assert_equal(found.drop_vars(names), without_end(filtered).drop_vars(names))
    assert found.analysis.attrs["long_name"] == "smoothed analysis"
    assert (found.spread <= filtered.spread).mean() > 0.95


def test_segments_agree_with_the_run_in_one(seen):
    one, many = (daml.smooth(daml.Lorenz63(), seen, scheme(), lag=10, segments=n) for n in (1, 3))
    assert many.attrs["segments"] == 3
    apart = ((many.analysis - one.analysis) ** 2).mean("time") / (one.spread**2).mean("time")
    assert float(apart.max()) < 0.5


@pytest.mark.parametrize(("spinup", "lag"), [(100, 166), (266, 0), (0, 266)])
def test_segments_as_long_as_the_record_are_refused(seen, spinup, lag):
    """Of 400 steps in three segments: with one step less each segment is shorter."""
    how = {"segments": 3, "spinup": spinup}
    what = f"smooth: .* spin-up of {spinup} and a lag of {lag}, .*; use segments=1, .* or lag"
    if not lag:
        what = f"assimilate: with segments=3 .* {spinup}, .* 400 steps; use segments=1.* spinup$"
    with pytest.raises(InputError, match=what):
        _cut(seen, lag, **how)
    lag, how["spinup"] = (lag - 1, spinup) if lag else (0, spinup - 1)
    assert _cut(seen, lag, **how).attrs["segments"] == 3


def _cut(seen, lag, **how):
    if lag:
        return daml.smooth(daml.Lorenz63(), seen, scheme(), lag=lag, tolerance=9.0, **how)
    return daml.assimilate(daml.Lorenz63(), seen, scheme(), tolerance=9.0, **how)


@pytest.mark.parametrize("count", [1, 3])
def test_blocks_chunks_and_stores_do_not_matter(seen, count, tmp_path, monkeypatch):
    how = {"lag": 20, "segments": count, "keep_members": True}
    plain = daml.smooth(daml.Lorenz63(), seen, scheme(), **how)
    monkeypatch.setattr(segments, "ROWS", 24)  # blocks are shorter than the lag
    blocks = daml.smooth(daml.Lorenz63(), seen, scheme(), **how)
    xr.testing.assert_identical(blocks, plain)
    stored = daml.smooth(daml.Lorenz63(), seen, scheme(), store=tmp_path / "record", **how)
    xr.testing.assert_identical(stored.load(), plain)
    lazy = daml.smooth(daml.Lorenz63(), seen.chunk(time=37), scheme(), **how)
    assert lazy.analysis.chunks is not None
    xr.testing.assert_equal(lazy.compute(), plain)


@pytest.mark.parametrize("rotate", [False, True])
def test_members_have_the_smoothed_mean_and_spread(seen, rotate):
    found = daml.smooth(
        daml.Lorenz63(), seen, scheme(rotate=rotate), lag=10, segments=1, keep_members=True
    )
    members = found.analysis_members
    np.testing.assert_allclose(members.mean("member"), found.analysis, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(members.std("member", ddof=1), found.spread, rtol=1e-6)


def test_inflation_does_not_grow_with_the_lag(seen, truth):
    wide = scheme(inflation=1.1)
    filtered = daml.assimilate(daml.Lorenz63(), seen, wide, segments=1)
    whole = daml.smooth(daml.Lorenz63(), seen, wide)
    rmse = [float(((a.analysis - truth.state) ** 2).mean() ** 0.5) for a in (filtered, whole)]
    assert rmse[1] < 0.8 * rmse[0]
    assert float(whole.spread.max()) < float(filtered.spread.max())


SMOOTHABLE = [
    name
    for name, make in roster.SCHEMES.items()
    if not hasattr(make(), "window")  # whose later observations count already
    and (
        hasattr(make(), "gives_deviations")
        or (hasattr(make(), "members") and not hasattr(make(), "weighs"))
    )
]


@pytest.mark.statistical
@pytest.mark.parametrize("name", SMOOTHABLE)
def test_any_scheme_that_carries_a_covariance_is_smoothed(name, seen, truth):
    given = roster.SCHEMES[name]()
    how = {"segments": 2}
    filtered = daml.assimilate(roster.Placed(), seen, given, **how)
    found = daml.smooth(roster.Placed(), seen, given, lag=5, **how)
    # The median: some of these filters lose the truth for a while, where a regression fails.
    errors = [((a.analysis - truth.state) ** 2).median() for a in (filtered, found)]
    assert errors[1] < 0.95 * errors[0]


@dataclass(frozen=True)
class Still:
    """Lorenz 63 beside a number that never changes."""

    variables, dt = (*daml.Lorenz63.variables, "p"), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        moved, _ = daml.Lorenz63().step(x[..., :3], None)
        return np.concatenate([moved, 0 * x[..., 3:] + 2.0], axis=-1), None


def test_what_never_varies_stays_as_it_is(seen):
    found = daml.smooth(Still(), seen, scheme(), lag=5)
    np.testing.assert_allclose(found.analysis.sel(variable="p")[1:], 2.0)
    assert np.isfinite(found.spread).all()


class Empty(roster.Nudging):
    gives_deviations = True


def test_deviations_that_are_not_given_are_missed(seen):
    with pytest.raises(InputError, match=r"Empty: 'update' gave no '\w+_deviations', which"):
        daml.smooth(daml.Lorenz63(), seen, Empty(), lag=5)


def test_a_scheme_of_one_state_is_smoothed_without_members(seen):
    given = daml.schemes.ExtendedKalman(inflation=1.05)
    with pytest.raises(InputError, match=r"keep_members=True: ExtendedKalman has one state"):
        daml.smooth(daml.Lorenz63(), seen, given, lag=5, keep_members=True)


def test_members_of_different_weights_are_refused(seen):
    with pytest.raises(InputError, match="smooth: the members of ParticleFilter have different w"):
        daml.smooth(daml.Lorenz63(), seen, daml.schemes.ParticleFilter(members=50), lag=5)


@pytest.mark.parametrize("name", ["ThreeDVar", "OptimalInterpolation", "a scheme of the tests"])
def test_a_scheme_of_one_state_is_refused(seen, name):
    with pytest.raises(
        InputError, match=r"smooth: .* has one state and carries no covariance .*; give an ensemble"
    ):
        daml.smooth(daml.Lorenz63(), seen, roster.SCHEMES[name](), lag=5)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"lag": 0}, "'lag' is 0; give 1 model step or more, or None for all that follow"),
        ({"lag": -3}, "'lag' is -3"),
        ({"lag": 400}, "'lag' is 400, and the record has 400 steps; give a smaller one, or None"),
        ({"lag": 2.5}, r"'lag' is 2\.5"),
        ({"segments": 4}, "'segments' is 4, and without a lag the record runs in one piece"),
        ({"lag": 5, "segments": 0}, "smooth: 'segments' is 0"),
        ({"lag": 5, "spinup": -1}, "smooth: 'spinup' is -1"),
    ],
)
def test_what_is_out_of_range_is_refused(seen, how, text):
    with pytest.raises(InputError, match=text):
        daml.smooth(daml.Lorenz63(), seen, scheme(), **how)
