"""The space of a state: names by an index, distances on rings and planes."""

import numpy as np
import pytest

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace


class Placed:
    """A model whose variables lie somewhere."""

    variables, dt = ("a", "b", "c", "d"), 1.0

    def __init__(self, positions=None, period=None):
        self.positions, self.period = positions, period

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 0.5 * x, memory


def test_names_are_looked_up():
    names = tuple(f"x{n}" for n in range(100_000))
    space = StateSpace(names)
    np.testing.assert_array_equal(space.places(["x99999", "x3", "y"]), [99_999, 3, -1])


def test_a_ring_is_closed():
    space = StateSpace.of(Placed(positions=[0, 1, 2, 3], period=4))
    expected = [[0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]]
    np.testing.assert_array_equal(space.distance(range(4), range(4)), expected)
    twice = StateSpace.of(Placed(positions=[0, 5, -2, 11], period=4))  # more than once around
    np.testing.assert_array_equal(twice.distance(range(4), range(4)), expected)


def test_a_line_is_not():
    space = StateSpace.of(Placed(positions=np.arange(4)))
    np.testing.assert_array_equal(space.distance([0], [3, 1]), [[3, 1]])


@pytest.mark.parametrize("period", [(10, None), [10.0, np.inf]])
def test_a_channel_is_closed_in_one_dimension(period):
    positions = [[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [7.0, 4.0]]
    space = StateSpace.of(Placed(positions=positions, period=period))
    np.testing.assert_allclose(space.distance([0], range(4)), [[0, 1, 9, 5]])


def test_a_model_without_positions_has_no_distances():
    space = StateSpace.of(Placed(period="of an oscillation"))
    assert space.names == Placed.variables
    with pytest.raises(InputError, match="no positions; give the model an attribute 'positions'"):
        space.distance([0], [1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": [0.0, 1.0]}, r"'positions' is .*shape \(2,\).* for 4 variables"),
        ({"positions": [0.0, 1.0, 2.0, np.nan]}, "'positions' is .*give finite numbers"),
        ({"positions": ["n", "e", "s", "w"]}, "'positions' is .*give numbers"),
        ({"positions": [[0], [1, 2], [3], [4]]}, "'positions' is .*give numbers"),
        ({"positions": range(4), "period": (4, 4)}, "'period' is .*each of the 1 dimensions"),
        ({"positions": range(4), "period": 0}, "'period' is .*give a number > 0"),
        ({"positions": range(4), "period": "around"}, "'period' is .*give numbers"),
    ],
)
def test_wrong_positions_are_refused_before_a_run(settings, message):
    with pytest.raises(InputError, match=rf"Placed: {message}"):
        daml.simulate(Placed(**settings), steps=2)
