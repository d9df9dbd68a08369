"""Where a cycle starts: what is observed from the record, the rest from the model's climate."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr

import daml
from daml.observing.records import read
from daml.running.starts.first_guess import FirstGuess


class Still:
    """A model that stays where it is."""

    def __init__(self, size):
        self.variables, self.dt = tuple(f"x{n}" for n in range(size)), 1.0
        self.climate = np.arange(size) / 7.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x, memory


def guess(model, seen):
    record = read(seen, model.variables, 1.0)
    return FirstGuess(model, record, record.axis.grid(), None)


def by_matrix(rows, seed=0):
    """Give observations through a matrix (observed, variable), and that."""
    random = np.random.default_rng(seed)
    observed = [f"y{n}" for n in range(len(rows))]
    return xr.Dataset(
        {
            "observation": (("time", "variable"), random.standard_normal((5, len(rows)))),
            "error_variance": ("variable", random.uniform(0.5, 2, len(rows))),
            "operator": (("variable", "model_variable"), rows),
        },
        {
            "time": np.arange(5.0),
            "variable": observed,
            "model_variable": [f"x{n}" for n in range(rows.shape[1])],
        },
    )


ROWS = {
    "fewer than variables": np.random.default_rng(1).standard_normal((3, 5)),
    "more than variables": np.random.default_rng(2).standard_normal((8, 5)),
    "one twice": np.eye(5)[[0, 1, 1]] * np.array([[1.0], [1e6], [1e6]]),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_start_is_the_state_nearest_to_the_climate_that_fits_best(rows):
    model, seen = Still(5), by_matrix(rows)
    deviation = np.sqrt(seen.error_variance.values)
    scaled = rows / deviation[:, None]
    size = np.linalg.norm(scaled, axis=0)
    size = np.where(size > 0, size, 1.0)
    distance = (seen.observation.values - rows @ model.climate) / deviation
    expected = distance @ np.linalg.pinv(scaled / size).T / size
    fully = np.linalg.matrix_rank(scaled / size) == 5
    climate = 0.0 if fully else model.climate
    if fully:
        expected = (seen.observation.values / deviation) @ np.linalg.pinv(scaled / size).T / size
    np.testing.assert_allclose(
        guess(model, seen).state(np.arange(5)), climate + expected, rtol=1e-10, atol=1e-10
    )


def test_a_value_that_is_never_there_leaves_the_climate():
    model = Still(3)
    seen = by_matrix(np.eye(3))
    seen.observation[:, 1] = np.nan
    found = guess(model, seen).state(np.arange(5))
    np.testing.assert_allclose(found[:, [0, 2]], seen.observation.values[:, [0, 2]], rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], model.climate[1], rtol=1e-12)


def test_a_variable_that_a_matrix_does_not_see_is_named():
    class Explosive(Still):
        def step(self, x, memory):
            return 1e9 * x, memory

    model = Explosive(3)
    model.climate = None
    with pytest.raises(
        daml.errors.InputError, match="'x2' is not observed, and free runs of the model diverge"
    ):
        guess(model, by_matrix(np.array([[1.0, 1, 0], [1, -1, 0]]))).state(np.arange(2))


def test_direct_observations_of_many_variables_need_no_matrix():
    size = 20_000
    model = Still(size)
    values = np.random.default_rng(0).standard_normal((3, size // 2))
    seen = xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", np.ones(size // 2)),
        },
        {"time": np.arange(3.0), "variable": list(model.variables[::2])},
    )
    tracemalloc.start()
    found = guess(model, seen).state(np.arange(3))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6  # a state is 0.16 MB, a matrix (variable, variable) 3,200 MB
    np.testing.assert_array_equal(found[:, ::2], values)
    np.testing.assert_array_equal(found[:, 1::2], np.tile(model.climate[1::2], (3, 1)))
