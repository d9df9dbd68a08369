"""
Improve a model without the truth
=================================

A record of noisy observations and an imperfect model of what was observed: the loop makes a
better model of the two. This twin experiment hides the truth from the loop and uses it at the
end, to judge. It takes about two minutes.
"""

import numpy as np
import xarray as xr

import daml

# %%
# The truth is a system of five variables; three of them are observed, with an error of variance 1.
# The model at hand knows these three only.
truth = daml.simulate(daml.CoupledLorenz63(), steps=20_000, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
model = daml.Lorenz63()
print(observations)

# %%
# 3DVar weighs the model's forecast against the observations. How far it trusts the forecast, its
# background covariance, follows from the innovations, anew for each model.
#
# Assimilate, train an LSTM on the analyses, put it in the model's place, repeat. A tenth of the
# observations trains nothing: it says which pass is the best.
tree = daml.improve(model, observations, passes=5)
print(tree["iteration/0004"].to_dataset())
print(daml.reports.innovation_table(tree))

# %%
# Without the truth one sees by how much the observations surprise the background ...
statistics = daml.verification.innovation_statistics
given = statistics(tree["imperfect"].to_dataset(), skip=1000)
passes = [tree[f"iteration/{n:04d}"].to_dataset() for n in range(5)]
found = xr.concat([statistics(p, skip=1000) for p in passes], "iteration")
scores = found[["innovation_rmse"]].assign_coords(iteration=np.arange(5))
scores["imperfect_innovation_rmse"] = given.innovation_rmse
figure = daml.figures.innovations(scores)

# %%
# ... and with it, how far the analyses are from it.
analyses = {"imperfect model": tree["imperfect"].to_dataset()}
analyses |= {f"LSTM-{n}": analysis for n, analysis in enumerate(passes)}
for name, analysis in analyses.items():
    error = daml.verification.analysis_error(analysis, truth)
    print(f"{name}: analysis RMSE {float(error.analysis_rmse):.3f}")

# %%
# The emulator is a model as the first one was: it forecasts, and it can be assimilated into.
emulator = daml.load_emulator(tree)
test = daml.simulate(daml.CoupledLorenz63(), steps=5000, spinup=2000, seed=4)
for name, judged in (("imperfect model", model), (f"LSTM-{tree.attrs['chosen']}", emulator)):
    errors = daml.verification.forecast_error(daml.forecast(judged, test, leads=4), test)
    print(name, daml.verification.mfe(errors).values.round(3))
