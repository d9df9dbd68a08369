"""Every public model, scheme and emulator, and a second one of the tests' own beside each.

What is listed here runs under all shared laws (test_roster.py). A new public class that is not
listed fails a test.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import daml
from daml.protocols import Update


class OneAtATime:
    """Lorenz 63 that steps one state (variable,)."""

    variables, dt = daml.Lorenz63.variables, 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        assert x.ndim == 1
        return daml.Lorenz63().step(x, memory)


class Placed(daml.Lorenz63):
    """Lorenz 63 whose variables lie somewhere, as local schemes need it."""

    positions = (0.0, 1.0, 2.0)


class Fields(daml.models.Gridded):
    """Two fields, one with a masked point, that feel each other and drift around a ring."""

    template = xr.Dataset(
        {"u": ("x", [0.1, np.nan, 0.2]), "h": ("x", [0.0, 0.3, 0.1])}, {"x": [0.0, 1.0, 2.0]}
    )
    dt, period = 0.1, 3.0

    def move(self, fields):
        u, h = (np.roll(fields[name], 1, axis=-1) for name in ("u", "h"))
        return {"u": 0.9 * u + 0.5 * np.sin(3 * h), "h": 0.9 * h + 0.5 * np.cos(3 * u)}


MODELS = {
    "Lorenz63": daml.Lorenz63,
    "CoupledLorenz63": daml.CoupledLorenz63,
    "Lorenz96": lambda: daml.models.Lorenz96(n=8),
    "TwoScaleLorenz96": lambda: daml.models.TwoScaleLorenz96(sectors=4, fast=2),
    "KuramotoSivashinsky": lambda: daml.models.KuramotoSivashinsky(n=16, length=12.0),
    "QuasiGeostrophic": lambda: daml.models.QuasiGeostrophic(n=9, dt=1.0),
    "Gridded": Fields,
    "Each": lambda: daml.models.each(OneAtATime()),
    "Stochastic": lambda: daml.models.Stochastic(daml.Lorenz63(), model_error=0.1),
}


@dataclass(frozen=True)
class Nudging:
    """A scheme: each observed variable moves to its observation by a weight that R decides."""

    variance: float = 0.5

    def prepare(self, setting):
        return None

    def to_dataset(self):
        return xr.Dataset({"variance": ((), self.variance)})

    def restored(self, dataset):
        return replace(self, variance=float(dataset["variance"]))

    def update(self, forecast, observed, run, memory):
        x, operator = forecast.state, observed.operator
        distance = (observed.values - operator.apply(x)) * observed.present
        weight = self.variance / (self.variance + observed.variance)
        pull = (weight * distance)[..., None, :] @ operator.tangent(x)
        return Update(x + pull[..., 0, :]), memory


def run():
    return daml.simulate(daml.Lorenz63(), steps=400, spinup=200, seed=3)


def climatology():
    return daml.climatological(run(), max_variance=2)


SCHEMES = {
    "ThreeDVar": lambda: daml.ThreeDVar(climatology()),
    "ThreeDVar by conjugate gradients": lambda: daml.ThreeDVar(climatology(), method="cg"),
    "ThreeDVar by the actions of B": lambda: daml.ThreeDVar(
        daml.covariance.Localised(radius=1.5), background_factor=0.8
    ),
    "a scheme of the tests": Nudging,
    "OptimalInterpolation": lambda: daml.schemes.OptimalInterpolation(run()),
    "ETKF": lambda: daml.schemes.ETKF(members=12, inflation=1.2),
    "EnKF": lambda: daml.schemes.EnKF(
        members=20, inflation=daml.schemes.Additive(climatology(), scale=0.02)
    ),
    "DEnKF": lambda: daml.schemes.DEnKF(members=12, inflation=daml.schemes.RTPS(0.7)),
    "SerialEnSRF": lambda: daml.schemes.SerialEnSRF(members=12, inflation=1.2),
    "EnKFN": lambda: daml.schemes.EnKFN(members=12, inflation=1.1, model_error=0.02, drawn=False),
    "ParticleFilter": lambda: daml.schemes.ParticleFilter(
        200, resample_below=0.6, regularisation=3.0
    ),
    "LETKF": lambda: daml.schemes.LETKF(members=12, radius=8.0, inflation=1.2),
    "IEnKS": lambda: daml.schemes.IEnKS(members=8, window=6, shift=3, inflation=1.2, iterations=4),
    "EnVar": lambda: daml.schemes.EnVar(
        members=8, beta=0.2, background_covariance=climatology(), radius=8.0, inflation=1.2
    ),
    "ETKF4DVar": lambda: daml.schemes.ETKF4DVar(
        *(8, 4), beta=0.2, background_covariance=climatology(), inflation=1.2, tolerance=0.05
    ),
    "FourDEnVar": lambda: daml.schemes.FourDEnVar(members=8, window=4, shift=2, inflation=1.2),
    "ExtendedKalman": lambda: daml.schemes.ExtendedKalman(model_error=0.01),
    "SigmaPoint": lambda: daml.schemes.SigmaPoint(model_error=0.01),
    "FourDVar": lambda: daml.schemes.FourDVar(climatology(), window=3, model_error=0.01),
}


@dataclass(frozen=True)
class Polynomial:
    """An emulator: the increment of a step as a quadratic function, by least squares."""

    variables: tuple = ()
    dt: float = 0.05
    weights: np.ndarray | None = None

    def fit(self, analysis):
        states = analysis["analysis" if "analysis" in analysis else "state"]
        x = states.values
        found = np.linalg.lstsq(_quadratic(x[:-1] / 10), np.diff(x, axis=0), rcond=None)[0]
        names = tuple(states["variable"].values.tolist())
        return replace(self, variables=names, weights=found)

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return x + _quadratic(x / 10) @ self.weights, memory

    def to_dataset(self):
        return xr.Dataset({"weights": (("feature", "variable"), self.weights)}).assign_coords(
            variable=list(self.variables)
        )

    def restored(self, dataset):
        names = tuple(dataset["variable"].values.tolist())
        return replace(self, variables=names, weights=dataset["weights"].values)


def _quadratic(x):
    """Give 1, x and all products of two (..., feature)."""
    rows, columns = np.triu_indices(x.shape[-1])
    return np.concatenate([np.ones((*x.shape[:-1], 1)), x, x[..., rows] * x[..., columns]], axis=-1)


def layers(inputs):
    """Give a module of torch's, the same at each call: from the last states to an increment."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = torch.nn.Linear(inputs, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
    return torch.nn.Sequential(torch.nn.Flatten(), *parts)


EMULATORS = {
    "LSTM": lambda: daml.LSTM(hidden=4, epochs=2),
    "LSTM with a base": lambda: daml.LSTM(hidden=4, epochs=2, base=daml.Lorenz63()),
    "LSTM with a window": lambda: daml.LSTM(hidden=4, epochs=2, window=3),
    "GRU": lambda: daml.emulators.GRU(hidden=4, epochs=2),
    "GRU with a window": lambda: daml.emulators.GRU(hidden=4, epochs=2, window=3),
    "RNN": lambda: daml.emulators.RNN(hidden=4, epochs=2),
    "Module": lambda: daml.emulators.Module(layers(3), epochs=2),
    "Module with a base and a window": lambda: daml.emulators.Module(
        layers(9), base=daml.Lorenz63(), window=3, epochs=2
    ),
    "CNN": lambda: daml.emulators.CNN((4,), kernel=3, grid=Placed(), epochs=2),
    "CNN with a base and a window": lambda: daml.emulators.CNN(
        (4, 3), kernel=3, bilinear=True, base=Placed(), window=2, epochs=2
    ),
    "Regression": lambda: daml.emulators.Regression(
        make_pipeline(PolynomialFeatures(2), Ridge(1e-3))
    ),
    "Regression with a base and a window": lambda: daml.emulators.Regression(
        ExtraTreesRegressor(5, max_depth=4), base=daml.Lorenz63(), window=2
    ),
    "Augmented": lambda: daml.emulators.Augmented(1, units=4, updates=3, base=daml.Lorenz63()),
    "an emulator of the tests": Polynomial,
}
