"""
Improve a model without the truth
=================================

A record of noisy observations and an imperfect model of what was observed: the loop makes a
better model of the two. This twin experiment hides the truth from the loop and uses it at the
end, to judge. It takes a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml

SIZES = {"quick": (3000, 3, 2), "full": (100_000, None, "auto")}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (20_000, 30, 5))
plt.style.use(daml.figures.STYLE)

# %%
# The truth is a system of five variables; three of them are observed, with an error of variance 1.
# The model at hand knows these three only.
truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
model = daml.Lorenz63()
print(observations)

# %%
# 3DVar weighs the model's forecast against the observations. How far it trusts the forecast, its
# background covariance, follows from the innovations, anew for each model.
#
# Assimilate, train an LSTM on the analyses, put it in the model's place, repeat. A tenth of the
# observations trains nothing: it says which pass is the best.
emulator = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
tree = daml.improve(model, observations, emulator=emulator, passes=PASSES)
print(daml.reports.innovation_table(tree))

# %%
# Without the truth one sees by how much the observations differ from the background (above), and
# with the truth how far the analyses are from it (below). The observations have an error of 1.
scores = daml.reports.collect_innovations(tree)
figure, axes = plt.subplots(2, 1, figsize=(5.4, 5.2), layout="constrained")
daml.figures.innovations(scores, axes=axes[0])
groups = ["imperfect", *(f"iteration/{n}" for n in tree["iteration"].children)]
analyses = [tree[group].to_dataset() for group in groups]
errors = [daml.verification.analysis_error(a, truth).analysis_rmse for a in analyses]
errors = xr.concat(errors, xr.DataArray(np.arange(len(groups)) - 1, dims="iteration"))
axes[1].plot(errors[1:], "o-", label="LSTM-n")
axes[1].axhline(float(errors[0]), color="#D55E00", linestyle="--", label="imperfect model")
axes[1].set(xlabel="iteration n (0 is the first LSTM)", ylabel="RMSE of the analysis")
axes[1].xaxis.get_major_locator().set_params(integer=True)
axes[1].legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()

# %%
# The emulator is a model as the first one was: it forecasts, and it can be assimilated into. On a
# record of its own, from true states, at 1 to 4 steps:
emulator = daml.load_emulator(tree)
test = daml.simulate(daml.CoupledLorenz63(), steps=5000, spinup=2000, seed=4)
for name, judged in (("imperfect model", model), ("improved model", emulator)):
    missed = daml.verification.forecast_error(daml.forecast(judged, test, leads=4), test)
    print(name, daml.verification.mfe(missed).values.round(3))
