"""
A model, a scheme and an emulator of your own
=============================================

This example defines a model (Lorenz 1996 on a ring of eight points), a scheme (nudging) and an
emulator (a fit of the model's error by least squares). Each is a short class without a base class
from daml. They run together in the loop, which is interrupted and resumed; the emulator is loaded
from the store; and the result is compared with that of 3DVar and an LSTM. It takes half a minute on
2 cores.
"""

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml
from daml.protocols import Update

SIZES = {"quick": (3000, 2, 2), "full": (40_000, None, 8)}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (10_000, 20, 4))
plt.style.use(daml.figures.STYLE)


# %%
# A **model** names its variables and steps a batch of states (..., variable). The truth has a
# stronger forcing than the model.
@dataclass(frozen=True)
class Ring:
    """Lorenz (1996), by five steps of Euler's method."""

    forcing: float = 8.0
    variables, dt = tuple("abcdefgh"), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        for _ in range(5):
            flow = (np.roll(x, -1, -1) - np.roll(x, 2, -1)) * np.roll(x, 1, -1)
            x = x + self.dt / 5 * (flow - x + self.forcing)
        return x, memory


# %%
# A **scheme** turns forecasts and observations into analyses. This scheme depends on the variance
# of forecast errors. It tunes this variance for each model, without a truth: it chooses the one
# with the smallest innovations.
@dataclass(frozen=True)
class Nudging:
    """Moves each observed point towards its observation."""

    variance: float | None = None
    candidates = (0.25, 0.5, 1.0, 2.0)

    @property
    def open(self):
        return ("variance",) if self.variance is None else ()

    def tuned(self, trial, before=None):
        if not self.open:
            return self
        tried = [replace(self, variance=v) for v in self.candidates]
        sizes = [(trial.judged(trial.run(t)).innovation ** 2).mean() for t in tried]
        return tried[int(np.argmin(sizes))]

    def prepare(self, setting):
        return setting.operator

    def update(self, forecast, observed, run, operator):
        innovation = (observed.values - operator.apply(forecast.state)) * observed.present
        weight = self.variance / (self.variance + observed.variance)
        return Update(forecast.state + (weight * innovation) @ operator.matrix()), operator

    def to_dataset(self):
        return xr.Dataset({"variance": ((), self.variance)})

    def restored(self, dataset):
        return replace(self, variance=float(dataset.variance))


# %%
# An **emulator** is a model that learns its step from analyses.
@dataclass(frozen=True)
class Corrected(Ring):
    """The model, corrected by a linear function of the state."""

    weights: np.ndarray | None = field(default=None, repr=False, compare=False)

    def features(self, x):
        return np.insert(x, 0, 1.0, axis=-1)

    def fit(self, analysis):
        x, seen = analysis.analysis.values, analysis.innovation[1:].notnull().any("observed")
        missed = (x[1:] - super().step(x[:-1], None)[0])[seen]
        return replace(self, weights=np.linalg.lstsq(self.features(x[:-1])[seen], missed)[0])

    def step(self, x, memory):
        return super().step(x, None)[0] + self.features(x) @ self.weights, memory

    def to_dataset(self):
        return xr.Dataset({"weights": (("feature", "variable"), self.weights)})

    def restored(self, dataset):
        return replace(self, weights=dataset.weights.values)


# %%
# First, the model and the scheme run in an assimilation cycle. Three tenths of the values are
# missing.
truth = daml.simulate(Ring(10.0), steps=STEPS, spinup=1000, seed=1)
observations = daml.observe(truth, missing=0.3, seed=2)
model = Ring()
scheme, analysis = daml.tuned(Nudging(), model, observations)
print(scheme, daml.verification.analysis_error(analysis, truth).analysis_rmse.item())

# %%
# Then all three run in the loop, which is interrupted after half of the passes and resumed for the
# others. The result is bit for bit the same as without the interruption. ``load_emulator`` and
# ``load_scheme`` need an emulator and a scheme of these classes, and call their ``restored``.
with tempfile.TemporaryDirectory() as folder:
    parts, store = (model, observations, Nudging(), Corrected()), Path(folder) / "own.zarr"
    daml.improve(*parts, passes=PASSES // 2, store=store)
    own = daml.improve(*parts, passes=PASSES, store=store, resume=True).load()
    emulator = daml.load_emulator(store, iteration=-1, emulator=Corrected())
    print(daml.load_scheme(store, iteration=-1, scheme=Nudging()))

# %%
# For comparison, a scheme and an emulator of daml in the same loop:
network = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
usual = daml.improve(model, observations, emulator=network, passes=PASSES)
lstm = daml.load_emulator(usual, iteration=-1, base=model)


# %%
# The left panel shows the errors of the analyses in each pass; dashed lines are those with the
# perfect model and the same scheme. The right panel shows the errors of forecasts from true states
# of a new record, with the emulators of the last pass.
def rmse_of(analysis):
    """Give the RMSE of an analysis."""
    return daml.verification.analysis_error(analysis, truth).analysis_rmse.item()


test = daml.simulate(Ring(10.0), steps=2000, spinup=2000, seed=3)
leads = range(1, 21)


def forecast_error(judged):
    """Give the error of forecasts (lead)."""
    ahead = daml.forecast(judged, test, leads=leads)
    return daml.verification.mfe(daml.verification.forecast_error(ahead, test))


figure, (left, right) = plt.subplots(1, 2, figsize=(5.4, 3.2), layout="constrained")
lead = np.array(leads) * model.dt
right.plot(lead, forecast_error(model), color="0.4", label="model given")
for name, tree, bare, last, color in (
    ("nudging, least squares", own, Nudging(), emulator, "C0"),
    ("3DVar, LSTM", usual, daml.ThreeDVar("innovations"), lstm, "C1"),
):
    groups = ["imperfect", *(f"iteration/{number:04d}" for number in range(PASSES))]
    left.plot(range(-1, PASSES), [rmse_of(tree[g].to_dataset()) for g in groups], "o-", color=color)
    left.axhline(
        rmse_of(daml.tuned(bare, Ring(10.0), observations)[1]), color=color, linestyle="--"
    )
    right.plot(lead, forecast_error(last), color=color, label=name)
left.set_xticks(range(-1, PASSES), ["given", *map(str, range(PASSES))])
left.set(xlabel="pass", ylabel="RMSE of the analysis")
right.set(xlabel="lead [model time]", ylabel="error of the forecast", ylim=(0, None))
figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()
