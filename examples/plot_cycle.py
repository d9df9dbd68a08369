"""
Learning through the cycle
==========================

The loop trains on analyses, which contain errors of the model that made them. But the assimilation
cycle itself can be differentiated. In this example an LSTM is trained inside the cycle to minimise
the distance of its forecasts from the next observations. It also learns the covariance of its
forecast errors, which 3DVar uses as B (:doc:`/guide/cycle`).

This example takes two minutes on 2 cores; with ``DAML_DOCS=full`` in the environment it has 100,000
steps and takes ten minutes.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import daml
from daml.verification import analysis_error, forecast_error, mfe, reduction

SIZES = {"quick": (3000, 2, 2), "full": (100_000, None, None)}
STEPS, FIRST, EPOCHS = SIZES.get(os.environ.get("DAML_DOCS"), (20_000, 40, 200))
SEEN = ["x0", "x1", "x2"]
# sphinx_gallery_thumbnail_number = 2
plt.style.use(daml.figures.STYLE)

model = daml.Lorenz63()
records = []
for seed in (1, 2):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=seed)
    records.append((truth, daml.observe(truth, variables=SEEN, seed=seed + 10)))
(_, observations), (truth, test) = records

# %%
# One call runs a short training on the analyses of the imperfect model, then a training through the
# cycle, which stops when held-out observations are no longer predicted better.

network = daml.LSTM(base=model, covariance="predicted", epochs=FIRST, cycle_epochs=EPOCHS)
tree = daml.improve(model, observations, emulator=network, training="cycle")
emulator = daml.load_emulator(tree, -1)

# %%
# Comparison with the imperfect model on a record that was not used in training. The observations
# have an error of 1.

scheme = daml.ThreeDVar("model")
analysis = daml.assimilate(emulator, test, scheme)
_, before = daml.tuned(daml.ThreeDVar("innovations"), model, test)
for name, found in (("model given", before), ("through the cycle", analysis)):
    scores = analysis_error(found, truth, variables=SEEN)
    print(f"{name}: RMSE of the analysis {float(scores.analysis_rmse):.3f}")
errors = [mfe(forecast_error(daml.forecast(m, truth), truth)) for m in (model, emulator)]
print("forecast error lower by (%)", reduction(errors[1], errors[0]).values.round(1))

# %%
# Is the predicted covariance right? The figure shows the innovations divided by their expected
# size: their mean square in time, their distribution, and their size for small and large expected
# values.

fig, axes = plt.subplots(3, 1, figsize=(5, 7.6), layout="constrained")
daml.figures.calibration(daml.diagnosis.calibration(analysis), axes)
plt.show()

# %%
# The expected errors on the attractor:

edges = np.linspace(-20, 20, 41), np.linspace(0, 50, 51)
spread = daml.diagnosis.spread_map(analysis, ("x0", edges[0]), ("x2", edges[1]))
fig, ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
spread.plot(ax=ax, x="x0_bin", y="x2_bin", robust=True, cbar_kwargs={"label": "expected error"})
ax.set(xlabel="x0", ylabel="x2")
fig.set_label(
    "A map over x0 and x2 of the error that the network expects of its background: small in the "
    "middle of the attractor and largest at its edge."
)
plt.show()

# %%
# The length of useful forecasts and the growth rate of errors in each model. The unit of time is
# the one in which an error of the true system grows by a factor e.

starts, part = truth.isel(time=slice(0, None, 200)), truth.isel(time=slice(0, 4000))
growth = daml.lyapunov_exponent(daml.CoupledLorenz63(), starts)
print(f"truth: largest Lyapunov exponent {growth:.2f}")
for name, forecaster in (("model given", model), ("through the cycle", emulator)):
    exponent = daml.lyapunov_exponent(forecaster, starts.sel(variable=SEEN))
    holds = daml.diagnosis.valid_time(daml.forecast(forecaster, part, leads=200), part)
    held = float(holds.median()) * growth
    print(f"{name}: largest Lyapunov exponent {exponent:.2f}, holds for {held:.1f} Lyapunov times")

# %%
# The climate of free runs, without observations:

runs = {"truth": truth, "model given": model, "through the cycle": emulator}
fig, axes = plt.subplots(1, 3, figsize=(5.4, 2.6), layout="constrained")
for name, colour in zip(runs, ("#444444", "#D55E00", "#0072B2"), strict=True):
    run = runs[name]
    if name != "truth":
        run = daml.simulate(run, steps=STEPS, spinup=1000, seed=3)
    for ax, variable in zip(axes, SEEN, strict=True):
        values = run.state.sel(variable=variable)
        ax.hist(values, bins=60, density=True, histtype="step", color=colour, label=name)
        ax.set(xlabel=f"{variable}", yticks=[])
axes[0].set(ylabel="density")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
plt.show()
