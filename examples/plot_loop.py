"""
Improve a model without the truth
=================================

The loop makes a better model from noisy observations and an imperfect model of the observed system.
In this twin experiment the truth is known, but it is used only at the end, to compute errors. This
example takes a minute on 2 cores.
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
# The imperfect model has these three only.
truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
model = daml.Lorenz63()
print(observations)

# %%
# 3DVar weighs the model's forecast against the observations. The background covariance, which
# determines the weights, is estimated from the innovations, for each model.
#
# The loop assimilates, trains an LSTM on the analyses, puts it in the model's place, and repeats. A
# tenth of the observations is not trained on; they decide which pass is the best.
emulator = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
tree = daml.improve(model, observations, emulator=emulator, passes=PASSES)
print(daml.reports.innovation_table(tree))

# %%
# The upper panel needs no truth: it shows the difference between the observations and the
# background. The lower panel shows the errors of the analyses; the observations have an error of 1.
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
# The emulator is a model, too: it makes forecasts, and observations can be assimilated with it.
# These are the errors of forecasts at 1 to 4 steps from the true states of another record:
emulator = daml.load_emulator(tree)
test = daml.simulate(daml.CoupledLorenz63(), steps=5000, spinup=2000, seed=4)
for name, judged in (("imperfect model", model), ("improved model", emulator)):
    missed = daml.verification.forecast_error(daml.forecast(judged, test, leads=4), test)
    print(name, daml.verification.mfe(missed).values.round(3))
