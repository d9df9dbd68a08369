"""
A model of your own
===================

The model of Lorenz (1996) on a circle of twelve points, written in a few lines. In our model the
forcing is the same everywhere; in the truth it is stronger on one side. The loop learns this
difference from observations of all points, of which a third is missing. This example takes half a
minute on 2 cores.
"""

import os
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np

import daml
from daml.models import ODE

SIZES = {"quick": (3000, 3, 1), "full": (100_000, None, "auto")}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (12_000, 25, 3))
plt.style.use(daml.figures.STYLE)

# %%
# A model names its variables and defines its right-hand side, along the last axis.


@dataclass(frozen=True)
class Circle(ODE):
    """Lorenz (1996), with a forcing that may differ from side to side."""

    uneven: float = 0.0
    variables = tuple(f"x{i:02d}" for i in range(12))

    def tendency(self, x):
        angle = 2 * np.pi * np.arange(12) / 12
        forcing = 8 + self.uneven * np.cos(angle)
        return (np.roll(x, -1, -1) - np.roll(x, 2, -1)) * np.roll(x, 1, -1) - x + forcing


model, nature = Circle(), Circle(uneven=3.0)
truth = daml.simulate(nature, steps=STEPS, spinup=1000, seed=1)
observations = daml.observe(truth, missing=0.33, seed=2)

# %%
# The loop needs only this model and the observations.
network = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
tree = daml.improve(model, observations, emulator=network, passes=PASSES)
print(daml.reports.innovation_table(tree))
emulator = daml.load_emulator(tree, base=model)

# %%
# Free forecasts from the same true state of a new record show where and when each diverges from it:
test = daml.simulate(nature, steps=200, spinup=2000, seed=7)
leads = range(1, 61)
runs = {
    name: daml.forecast(m, test, leads=leads).isel(start=0).forecast
    for name, m in (("the model given", model), ("the improved model", emulator))
}
true = test.state.isel(time=slice(101, 161)).values
figure, panels = plt.subplots(
    1, 3, figsize=(5.4, 3.8), layout="constrained", sharey=True, sharex=True
)
place = np.arange(12)
lead = np.array(leads) * model.dt
kept = panels[0].pcolormesh(place, lead, true, cmap="viridis", vmin=-8, vmax=13)
panels[0].set(title="truth\n", ylabel="lead [model time]")
figure.colorbar(kept, ax=panels[0], location="bottom", label="state")
for axes, (name, run) in zip(panels[1:], runs.items(), strict=True):
    missed = axes.pcolormesh(place, lead, run.values - true, cmap="RdBu", vmin=-8, vmax=8)
    axes.set(title=f"{name},\nless the truth")
figure.colorbar(missed, ax=panels[1:], location="bottom", label="error", aspect=40)
for axes in panels:
    axes.set(xlabel="place")
    axes.grid(visible=False)
plt.show()
