"""
A measured record: the Santa Fe laser
=====================================

The record has 10,093 measured values of the intensity of a far-infrared laser in a chaotic state
(:cite:`weigend1994`). The intensity oscillates with a period of about seven samples, grows and
collapses, again and again, and we know no model of it. We start the loop with a simple and wrong
model. On the last three thousand values, which nothing was fitted to, we compare its forecasts with
persistence, a linear autoregression and an echo state network. This example takes half a minute on
2 cores.

The record comes with the package ``reservoirpy``, as does the echo state network
(``pip install reservoirpy``).
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import reservoirpy.datasets
import xarray as xr
from reservoirpy.nodes import Reservoir

import daml

SIZES = {"quick": (3, 1), "full": (300, "auto")}
EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (100, 2))
LEADS, LEARNT = (1, 2, 3, 5, 8, 12), 7000
plt.style.use(daml.figures.STYLE)

# %%
# The values are whole numbers from 0 to 255; the error variance of 1 represents rounding and the
# noise of the detector.
intensity = reservoirpy.datasets.santafe_laser().astype(float)
record = xr.Dataset(
    {"observation": (("time", "variable"), intensity), "error_variance": ("variable", [1.0])},
    coords={"time": np.arange(len(intensity), dtype=float), "variable": ["intensity"]},
)
learnt, test = record.isel(time=slice(LEARNT)), record.isel(time=slice(LEARNT, None))

# %%
# The imperfect model is an undamped oscillation around the mean with a period of 7.4 samples. Its
# state is the intensity now and one sample before, of which the first is observed.


class Swing:
    """Next = mean + 2 cos(2 pi / period) (now - mean) - (before - mean)."""

    variables = ("intensity", "before")
    dt = 1.0
    mean, period = float(learnt.observation.mean()), 7.4

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        now, before = x[..., 0] - self.mean, x[..., 1] - self.mean
        after = 2 * np.cos(2 * np.pi / self.period) * now - before
        return np.stack([after + self.mean, x[..., 0]], axis=-1), None


model = Swing()
tree = daml.improve(
    model, learnt, emulator=daml.LSTM(base=model, epochs=EPOCHS, batch_size=16), passes=PASSES
)
print(daml.reports.innovation_table(tree))
emulator, last = daml.load_emulator(tree, -1, base=model), sorted(tree["iteration"].children)[-1]

# %%
# Forecasts on the test record start from analyses, which use past observations only.
seen = test.rename(observation="state")


def score(judged, group):
    """Give the error of forecasts from the analyses of a model (lead)."""
    scheme = daml.ThreeDVar(tree[f"{group}/scheme"].background_covariance)
    analysis = daml.assimilate(judged, test, scheme)
    ahead = daml.forecast(judged, analysis, leads=LEADS, warmup=200)
    return daml.verification.mfe(daml.verification.forecast_error(ahead, seen)).values


errors = {
    "the model given": score(model, "imperfect"),
    "the loop": score(emulator, f"iteration/{last}"),
}

# %%
# Autoregression and echo state network have a separate readout for each lead, by ridge regression,
# from 40 past values and from 500 units. The settings of the echo state network are the best of 96
# by its errors on the values 6,000 to 7,000, when fitted to the values before.
scale = intensity[:LEARNT].std()
values = (intensity[:, 0] - model.mean) / scale
past = np.lib.stride_tricks.sliding_window_view(np.pad(values, (39, 0)), 40)
reservoir = Reservoir(units=500, sr=0.9, lr=1.0, input_scaling=0.2, seed=0)
states = np.column_stack([reservoir.run(values[:, None]), values])


def readout(features, lead, ridge=1e-5):
    """Give the forecasts of a linear readout at a lead, fitted on the first part of the record."""
    inputs = np.column_stack([features, np.ones(len(features))])
    first, targets = inputs[200 : LEARNT - lead], values[200 + lead : LEARNT]
    square = first.T @ first + ridge * np.eye(first.shape[1])
    return inputs @ np.linalg.solve(square, first.T @ targets)


ways = {
    "persistence": lambda lead: values,
    "autoregression": lambda lead: readout(past, lead),
    "echo state network": lambda lead: readout(states, lead),
}
for name, predict in ways.items():
    missed = [
        (predict(lead)[LEARNT + 200 : -lead] - values[LEARNT + 200 + lead :]) * scale
        for lead in LEADS
    ]
    errors[name] = np.array([np.sqrt(np.mean(m**2)) for m in missed])
for name, found in errors.items():
    print(f"{name:<20}", found.round(1))

# %%
# At one step the echo state network is slightly better. From two steps on the loop is better, and
# most so at 12 steps: its error hardly grows, although its network was trained for a single step,
# whereas the readouts were fitted for each lead. The remaining errors are at the collapses; the
# figure below shows one, with forecasts of the loop at 8 steps.
figure, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5.8), layout="constrained")
colours = dict(zip(errors, ("#777777", "#0072B2", "#CCCCCC", "#E69F00", "#009E73"), strict=True))
for name, found in errors.items():
    top.plot(LEADS, found, "o-", color=colours[name], label=name)
top.set(xlabel="lead [samples]", ylabel="RMSE of the intensity", yscale="log", xticks=LEADS)
top.set_yticks([4, 6, 10, 20, 40, 80], ["4", "6", "10", "20", "40", "80"])
top.minorticks_off()
top.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
scheme = daml.ThreeDVar(tree[f"iteration/{last}/scheme"].background_covariance)
part = test.isel(time=slice(0, 900))
ahead = daml.forecast(emulator, daml.assimilate(emulator, part, scheme), leads=[8])
valid = ahead.start + 8
bottom.plot(part.time, part.observation[:, 0], color="#AAAAAA", linewidth=2.5, label="measured")
bottom.plot(valid, ahead.forecast[:, 0, 0], color="#0072B2", linewidth=1, label="8 samples ahead")
bottom.set(xlabel="time [samples]", ylabel="intensity", xlim=(LEARNT + 250, LEARNT + 600))
bottom.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()
