"""The iterative ensemble Kalman smoother."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from daml.observing.records import read
from daml.protocols import Run
from daml.running.cycling.cycle import cycle
from daml.schemes import IEnKS

NAMES, STEPS = ("x0", "x1", "x2"), 25
MATRIX = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.1, 0.0, 0.95]])
FIRST = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])
ERROR, START = np.array([0.5, 0.8]), np.array([1.0, -1.0, 0.5])
H = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]])


@dataclass(frozen=True)
class Linear:
    """x -> M x."""

    variables, dt = NAMES, 1.0

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x @ MATRIX.T, memory


def record():
    """Give observations of x0 and of 2 x1 - x2, a fifth of them missing."""
    random = np.random.default_rng(0)
    values = random.standard_normal((STEPS, 2)) * 2
    values[random.random(values.shape) < 0.2] = np.nan
    values[7] = np.nan
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "operator": (("variable", "model_variable"), H),
            "error_variance": ("variable", ERROR),
        },
        {"time": np.arange(STEPS) * 1.0, "variable": ["a", "b"], "model_variable": list(NAMES)},
    )


def exact(members):
    """Give an ensemble (1, member, variable) whose mean and covariance are those of the start."""
    drawn = np.random.default_rng(1).standard_normal((members, 3))
    drawn -= drawn.mean(axis=0)
    drawn = np.linalg.qr(drawn)[0] * (members - 1) ** 0.5
    return (START + drawn @ np.linalg.cholesky(FIRST).T)[None]


def run_of(scheme, seen, model=None, first=None):
    """Give the updates of a cycle, old enough that no start-up inflation acts; and the windows."""
    found = read(seen, NAMES, 1.0)
    steps = np.arange(seen.sizes["time"])[:, None]
    at = [
        (found.seen(step), Run(step, np.zeros(1, int), 1000 + age, frozenset(scheme.outputs)))
        for age, step in enumerate(steps)
    ]
    first = exact(scheme.members) if first is None else first
    watched = []
    given = scheme.update

    def update(*parts):
        made = given(*parts)
        watched.append((parts[0], made[0]))
        return made

    object.__setattr__(scheme, "update", update)
    prepared = scheme.prepare(found.setting())
    pairs = list(cycle(model or Linear(), scheme, prepared, first, None, at))
    return pairs, watched


def information(upto, at):
    """Give mean and covariance of the state at a step, of all observations until another."""
    precision = np.linalg.inv(FIRST)
    vector, moved = precision @ START, np.eye(3)
    for row in record().observation.values[: upto + 1]:
        there = np.isfinite(row)
        G = H[there] @ moved
        precision = precision + G.T / ERROR[there] @ G
        vector = vector + G.T / ERROR[there] @ row[there]
        moved = MATRIX @ moved
    covariance, there = np.linalg.inv(precision), np.linalg.matrix_power(MATRIX, at)
    return there @ covariance @ vector, there @ covariance @ there.T


WINDOWS = [(1, 1), (4, 4), (4, 2), (5, 2), (3, 1), (7, 4)]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize(("window", "shift"), WINDOWS)
def test_a_linear_model_gives_the_kalman_smoother_at_the_start_and_the_filter_at_the_end(
    window, shift, multiple, rotate
):
    scheme = IEnKS(8, window, shift, multiple=multiple, rotate=rotate)
    pairs, watched = run_of(scheme, record())
    stop = 0
    for part, update in watched:
        stop += part.fresh if part.steps else 0
        mean, covariance = information(stop, stop - part.steps)
        np.testing.assert_allclose(update.state[0].mean(axis=0), mean, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(np.cov(update.state[0].T), covariance, rtol=1e-10, atol=1e-10)
        mean, covariance = information(stop, stop)
        found = pairs[stop][1].state[0]
        np.testing.assert_allclose(found.mean(axis=0), mean, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(np.cov(found.T), covariance, rtol=1e-10, atol=1e-10)
    assert stop == STEPS - 1
