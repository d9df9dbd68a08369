"""The local ensemble transform Kalman filter: its taper, its neighbourhoods, its limits."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.models import ODE
from daml.observing.batches import placed
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.observing.records import read
from daml.protocols import Forecast, Observed, Run, Setting
from daml.schemes import ETKF, LETKF, half_width, taper
from daml.schemes.ensembles import letkf, localisation


class Ring(ODE):
    """Lorenz 96 on a ring of 20."""

    variables, positions, period = tuple(f"x{n:02}" for n in range(20)), range(20), 20

    def tendency(self, x):
        return (np.roll(x, -1, -1) - np.roll(x, 2, -1)) * np.roll(x, 1, -1) - x + 8


class Bare(Ring):
    """The same, without positions."""

    positions = period = None


class Turned:
    """Another model with its variables in another order."""

    def __init__(self, model, order):
        self.model, self.order, self.back = model, order, np.argsort(order)
        self.variables = tuple(np.array(model.variables)[order].tolist())
        self.positions, self.period, self.dt = np.array(model.positions)[order], model.period, 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return self.model.step(x[..., self.back], None)[0][..., self.order], None


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(Ring(), steps=60, spinup=300, seed=1)


@pytest.fixture(scope="module")
def seen(truth):
    """Observations of every second variable, a fifth of them missing."""
    return daml.observe(truth, variables=Ring.variables[::2], missing=0.2, seed=2)


def analysed(scheme, observations, model=None, ensemble=None, age=1000):
    """Give a background and the analysis (member, variable) of the first time of a record."""
    model = model or Ring()
    space = StateSpace.of(model)
    record = read(observations, tuple(model.variables), 0.05, space=space)
    steps = np.zeros(1, dtype=int)
    if ensemble is None:
        ensemble = np.random.default_rng(3).standard_normal((1, scheme.members, 20))
    run = Run(steps, steps, age, frozenset())
    prepared = scheme.prepare(record.setting())
    update, _ = scheme.update(Forecast(ensemble), record.seen(steps), run, prepared)
    return ensemble[0], update.state[0]


def one_observation(at, value=2.0):
    return xr.Dataset(
        {"observation": (("time", "variable"), [[value]]), "error_variance": ("variable", [0.5])},
        {"time": [0.0], "variable": [f"x{at:02}"]},
    )


def test_the_taper_has_the_values_of_the_formula():
    c = 3.0
    found = taper([0.0, c / 2, c, 1.5 * c, 2 * c, 5 * c], half_width=c)
    # Equation 4.10 in exact fractions at 0, 1/2, 1, 3/2 and 2 half-widths.
    expected = [1, 263 / 384, 5 / 24, 19 / 1152, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_array_equal(taper([0.0, 7.0], half_width=np.inf), 1.0)


def test_the_taper_is_smooth_and_falls():
    found = taper(np.linspace(0, 2.5, 5001), half_width=1.0)
    assert (np.diff(found) <= 1e-15).all()
    assert np.abs(np.diff(found)).max() < 6e-4  # the steepest slope is about -1
    assert (found >= 0).all()


def test_the_taper_is_positive_definite_on_a_ring():
    ring = StateSpace.of(Ring())
    places = np.arange(20)
    for width in (0.7, 2.0, 4.5):
        matrix = taper(ring.distance(places, places), half_width=width)
        assert np.linalg.eigvalsh(matrix)[0] > 0


def test_a_radius_of_dapper_is_converted():
    assert half_width(loc_rad=4) == pytest.approx(7.28)
    # DAPPER's Gaspari-Cohn taper at distance loc_rad is near exp(-1/2).
    assert taper(4.0, half_width(loc_rad=4)) == pytest.approx(np.exp(-0.5), abs=0.03)


def test_with_an_infinite_radius_it_is_the_etkf(seen):
    how = {"members": 6, "inflation": 1.1, "seed": 4}
    _, whole = analysed(ETKF(**how), seen)
    _, local = analysed(LETKF(radius=np.inf, **how), seen)
    np.testing.assert_allclose(local, whole, rtol=0, atol=1e-10)


def test_a_single_observation_moves_its_neighbourhood_and_wraps():
    background, analysis = analysed(LETKF(5, radius=2.0), one_observation(at=1))
    moved = np.abs(analysis - background).max(axis=0) > 1e-12
    # Twice the radius is 4: places 1 - 3 to 1 + 3, on the ring; at 4 the taper is 0.
    assert set(np.flatnonzero(moved)) == {18, 19, 0, 1, 2, 3, 4}
    np.testing.assert_allclose(analysis[:, ~moved], background[:, ~moved], atol=1e-13)


def test_a_local_analysis_is_the_kalman_filters_with_a_larger_error():
    background, analysis = analysed(LETKF(5, radius=2.0), one_observation(at=1))
    covariance = np.cov(background.T)
    for place in (19, 0, 1, 3):
        weight = taper(min(abs(place - 1), 20 - abs(place - 1)), half_width=2.0)
        gain = covariance[place, 1] / (covariance[1, 1] + 0.5 / weight)
        mean = background.mean(0)
        expected = mean[place] + gain * (2.0 - mean[1])
        assert analysis[:, place].mean() == pytest.approx(expected, abs=1e-10)
        variance = covariance[place, place] - gain * covariance[place, 1]
        assert analysis[:, place].var(ddof=1) == pytest.approx(variance, abs=1e-10)


def test_the_ring_wraps_with_the_observation():
    ensemble = np.random.default_rng(5).standard_normal((1, 5, 20))
    _, one = analysed(LETKF(5, radius=2.0), one_observation(at=9), ensemble=ensemble)
    turned = np.roll(ensemble, 10, axis=-1)
    _, two = analysed(LETKF(5, radius=2.0), one_observation(at=19), ensemble=turned)
    np.testing.assert_allclose(np.roll(two, -10, axis=-1), one, atol=1e-12)


def test_a_place_without_an_observation_keeps_its_mean(seen):
    only = seen.sel(variable=["x04"]).isel(time=slice(1)).fillna(1.0)
    background, analysis = analysed(LETKF(5, radius=1.0, inflation=1.5), only)
    far = np.setdiff1d(np.arange(20), [3, 4, 5])
    mean = background.mean(0)
    np.testing.assert_allclose(analysis.mean(0)[far], mean[far], atol=1e-13)
    same = background - mean
    np.testing.assert_allclose((analysis - analysis.mean(0))[:, far], same[:, far], atol=1e-12)


def test_a_missing_value_counts_nothing(seen):
    first = seen.isel(time=slice(1)).fillna(0.5)
    gap = first.assign(observation=first.observation.where(first["variable"] != "x06"))
    without = first.sel(variable=first["variable"] != "x06")
    _, one = analysed(LETKF(5, radius=3.0), gap)
    _, two = analysed(LETKF(5, radius=3.0), without)
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_the_order_of_the_places_does_not_matter(seen):
    scheme = LETKF(6, radius=3.0, inflation=1.1, rotate=True)
    plain = daml.assimilate(Ring(), seen, scheme, segments=1)
    order = np.random.default_rng(0).permutation(20)
    turned = daml.assimilate(Turned(Ring(), order), seen, scheme, segments=1)
    turned = turned.sel(variable=plain["variable"])
    np.testing.assert_allclose(turned.analysis[:15], plain.analysis[:15], atol=1e-7)


@pytest.mark.parametrize("values", [10 * 5 * 6, 3 * 5 * 5, 1])
@pytest.mark.parametrize("dense", [0, 4])
def test_the_size_of_the_pieces_does_not_matter(values, dense, seen, monkeypatch):
    scheme = LETKF(5, radius=1.6)
    _, whole = analysed(scheme, seen)
    monkeypatch.setattr(letkf, "VALUES", values)
    monkeypatch.setattr(letkf, "JOINED", 2 * values)
    monkeypatch.setattr(localisation, "DENSE", dense)
    _, parts = analysed(scheme, seen)
    np.testing.assert_allclose(parts, whole, atol=1e-10)


def scattered(size, *, rows=2, radius=3.0):
    """Give a scheme's analysis of places in a plane, crowded on one side, a third observed."""
    drawn = np.random.default_rng(0)
    positions = drawn.uniform(0, size**0.5, (size, 2)) ** 1.5 / size**0.25
    names = tuple(f"x{place:04}" for place in range(size))
    places = tuple(range(0, size, 3))
    values = (rows, len(places))
    noise = TabledNoise(np.ones((1, len(places)), bool), np.full((1, len(places)), 0.1))
    observed = tuple(names[place] for place in places)
    space = StateSpace(names, positions)
    setting = Setting(
        names, observed, Selection(places, size), noise, space, positions[list(places)]
    )
    forecast = Forecast(drawn.standard_normal((rows, 6, size)) * drawn.uniform(0.1, 3, size))
    given = Observed(drawn.standard_normal(values), np.zeros(rows, int), noise, setting.operator)
    step = np.zeros(rows, dtype=int)

    def found(part=slice(None)):
        scheme = LETKF(6, radius=radius)
        run = Run(step[part], step[part], 1000, frozenset())
        some = given._replace(values=given.values[part], row=given.row[part])
        ahead = Forecast(forecast.state[part])
        return scheme.update(ahead, some, run, scheme.prepare(setting))[0].state

    return found


def test_neither_pieces_nor_threads_nor_neighbours_in_the_batch_change_a_bit(monkeypatch):
    found = scattered(300)
    monkeypatch.setattr(localisation, "SHORT", 0)  # several lists, as in a large state
    monkeypatch.setattr(localisation, "DENSE", 0)
    whole = found()
    np.testing.assert_array_equal(found(slice(1, 2)), whole[1:])
    for joined, values, many in ((1, 1, 1), (5000, 1 << 17, 2), (1 << 20, 700, 4)):
        monkeypatch.setattr(letkf, "JOINED", joined)
        monkeypatch.setattr(letkf, "VALUES", values)
        monkeypatch.setattr(letkf, "MANY", many)
        for threads in (1, 3):
            monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
            np.testing.assert_array_equal(found(), whole)


def test_lists_of_several_lengths_are_one_long_list(monkeypatch):
    found = scattered(300)
    one = found()
    monkeypatch.setattr(localisation, "SHORT", 0)
    np.testing.assert_allclose(found(), one, atol=1e-10)
    monkeypatch.setattr(localisation, "DENSE", 0)
    np.testing.assert_allclose(found(), one, atol=1e-10)


def test_the_result_in_a_cycle(truth, seen):
    found = daml.assimilate(Ring(), seen, LETKF(8, radius=4.0, inflation=1.05, rotate=True))
    error = found.analysis - truth.state
    assert float((error[30:] ** 2).mean()) < 1.5  # half is never seen; the climate's is about 13
    assert 0.3 < float(found.chi_square[30:].mean()) < 3


def test_chi_square_and_likelihood_are_those_of_each_value(seen):
    scheme = LETKF(5, radius=3.0)
    record = read(seen, Ring.variables, 0.05, space=StateSpace.of(Ring()))
    ensemble = np.random.default_rng(3).standard_normal((1, 5, 20))
    steps = np.zeros(1, dtype=int)
    run = Run(steps, steps, 0, frozenset())
    update, _ = scheme.update(
        Forecast(ensemble), record.seen(steps), run, scheme.prepare(record.setting())
    )
    y = seen.observation.values[0]
    there = np.isfinite(y)
    gap, spread = y - ensemble[0, :, ::2].mean(0), ensemble[0, :, ::2].var(0, ddof=1)
    total = (spread + seen.error_variance.values)[there]
    square = gap[there] ** 2 / total
    assert float(update.extras["chi_square"][0]) == pytest.approx(square.mean())
    likelihood = -(square + np.log(total)).sum() / 2
    assert float(update.extras["log_likelihood"][0]) == pytest.approx(likelihood)


def test_observations_by_a_matrix_lie_where_their_coordinate_says(truth):
    pairs = np.kron(np.eye(10), [[0.5, 0.5]])
    means = [f"m{n}" for n in range(10)]
    operator = xr.DataArray(
        pairs,
        dims=("variable", "model_variable"),
        coords={"variable": means, "model_variable": list(Ring.variables)},
    )
    seen = daml.observe(truth, operator=operator, seed=3).isel(time=slice(1))
    scheme = LETKF(5, radius=0.8)
    with pytest.raises(
        InputError, match=r"LETKF: the positions of the observations are not.*'position' along"
    ):
        daml.assimilate(Ring(), seen, scheme)
    placed = seen.assign_coords(position=("variable", np.arange(10) * 2 + 0.5))
    last = placed.observation.where(placed["variable"] == "m9")
    background, analysis = analysed(scheme, placed.assign(observation=last))
    moved = np.abs(analysis - background).max(axis=0) > 1e-12
    assert set(np.flatnonzero(moved)) == {17, 18, 19, 0}  # m9 lies at 18.5
    plane = (("variable", "axis"), np.ones((10, 2)))
    named = placed.isel(time=[0, 0, 0]).assign_coords(time=[0.0, 0.05, 0.1])
    plain = daml.assimilate(Ring(), named, scheme)
    xr.testing.assert_equal(daml.assimilate(Ring(), named.chunk(time=2), scheme).compute(), plain)
    for wrong in (("variable", ["a"] * 10), ("variable", [np.nan] * 10), plane):
        bad = seen.assign_coords(position=wrong)
        with pytest.raises(InputError, match="observations: 'position' has the dimensions"):
            daml.assimilate(Ring(), bad, scheme)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LETKF(5, radius=0), "LETKF: 'radius' is 0.0; give a length > 0"),
        (lambda: LETKF(5, radius=np.nan), "LETKF: 'radius' is nan; give a number"),
        (lambda: LETKF(1, radius=2), "LETKF: 'members' is 1; give 2 or more"),
        (lambda: taper(1.0, half_width=-1), r"taper: 'half_width' is -1.*give a length > 0"),
    ],
)
def test_settings_that_are_wrong_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize(
    ("radius", "text"),
    [
        (
            7e5,
            "'radius' is 700000, and no observation is farther than 10 from a variable",
        ),
        (1e-6, "LETKF: with 'radius' 1e-06 no observation reaches any variable but those at"),
    ],
)
def test_a_radius_in_another_unit_is_refused(radius, text, seen):
    with pytest.raises(InputError, match=text):
        daml.assimilate(Ring(), seen, LETKF(5, radius=radius))


def test_what_cannot_be_localised_is_refused(seen):
    scheme = LETKF(5, radius=2)
    with pytest.raises(InputError, match=r"LETKF: it weighs.*Bare does not say.*'positions'"):
        daml.assimilate(Bare(), seen, scheme)
    names = seen["variable"].values
    error = xr.DataArray(
        np.eye(10) + 0.1,
        dims=("variable", "covariable"),
        coords={"variable": names, "covariable": names},
    )
    correlated = seen.drop_vars("error_variance").assign(error_covariance=error)
    with pytest.raises(InputError, match="LETKF: the observations have correlated errors"):
        daml.assimilate(Ring(), correlated, scheme)


def test_positions_in_a_plane():
    rows, columns = np.divmod(np.arange(12), 4)
    plane = SimpleNamespace(
        variables=[f"u{n}" for n in range(12)],
        positions=np.stack((rows, columns), axis=1),
        period=(None, 4),
    )
    space = StateSpace.of(plane)
    found = space.near(np.array([0, 5]), space.positions, 1.0)
    pairs = sorted(zip(found[0].tolist(), found[1].tolist(), strict=True))
    # Row 0 is no neighbour of row 2, column 0 is one of column 3.
    assert pairs == [(0, 0), (0, 1), (0, 3), (0, 4), (1, 1), (1, 4), (1, 5), (1, 6), (1, 9)]
    apart = space.distance([0, 5], range(12))
    np.testing.assert_allclose(found[2], apart[found[0], found[1]])


def test_torch_gives_the_same_and_its_gradient(seen):
    torch = pytest.importorskip("torch")
    scheme = LETKF(5, radius=3.0, inflation=1.1, rotate=True)
    ensemble = np.random.default_rng(3).standard_normal((1, 5, 20))
    record = read(seen, Ring.variables, 0.05, space=StateSpace.of(Ring()))
    steps = np.zeros(1, dtype=int)
    run = Run(steps, steps, 1000, frozenset())

    def update(x, device):
        setting = record.setting(device)
        there = placed(record.seen(steps), setting, device)
        return scheme.update(Forecast(x), there, run, scheme.prepare(setting))[0].state

    x = torch.as_tensor(ensemble).requires_grad_()
    found = update(x, "cpu")
    np.testing.assert_allclose(found.detach(), update(ensemble, None), atol=1e-12)
    direction = torch.as_tensor(np.random.default_rng(4).standard_normal(x.shape))
    (slope,) = torch.autograd.grad((found**2).sum(), x)
    h = 1e-5
    ahead, back = ((update(x.detach() + s * h * direction, "cpu") ** 2).sum() for s in (1, -1))
    assert float((slope * direction).sum()) == pytest.approx(float(ahead - back) / (2 * h), 1e-6)


@pytest.mark.filterwarnings("ignore:.*has lost the observations:UserWarning")
def test_a_loop_trains_an_emulator_that_has_no_positions_of_its_own(truth, seen):
    emulator = daml.emulators.Regression(Ridge(30.0))
    tree = daml.improve(Ring(), seen, LETKF(6, radius=3.0), emulator, passes=1, held_out=0)
    fitted = tree["iteration/0000"]
    assert np.isfinite(fitted.analysis).all()
    corrected = daml.emulators.Regression(Ridge(30.0), base=Ring())
    analysis = daml.assimilate(Ring(), seen, LETKF(6, radius=3.0))
    again = daml.assimilate(corrected.fit(analysis), seen, LETKF(6, radius=3.0))
    assert np.isfinite(again.analysis).all()
    with pytest.raises(InputError, match=r"LETKF: it weighs.*Regression does not say"):
        daml.assimilate(emulator.fit(analysis), seen, LETKF(6, radius=3.0))


@pytest.mark.statistical
@pytest.mark.parametrize("radius", [1.0, 7.28])
@pytest.mark.parametrize("seed", [0, 1])
def test_where_little_is_observed_the_spread_stays_that_of_the_climate(radius, seed):
    model = daml.models.Lorenz96()
    truth = daml.simulate(model, steps=150, spinup=300, seed=seed)
    seen = daml.observe(truth, seed=seed + 10).isel(variable=slice(None, None, 10))
    scheme = LETKF(12, radius=radius, inflation=1.04, seed=seed)
    found = daml.assimilate(model, seen, scheme)
    assert float(found.spread.mean()) < 1.3 * float(truth.state.std())
