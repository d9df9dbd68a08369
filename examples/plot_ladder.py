"""
The gain of each step
=====================

This example computes the ladder of analysis errors of :doc:`/beyond`, from 3DVar with the imperfect
model to a filter with the perfect model. All errors are those on five test records of 100,000 steps
that were not used in training.

The scores come with daml (:func:`daml.reports.published`), so this takes a second. With
``DAML_DOCS=full`` the last three rungs are computed again, which takes four minutes.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import daml

plt.style.use(daml.figures.STYLE)


# %%
# One rung is an ensemble transform Kalman filter of 20 members :cite:`hunt2007` with the perfect
# model. Unlike 3DVar, it has a background covariance that depends on the current state.
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


def record(seed):
    """Give the truth of x0, x1 and x2, and observations of it."""
    seen = ["x0", "x1", "x2"]
    truth = daml.simulate(daml.CoupledLorenz63(), steps=100_000, spinup=2000, seed=seed)
    observations = daml.observe(truth, variables=seen, seed=seed + 100)
    return truth.state.sel(variable=seen).values, observations


def rmse(truth, analysis):
    """Give the error of an analysis without its first 1,000 steps."""
    return np.sqrt(np.mean((analysis[1000:, :3] - truth[1000:]) ** 2))


def filtered(seed):
    """Give the ensemble filter's error on a record."""
    truth, observations = record(seed)
    return rmse(truth, etkf(daml.CoupledLorenz63(), observations))


# %%
# The two best rungs are sigma-point filters: with the imperfect model and two hidden variables
# (:doc:`plot_hidden_variables`), and with the perfect model. Their records have the seeds 1 to 5,
# because the record of seed 0 was used in training.
def sigma_points(model, seed):
    """Give the error of a model's filter of sigma points on a record."""
    truth, observations = record(seed)
    analysis = daml.assimilate(model, observations, daml.schemes.SigmaPoint())
    return rmse(truth, analysis.analysis.values)


# %%
# The other rungs are the last scores of the sweeps that come with daml.
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
        yield f"{name} as a correction", ends.sel(correction=True)


if os.environ.get("DAML_DOCS") == "full":
    found = {name: error.sel(record="test").values for name, error in rungs()}
    found["perfect model, ensemble filter"] = np.array([filtered(seed) for seed in range(5)])
    hidden = daml.load_emulator(daml.reports.published("hidden"), base=daml.Lorenz63())
    for name, model in (
        ("imperfect model, two hidden variables", hidden),
        ("perfect model, sigma-point filter", daml.CoupledLorenz63()),
    ):
        found[name] = np.array([sigma_points(model, seed) for seed in range(1, 6)])
    attrs = {"long_name": "RMSE of the analysis, test record", "units": "1"}
    result = xr.Dataset(
        {"analysis_rmse": (("case", "seed"), np.stack([*found.values()]), attrs)},
        coords={"case": [*found], "seed": range(5)},
    )
else:
    result = daml.reports.published("ladder")

# %%
# The paper's loop keeps B and replaces the model: its analysis error falls by a tenth. B from the
# innovations reduces the error of 3DVar with the imperfect model by as much, without any training,
# and with it the loop ends below 3DVar with the perfect model. An LSTM that corrects the model is
# better than one that replaces it. An LSTM that is trained through the cycle and predicts the
# covariance of its forecast errors is better again. The model with hidden variables comes within
# 5 % of a filter with the perfect model. :doc:`/beyond` explains the steps.
figure, axes = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
daml.figures.ladder(result, axes=axes)
figure.set_label(
    "Twelve analysis errors, one below the other, from the imperfect model's 3DVar at 0.67 by "
    "the paper's loop at 0.61 and the training through the cycle at 0.25 down to hidden "
    "variables at 0.19 and the perfect model's filter at 0.18."
)
plt.show()
