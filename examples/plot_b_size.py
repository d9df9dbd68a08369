"""
Sensitivity to B
================

How large should the background covariance B be? If B is too small, the analysis follows the model's
errors; if it is too large, the analysis follows the observations' noise. This example compares the
climatology of a free run, scaled to eight sizes, with B from the innovations, which needs no truth.
It assimilates 100,000 steps and takes half a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt

import daml

STEPS = {"quick": 3000}.get(os.environ.get("DAML_DOCS"), 100_000)
SIZES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
plt.style.use(daml.figures.STYLE)

truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
models = {"imperfect model": daml.Lorenz63(), "perfect model": daml.CoupledLorenz63()}


def rmse(analysis):
    """Give the error of an analysis over what is observed."""
    error = daml.verification.analysis_error(analysis, truth, variables=["x0", "x1", "x2"])
    return float(error.analysis_rmse)


# %%
# The error of each model has a minimum. The B from innovations is not a scaled climatology, but a
# different matrix.
figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
for (name, model), colour in zip(models.items(), ("#D55E00", "#009E73"), strict=True):
    run = daml.simulate(model, steps=STEPS, spinup=2000, seed=3)
    schemes = [daml.ThreeDVar(daml.climatological(run, max_variance=size)) for size in SIZES]
    errors = [rmse(daml.assimilate(model, observations, scheme)) for scheme in schemes]
    scheme, analysis = daml.tuned(daml.ThreeDVar("innovations"), model, observations)
    print(f"{name}: best of the curve {min(errors):.3f}, from innovations {rmse(analysis):.3f}")
    print(scheme.background_covariance.to_pandas().round(2))
    axes.plot(SIZES, errors, "o-", color=colour, label=f"{name}, climatology")
    size = float(scheme.background_covariance.max())
    label = f"{name}, B from innovations"
    axes.plot(size, rmse(analysis), "*", markersize=12, color=colour, label=label)
axes.axhline(1, color="#777777", linestyle=":", label="observations")
axes.set(xscale="log", xlabel="largest background variance", ylabel="RMSE of the analysis")
axes.set(yscale="log")
axes.set_yticks([0.4, 0.6, 1, 2, 4], ["0.4", "0.6", "1", "2", "4"])
axes.set_xticks(SIZES, [f"{size:g}" for size in SIZES])
axes.minorticks_off()
axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
plt.show()
