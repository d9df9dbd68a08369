"""
What each step brings: one ladder
=================================

From the paper's 3DVar down to the best filter known here, on the same system and the same kind of
record: five seeds, 100,000 steps, the error of the analysis on a test record that no training saw.

The scores come with daml (:func:`daml.reports.published`), so this takes a second. With
``DAML_DOCS=full`` the last rung is computed, a minute and a half.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml

plt.style.use(daml.figures.STYLE)


# %%
# The last rung is the perfect model in an ensemble filter: an ensemble transform Kalman filter of
# 20 members :cite:`hunt2007`. Its background covariance is that of the moment, which 3DVar lacks.
def etkf(model, observations, members=20, inflation=1.01, seed=0):
    """Give the analysis mean (time, variable) of a filter that observes the first variables."""
    random = np.random.default_rng(seed)
    run = daml.simulate(model, steps=members * 50, spinup=2000, seed=seed).state.values
    ensemble = random.permutation(run)[:members]
    memory, means = model.start(ensemble), []
    for y in observations.observation.values:
        mean = ensemble.mean(0)
        spread = inflation * (ensemble - mean)
        seen = spread[:, : len(y)]  # R is the identity
        values, vectors = np.linalg.eigh((members - 1) * np.eye(members) + seen @ seen.T)
        weights = vectors / values @ vectors.T @ seen @ (y - mean[: len(y)])
        root = vectors * np.sqrt((members - 1) / values) @ vectors.T
        ensemble = mean + (weights + root) @ spread
        means.append(ensemble.mean(0))
        ensemble, memory = model.step(ensemble, memory)
    return np.array(means)


def filtered(seed):
    """Give the filter's error on a record of its own."""
    perfect = daml.CoupledLorenz63()
    truth = daml.simulate(perfect, steps=100_000, spinup=2000, seed=seed)
    observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=seed + 100)
    error = etkf(perfect, observations) - truth.state.values
    return np.sqrt(np.mean(error[1000:, :3] ** 2))


# %%
# The other rungs are the ends of the sweeps whose scores come with daml.
def rungs():
    """Give the errors of five seeds of each method, by its name."""
    names = ("paper", "innovations", "cycle")
    paper, innovations, cycle = (daml.reports.published(name) for name in names)
    paper = paper.squeeze("max_variance", drop=True)
    given = innovations.sel(correction=True)
    yield "imperfect model, 3DVar", paper.imperfect_analysis_rmse
    yield "perfect model, 3DVar, B of the same size", paper.perfect_analysis_rmse
    yield "the paper's loop, LSTM-29", paper.analysis_rmse.isel(iteration=-1)
    yield "imperfect model, 3DVar, B from innovations", given.imperfect_analysis_rmse
    yield "perfect model, 3DVar, B from innovations", given.perfect_analysis_rmse
    for name, result in (
        ("loop, B from innovations: LSTM-15", innovations),
        ("through the cycle: LSTM", cycle),
    ):
        ends = result.analysis_rmse.isel(iteration=-1)
        yield name, ends.sel(correction=False)
        yield f"{name} corrects the model", ends.sel(correction=True)


if os.environ.get("DAML_DOCS") == "full":
    found = {name: error.sel(record="test").values for name, error in rungs()}
    found["perfect model, ensemble filter"] = np.array([filtered(seed) for seed in range(5)])
    told = {"long_name": "RMSE of the analysis, test record", "units": "1"}
    result = xr.Dataset(
        {"analysis_rmse": (("case", "seed"), np.stack([*found.values()]), told)},
        coords={"case": [*found], "seed": range(5)},
    )
else:
    result = daml.reports.published("ladder")

# %%
# The paper's loop keeps B and replaces the model: its analysis gains a tenth. The size of B is the
# larger part of what is left: with B from the innovations the imperfect model's 3DVar gains as much
# at once, and the loop goes on from there, past the perfect model's 3DVar. An LSTM that corrects
# the model gains more than one in its place. One that is trained through the cycle, and says how
# wrong each forecast is, comes near to the filter that knows the perfect model.
figure, axes = plt.subplots(figsize=(6.5, 4.1), layout="constrained")
daml.figures.ladder(result, axes=axes)
plt.show()
