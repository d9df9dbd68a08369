"""H as a function on arrays: linear or not, observed and assimilated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from roster import climatology
from test_wide import Ring

import daml
from daml.errors import InputError
from daml.observing.functions import Function
from daml.observing.operators import LinearOperator, Selection
from daml.observing.records import Readings, read
from daml.protocols import Update


def sums(x):
    return x[..., :1] + 2 * x[..., 1:2]


def squares(x):
    return x[..., :2] ** 2


class Fraction:
    """A scheme for any H: moves a state along the observed gradient of H, by its tangent."""

    def prepare(self, setting):
        return setting.operator

    def update(self, forecast, observed, run, operator):
        distance = (observed.values - operator.apply(forecast.state)) * observed.present
        slope = operator.tangent(forecast.state)
        size = (slope**2).sum(axis=-1) + 1.0
        moved = np.einsum("...ov,...o->...v", slope, 0.3 * distance / size)
        return Update(forecast.state + moved), operator


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.Lorenz63(), steps=300, spinup=200, seed=1)


def test_a_linear_function_is_its_matrix(truth):
    matrix = xr.DataArray(
        [[1.0, 2.0, 0.0]],
        dims=("variable", "model_variable"),
        coords={"variable": ["y0"], "model_variable": list(truth["variable"].values)},
    )
    by_matrix, by_function = (daml.observe(truth, operator=h, seed=3) for h in (matrix, sums))
    xr.testing.assert_allclose(by_function, by_matrix, rtol=1e-13)
    assert '"test_operators.sums"' in by_function.attrs["operator"]
    scheme = daml.ThreeDVar(climatology())
    expected = daml.assimilate(daml.Lorenz63(), by_function, scheme)
    plain = by_function.drop_vars(["operator", "model_variable"])
    found = daml.assimilate(daml.Lorenz63(), plain, scheme, operator=sums)
    xr.testing.assert_equal(found, expected)
    assert '"test_operators.sums"' in found.attrs["operator"]


def test_a_nonlinear_function_is_observed(truth):
    seen = daml.observe(truth, operator=squares, variables=["a", "b"], error_variance=0.25, seed=3)
    assert "operator" not in seen
    assert seen["variable"].values.tolist() == ["a", "b"]
    error = seen.observation.values - truth.state.values[:, :2] ** 2
    assert np.var(error) == pytest.approx(0.25, rel=0.2)


def test_a_nonlinear_function_is_assimilated(truth, tmp_path):
    seen = daml.observe(truth, operator=squares, missing=0.2, seed=3)
    with pytest.raises(
        InputError, match="made with a function, give this function again: operator="
    ):
        daml.assimilate(daml.Lorenz63(), seen, Fraction())
    found = daml.assimilate(daml.Lorenz63(), seen, Fraction(), operator=squares, segments=1)
    np.testing.assert_allclose(
        found.innovation, seen.observation.values - found.background.values[:, :2] ** 2, rtol=1e-12
    )
    late = found.isel(time=slice(100, None))
    error = late.analysis.values[:, :2] ** 2 - truth.state.values[100:, :2] ** 2
    unseen = daml.simulate(daml.Lorenz63(), steps=200, spinup=200, seed=9).state.values[:, :2] ** 2
    assert (
        np.square(error).mean() < 0.3 * np.square(unseen - truth.state.values[100:, :2] ** 2).mean()
    )
    stored = daml.assimilate(
        daml.Lorenz63(), seen.chunk(time=50), Fraction(), operator=squares, segments=1,
        store=tmp_path / "found",
    )  # fmt: skip
    xr.testing.assert_identical(stored.load(), found)


def test_a_cycle_starts_from_a_state_that_looks_like_the_first_observations(truth):
    seen = daml.observe(truth, operator=squares, error_variance=1e-2)
    found = daml.assimilate(daml.Lorenz63(), seen, Fraction(), operator=squares, segments=1)
    first = np.abs(found.background.values[0, :2] ** 2 - seen.observation.values[0])
    typical = np.abs(truth.state.values[:, :2] ** 2 - seen.observation.values[0])
    assert first.sum() < np.quantile(typical.sum(axis=1), 0.05)
    initial = truth.isel(time=0)
    started = daml.assimilate(
        daml.Lorenz63(), seen, Fraction(), operator=squares, segments=1, initial=initial
    )
    np.testing.assert_array_equal(started.background[0], initial.state)


def test_a_scheme_that_needs_a_matrix_refuses_a_nonlinear_function(truth):
    seen = daml.observe(truth, operator=squares)
    scheme = daml.schemes.OptimalInterpolation(truth)
    with pytest.raises(InputError, match=r"'operator' is not linear.*give daml.ThreeDVar"):
        daml.assimilate(daml.Lorenz63(), seen, scheme, operator=squares)


@pytest.mark.parametrize(
    ("call", "linear"),
    [
        (sums, True),
        (lambda x: x[..., ::2], True),
        (lambda x: np.cumsum(x, axis=-1) * 1e-3, True),
        (lambda x: 0 * x, True),
        (squares, False),
        (lambda x: x + 1.0, False),
        (np.abs, False),
        (lambda x: np.maximum(x, -20.0), False),
        (lambda x: np.log(x), False),
        (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), False),
    ],
)
def test_it_is_found_out_whether_a_function_is_linear(call, linear):
    observed = call(np.ones((1, 4))).shape[-1]
    assert Function(call, tuple("abcd"[:observed]), 4).linear == linear


def test_what_a_function_says_of_itself_counts():
    class Stated:
        linear = False

        def __call__(self, x):
            return 2 * x

        def tangent(self, x):
            return np.full((*x.shape[:-1], 3, 3), 7.0)

    function = Function(Stated(), ("a", "b", "c"), 3)
    assert not function.linear
    np.testing.assert_array_equal(function.tangent(np.ones((2, 3))), np.full((2, 3, 3), 7.0))
    with pytest.raises(InputError, match="not linear, and a matrix H is needed"):
        function.matrix()


def test_the_tangent_is_that_of_differences():
    function = Function(lambda x: x[..., :2] ** 2 * x[..., 2:], ("a", "b"), 3)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    found, step = function.tangent(x), 1e-6
    for place in range(3):
        moved = step * np.eye(3)[place]
        expected = (function.apply(x + moved) - function.apply(x - moved)) / (2 * step)
        np.testing.assert_allclose(found[..., place], expected, atol=1e-8)
    np.testing.assert_array_equal(function.tangent(torch.as_tensor(x)), found)


@pytest.mark.parametrize(
    "operator", [Selection((2, 0), 3), LinearOperator(np.arange(6.0).reshape(2, 3))]
)
def test_the_tangent_of_a_matrix_is_that(operator):
    x = np.ones((5, 4, 3))
    np.testing.assert_array_equal(
        operator.tangent(x), np.broadcast_to(operator.matrix(), (5, 4, 2, 3))
    )
    assert operator.tangent(torch.as_tensor(x)).shape == (5, 4, 2, 3)


def test_a_function_of_many_variables_makes_no_matrix():
    model = Ring(20_000)
    run = daml.simulate(model, steps=3)
    seen = daml.observe(run, operator=lambda x: x[..., ::2] + x[..., 1::2])
    assert "operator" not in seen
    record = read(seen, model.variables, 1.0, operator=Function(sums, ("y0",), 20_000))
    assert record.operator.linear
    with pytest.raises(InputError, match="of 10000 x 20000 values is too large"):
        Function(lambda x: x[..., ::2], tuple(map(str, range(10_000))), 20_000).matrix()


BAD = {
    "no function": (3, "'operator' is a int; give a function on arrays"),
    "raises": (lambda x: x @ np.ones(7), r"'operator' failed for states of shape .*ValueError"),
    "another number": (lambda x: x[..., :2], r"into \(\d, 2\), and \(\d, 1\) is needed"),
    "the wrong axis": (lambda x: x[:1] * 0 + 1, "is needed for 1 observed quantities"),
    "mixes states": (
        lambda x: x[..., :1] - x[..., :1].mean(axis=0, keepdims=True),
        "a different result for a state alone",
    ),
    "a list": (lambda x: x[..., :1].tolist(), "into a list; give an array of real numbers"),
}


@pytest.mark.parametrize(("operator", "message"), BAD.values(), ids=BAD)
def test_what_is_no_operator_is_refused_at_the_door(truth, operator, message):
    with pytest.raises(InputError, match=message):
        daml.observe(truth, operator=operator, variables=["y0"])
    seen = daml.observe(truth, operator=sums)
    with pytest.raises(InputError, match=message):
        daml.assimilate(daml.Lorenz63(), seen, Fraction(), operator=operator)


def test_a_function_that_torch_does_not_take_has_no_tangent():
    function = Function(lambda x: np.sin(np.asarray(x)), ("a", "b", "c"), 3)
    with pytest.raises(InputError, match="cannot be differentiated by torch"):
        function.tangent(np.ones((2, 3)))


def test_a_function_without_a_value_for_some_member_is_named(truth):
    def logarithm(x):
        return np.log(x[..., :1])  # x0 changes its sign

    seen = daml.observe(truth, operator=lambda x: abs(x[..., :1]), seed=2).isel(time=slice(50))
    with pytest.raises(InputError, match="because 'operator' gives no finite values"):
        daml.assimilate(daml.Lorenz63(), seen, daml.schemes.ETKF(10), operator=logarithm)


@pytest.mark.slow
def test_a_loop_takes_a_linear_function():
    truth = daml.simulate(daml.Lorenz63(), steps=600, spinup=200, seed=1)
    seen = daml.observe(truth, operator=lambda x: x[..., :2] + x[..., 1:], seed=2)
    emulator = daml.LSTM(hidden=4, epochs=1)
    expected = daml.improve(daml.Lorenz63(), seen, emulator=emulator, passes=1, held_out=0)
    plain = seen.drop_vars(["operator", "model_variable"])
    found = daml.improve(
        daml.Lorenz63(),
        plain,
        emulator=emulator,
        passes=1,
        held_out=0,
        operator=lambda x: x[..., :2] + x[..., 1:],
    )
    xr.testing.assert_equal(
        found["/iteration/0000/analysis"].to_dataset(),
        expected["/iteration/0000/analysis"].to_dataset(),
    )


def cubes(x):
    return x + (x / 10) ** 3


def fourths(x):
    return x + (x / 10) ** 4


class Turned:
    """Lorenz 63 with its variables in reversed order."""

    variables, dt = tuple(reversed(daml.Lorenz63.variables)), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return daml.Lorenz63().step(x[..., ::-1], None)[0][..., ::-1], None


def cubed(steps=150):
    truth = daml.simulate(daml.Lorenz63(rho=28.5), steps=steps, spinup=200, seed=1)
    return truth, daml.observe(truth, operator=cubes, error_variance=1.0, missing=0.1, seed=2)


LOOPS = {
    "ETKF": lambda: daml.schemes.ETKF(12, inflation=1.1, rotate=True),
    "EnKF": lambda: daml.schemes.EnKF(20, inflation=1.1),
    "ThreeDVar": lambda: daml.ThreeDVar(climatology()),
}


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
@pytest.mark.filterwarnings("ignore:assimilate. E.* has lost the observations")
@pytest.mark.parametrize("training", ["analyses", "cycle"])
@pytest.mark.parametrize(
    "name", ["ETKF", pytest.param("EnKF", marks=pytest.mark.slow), "ThreeDVar"]
)
def test_a_loop_takes_a_nonlinear_function(name, training):
    truth, seen = cubed(60 if name == "ThreeDVar" else 500)
    emulator = daml.LSTM(hidden=3, layers=1, epochs=1, cycle_epochs=1, sequence_length=40)
    if name != "ThreeDVar":  # a filter would lose the observations with an emulator so poor
        emulator = replace(emulator, base=daml.Lorenz63())
    if training == "cycle":
        fitted = emulator.fit(truth)
        how = {"operator": cubes, "sequence_length": 30, "burn_in": 5, "held_out": 0}
        found = fitted.fit_cycle(seen, LOOPS[name](), **how)
        assert np.isfinite(found.history.loss).all()
        return
    held_out = 0.0 if name == "ThreeDVar" else 0.2
    how = {"passes": 1, "operator": cubes, "held_out": held_out}
    tree = daml.improve(daml.Lorenz63(), seen, LOOPS[name](), emulator, **how)
    expected = daml.assimilate(daml.Lorenz63(), seen, LOOPS[name](), operator=cubes)
    xr.testing.assert_equal(tree["imperfect"].analysis, expected.analysis)
    after = tree["iteration/0000"]
    np.testing.assert_array_equal(
        after.innovation.isnull(), seen.observation.isnull().values | False
    )
    if held_out:
        # In units of R: what is observed is compared with H of the forecasts.
        assert float(tree["imperfect/scores"].held_out_rmse[0]) < 3


def test_a_loop_knows_the_operator_for_another_order_of_the_variables():
    _, seen = cubed()
    function = Function(lambda x: x[..., :2] ** 3 * x[..., 1:], ("x0", "x1"), 3)
    seen = seen.isel(variable=slice(2))
    readings = Readings(seen, None, function, daml.Lorenz63.variables)
    same, turned = (readings.of(model).operator for model in (daml.Lorenz63(), Turned()))
    assert same is function
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(turned.apply(x[:, ::-1]), function.apply(x))
    np.testing.assert_array_equal(turned.tangent(x[:, ::-1]), function.tangent(x)[..., ::-1])
    assert not turned.linear


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "improve: B is estimated with a matrix H, and 'operator' is not linear; give a B"),
        ({"scheme": daml.ThreeDVar("climatological")}, "improve: B is estimated with a matrix H"),
        (
            {"scheme": daml.ThreeDVar(climatology()), "training": "cycle"},
            "the emulator learns B through a matrix H.*give an emulator with covariance=None",
        ),
    ],
)
def test_a_loop_refuses_what_needs_a_matrix(settings, text):
    _, seen = cubed()
    with pytest.raises(InputError, match=text):
        daml.improve(daml.Lorenz63(), seen, operator=cubes, **settings)


def test_a_loop_with_a_function_goes_on_where_it_ended(tmp_path):
    _, seen = cubed(30)
    where = tmp_path / "loop.zarr"
    how = {"operator": cubes, "held_out": 0, "scheme": Fraction()}
    how["emulator"] = daml.LSTM(hidden=3, layers=1, epochs=1, sequence_length=20)
    whole = daml.improve(daml.Lorenz63(), seen, passes=2, **how)
    daml.improve(daml.Lorenz63(), seen, passes=1, store=where, **how)
    resumed = daml.improve(daml.Lorenz63(), seen, passes=2, store=where, resume=True, **how)
    name = "iteration/0001"
    np.testing.assert_array_equal(resumed[name].analysis, whole[name].analysis)
    other, fourth = how | {"operator": lambda x: x**2}, how | {"operator": fourths}
    with pytest.raises(InputError, match="operator: 'call' is a function, which a store cannot"):
        daml.improve(daml.Lorenz63(), seen, passes=2, store=where, resume=True, **other)
    with pytest.raises(InputError, match=r"operator\.call\.name: test_operators\.cubes there"):
        daml.improve(daml.Lorenz63(), seen, passes=3, store=where, resume=True, **fourth)


UNNAMED = {
    r"\(2, 3\) into \(2,\), and \(2, observed\) is needed": lambda x: x.sum(-1),
    r"into \(3,\), and": lambda x: x[0],
    r"into \(2, 0\), and": lambda x: x[..., :0],
    "'operator' failed for states .*TypeError": torch.sin,
    "'operator' failed for states .*ZeroDivisionError": lambda x: 1 / 0,
    "into a ndarray of type complex128": lambda x: x * 1j,
    "into a ndarray of type bool": lambda x: x > 0,
}


@pytest.mark.parametrize("message", UNNAMED)
def test_observe_refuses_it_without_names_too(truth, message):
    with pytest.raises(InputError, match=message):
        daml.observe(truth, operator=UNNAMED[message])
