"""
Where does the gain come from?
==============================

The loop assimilates, learns, and estimates B. Which of these improves the forecasts? This example
compares six ways to make forecasts from the same observations. One of them is trained on the truth,
which shows the best possible training data.

The scores in the figures come with daml (``daml.reports.published("attribution")``): 100,000 steps,
two seeds. With ``DAML_DOCS=full`` in the environment they are computed again, which takes an hour
on one core.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml
from daml.verification import analysis_error, forecast_error, mfe

PASSES = 8
plt.style.use(daml.figures.STYLE)
SEEN = ["x0", "x1", "x2"]
model = daml.Lorenz63()

# %%
# All networks correct the same model. The loop has eight passes; a training outside of the loop has
# as many epochs as all eight passes. :doc:`plot_ways` adds training through the cycle.


def emulators(truth, observations, seed):
    """Give scheme and model of each way; a scheme is tuned where it is left open."""
    fixed, fresh = daml.ThreeDVar("climatological"), daml.ThreeDVar("innovations")
    network = daml.LSTM(base=model, batch_size=32, seed=seed)
    ways = {"model, no DA": (None, model), "DA, no ML": (fresh, model)}
    tree = daml.improve(model, observations, fixed, network, passes=PASSES)
    kept = daml.ThreeDVar(tree["imperfect/scheme"].background_covariance)
    ways["loop, B fixed"] = (kept, daml.load_emulator(tree))
    tree = daml.improve(model, observations, fresh, network, passes=PASSES)
    ways["loop, B from innovations"] = (fresh, daml.load_emulator(tree))
    seen = observations[["observation"]].rename(observation="state")
    for name, record in (("ML on observations", seen), ("ML on the truth", truth)):
        states = record[["state"]].sel(variable=SEEN)
        learnt = network
        for _ in range(PASSES):
            learnt = learnt.fit(states)
        ways[name] = (fresh, learnt)
    return ways


# %%
# The scores are those on another record: the RMSE of the analysis, of the forecasts from it, and of
# forecasts from true states. Without data assimilation a forecast starts from the observation.


def scored(scheme, forecaster, truth, observations):
    """Give the three scores of a way."""
    analysis = observations.rename(observation="analysis").assign(background=lambda d: d.analysis)
    if scheme is not None:
        _, analysis = daml.tuned(scheme, forecaster, observations)
    starts = analysis[["analysis"]].rename(analysis="state")
    ahead = [mfe(forecast_error(daml.forecast(forecaster, s), truth)) for s in (starts, truth)]
    error = analysis_error(analysis, truth, variables=SEEN).analysis_rmse
    names = ("analysis_rmse", "forecast_rmse", "mfe")
    return xr.Dataset(dict(zip(names, (error, *ahead), strict=True)))


def run(seed):
    """Give the scores (case, lead) of a seed."""
    drawn = np.random.SeedSequence(seed).generate_state(4)
    truths = [
        daml.simulate(daml.CoupledLorenz63(), steps=100_000, spinup=2000, seed=int(s))
        for s in drawn[:2]
    ]
    seen = [
        daml.observe(t, variables=SEEN, seed=int(s)) for t, s in zip(truths, drawn[2:], strict=True)
    ]
    ways = emulators(truths[0], seen[0], seed)
    parts = [scored(*way, truths[1], seen[1]) for way in ways.values()]
    return xr.concat(parts, xr.DataArray(list(ways), dims="case", name="case"))


# %%
# Each seed has its own truth, observations and networks.

if os.environ.get("DAML_DOCS") != "full":
    result = daml.reports.published("attribution")
else:
    seeds = xr.DataArray(range(2), dims="seed", name="seed")
    result = xr.concat([run(int(seed)) for seed in seeds], seeds)
for name, words in {
    "analysis_rmse": "RMSE of the state estimate",
    "forecast_rmse": "forecast error from it",
    "mfe": "forecast error from the truth",
}.items():
    result[name].attrs = {"long_name": words, "units": "1"}
print(result.mean("seed").analysis_rmse.to_series().round(3))
figure, axes = plt.subplots(
    3, 1, figsize=(5.4, 7.6), layout="constrained", gridspec_kw={"height_ratios": [1, 1.2, 1.2]}
)
figure.set_label(
    "Three panels. The error of the state is 1 without assimilation, 0.60 with it, 0.41 in the "
    "loop with B from innovations. Forecasts from it and from the truth, against the lead, by "
    "the same six ways."
)
daml.figures.attribution(result, axes=axes)
plt.show()

# %%
# At full size:
#
# - Data assimilation alone reduces the error of the state from 1 (that of an observation) to 0.60,
#   but hardly improves forecasts of three and more steps, because the model is wrong.
# - With a constant B the loop learns a good model, but the analysis does not improve. With B from
#   innovations the error of the analysis falls to 0.41.
# - A network that is trained on the raw observations filters their noise with its memory. If it is
#   run along the observations, its forecasts of one step have an error of 0.34, less than that of
#   the loop's analysis. It does not help in the assimilation, however: its forecasts from inputs
#   other than raw observations are worse, so the B from innovations stays large and the analysis
#   stays near the observation.
# - True states as training data give by far the best forecasts from true states, but poor ones from
#   states with errors, because the network has not learned to filter noise.
#
# Training :doc:`through the cycle <plot_cycle>` combines both, a network that filters and an
# analysis with the right weights: 0.25, and 0.31 for forecasts of one step from it.
