"""What the benchmarks share: records of any length and state size, made in a moment."""

import numpy as np
import xarray as xr

import daml
from daml.covariance import labelled

STEPS = [10_000, 100_000, 1_000_000]


def record(model, steps):
    """Give a record of a model: pieces of 1,000 steps, run side by side."""
    x = np.random.default_rng(0).standard_normal((-(-steps // 1000), len(model.variables)))
    states = np.empty((1000, *x.shape))
    for row in range(-1000, 1000):
        x, _ = model.step(x)
        states[row] = x
    values = states.swapaxes(0, 1).reshape(-1, x.shape[-1])[:steps]
    time = np.arange(steps) * model.dt
    coords = {"time": time, "variable": list(model.variables)}
    return xr.Dataset({"state": (("time", "variable"), values)}, coords=coords)


def twin(model, steps):
    """Give observations of everything in a record of the model, and 3DVar for it."""
    truth = record(model, steps)
    size = len(model.variables)
    scheme = daml.ThreeDVar(labelled(0.5 * np.eye(size) + 0.1, list(model.variables)))
    return daml.observe(truth, seed=1), scheme


def network(epochs=1):
    """Give the LSTM of the paper's experiment, fitted in a moment."""
    return daml.LSTM(epochs=epochs).fit(record(daml.Lorenz63(), 10_000))
