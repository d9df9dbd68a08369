"""
Ensembles: is the spread right?
===============================

An ensemble estimates the uncertainty of its analyses and forecasts. Rank histograms, the ratio of
spread and error, and the CRPS show whether the estimate is right. This example compares 3DVar, an
ETKF of 24 members and an LETKF of 7 on Lorenz 96, with every variable observed at every step with
errors of variance 1. It takes half a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml
from daml.verification import probabilistic

STEPS, SPINUP, LEADS = {"quick": (600, 200, 12)}.get(os.environ.get("DAML_DOCS"), (4000, 400, 40))
# sphinx_gallery_thumbnail_number = 2
plt.style.use(daml.figures.STYLE)

model = daml.models.Lorenz96()
truth = daml.simulate(model, steps=STEPS, spinup=1000, seed=1)
observations = daml.observe(truth, seed=2)
etkf = daml.schemes.ETKF(members=24, inflation=1.02, rotate=True)
letkf = daml.schemes.LETKF(members=7, radius=7.28, inflation=1.04, rotate=True)
ensembles = {
    name: daml.assimilate(model, observations, scheme, keep_members=True)
    for name, scheme in {"ETKF 24": etkf, "LETKF 7": letkf}.items()
}
_, var = daml.tuned(daml.ThreeDVar("innovations"), model, observations)
for name, analysis in (ensembles | {"3DVar": var}).items():
    error = daml.verification.analysis_error(analysis, truth, skip=SPINUP)
    print(f"{name}: RMSE of the analysis {float(error.analysis_rmse):.3f}")

# %%
# Spread and error
# ----------------
# The spread of an ensemble is the expected error. Unlike a constant B it changes with the flow:
# when the flow is less predictable, spread and error are larger.
window = slice(SPINUP, SPINUP + 200)
found = probabilistic.spread_error(ensembles["LETKF 7"].isel(time=window), truth, by=["time"])
figure, axes = plt.subplots(figsize=(5.4, 3.0), layout="constrained")
daml.figures.spread_error(found, axes=axes)
axes.set_title("LETKF 7, mean over the ring", loc="right")
plt.show()

# %%
# On average spread and error should be equal. The spread is multiplied by a factor, because the
# mean of a few members is uncertain, too. Here the spread is larger than the error: with less
# inflation it would be smaller, but the filters would lose the truth now and then.
for name, analysis in ensembles.items():
    ratio = probabilistic.spread_error(analysis.isel(time=slice(SPINUP, None)), truth).ratio
    print(f"{name}: spread / error {float(ratio):.2f}")

# %%
# Ranks
# -----
# If the truth and the members are drawn from the same distribution, the truth is below all members
# as often as between any two: the rank histogram is flat, apart from sampling errors, which the
# band shows. If the spread is too large, the histogram is dome-shaped. Only every 20th step of the
# record is used, so that the cases are nearly independent in time.
apart = slice(SPINUP, None, 20)
figure, axes = plt.subplots(2, 1, figsize=(5.4, 4.8), layout="constrained")
for (name, analysis), ax in zip(ensembles.items(), axes, strict=True):
    daml.figures.rank_histogram(
        probabilistic.rank_histogram(analysis.isel(time=apart), truth), axes=ax
    )
    ax.set_title(name, loc="right")
plt.show()

# %%
# If the observation errors are assumed to be half as large as they are, the spread of the LETKF is
# too small, and the truth is outside of the members too often: the histogram is U-shaped.
doubtful = observations.assign(error_variance=0.25 * observations.error_variance)
analysis = daml.assimilate(model, doubtful, letkf, keep_members=True)
figure, axes = plt.subplots(figsize=(5.4, 2.8), layout="constrained")
daml.figures.rank_histogram(probabilistic.rank_histogram(analysis.isel(time=apart), truth), axes)
axes.set_title("LETKF 7, R too small", loc="right")
plt.show()

# %%
# Forecasts
# ---------
# The spread of the forecasts grows with their errors. The CRPS measures both: an ensemble with the
# right spread has a lower CRPS than a single forecast. 3DVar has no members, so the CRPS of its
# forecast is the absolute error.
leads = np.unique(np.geomspace(1, LEADS, 12).astype(int)).tolist()
starts = slice(SPINUP, None, 10)


def ahead(analysis):
    """Give forecasts from the analyses, of some starts."""
    made = daml.forecast(model, analysis, leads=leads, warmup=0)
    return made.isel(start=starts)


forecasts = {name: ahead(analysis) for name, analysis in ensembles.items()}
single = ahead(var)
forecasts["3DVar, one forecast"] = single.assign(forecast_spread=xr.zeros_like(single.forecast))
scheme = xr.DataArray(list(forecasts), dims="scheme", name="scheme")
scores = xr.concat([probabilistic.crps(f, truth) for f in forecasts.values()], scheme)
figure, axes = plt.subplots(figsize=(5.4, 3.0), layout="constrained")
daml.figures.crps(scores, axes=axes)
plt.show()

# %%
# With the lead, spread and error of the forecasts become more similar.
found = [probabilistic.spread_error(forecasts[name], truth) for name in ensembles]
figure, axes = plt.subplots(figsize=(5.4, 3.0), layout="constrained")
daml.figures.spread_error(xr.concat(found, scheme[:2]), axes=axes)
plt.show()
