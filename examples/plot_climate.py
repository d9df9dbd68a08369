"""
Free runs: the climate of an emulator
=====================================

Accurate forecasts of a few steps do not show whether a network has learned the system. This example
tests free runs: do they stay on the attractor, do their trajectories diverge as fast as those of
the truth, and how long are forecasts useful? It compares the imperfect model, LSTM-29 of the
paper's loop, and two networks that were trained :doc:`through the cycle <plot_cycle>`, all with the
same observations.

The scores in the figures come with daml (``daml.reports.published("climate")``) and are those of
``daml paper --beyond``, seed 0. With ``DAML_DOCS=full`` the experiment is run, which takes half an
hour on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from scipy.stats import wasserstein_distance

import daml

# sphinx_gallery_thumbnail_number = 2
plt.style.use(daml.figures.STYLE)
SEEN = ["x0", "x1", "x2"]
BINS = np.linspace(-30, 55, 171)
perfect, imperfect = daml.CoupledLorenz63(), daml.Lorenz63()


def free(model, truth):
    """Give a run of a model (time, variable) as long as the truth."""
    return daml.simulate(model, steps=truth.sizes["time"], spinup=1000, seed=3).state.sel(
        variable=SEEN
    )


def measured(run, truth):
    """Give the densities of a run, and how far its histograms lie from those of the truth."""
    pairs = [(run.sel(variable=v).values, truth.state.sel(variable=v).values) for v in SEEN]
    return xr.Dataset(
        {
            "density": (
                ("variable", "value"),
                [np.histogram(own, BINS, density=True)[0] for own, _ in pairs],
            ),
            "distance": ("variable", [wasserstein_distance(*pair) for pair in pairs]),
        },
        coords={"variable": SEEN, "value": (BINS[1:] + BINS[:-1]) / 2},
    )


def compared(tree):
    """Give what each model of an experiment does when it is left alone (model, ...)."""
    truth = tree["test/truth"].to_dataset().load()
    beyond = {name: tree[f"beyond/{name}"].to_dataset() for name in ("LSTM", "correction")}
    models = {
        "model given": imperfect,
        "LSTM-29": daml.load_emulator(tree, -1),
        "through the cycle": daml.load_emulator(beyond["LSTM"]),
        "the same, correcting the model": daml.load_emulator(beyond["correction"], base=imperfect),
    }
    starts, part = truth.isel(time=slice(0, None, 500)), truth.isel(time=slice(0, 20_000))
    growth = daml.lyapunov_exponent(perfect, starts)
    parts = {"truth": measured(free(perfect, truth), truth).assign(exponent=growth)}
    for name, model in models.items():
        ahead = daml.forecast(model, part, leads=200)
        parts[name] = measured(free(model, truth), truth).assign(
            exponent=daml.lyapunov_exponent(model, starts.sel(variable=SEEN)),
            holds=(daml.diagnosis.valid_time(ahead, part) * growth).median(),
        )
    return xr.concat(parts.values(), xr.DataArray(list(parts), dims="model", name="model"))


# %%
# The first row is another run of the truth, whose distance to the truth is the smallest that a
# model can reach. The Wasserstein distance between two histograms is in units of the variable; the
# largest Lyapunov exponent is the rate at which trajectories diverge. The last column is the length
# of useful forecasts from true states, in Lyapunov times: the time in which an error of the true
# system grows by a factor e.

if os.environ.get("DAML_DOCS") != "full":
    result = daml.reports.published("climate")
else:
    result = compared(daml.paper.run("fast", beyond=True))
table = result[["exponent", "holds"]].to_dataframe()
for variable in SEEN:
    table[f"distance {variable}"] = result.distance.sel(variable=variable).values
print(table.round(2).to_string())

fig, axes = plt.subplots(3, 1, figsize=(5.4, 6), layout="constrained", sharey=True)
places = np.arange(result.sizes["model"])
axes[0].plot(result.exponent, places, "o", color="#0072B2")
axes[0].axvline(result.exponent[0], color="#444444", linestyle=":", linewidth=1)
axes[0].set(xlabel="largest Lyapunov exponent", yticks=places, yticklabels=result.model.values)
axes[1].barh(places, result.holds, color="#0072B2", height=0.5)
axes[1].set(xlabel="a forecast holds for [Lyapunov times]")
for variable, marker in zip(SEEN, "osD", strict=True):
    axes[2].plot(result.distance.sel(variable=variable), places, marker, label=variable)
axes[2].set(xlabel="Wasserstein distance of the histogram from the truth's", xlim=(0, None))
axes[2].legend(fontsize=7)
axes[0].invert_yaxis()
plt.show()

# %%
# The climate of both networks that were trained through the cycle is as close to that of the truth
# as another run of the truth, and the growth rates of errors agree within 3 %. The climate of the
# imperfect model is not far from the truth either, although its forecasts soon fail.

COLOURS = ("#444444", "#D55E00", "#E69F00", "#56B4E9", "#0072B2")
fig, axes = plt.subplots(1, 3, figsize=(5.4, 2.8), layout="constrained")
for ax, variable in zip(axes, SEEN, strict=True):
    density = result.density.sel(variable=variable)
    for name, colour in zip(result.model.values, COLOURS, strict=True):
        line = density.sel(model=name)
        ax.stairs(line, BINS, color=colour, linewidth=2.5 if name == "truth" else 1, label=name)
    there = result.value.values[(density > 0).any("model").values]
    ax.set(xlabel=f"{variable}", yticks=[], xlim=(there.min(), there.max()))
axes[0].set(ylabel="density")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()
