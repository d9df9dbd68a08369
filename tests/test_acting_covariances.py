"""B by its actions: what it is, and that 3DVar with it is that with the matrix."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.covariance import Localised, Stationary, labelled
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.functions import Function
from daml.observing.noise import TabledNoise
from daml.observing.operators import LinearOperator, Selection
from daml.observing.places.interpolation import CHANGING, Interpolation
from daml.observing.records import read
from daml.protocols import Forecast, Observed, Run, Setting
from daml.schemes import FourDVar, taper

SIZE = 24
NAMES = tuple(f"x{place:02}" for place in range(SIZE))


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def scattered():
    """Give places in a strip that repeats itself after 12 along the first dimension."""
    return np.random.default_rng(5).uniform(0, 12, (SIZE, 2))


def localised(**given):
    how = {"positions": scattered(), "period": (12.0, None), "variance": np.arange(1.0, 25.0)}
    return Localised(radius=3.0, **how | given)


class Rooted:
    """A user's B that has a root alone."""

    control = SIZE

    def root(self, v):
        return v * 1.5

    root_adjoint = root


def test_a_localised_covariance_is_that_of_each_pair():
    B, places = localised(groups=np.repeat(["u", "h"], 12)), scattered()
    expected = np.zeros((SIZE, SIZE))
    for i in range(SIZE):
        for j in range(SIZE):
            apart = np.abs(places[i] - places[j])
            apart[0] = min(apart[0], 12 - apart[0])
            if i // 12 == j // 12:
                own = np.sqrt((i + 1) * (j + 1))
                expected[i, j] = own * taper(np.hypot(*apart), half_width=3.0)
    np.testing.assert_allclose(B.dense(), expected, atol=1e-10)
    assert np.linalg.eigvalsh(B.dense())[0] > 0
    x = drawn(0, 2, 3, SIZE)
    np.testing.assert_allclose(B.times(x), x @ expected, atol=1e-10)
    np.testing.assert_allclose(B.times(torch.from_numpy(x)).numpy(), x @ expected, atol=1e-10)
    columns = B.columns(np.array([7, 3])).matrix.toarray()
    np.testing.assert_allclose(columns, expected[:, [7, 3]], atol=1e-10)
    np.testing.assert_array_equal(B.variances(), np.arange(1.0, 25.0))


def test_how_many_states_lie_side_by_side_changes_no_bit_of_a_product():
    B, x = localised(), drawn(1, 5, SIZE)
    alone = np.concatenate([B.times(row[None]) for row in x])
    np.testing.assert_array_equal(B.times(x), alone)


def test_a_stationary_covariance_ends_where_a_dimension_does():
    B = Stationary((5, 8), variance=2.0, length=0.7, periodic=(False, True))
    rows, columns = np.divmod(np.arange(40), 8)
    across = abs(columns[:, None] - columns)
    squares = (rows[:, None] - rows) ** 2 + np.minimum(across, 8 - across) ** 2
    np.testing.assert_allclose(B.dense(), 2 * np.exp(-squares / (2 * 0.7**2)), atol=1e-6)
    assert B.dense()[0, 32] < 1e-6 < Stationary((5, 8), variance=2.0, length=0.7).dense()[0, 32]
    v, x = drawn(0, 2, B.control), drawn(1, 2, 40)
    assert np.vecdot(B.root(v), x) == pytest.approx(np.vecdot(v, B.root_adjoint(x)))
    np.testing.assert_allclose(B.root(B.root_adjoint(x)), B.times(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(B.times(x), x @ B.dense(), atol=1e-10)
    np.testing.assert_allclose(B.times(torch.from_numpy(x)).numpy(), B.times(x), atol=1e-12)


VARIANCES = np.arange(1.0, 7.0)
MATRIX = np.where(drawn(3, 6, SIZE) > 1, drawn(4, 6, SIZE), 0.0)
SEEN = {
    "a selection": {},
    "correlated errors": {
        "error_covariance": (("variable", "covariable"), np.eye(6) + 0.3 * np.ones((6, 6)))
    },
    "a matrix": {
        "operator": (("variable", "model_variable"), MATRIX),
        "model_variable": list(NAMES),
    },
}


def seen(**further):
    """Give 6 observations at 4 times, some of them missing, in each way that they may be given."""
    values = 3 * drawn(2, 4, 6)
    values[1, 2:4] = values[2, :] = values[3, 0] = np.nan
    coords = {"model_variable": further.pop("model_variable")} if "operator" in further else {}
    own = (
        {}
        if "error_covariance" in further
        else {"error_variance": ("variable", np.arange(1.0, 7.0))}
    )
    names = [NAMES[place] for place in (20, 3, 7, 8, 11, 0)]
    return xr.Dataset(
        {"observation": (("time", "variable"), values), **own, **further},
        {"time": np.arange(4.0), "variable": names, "covariable": names, **coords},
    )


@pytest.mark.parametrize("further", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize(
    "B",
    [localised(), Stationary(SIZE, variance=1.5, length=1.0, periodic=False), Rooted()],
    ids=["localised", "stationary", "by its root"],
)
def test_three_d_var_with_a_covariance_by_its_actions_is_that_with_its_matrix(B, further):
    matrix = B.dense() if hasattr(B, "dense") else 1.5**2 * np.eye(SIZE)
    background = xr.Dataset(
        {"state": (("time", "variable"), drawn(6, 4, SIZE))},
        {"time": np.arange(4.0), "variable": list(NAMES)},
    )
    how = {"error_factor": 1.2}
    exact = daml.ThreeDVar(0.7 * labelled(matrix, NAMES), **how)
    acting = daml.ThreeDVar(B, background_factor=0.7, **how)
    record = read(seen(**further), NAMES, 1.0)
    steps, x = np.arange(4), background.state.values
    run = Run(steps, 0 * steps, 0, frozenset())
    for kind in (np.asarray, torch.from_numpy):
        noise = record.noise if kind is np.asarray else record.noise.on("cpu")
        setting, found = record.setting()._replace(noise=noise), []
        rows = kind(record.kind[steps].astype(int))
        observed = Observed(kind(record.values(steps)), rows, noise, setting.operator)
        for scheme in (exact, acting):
            memory = scheme.prepare(setting)
            found.append(scheme.update(Forecast(kind(x.copy())), observed, run, memory)[0])
        one, other = found
        np.testing.assert_allclose(other.state, one.state, atol=1e-8)
        expected = one.extras["chi_square"]
        np.testing.assert_allclose(other.extras["chi_square"], expected, atol=1e-8)


def test_two_variables_by_hand():
    B = Localised(radius=1.0, variance=3.0, positions=[0.0, 1.0])
    coords = {"time": [0.0], "variable": ["u", "v"]}
    background = xr.Dataset({"state": (("time", "variable"), [[1.0, 0.0]])}, coords)
    observations = xr.Dataset(
        {"observation": (("time", "variable"), [[5.0]]), "error_variance": ("variable", [1.0])},
        {"time": [0.0], "variable": ["u"]},
    )
    found = daml.ThreeDVar(B).analyse(background, observations).analysis.values[0]
    np.testing.assert_allclose(found, [1 + 3 / 4 * 4, 5 / 24 * 3], rtol=1e-12)


def test_a_linear_function_without_a_matrix_is_seen_through_its_adjoint():
    class Means:
        linear = True

        def __call__(self, x):
            return (x[..., 1:] + x[..., :-1])[..., ::4] / 2

    function = Function(Means(), tuple("abcdef"), SIZE)
    record = read(seen().assign_coords(variable=list("abcdef")), NAMES, 1.0, operator=function)
    plain = replace(record, operator=LinearOperator(function.matrix()))
    steps = np.arange(4)
    run, found = Run(steps, 0 * steps, 0, frozenset()), []
    for seen_by in (record, plain):
        scheme = daml.ThreeDVar(localised())
        memory = scheme.prepare(seen_by.setting())
        forecast = Forecast(drawn(6, 4, SIZE))
        found.append(scheme.update(forecast, seen_by.seen(steps), run, memory)[0].state)
    np.testing.assert_allclose(*found, atol=1e-8)


class Bent:
    """Six functions of neighbours, each of its own."""

    def __call__(self, x):
        return x[..., ::4] + x[..., 1::4] ** 2 / 4


class BentWithATangent(Bent):
    def tangent(self, x):
        rows = np.zeros((*x.shape[:-1], 6, x.shape[-1]))
        rows[..., np.arange(6), np.arange(0, 24, 4)] = 1
        rows[..., np.arange(6), np.arange(1, 24, 4)] = np.asarray(x[..., 1::4]) / 2
        return rows if isinstance(x, np.ndarray) else torch.from_numpy(rows)


def of_few(x):
    """See six variables, so that columns of B suffice."""
    return x[..., ::4] + x[..., ::4] ** 2 / 8


@pytest.mark.parametrize(
    ("call", "errors"),
    [
        (Bent(), "a selection"),
        (Bent(), "correlated errors"),
        (BentWithATangent(), "a selection"),
        (of_few, "correlated errors"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_what_is_not_linear_is_seen_as_with_the_matrix_of_the_covariance(kind, call, errors):
    record = read(seen(**SEEN[errors]), NAMES, 1.0)
    steps, x, found = np.arange(4), drawn(6, 4, SIZE), []
    noise = record.noise if kind is np.asarray else record.noise.on("cpu")
    operator, run = Function(call, record.observed, SIZE), Run(steps, 0 * steps, 0, frozenset())
    setting = record.setting()._replace(noise=noise, operator=operator)
    rows = kind(record.kind[steps].astype(int))
    observed = Observed(kind(record.values(steps)), rows, noise, operator)
    for B in (0.7 * labelled(localised().dense(), NAMES), localised()):
        factor = 1.0 if found == [] else 0.7
        scheme = daml.ThreeDVar(B, background_factor=factor, error_factor=1.2)
        memory = scheme.prepare(setting)
        found.append(scheme.update(Forecast(kind(x.copy())), observed, run, memory)[0])
    assert abs(found[0].state - kind(x))[[0, 1, 3]].max() > 0.5
    np.testing.assert_allclose(found[1].state, found[0].state, atol=1e-8)
    squares = (part.extras["chi_square"] for part in found)
    np.testing.assert_allclose(*squares, atol=1e-8)


def test_a_function_is_linear_around_states_of_some_variables():
    function = Function(Bent(), tuple("abcdef"), SIZE).reordered(tuple(range(23, -1, -1)), SIZE + 2)
    x, change, y = drawn(0, 3, SIZE + 2), drawn(1, 3, SIZE + 2), drawn(2, 3, 6)
    around, tangent = function.linearised(x), function.tangent(x)
    np.testing.assert_allclose(around.apply(change), np.einsum("rov,rv->ro", tangent, change))
    np.testing.assert_allclose(around.adjoint(y), np.einsum("rov,ro->rv", tangent, y))


def test_the_gradient_is_that_of_the_minimum():
    record = read(seen(), NAMES, 1.0)
    noise, operator = record.noise.on("cpu"), Function(Bent(), record.observed, SIZE)
    scheme, steps = daml.ThreeDVar(localised()), np.arange(4)
    memory = scheme.prepare(record.setting()._replace(noise=noise, operator=operator))
    rows = torch.from_numpy(record.kind[steps].astype(int))
    run, values = Run(steps, 0 * steps, 0, frozenset()), torch.from_numpy(record.values(steps))
    away, weights = torch.from_numpy(drawn(7, 4, SIZE)), torch.from_numpy(drawn(8, 4, SIZE))

    def total(size):
        state = torch.from_numpy(drawn(6, 4, SIZE)) + size * away
        observed = Observed(values + size, rows, noise, operator)
        found = scheme.update(Forecast(state), observed, run, memory)[0]
        return (weights * found.state).sum() + found.extras["chi_square"][[0, 1, 3]].sum()

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total(size), size)
    with torch.no_grad():
        expected = (total(1e-4) - total(-1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float(expected), rel=1e-3)


def test_a_gradient_passes_as_through_the_gain():
    record = read(seen(), NAMES, 1.0)
    steps = np.arange(4)
    noise = record.noise.on("cpu")
    kind = torch.from_numpy(record.kind[steps].astype(int))
    run, gradients = Run(steps, 0 * steps, 0, frozenset()), []
    for scheme in (
        daml.ThreeDVar(labelled(localised().dense(), NAMES)),
        daml.ThreeDVar(localised()),
    ):
        state = torch.from_numpy(drawn(6, 4, SIZE)).requires_grad_()
        values = torch.from_numpy(record.values(steps)).requires_grad_()
        memory = scheme.prepare(record.setting()._replace(noise=noise))
        update, _ = scheme.update(
            Forecast(state), Observed(values, kind, noise, record.operator), run, memory
        )
        total = (update.state**2).sum() + update.extras["chi_square"][[0, 1, 3]].sum()
        gradients.append(torch.autograd.grad(total, (state, values)))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(other[[0, 1, 3]], one[[0, 1, 3]], atol=1e-8)


class Still:
    """A model of nothing: its forecasts are 0, and the truth is drawn anew at each time."""

    variables, dt, positions = NAMES, 1.0, scattered()

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0 * x, None


@pytest.mark.parametrize("seed", range(5))
def test_the_factor_on_b_is_that_of_the_innovations(seed):
    B = Localised(radius=3.0)
    root = np.linalg.cholesky(4.0 * B.placed(StateSpace.of(Still())).dense())
    truth, error = drawn(seed, 121, SIZE) @ root.T, drawn(seed + 100, 121, 12)
    observations = xr.Dataset(
        {
            "observation": (("time", "variable"), truth[:, ::2] + error),
            "error_variance": ("variable", np.ones(12)),
        },
        {"time": np.arange(121.0), "variable": list(NAMES[::2])},
    )
    scheme = daml.ThreeDVar(B, background_factor="estimated")
    assert scheme.open == ("background_factor",)
    found, analysis = daml.tuned(scheme, Still(), observations)
    # 121 times 12 values, correlated in part: 2 standard deviations are some 10 %.
    assert found.background_factor == pytest.approx(4.0, rel=0.2)
    assert float(analysis.chi_square[1:].mean()) == pytest.approx(1.0, abs=0.02)
    again, _ = daml.tuned(scheme, Still(), observations, before=found)
    assert again.background_factor == found.background_factor
    if not seed:
        with pytest.raises(
            InputError, match="they are smaller than R alone; check 'error_variance'"
        ):
            daml.tuned(
                scheme, Still(), observations.assign(error_variance=("variable", np.full(12, 50.0)))
            )


@pytest.mark.parametrize(
    "B", [localised(groups=np.arange(SIZE) % 2), Localised(2.0), Stationary(8)]
)
def test_a_store_keeps_a_covariance_by_its_actions(B):
    scheme = daml.ThreeDVar(B, background_factor=0.5)
    back = daml.ThreeDVar().restored(scheme.to_dataset())
    assert back.background_covariance == B
    assert back.background_factor == 0.5
    assert back.background_covariance != Localised(2.5)


def test_a_covariance_of_a_store_before_grids_had_ends_is_periodic():
    kept = Stationary((4, 6), length=2.0).to_dataset()
    del kept["stationary"].attrs["periodic"]
    assert Stationary.restored(kept) == Stationary((4, 6), length=2.0)


def test_memory_grows_with_the_number_of_variables_alone():
    """30,000 variables and 3,000 observations: a dense B H' alone would take 720 MB."""
    size, rng = 30_000, np.random.default_rng(0)
    positions = rng.uniform(0, size**0.5, (size, 2))
    places = tuple(np.sort(rng.choice(size, size // 10, replace=False)).tolist())
    names = tuple(map(str, range(size)))
    noise = TabledNoise(np.ones((1, len(places)), bool), np.ones((1, len(places))))
    setting = Setting(
        names,
        tuple(names[place] for place in places),
        Selection(places, size),
        noise,
        StateSpace(names, positions),
    )
    row = np.zeros(1, int)
    tracemalloc.start()
    scheme = daml.ThreeDVar(Localised(radius=4.0))
    observed = Observed(rng.standard_normal((1, len(places))), row, noise, setting.operator)
    memory = scheme.prepare(setting)
    run = Run(row, row, 0, frozenset())
    scheme.update(Forecast(rng.standard_normal((1, size))), observed, run, memory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Localised(-1), "'radius' is -1; give a length > 0"),
        (lambda: Localised(1.0, variance=[1.0, -1.0]), "'variance' is a list; give a number > 0"),
        (lambda: Localised(1.0, variance="big"), "'variance' is 'big'; give a number > 0"),
        (lambda: Localised(1.0, period=4.0), "'period' is given without 'positions'"),
        (lambda: Localised(1.0, positions=3.0), r"'positions' is 3.0 of shape \(\)"),
        (lambda: Localised(1.0, positions=[]), "'positions' is a list"),
        (lambda: Localised(1.0, positions=[[0.0, np.nan]]), "give finite numbers"),
        (lambda: Localised(2.0, positions=range(7), period=7), "give a radius of at most 1.75"),
        (lambda: Localised(2.0, positions=np.zeros((3, 4))), "'positions' has 4 dimensions"),
        (lambda: Localised(2.0, [1.0, 2.0], [0.0, 1.0, 2.0]), r"'variance' has the shape \(2,\)"),
        (
            lambda: Localised(2.0, positions=[0.0, 1.0], groups=["u"]),
            r"'groups' has the shape \(1,\)",
        ),
        (lambda: Localised(2.0).times(np.zeros(3)), "give 'positions', or use it as the B"),
        (lambda: Stationary(4, periodic=(True, False)), "'periodic' is .*each of the 1 dimensions"),
        (lambda: Stationary(4, periodic="no"), "'periodic' is 'no'; give True or False"),
        (lambda: daml.ThreeDVar(Localised(1.0), background_factor=0), "'background_factor' is 0"),
        (lambda: daml.ThreeDVar(3), "give an xarray.DataArray or .* or an object with times"),
        (lambda: FourDVar(3, window=2), r"an object with control, root\(v\) and"),
    ],
)
def test_wrong_covariances_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()


def by_numpy(x):
    """A function that takes NumPy's arrays alone."""
    return np.asarray(x)[..., :12] ** 2


class Placeless(Still):
    positions = None


@pytest.mark.parametrize(
    ("model", "B", "how", "text"),
    [
        (Placeless(), Localised(1.0), {}, "Placeless does not say where its variables lie"),
        (Still(), Localised(1.0, positions=[0.0, 1.0]), {}, "has 2 places, and the model has 24"),
        (Still(), Stationary(8), {}, "a Stationary, is for 8 variables, and the model has 24"),
        (Still(), Localised(1.0), {"operator": by_numpy}, "cannot be differentiated by torch"),
    ],
)
def test_a_covariance_that_does_not_fit_is_refused(model, B, how, text):
    observations = xr.Dataset(
        {
            "observation": (("time", "variable"), drawn(0, 5, 12)),
            "error_variance": ("variable", np.ones(12)),
        },
        {"time": np.arange(5.0), "variable": list(NAMES[::2])},
    )
    with pytest.raises(InputError, match=text):
        daml.assimilate(model, observations, daml.ThreeDVar(B), **how)


def test_a_factor_needs_a_covariance_that_is_given():
    observations = xr.Dataset(
        {
            "observation": (("time", "variable"), drawn(0, 60, 1)),
            "error_variance": ("variable", [1.0]),
        },
        {"time": np.arange(60.0), "variable": ["x00"]},
    )
    with pytest.raises(InputError, match="'background_factor' multiplies a B that is given, and"):
        daml.tuned(daml.ThreeDVar(background_factor="estimated"), Still(), observations)
    open_factor = daml.ThreeDVar(Localised(2.0), background_factor="estimated")
    with pytest.raises(InputError, match="'background_factor' is still 'estimated'; estimate it"):
        daml.assimilate(Still(), observations, open_factor)


def test_a_description_says_nothing_of_a_setting_that_older_stores_do_not_know():
    from daml.labels.descriptions import description

    plain, scaled = (daml.ThreeDVar("model", background_factor=f) for f in (1.0, 2.0))
    assert "background_factor" not in description(plain, "scheme")
    assert "background_factor" in description(scaled, "scheme")


def test_an_operator_of_the_time_is_used_in_place_of_the_settings():
    record = read(seen(), NAMES, 1.0)
    steps = np.arange(4)
    run, scheme = Run(steps, 0 * steps, 0, frozenset()), daml.ThreeDVar(localised())
    memory = scheme.prepare(record.setting())
    observed, forecast = record.seen(steps), Forecast(drawn(6, 4, SIZE))
    known = scheme.update(forecast, observed, run, memory)[0].state
    turned = Selection(observed.operator.places[::-1], SIZE)
    for own in (replace(observed.operator), LinearOperator(observed.operator.matrix())):
        found = scheme.update(forecast, observed._replace(operator=own), run, memory)[0].state
        np.testing.assert_allclose(found, known, atol=1e-9)
    other = scheme.update(forecast, observed._replace(operator=turned), run, memory)[0].state
    expected = daml.ThreeDVar(labelled(localised().dense(), NAMES))
    turned_setting = record.setting()._replace(operator=turned)
    given = observed._replace(operator=turned)
    whole = expected.update(forecast, given, run, expected.prepare(turned_setting))[0].state
    np.testing.assert_allclose(other, whole, atol=1e-8)


def test_the_variance_of_innovations_is_the_diagonal_where_it_is_known():
    record = read(seen(), NAMES, 1.0)
    steps = np.arange(4)
    observed, forecast = record.seen(steps), Forecast(drawn(6, 4, SIZE))
    places = list(observed.operator.places)
    for B in (localised(), Stationary(SIZE, variance=1.5)):
        scheme = daml.ThreeDVar(B, background_factor=0.7, error_factor=1.2)
        memory = scheme.prepare(record.setting())
        found = scheme.innovation_variance(forecast, observed, memory)
        expected = 0.7 * B.dense().diagonal()[places] + 1.2 * observed.variance
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    scheme = daml.ThreeDVar(Rooted())
    with pytest.raises(InputError, match="does not predict the size of innovations"):
        scheme.innovation_variance(forecast, observed, scheme.prepare(record.setting()))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_places_that_change_are_seen_through_the_operator_of_the_time(kind):
    """Each state of a batch has an H of its own: the analysis is that with its matrix."""
    drawn_places = np.random.default_rng(8).integers(0, SIZE, (4, 6, 2))
    weights = np.random.default_rng(9).uniform(0, 1, (4, 6, 2))
    record, B = read(seen(), NAMES, 1.0), localised()
    steps = np.arange(4)
    noise = record.noise if kind is np.asarray else record.noise.on("cpu")
    rows = kind(record.kind[steps].astype(int))
    moving = Interpolation(drawn_places, weights, SIZE)
    observed = Observed(kind(record.values(steps)), rows, noise, moving, tabled=False)
    setting = record.setting()._replace(operator=CHANGING, noise=noise)
    run, scheme = Run(steps, 0 * steps, 0, frozenset()), daml.ThreeDVar(B)
    x = drawn(6, 4, SIZE)
    memory = scheme.prepare(setting)
    found = scheme.update(Forecast(kind(x.copy())), observed, run, memory)[0].state
    for row in range(4):
        H = np.zeros((6, SIZE))
        np.add.at(H, (np.arange(6)[:, None], drawn_places[row]), weights[row])
        there = record.noise.present[record.kind[row]]
        H, variance = H[there], record.noise.variance[record.kind[row]][there]
        distance = record.values(steps)[row][there] - H @ x[row]
        total = H @ B.dense() @ H.T + np.diag(variance)
        expected = x[row] + B.dense() @ H.T @ np.linalg.solve(total, distance)
        np.testing.assert_allclose(np.asarray(found[row]), expected, atol=1e-8)
