"""
Missing observations
====================

How many observations does the loop need? This example compares analyses with the imperfect model
and analyses after two passes of the loop, for a complete record and for records in which up to four
fifths of the values are missing at random. It takes a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import daml

SIZES = {"quick": (6000, 2, 1), "full": (100_000, None, 8)}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (12_000, 25, 2))
MISSING = (0.0, 0.3, 0.6, 0.8)
plt.style.use(daml.figures.STYLE)

truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
model = daml.Lorenz63()

# %%
# A missing value is NaN. Different values may be missing at each time. If all are missing, the
# analysis is the forecast, and it is not used as a target in training.
rows = []
for missing in MISSING:
    observations = daml.observe(truth, variables=["x0", "x1", "x2"], missing=missing, seed=2)
    network = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
    tree = daml.improve(model, observations, emulator=network, passes=PASSES)
    last = f"iteration/{PASSES - 1:04d}"
    analyses = [tree[group].to_dataset() for group in ("imperfect", last)]
    rows.append([float(daml.verification.analysis_error(a, truth).analysis_rmse) for a in analyses])
    print(missing, np.round(rows[-1], 3))

# %%
# The upper panel shows the errors, the lower panel a part of the record with the fewest
# observations and its analysis.
figure, (top, bottom) = plt.subplots(2, 1, figsize=(5.4, 5.6), layout="constrained")
for column, (name, colour) in enumerate((("imperfect model", "#D55E00"), ("loop", "#0072B2"))):
    top.plot(100 * np.array(MISSING), np.array(rows)[:, column], "o-", color=colour, label=name)
top.set(xlabel="values missing [%]", ylabel="RMSE of the analysis")
top.legend()

stretch = slice(1500, 1620)
time = truth.time[stretch]
bottom.plot(
    time, truth.state.sel(variable="x0")[stretch], color="#AAAAAA", linewidth=3, label="truth"
)
for analysis, name, colour in zip(
    analyses, ("imperfect model", "loop"), ("#D55E00", "#0072B2"), strict=True
):
    bottom.plot(time, analysis.analysis.sel(variable="x0")[stretch], color=colour, label=name)
seen = observations.observation.sel(variable="x0")[stretch]
bottom.plot(time, seen, "o", color="#E69F00", markersize=4, label="observations")
bottom.set(xlabel="time", ylabel="x0")
bottom.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()
