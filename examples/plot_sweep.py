"""
A sweep with error bars
=======================

A single run is weak evidence. A sweep runs the experiment for every combination of parameters and
seeds, as one task per member on Dask, and returns one Dataset. Bars are standard deviations over
seeds.

The results in the figures come with daml and have five seeds each (54 minutes on 2 cores for the
first). With ``DAML_DOCS=full`` the sweeps are run again.
"""

import os

import matplotlib.pyplot as plt

import daml

plt.style.use(daml.figures.STYLE)
full = os.environ.get("DAML_DOCS") == "full"


def result(name, grid, **fixed):
    """Give the result of a sweep: as published, or run anew."""
    if not full:
        return daml.reports.published(name)
    return daml.sweep(grid, seeds=5, preset="fast", fixed=fixed, workers=0)


# %%
# Forecasts of the paper's loop at four leads:
paper = result("paper", {"max_variance": [2.0]})
figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
daml.figures.sweep_scores(paper, "mfe_reduction", over="lead", axes=axes)
plt.show()

# %%
# The loop with B from innovations and two networks: one predicts the whole step, the other corrects
# the step of the model.
both = result("innovations", {"correction": [False, True]}, background="innovations", passes=16)
figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
daml.figures.sweep_scores(both, "analysis_rmse", over="correction", axes=axes)
plt.show()

# %%
# The result of a sweep is a Dataset with one dimension per parameter:
last = both.analysis_rmse.sel(record="test").isel(iteration=-1)
print(last.mean("seed").round(3).to_series(), last.std("seed").round(3).to_series(), sep="\n")
