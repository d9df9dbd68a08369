"""
A record that need not fit into memory
======================================

Truth, observations and analyses are written to Zarr part by part, and scores are computed lazily
with Dask, one chunk at a time. This example has 300,000 steps and takes half a minute on 2 cores;
ten million steps took five minutes and 957 MB of memory (:doc:`/guide/dask`).
"""

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import daml

STEPS = {"quick": 20_000, "full": 10_000_000}.get(os.environ.get("DAML_DOCS"), 300_000)
plt.style.use(daml.figures.STYLE)
folder = Path(tempfile.mkdtemp())
model = daml.Lorenz63()

# %%
# Each call writes a store and opens it lazily.
run = daml.simulate(model, steps=5000, spinup=1000)
scheme = daml.ThreeDVar(daml.climatological(run, max_variance=1))
truth = daml.simulate(model, steps=STEPS, spinup=1000, seed=1, store=folder / "truth.zarr")
observations = daml.observe(truth, missing=0.2, seed=2, store=folder / "observations.zarr")
analysis = daml.assimilate(model, observations, scheme, store=folder / "analysis.zarr")
print(analysis)

# %%
# The rest is ordinary xarray on Dask: nothing is loaded before ``compute``, which loads one chunk
# at a time.
square = ((analysis.analysis - truth.state) ** 2).mean("variable")
blocks = np.sqrt(square.coarsen(time=1000, boundary="trim").mean())
print(blocks)
blocks = blocks.compute()

# %%
# This is the error of blocks of 1,000 steps. It is stationary: it does not grow with the distance
# from the start, nor where the record was cut.
shape = {"sharey": True, "gridspec_kw": {"width_ratios": [4, 1]}}
figure, (left, right) = plt.subplots(1, 2, figsize=(5.4, 2.8), layout="constrained", **shape)
left.plot(blocks.time, blocks, linewidth=0.8)
left.set(xlabel="time", ylabel="RMSE of 1,000 analyses")
right.hist(blocks, bins=30, orientation="horizontal", color="#0072B2")
right.set(xlabel="blocks")
plt.show()
