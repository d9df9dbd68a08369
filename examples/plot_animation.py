"""
The cycle and the forecasts, in motion
======================================

The first animation shows the assimilation cycle step by step. The second one shows forecasts of the
imperfect model, of LSTM-0 and of the last LSTM from the same state, beside the truth. This example
takes a minute on 2 cores.
"""

import base64
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

import daml

SIZES = {"quick": (3000, 3, 2, 12), "full": (100_000, None, 30, 60)}
STEPS, EPOCHS, PASSES, FRAMES = SIZES.get(os.environ.get("DAML_DOCS"), (16_000, 25, 4, 60))
plt.style.use(daml.figures.STYLE)


class Moving:
    """An animation that a notebook shows as a small GIF."""

    def __init__(self, figure, draw, interval, words):
        animation = FuncAnimation(figure, draw, frames=FRAMES)
        path = Path(tempfile.mkdtemp(), "moving.gif")
        animation.save(path, writer=PillowWriter(fps=1000 / interval), dpi=90)
        plt.close(figure)
        self.data, self.words = base64.b64encode(path.read_bytes()).decode(), words

    def _repr_html_(self):
        return f'<img alt="{self.words}" src="data:image/gif;base64,{self.data}">'


truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
model = daml.Lorenz63()

# %%
# The cycle
# ---------
#
# A forecast of one step gives the background. The observation corrects it, which gives the
# analysis, and the next forecast starts from there. The truth, in grey, is not used.
_, analysis = daml.tuned(daml.ThreeDVar("innovations"), model, observations)
stretch = slice(1000, 1000 + FRAMES // 2)
true, seen = (d.isel(time=stretch) for d in (truth.state, observations.observation))
found = analysis.isel(time=stretch)
steps = np.arange(true.sizes["time"])
figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
axes.plot(steps, true.sel(variable="x0"), color="#AAAAAA", linewidth=3, label="truth")
(forecast,) = axes.plot([], [], color="#D55E00", label="forecast")
(observed,) = axes.plot([], [], "o", color="#E69F00", markersize=6, label="observation")
(state,) = axes.plot([], [], "o", color="#009E73", markersize=6, label="analysis")
axes.set(xlabel="step", ylabel="x0")
axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))


def cycle(frame):
    """Draw half a step: a forecast in even frames, an analysis in odd ones."""
    now, corrected = divmod(frame, 2)
    background, after = (found[n].sel(variable="x0").values for n in ("background", "analysis"))
    pieces = [[k - 1, k, np.nan] for k in range(1, now + 1)]
    heights = [[after[k - 1], background[k], np.nan] for k in range(1, now + 1)]
    forecast.set_data(np.ravel(pieces), np.ravel(heights))
    shown = now + corrected
    observed.set_data(steps[:shown], seen.sel(variable="x0")[:shown])
    state.set_data(steps[:shown], after[:shown])


Moving(figure, cycle, 250, "Forecasts, each pulled back to the truth by an observation.")

# %%
# The forecasts
# -------------
#
# The loop makes several passes. Then three models start from the same true state of a record that
# was not used in training.
network = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
tree = daml.improve(model, observations, emulator=network, passes=PASSES)
models = {
    "imperfect model": model,
    "LSTM-0": daml.load_emulator(tree, iteration=0),
    f"LSTM-{PASSES - 1}": daml.load_emulator(tree, iteration=-1),
}
test = daml.simulate(daml.CoupledLorenz63(), steps=101 + FRAMES, spinup=3000, seed=5)
leads = [daml.forecast(m, test, leads=FRAMES).isel(start=0).forecast for m in models.values()]
true = test.state.isel(time=slice(101, None)).sel(variable=["x0", "x1", "x2"])
climate = truth.state.isel(time=slice(None, 4000))

figure, panels = plt.subplots(1, 3, figsize=(5.4, 2.6), layout="constrained", sharey=True)
lines = []
for axes, name, lead in zip(panels, models, leads, strict=True):
    axes.plot(
        climate.sel(variable="x0"), climate.sel(variable="x2"), color="#EEEEEE", linewidth=0.4
    )
    (one,) = axes.plot([], [], color="#777777", linewidth=2)
    (other,) = axes.plot([], [], color="#0072B2", linewidth=1.5)
    (ends,) = axes.plot([], [], "o", color="#D55E00", markersize=5)
    axes.set(title=name, xlabel="x0")
    lines.append((one, other, ends, lead))
panels[0].set_ylabel("x2")


def run(frame):
    """Draw truth (grey) and forecasts (blue) up to a step."""
    for one, other, ends, lead in lines:
        for line, path in ((one, true.values), (other, lead.values)):
            line.set_data(path[: frame + 1, 0], path[: frame + 1, 2])
        ends.set_data([true[frame, 0], lead[frame, 0]], [true[frame, 2], lead[frame, 2]])


Moving(figure, run, 120, "Three forecasts on the attractor, each beside the truth.")

# %%
# The errors of these forecasts against the lead:
figure, axes = plt.subplots(figsize=(5.4, 2.6), layout="constrained")
colours = ("#D55E00", "#E69F00", "#0072B2")
for name, lead, colour in zip(models, leads, colours, strict=True):
    distance = np.sqrt(((lead.values - true.values) ** 2).mean(axis=1))
    axes.plot(lead.lead_steps, distance, color=colour, label=name)
axes.set(xlabel="lead [steps of dt]", ylabel="error of one forecast")
axes.legend()
plt.show()
