"""Hybrids of ensembles and variational schemes: their limits, and what lies between them."""

import numpy as np
import pytest
import xarray as xr
from test_filters import ERROR, MATRIX, NAMES, exact, filtered, kalman, record

import daml
from daml.errors import InputError
from daml.observing.records import read
from daml.protocols import Forecast, Run
from daml.schemes import ETKF, EnVar

STATIC = np.array([[1.0, 0.3, 0.1], [0.3, 2.0, -0.4], [0.1, -0.4, 0.8]])


def labelled(matrix, names=NAMES):
    return daml.covariance.labelled(matrix, names)


def envar(beta, members=8, **how):
    return EnVar(members, beta=beta, background_covariance=labelled(STATIC), **how)


class Placed:
    """A linear model whose variables lie on a line."""

    variables, dt, positions = NAMES, 1.0, (0.0, 1.0, 2.5)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ MATRIX.T, memory


def once(scheme, seen, ensemble, model=None, row=0):
    """Give the analysis (member, variable) of one time, and its outputs."""
    model = model or Placed()
    space = daml.labels.space.StateSpace.of(model)
    found = read(seen, tuple(model.variables), 1.0, space=space)
    steps = np.array([row])
    prepared = scheme.prepare(found.setting())
    run = Run(steps, np.zeros(1, int), 1000, frozenset(scheme.outputs))
    update, _ = scheme.update(Forecast(ensemble), found.seen(steps), run, prepared)
    return update.state[0], {name: float(part[0]) for name, part in update.extras.items()}


def by_hand(seen, ensemble, B, factor=1.0, row=0):
    """Give mean, chi-square and log-likelihood of the first time with a B: the textbook's."""
    values, R = seen.observation.values[row], factor * ERROR
    there = np.isfinite(values)
    H, part = seen.operator.values[there], R[np.ix_(there, there)]
    mean, total = ensemble[0].mean(axis=0), H @ B @ H.T + part
    gap = values[there] - H @ mean
    square = gap @ np.linalg.solve(total, gap)
    likelihood = -(square + np.linalg.slogdet(total)[1]) / 2
    return mean + B @ H.T @ np.linalg.solve(total, gap), square / there.sum(), likelihood


@pytest.mark.parametrize(("rotate", "radius"), [(False, None), (True, None), (False, np.inf)])
def test_without_a_climatology_it_is_the_etkf(rotate, radius):
    seen, ensemble = record(True), exact(6)
    how = {"members": 6, "inflation": 1.1, "rotate": rotate}
    own, outputs = once(EnVar(beta=0, radius=radius, **how), seen, ensemble)
    right, expected = once(ETKF(**how), seen, ensemble)
    np.testing.assert_allclose(own, right, atol=1e-10)
    assert outputs == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("correlated", [False, True])
def test_over_a_record_without_a_climatology_it_is_the_kalman_filter(correlated):
    seen = record(correlated)
    for own, right in zip(filtered(envar(0), seen), kalman(seen, correlated), strict=True):
        np.testing.assert_allclose(own, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("radius", [None, 2.0])
def test_of_a_climatology_alone_the_mean_is_that_of_3dvar(radius):
    seen, ensemble = record(False), exact(5)
    static = daml.ThreeDVar(labelled(STATIC))
    times = {"time": [0.0, 1.0, 2.0, 3.0]}
    background = xr.Dataset(
        {"background": (("time", "variable"), np.tile(ensemble[0].mean(axis=0), (4, 1)))},
        {**times, "variable": list(NAMES)},
    )
    right = static.analyse(background, seen.isel(time=slice(4))).analysis.values
    for row in range(4):
        own, _ = once(envar(1.0, 5, radius=radius), seen, ensemble, row=row)
        np.testing.assert_allclose(own.mean(axis=0), right[row], rtol=1e-10)
        plain, _ = once(ETKF(5), seen, ensemble, row=row)
        if radius is None:
            np.testing.assert_allclose(np.cov(own.T), np.cov(plain.T), atol=1e-12)


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_the_mean_is_analysed_with_the_blend(row, radius, factor):
    seen, beta, ensemble = record(True), 0.3, exact(4)
    place = np.array(Placed.positions)
    tapers = daml.schemes.taper(np.abs(place[:, None] - place), radius or np.inf)
    P = tapers * np.cov(ensemble[0].T)
    own, outputs = once(envar(beta, 4, radius=radius, error_factor=factor), seen, ensemble, row=row)
    mean, chi, likelihood = by_hand(seen, ensemble, beta * STATIC + (1 - beta) * P, factor, row)
    np.testing.assert_allclose(own.mean(axis=0), mean, rtol=1e-10)
    assert outputs["chi_square"] == pytest.approx(chi)
    assert outputs["log_likelihood"] == pytest.approx(likelihood)


def test_the_members_of_a_localised_ensemble_shrink_by_a_root_of_its_gain():
    """With the root of a localised P in place of the members, theirs is (I - K H) P."""
    seen, ensemble = record(True), exact(4)
    place = np.array(Placed.positions)
    P = daml.schemes.taper(np.abs(place[:, None] - place), 1.5) * np.cov(ensemble[0].T)
    own, _ = once(envar(0.3, 4, radius=1.5), seen, ensemble)
    anomalies = ensemble[0] - ensemble[0].mean(axis=0)
    moved = np.linalg.lstsq(anomalies, own - own.mean(axis=0), rcond=None)[0].T  # I - K~ H
    H = seen.operator.values
    gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + ERROR)
    np.testing.assert_allclose(moved @ P @ moved.T, P - gain @ H @ P, atol=1e-10)


def test_a_localised_ensemble_is_not_inflated_where_nothing_is_seen():
    names = tuple(f"x{n}" for n in range(9))

    class Line:
        variables, dt, positions = names, 1.0, tuple(range(9))

    seen = xr.Dataset(
        {"observation": (("time", "variable"), [[1.0]]), "error_variance": ("variable", [0.5])},
        {"time": [0.0], "variable": ["x0"]},
    )
    ensemble = np.random.default_rng(0).standard_normal((1, 5, 9))
    own, _ = once(EnVar(5, beta=0, radius=1.0, inflation=1.5), seen, ensemble, Line())
    moved = np.abs(own - ensemble[0]).max(axis=0) > 1e-12
    np.testing.assert_array_equal(np.flatnonzero(moved), [0, 1])


class Squares:
    """H(x) = (x0^2, x1 x2), with its tangent."""

    linear = False

    def apply(self, x):
        return np.stack((x[..., 0] ** 2, x[..., 1] * x[..., 2]), axis=-1)

    def tangent(self, x):
        zero = 0 * x[..., 0]
        rows = [[2 * x[..., 0], zero, zero], [zero, x[..., 2], x[..., 1]]]
        return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


@pytest.mark.parametrize("radius", [None, 2.0])
def test_a_nonlinear_h_is_seen_by_the_members_and_the_climatology_by_its_tangent(radius):
    seen, ensemble, operator = record(True), exact(6), Squares()
    space = daml.labels.space.StateSpace.of(Placed())
    found, steps = read(seen, NAMES, 1.0, space=space), np.zeros(1, int)
    run = Run(steps, steps, 1000, frozenset())
    scheme = envar(0.3, 6, radius=radius)
    prepared = scheme.prepare(found.setting()._replace(operator=operator))
    observed = found.seen(steps)._replace(operator=operator)
    update, _ = scheme.update(Forecast(ensemble), observed, run, prepared)
    mean, equivalent = ensemble[0].mean(axis=0), operator.apply(ensemble[0])
    H = operator.tangent(mean)
    anomalies, signal = ensemble[0] - mean, equivalent - equivalent.mean(axis=0)
    cross, square = anomalies.T @ signal / 5, signal.T @ signal / 5
    if radius:
        place = np.array(Placed.positions)
        P = daml.schemes.taper(np.abs(place[:, None] - place), radius) * np.cov(ensemble[0].T)
        cross, square = P @ H.T, H @ P @ H.T
    gain = (0.3 * STATIC @ H.T + 0.7 * cross) @ np.linalg.inv(
        0.3 * H @ STATIC @ H.T + 0.7 * square + ERROR
    )
    right = mean + gain @ (seen.observation.values[0] - equivalent.mean(axis=0))
    np.testing.assert_allclose(update.state[0].mean(axis=0), right, rtol=1e-10)


@pytest.fixture(scope="module")
def twin():
    truth = daml.simulate(daml.Lorenz63(), steps=400, spinup=500, seed=1)
    return truth, daml.observe(truth, seed=2)


def rmse(analysis, truth):
    return float(((analysis.analysis - truth.state)[100:] ** 2).mean() ** 0.5)


def test_what_is_open_is_found_from_innovations(twin):
    seen = twin[1].isel(time=slice(0, 240))
    scheme = EnVar(3, beta="innovations")
    assert scheme.open == ("background_covariance", "beta")
    with pytest.raises(InputError, match=r"EnVar: 'background_covariance' is not estimated yet"):
        daml.assimilate(daml.Lorenz63(), seen, scheme)
    found, analysis = daml.tuned(scheme, daml.Lorenz63(), seen)
    assert found.open == ()
    assert 0 <= found.beta <= 1
    right = daml.covariance.scaled_climatology(daml.Lorenz63(), seen)
    xr.testing.assert_allclose(found.background_covariance, right)
    for beta in (0.0, 1.0):  # the likelihood is the highest
        other = daml.assimilate(
            daml.Lorenz63(), seen, EnVar(3, beta=beta, background_covariance=right)
        )
        last = slice(100, None)
        gained = (analysis.log_likelihood - other.log_likelihood)[last].mean()
        assert float(gained) >= -1e-3
    again, _ = daml.tuned(EnVar(3), daml.models.Lorenz63(rho=27.0), seen, before=found)
    assert again.background_covariance is found.background_covariance
    back = scheme.restored(found.to_dataset())
    assert (back.beta, back.inflation) == (found.beta, found.inflation)
    xr.testing.assert_identical(back.background_covariance, found.background_covariance)


def test_a_climatology_keeps_few_members_near_the_truth(twin):
    """Two members span one direction out of three."""
    truth, seen = twin
    static = daml.covariance.scaled_climatology(daml.Lorenz63(), seen) / 4
    blended = EnVar(2, beta=0.5, background_covariance=static, inflation=1.2)
    found = daml.assimilate(daml.Lorenz63(), seen, blended)
    three = daml.assimilate(daml.Lorenz63(), seen, daml.ThreeDVar(static))
    assert rmse(found, truth) < rmse(three, truth) < 1


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"beta": 1.5}, "'beta' is 1.5; give a number from 0 "),
        ({"beta": "best"}, "'beta' is 'best'; give a number from 0 to 1, or 'innovations'"),
        ({"beta": None}, "'beta' is None; give a number or a text"),
        ({"radius": 0.0}, "'radius' is 0.0; give a length > 0"),
        ({"background_covariance": "model"}, "'background_covariance' is 'model'; give an xarray"),
        (
            {"background_covariance": np.eye(3)},
            "'background_covariance' is a ndarray; give",
        ),
        ({"background_covariance": -labelled(STATIC)}, "EnVar: 'background_covariance': it is not"),
        ({"background_covariance": xr.DataArray(STATIC)}, "has no names along 'variable'"),
        ({"members": 1}, "'members' is 1; give 2 or more"),
    ],
)
def test_bad_settings_are_refused(how, text):
    with pytest.raises(InputError, match=text):
        EnVar(**({"members": 5} | how))


def test_a_climatology_of_other_variables_is_refused(twin):
    other = labelled(STATIC, ("a", "b", "c"))
    with pytest.raises(InputError, match="EnVar: 'background_covariance': its 'variable' lacks"):
        daml.assimilate(daml.Lorenz63(), twin[1], EnVar(5, background_covariance=other))


def test_a_radius_needs_positions(twin):
    with pytest.raises(InputError, match="EnVar: it weighs observations by their distance"):
        daml.assimilate(daml.Lorenz63(), twin[1], EnVar(5, beta=0, radius=2.0))
