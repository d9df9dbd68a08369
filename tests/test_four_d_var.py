"""4DVar: the smoother and the filter of the linear case, its minima, and what it refuses."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import daml
from daml.covariances.dense import labelled
from daml.errors import InputError
from daml.schemes import FourDVar

NAMES = tuple("abcdefghi")
"""So many that torch differentiates a step that it takes."""
SIZE = len(NAMES)
FIRST = np.linspace(-1.0, 2.0, SIZE)
TORCH = ("numpy", "torch")


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(seed, size=SIZE):
    root = drawn(seed, size, size)
    return labelled(root @ root.T + 0.5 * np.eye(size), NAMES[:size])


@dataclass(frozen=True)
class Linear:
    """A model whose step is a matrix, in NumPy alone or in torch, too."""

    arrays: tuple = ("numpy",)
    model_error: object = None
    dt: ClassVar = 1.0
    variables: ClassVar = NAMES
    matrix: ClassVar = 0.9 * np.linalg.qr(drawn(1, SIZE, SIZE))[0] + 0.1 * drawn(2, SIZE, SIZE)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        matrix = self.matrix if isinstance(x, np.ndarray) else x.new_tensor(self.matrix)
        return x @ matrix.T, memory


def record(times=7, missing=0.0, seed=3, variance=0.5):
    """Observations of three sums of the variables, some of them missing."""
    values = 3 * drawn(seed, times, 3)
    values[np.random.default_rng(seed).random(values.shape) < missing] = np.nan
    return xr.Dataset(
        {
            "observation": (("time", "variable"), values),
            "error_variance": ("variable", [variance, 1.0, 2.0]),
            "operator": (("variable", "model_variable"), drawn(5, 3, SIZE)),
        },
        {"time": np.arange(float(times)), "variable": ["s", "t", "u"]}
        | {"model_variable": list(NAMES)},
    )


def smoothed(observations, B, Q, start):
    """The Kalman filter and smoother over a record whose first time is not observed.

    Gives the smoothed mean at the start, the filter's at the end, and of each time d' S^-1 d with
    the covariance of a forecast from the start, and the log-likelihood of all values.
    """
    M, H = Linear.matrix, observations.operator.values
    R = observations.error_variance.values
    x, P, free, wide, likelihood, squares, steps = start, B, start, B, 0.0, [], []
    for y in observations.observation.values[1:]:
        forecast, ahead = M @ x, M @ P @ M.T + Q
        free, wide = M @ free, M @ wide @ M.T + Q
        seen = np.isfinite(y)
        h, r, d = H[seen], np.diag(R[seen]), (y - H @ forecast)[seen]
        S = h @ ahead @ h.T + r
        gain = ahead @ h.T @ np.linalg.inv(S)
        steps.append((x, P, forecast, ahead))
        x, P = forecast + gain @ d, ahead - gain @ h @ ahead
        likelihood -= (d @ np.linalg.solve(S, d) + np.linalg.slogdet(S)[1]) / 2
        away = (y - H @ free)[seen]
        square = away @ np.linalg.solve(h @ wide @ h.T + r, away)
        squares.append(square / seen.sum() if seen.any() else np.nan)
    end, state = x, x
    for x, P, forecast, ahead in reversed(steps):
        state = x + P @ M.T @ np.linalg.inv(ahead) @ (state - forecast)
    return state, end, np.array(squares), likelihood


def assimilated(scheme, observations, model=None, **how):
    start = xr.Dataset({"state": ("variable", FIRST)}, {"variable": list(NAMES)})
    how = {"segments": 1, "initial": start} | how
    return daml.assimilate(model or Linear(), observations, scheme, **how)


def unseen_at_first(observations):
    first = observations.time == observations.time[0]
    return observations.assign(observation=observations.observation.where(~first))


@pytest.mark.parametrize(("arrays", "near"), [(TORCH, 1e-10), (("numpy",), 1e-8)])
@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("error", [0.0, 0.3, covariance(8).values])
def test_a_window_of_a_linear_model_is_the_kalman_smoother(missing, error, arrays, near):
    """At its start the smoother's mean, at its end the filter's, as innovations have it."""
    B, observations = covariance(7), unseen_at_first(record(missing=missing))
    scheme = Watched(FourDVar(B, window=6, model_error=error))
    found = assimilated(scheme, observations, Linear(arrays))
    Q = error if np.ndim(error) == 2 else error * np.eye(SIZE)
    start, end, squares, likelihood = smoothed(observations, B.values, Q, FIRST)
    np.testing.assert_allclose(found.analysis[-1], end, rtol=near, atol=near)
    np.testing.assert_allclose(scheme.starts[-1], start, rtol=near, atol=near)
    np.testing.assert_allclose(found.chi_square[1:], squares, rtol=1e-8)
    np.testing.assert_array_equal(found.log_likelihood[:-1], 0)
    assert float(found.log_likelihood[-1]) == pytest.approx(likelihood, rel=1e-8)


class Watched:
    """A scheme that notes the analyses at the starts of its windows."""

    def __init__(self, scheme):
        self.scheme, self.starts = scheme, []
        self.window, self.shift, self.needs = scheme.window, scheme.shift, scheme.needs
        self.model_error, self.outputs = scheme.model_error, scheme.outputs

    def prepare(self, setting):
        return self.scheme.prepare(setting)

    def update(self, window, observed, run, memory):
        update, memory = self.scheme.update(window, observed, run, memory)
        self.starts.append(update.state[0])
        return update, memory


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_a_model_error_of_next_to_nothing_is_none(shift):
    strong = FourDVar(covariance(7), window=4, shift=shift)
    weak = replace(strong, model_error=1e-14)
    one, two = (assimilated(s, record(12)) for s in (strong, weak))
    np.testing.assert_allclose(two.analysis, one.analysis, rtol=1e-9, atol=1e-9)
    of_model = assimilated(strong, record(12), Linear(model_error=1e-14))
    np.testing.assert_array_equal(of_model.analysis, two.analysis)
    none = assimilated(replace(strong, model_error=0), record(12), Linear(model_error=0.1))
    np.testing.assert_array_equal(none.analysis, one.analysis)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"method": "newton"}, "method 'newton' is unknown; give one of"),
        ({"outer_loops": 0}, "'outer_loops' is 0; give 1 or more"),
        ({"tolerance": 0.0}, "'tolerance' is 0.0; give a number in"),
        ({"error_factor": -1.0}, "'error_factor' is -1.0; give a factor > 0"),
        ({"background_covariance": "model"}, "'background_covariance' is 'model'; give one of"),
        ({"background_covariance": np.eye(3)}, "is a ndarray; give an xarray.DataArray"),
        ({"window": 2.5}, "'window' is 2.5; give a whole number"),
    ],
)
def test_bad_settings_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        FourDVar(**{"window": 4} | given)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (FourDVar(window=4), "B is still 'innovations'; have it estimated"),
        (FourDVar(covariance(1), window=0), "'window' is 0; give 1 model step or more"),
        (FourDVar(covariance(1), window=2, shift=3), "'shift' is 3 model steps, and 'window' 2"),
        (FourDVar(covariance(1, 3), window=2), "lacks 'd'"),
        (FourDVar(covariance(1), window=2, model_error=-1.0), "a variance below 0"),
    ],
)
def test_what_a_cycle_cannot_use_is_refused(scheme, text):
    with pytest.raises(InputError, match=text):
        assimilated(scheme, record())
