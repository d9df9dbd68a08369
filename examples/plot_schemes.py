"""
Which scheme? Accuracy against cost
===================================

This example measures accuracy and cost of many schemes on the same record with
:func:`daml.compare_schemes`: on two textbook systems with a perfect model, and on the experiment of
the paper with the perfect and with the imperfect model. It takes a few minutes on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

import daml
from daml import schemes as s

SIZE = os.environ.get("DAML_DOCS")
L63, L96, TWIN = {"quick": (1_000, 150, 300), "full": (20_000, 2_000, 3_000)}.get(
    SIZE, (5_000, 500, 1_000)
)
SEEDS = range(5 if SIZE == "full" else 1)
plt.style.use(daml.figures.STYLE)

# %%
# Rare observations of a small system
# -----------------------------------
# Lorenz 63, all variables observed every 0.25 time units with errors of variance 2, as in Sakov et
# al. (2012). Between two observations errors grow so large that the model is no longer linear in
# them. The best schemes are those that iterate over a window, and the particle filter, which makes
# no assumption on the distribution of the errors.
model = daml.Lorenz63(dt=0.05)
truth = daml.simulate(model, steps=L63, spinup=200, seed=1)
observations = daml.observe(truth, every=5, error_variance=2.0, seed=2)
turned = {"inflation": 1.02, "rotate": True}
B = daml.climatological(daml.simulate(model, steps=20_000, spinup=500), scale=0.005)
few = {
    "3DVar": daml.ThreeDVar(),
    "EnKF 10": s.EnKF(10, inflation=1.04),
    "ETKF 10": s.ETKF(10, **turned),
    "EnKF-N 10": s.EnKFN(10, rotate=True),
    "sigma points": s.SigmaPoint(model_error="innovations"),
    "4DVar": s.FourDVar(B, window=5),
    "IEnKF 10": s.IEnKS(10, window=5, **turned),
    "IEnKS 10, 3 times": s.IEnKS(10, window=15, shift=5, **turned),
    "ETKF-4DVar 10": s.ETKF4DVar(10, window=5, **turned),
    "particles 100": s.ParticleFilter(100, regularisation=2.4, resample_below=0.3),
    "particles 800": s.ParticleFilter(800, regularisation=0.9, resample_below=0.2),
}
small = daml.compare_schemes(model, observations, few, truth=truth, skip=200)
figure, axes = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
daml.figures.scheme_costs(small, axes=axes)
plt.show()

# %%
# Forty variables, all observed
# -----------------------------
# Lorenz 96, every variable observed at every step with errors of variance 1. The model is nearly
# linear between two observations, so a filter is as good as a smoother. The schemes differ in the
# number of states that have to be stepped: two for each of the forty variables with sigma points,
# 24 members without localisation, and 7 members with localisation, which treats distant variables
# as independent.
ring = daml.models.Lorenz96()
run = daml.simulate(ring, steps=L96, spinup=500, seed=1)
seen = daml.observe(run, seed=2)
names = list(ring.variables)
identity = xr.DataArray(
    0.05 * np.eye(40), {"variable": names, "covariable": names}, ("variable", "covariable")
)
many = {
    "3DVar": daml.ThreeDVar("climatological"),
    "EnKF 40": s.EnKF(40, inflation=1.06),
    "DEnKF 40": s.DEnKF(40, inflation=1.01, rotate=True),
    "ETKF 24": s.ETKF(24, inflation=1.013, rotate=True),
    "EnKF-N 24": s.EnKFN(24, rotate=True),
    "4DVar, 4 times": s.FourDVar(identity, window=4, shift=1),
    "IEnKS 24, 4 times": s.IEnKS(24, window=4, shift=1, inflation=1.013, rotate=True),
    "EnVar 7": s.EnVar(7, beta=0.1, radius=7.28, inflation=1.04, rotate=True),
    "LETKF 7": s.LETKF(7, radius=7.28, inflation=1.04, rotate=True),
    "sigma points": s.SigmaPoint(model_error=1e-4),
}
large = daml.compare_schemes(ring, seen, many, truth=run)
figure, axes = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
daml.figures.scheme_costs(large, axes=axes)
plt.show()

# %%
# The experiment of the paper
# ---------------------------
# The truth is a Lorenz 63 system coupled to an oscillator; x0, x1 and x2 are observed. The perfect
# model has the oscillator, the imperfect model lacks it. For each model, B, the inflation or the
# covariance of the model error is tuned by the innovations. With the perfect model, the schemes
# that carry a covariance have at most half the error of 3DVar. With the imperfect model the
# schemes hardly differ: no scheme can compensate for what the model lacks.
tuned_by_innovations = {
    "3DVar": daml.ThreeDVar("innovations"),
    "ETKF 20": s.ETKF(20, inflation="innovations"),
    "EnKF 20": s.EnKF(20, inflation="innovations"),
    "EnVar 5": s.EnVar(5, beta="innovations", inflation=1.05),
    "IEnKS 20, 4 times": s.IEnKS(20, window=4, shift=1, inflation="innovations", rotate=True),
    "extended Kalman": s.ExtendedKalman(model_error="innovations"),
    "sigma points": s.SigmaPoint(model_error="innovations"),
}
seen_variables = ["x0", "x1", "x2"]
found = {"perfect": [], "imperfect": []}
for seed in SEEDS:
    nature = daml.simulate(daml.CoupledLorenz63(), steps=TWIN, spinup=2000, seed=seed)
    record = daml.observe(nature, variables=seen_variables, seed=seed + 100)
    judged = nature.sel(variable=seen_variables)
    for kind, of in (("perfect", daml.CoupledLorenz63()), ("imperfect", daml.Lorenz63())):
        scores = daml.compare_schemes(
            of, record, tuned_by_innovations, truth=judged, skip=TWIN // 20, spinup=400
        )
        found[kind].append(scores.analysis_rmse.to_series())
table = pd.concat({kind: pd.concat(rows, axis=1).T for kind, rows in found.items()})
print(table.groupby(level=0).mean().T.round(3).to_string())
