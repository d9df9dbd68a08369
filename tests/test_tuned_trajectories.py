"""Schemes are tuned and compared on records of many trajectories, and with an operator."""

import numpy as np
import pytest
import xarray as xr

import daml
from daml.labels.trajectories import in_a_row
from daml.schemes import ETKF

MANY, STEPS = 3, 60


class Decay:
    """A linear model of two variables."""

    variables, dt = ("x0", "x1"), 1.0
    climate_spread = np.array([1.5, 1.0])

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ np.array([[0.95, 0.1], [-0.1, 0.9]]), None


def record(seed=0, many=MANY, steps=STEPS):
    """Give observations of noisy trajectories."""
    random = np.random.default_rng(seed)
    x, states = random.standard_normal((many, 2)), []
    for _ in range(steps):
        x = Decay().step(x, None)[0] + 0.5 * random.standard_normal((many, 2))
        states.append(x)
    values = np.stack(states, axis=1) + random.standard_normal((many, steps, 2))
    values[random.random(values.shape) < 0.1] = np.nan
    return xr.Dataset(
        {
            "observation": (("trajectory", "time", "variable"), values),
            "error_variance": ("variable", [1.0, 1.0]),
        },
        {"time": np.arange(float(steps)), "variable": ["x0", "x1"]},
    )


def states_of(seen):
    """Give observations of one trajectory as states."""
    return seen.isel(trajectory=0).observation.fillna(0.0).to_dataset(name="state")


def inflation(seen, model=None, **how):
    """Give the inflation that is found from a near one on."""
    near = ETKF(5, inflation=1.05)
    how |= {"before": near}
    scheme, analysis = daml.tuned(ETKF(5, inflation="innovations"), model or Decay(), seen, **how)
    return scheme.inflation, analysis


def numbers(scheme):
    """Give what a scheme has found, as one array."""
    found = scheme.to_dataset()
    return np.concatenate([np.ravel(found[name].values) for name in sorted(found.data_vars)])


SCHEMES = {
    "3DVar": lambda: daml.ThreeDVar("innovations"),
    "ETKF": lambda: ETKF(5, inflation="innovations"),
}


@pytest.fixture(scope="module")
def seen():
    return record()


@pytest.mark.parametrize("name", SCHEMES)
def test_one_trajectory_is_tuned_as_a_record(seen, name):
    one = seen.isel(trajectory=[1])
    many, analysis = daml.tuned(SCHEMES[name](), Decay(), one)
    alone, plain = daml.tuned(SCHEMES[name](), Decay(), one.isel(trajectory=0))
    np.testing.assert_array_equal(numbers(many), numbers(alone))
    xr.testing.assert_equal(analysis.isel(trajectory=0, drop=True), plain)


def test_the_order_of_trajectories_does_not_matter(seen):
    order = [2, 0, 1]
    first, analysis = daml.tuned(daml.ThreeDVar("innovations"), Decay(), seen)
    turned, other = daml.tuned(daml.ThreeDVar("innovations"), Decay(), seen.isel(trajectory=order))
    np.testing.assert_allclose(numbers(first), numbers(turned), rtol=1e-6)
    np.testing.assert_allclose(analysis.analysis[order], other.analysis, rtol=1e-5, atol=1e-6)
    # And it is the analysis of each trajectory by the scheme.
    xr.testing.assert_allclose(daml.assimilate(Decay(), seen, first)[[*analysis]], analysis)


def test_all_trajectories_are_used(seen):
    records = seen, seen.isel(trajectory=[0])
    found = [numbers(daml.tuned(SCHEMES["3DVar"](), Decay(), one)[0]) for one in records]
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_copies_of_a_trajectory_say_what_one_says(seen):
    one = seen.isel(trajectory=0)
    copies = xr.concat([one] * 3, "trajectory", data_vars=["observation"])
    found = [inflation(s)[0] for s in (copies, one)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


class Still(Decay):
    """A model that moves nothing, so that a constant may be added to all."""

    def step(self, x, memory):
        return x.copy(), None


def test_a_jump_between_trajectories_is_no_innovation(seen):
    jumps = 1e3 * xr.DataArray(range(MANY), dims="trajectory")
    moved = seen.assign(observation=seen.observation + jumps)
    found = [inflation(s, Still())[0] for s in (seen, moved)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert 0.5 < found[0] < 3


def test_innovations_of_two_trajectories_are_no_pair():
    two = xr.Dataset(
        {"innovation": (("trajectory", "time", "observed"), [[[1.0], [-1.0]], [[-1.0], [1.0]]])},
        {"time": [0.0, 1.0]},
    )
    assert daml.innovations.lagged(in_a_row(two).innovation) == -1.0
    assert daml.innovations.lagged(in_a_row(two).innovation.drop_vars("_trajectory")) > -0.5


def test_rows_of_each_trajectory(seen):
    rows = np.zeros((MANY, STEPS), dtype=bool)
    rows[1:, 10:] = True
    scheme, analysis = daml.tuned(daml.ThreeDVar("innovations"), Decay(), seen, rows=rows)
    assert scheme.background_covariance.attrs["innovations"] < rows.sum()
    assert analysis.sizes["trajectory"] == MANY
    with pytest.raises(daml.errors.InputError, match="'rows' has 60 entries"):
        daml.tuned(daml.ThreeDVar("innovations"), Decay(), seen, rows=rows[0])


def test_a_long_record_is_shortened_to_whole_trajectories(seen):
    class Looking(daml.ThreeDVar):
        def tuned(self, trial, before=None):
            sizes = [trial.shortened(n).observations.sizes["time"] for n in (10, 80, 1000)]
            found.extend([*sizes, trial.observations.sizes["time"]])
            return given

    found, given = [], daml.ThreeDVar(daml.climatological(states_of(seen), max_variance=1))
    daml.tuned(Looking(), Decay(), seen)
    assert found == [10, 2 * STEPS, MANY * STEPS, MANY * STEPS]


def test_schemes_are_compared_over_trajectories(seen):
    truth = seen.observation.fillna(0.0).to_dataset(name="state")
    seen = seen.assign(observation=seen.observation.fillna(0.0))
    schemes = {"ETKF": ETKF(5, inflation=1.1)}
    how = {"skip": 0, "segments": 1}
    found = daml.compare_schemes(Decay(), seen, schemes, truth=truth, **how)
    each = [
        daml.compare_schemes(
            Decay(), seen.isel(trajectory=n), schemes, truth=truth.isel(trajectory=n), **how
        )
        for n in range(MANY)
    ]
    for name in ("analysis_rmse", "spread"):
        mean = np.sqrt(np.mean([float(one[name][0]) ** 2 for one in each]))
        assert float(found[name][0]) == pytest.approx(mean, rel=0.02)
    assert float(found.states[0]) == pytest.approx(np.mean([float(o.states[0]) for o in each]))


def squared(x):
    return x[..., :1] ** 2 / 4 + x


def test_a_scheme_is_tuned_through_an_operator(seen):
    one = seen.isel(trajectory=0)
    factor, analysis = inflation(one, operator=squared)
    again = daml.assimilate(Decay(), one, ETKF(5, inflation=factor), operator=squared)
    np.testing.assert_array_equal(again.analysis, analysis.analysis)
    assert analysis.attrs["operator"] == again.attrs["operator"]
    assert factor != inflation(one)[0]


def test_a_linear_operator_is_a_matrix(seen):
    one = seen.isel(trajectory=0)
    matrix = xr.DataArray(
        [[2.0, 0.0], [1.0, 1.0]], [("variable", ["x0", "x1"]), ("model_variable", ["x0", "x1"])]
    )
    call = {"operator": lambda x: x @ np.array([[2.0, 1.0], [0.0, 1.0]])}
    given, _ = daml.tuned(daml.ThreeDVar(), Decay(), one.assign(operator=matrix))
    found, _ = daml.tuned(daml.ThreeDVar(), Decay(), one, **call)
    xr.testing.assert_allclose(given.background_covariance, found.background_covariance)
    compared = daml.compare_schemes(Decay(), one, {"3DVar": given}, skip=5, **call)
    other = daml.compare_schemes(Decay(), one.assign(operator=matrix), {"3DVar": given}, skip=5)
    assert float(compared.chi_square[0]) == pytest.approx(float(other.chi_square[0]))


def test_no_covariance_is_found_through_what_is_not_linear(seen):
    one = seen.isel(trajectory=0)
    with pytest.raises(daml.errors.InputError, match="'operator' is not linear; give a B"):
        daml.tuned(daml.ThreeDVar(), Decay(), one, operator=squared)
    with pytest.raises(daml.errors.InputError, match="tuned: 'operator' is a int; give a function"):
        daml.tuned(daml.ThreeDVar(), Decay(), one, operator=3)
