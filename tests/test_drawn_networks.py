"""Networks with which a truth is observed: stations, tracks and random places."""

import numpy as np
import pytest
import xarray as xr
from test_points import MODEL, X, Y

import daml
from daml.errors import InputError
from daml.networks import RandomPlaces, Stations, Tracks
from daml.observing.records import read

NETWORKS = {
    "Stations": Stations(4),
    "Tracks": Tracks(4, speed=0.6),
    "RandomPlaces": RandomPlaces(4),
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(MODEL, steps=30, spinup=20, seed=1)


def distances(record, truth):
    """Give observations less what the record's own H makes of the truth (time, observed)."""
    found = read(record, MODEL.variables, 1.0)
    steps = found.axis.index
    seen = found.seen(steps)
    states = truth.sel(time=record.time).state.values
    return np.where(seen.present, seen.values - seen.operator.apply(states), np.nan)


@networks
def test_observations_are_the_truth_at_their_places_and_an_error(network, truth):
    exact = daml.observe(truth, network=network, error_variance=1e-20, seed=3)
    np.testing.assert_allclose(np.nan_to_num(distances(exact, truth)), 0, atol=1e-8)
    noisy = daml.observe(
        truth, network=network, error_variance={"u": 1.0, "h": 4.0}, seed=3, missing=0.2
    )
    apart = distances(noisy, truth)
    is_h = np.array([name.startswith("h") for name in noisy["variable"].values])
    assert np.nanstd(apart[:, is_h]) == pytest.approx(2.0, rel=0.35)
    assert np.nanstd(apart[:, ~is_h]) == pytest.approx(1.0, rel=0.35)
    assert 0.1 < 1 - np.isfinite(noisy.observation).mean() < 0.5
    assert ("place" in noisy) == network.moves


@networks
def test_a_longer_truth_begins_with_the_same_observations(network, truth):
    whole = daml.observe(truth, network=network, seed=3)
    first = daml.observe(truth.isel(time=slice(10)), network=network, seed=3)
    again = daml.observe(truth.chunk(time=7), network=network, seed=3)
    xr.testing.assert_identical(again, whole)
    other = daml.observe(truth, network=network, seed=4)
    size = min(first.sizes["variable"], whole.sizes["variable"])
    if not network.moves or network == RandomPlaces(4):
        np.testing.assert_array_equal(
            first.observation.values[:, :size], whole.observation.values[:10, :size]
        )
    assert not np.array_equal(other.observation, whole.observation)


def test_tracks_move_by_their_speed_and_go_on_at_the_opposite_side():
    extent, spacing = np.array([[0.0, 20.0], [0.0, 30.0]]), np.array([10.0, 10.0])
    places = Tracks(5, speed=0.6).drawn(np.random.default_rng(0), 40, extent, spacing)
    assert places.shape == (40, 5, 2)
    assert ((places >= 0) & (places <= [20, 30])).all()
    steps = np.diff(places, axis=0)
    steps -= np.round(steps / [20, 30]) * [20, 30]
    np.testing.assert_allclose(np.linalg.norm(steps, axis=-1), 6.0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:1], steps.shape), atol=1e-12)
    still = Stations(3).drawn(np.random.default_rng(0), 4, extent, spacing)
    assert (still == still[0]).all()


def test_masked_places_are_left_out_and_counted(truth):
    record = daml.observe(truth, network=RandomPlaces(20), variables=["u"], every=2, seed=1)
    assert record.attrs["outside"] > 0
    np.testing.assert_array_equal(record.time, truth.time[::2])
    near = (record.y < 3) & (record.x < 3)  # the point in the corner is masked
    assert not bool(near.any())
    assert bool((record.y.max() <= Y[-1]) & (record.x.max() <= X[-1]))


class Ring(daml.models.Gridded):
    """Lorenz 96 as a field around a ring."""

    template = xr.Dataset({"q": ("x", 8 + np.eye(40)[0])}, {"x": np.arange(40.0)})
    dt, period = 0.05, 40.0

    def move(self, fields):
        return {"q": daml.models.Lorenz96(n=40).step(fields["q"], None)[0]}


@pytest.mark.parametrize("network", [RandomPlaces(20), Tracks(20, speed=0.7)], ids=repr)
def test_a_filter_finds_the_truth_with_a_network_that_moves(network):
    """With 20 places a time the error is far below that of an observation, and of the climate."""
    truth = daml.simulate(Ring(), steps=200, spinup=500, seed=1)
    record = daml.observe(truth, network=network, seed=1)
    scheme = daml.schemes.LETKF(12, radius=daml.schemes.half_width(loc_rad=4), inflation=1.04)
    analysis = daml.assimilate(Ring(), record, scheme, segments=1)
    error = ((analysis.analysis - truth.state)[100:] ** 2).mean() ** 0.5
    assert float(error) < 0.65
    assert float(analysis.chi_square[100:].mean()) == pytest.approx(1, abs=0.2)


WRONG = {
    "'network' is 3; give one of daml.networks": {"network": 3},
    "'q' is not a field of the truth, which has u, h": {"variables": ["q"]},
    "'error_variance' is 0 for the field 'u'": {"error_variance": 0},
    "'error_variance' is None for the field 'h'": {"error_variance": {"u": 1.0}},
    "'network' and 'store' are given": {"store": "x.zarr"},
    "'network' and 'operator' are given": {"operator": lambda x: x},
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_arguments_are_refused(text, truth):
    with pytest.raises(InputError, match=text):
        daml.observe(truth, **({"network": Tracks(3)} | WRONG[text]))


def test_a_truth_without_fields_and_wrong_numbers_are_refused():
    truth = daml.simulate(daml.Lorenz63(), steps=5)
    with pytest.raises(InputError, match="'network' draws places on a grid, and 'state' has no f"):
        daml.observe(truth, network=Stations(3))
    with pytest.raises(InputError, match="Stations: 'n' is 0; give 1 or more"):
        Stations(0)
    with pytest.raises(InputError, match=r"Tracks: 'speed' is -1\.0; give a number > 0"):
        Tracks(3, speed=-1.0)
