"""
Hidden variables and the truth
==============================

The imperfect model has three of the five variables of the truth. :class:`daml.emulators.Augmented`
adds two hidden variables and learns their dynamics through the filter, from observations of the
three alone (:doc:`/guide/hidden_variables`). This example compares them with the true variables,
which were not used in training.

The model comes with daml (``daml.reports.published("hidden")``) and was trained on 100,000 steps.
With ``DAML_DOCS=full`` in the environment it is trained again, which takes ten minutes on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import welch

import daml

plt.style.use(daml.figures.STYLE)
SIZES = {"quick": (4000, 50), "full": (100_000, 1000)}
STEPS, GROWTH = SIZES.get(os.environ.get("DAML_DOCS"), (20_000, 500))
SEEN, UNSEEN, SPINUP = ["x0", "x1", "x2"], ["x3", "x4"], 200
TRUE, FOUND, GIVEN = "#333333", "#0072B2", "#D55E00"
perfect, imperfect = daml.CoupledLorenz63(), daml.Lorenz63()
scheme = daml.schemes.SigmaPoint()


def record(seed, steps=STEPS):
    """Give a truth, and observations of its first three variables."""
    truth = daml.simulate(perfect, steps=steps, spinup=2000, seed=seed)
    return truth, daml.observe(truth, variables=SEEN, seed=seed + 100)


def trained():
    """Give the imperfect model with two hidden variables, from a record of 100,000 steps."""
    _, observations = record(0, 100_000)
    _, analysis = daml.tuned(daml.ThreeDVar("innovations"), imperfect, observations)
    emulator = daml.emulators.Augmented(hidden_variables=2, base=imperfect)
    return emulator.begin(analysis, held_out=0.1).fit_cycle(observations, scheme)


if os.environ.get("DAML_DOCS") == "full":
    model = trained()
else:
    model = daml.load_emulator(daml.reports.published("hidden"), base=imperfect)

# %%
# A filter with this model is compared with a filter with the perfect model, on a record that was
# not used in training. In both cases only x0, x1 and x2 are observed.

truth, observations = record(1)
analysis = daml.assimilate(model, observations, scheme)
best = daml.assimilate(perfect, observations, scheme)
_, given = daml.tuned(daml.ThreeDVar("innovations"), imperfect, observations)
for name, made in (("imperfect model, 3DVar", given), ("hidden variables", analysis)):
    error = daml.verification.analysis_error(made, truth, skip=SPINUP, variables=SEEN)
    print(f"{name:<24}{float(error.analysis_rmse):.3f}")
error = daml.verification.analysis_error(best, truth, skip=SPINUP, variables=SEEN)
print(f"{'perfect model':<24}{float(error.analysis_rmse):.3f}")

# %%
# The hidden variables z have arbitrary coordinates: any invertible map of the whole state that does
# not change x0, x1 and x2 gives an equivalent model. So x3 and x4 are compared with a linear map of
# (z, x), which is fitted to another record.


def columns(states):
    """Give hidden and seen variables and a constant (time, 6) of states (time, variable)."""
    parts = [states.sel(variable=[*model.hidden_names, *SEEN]).values, np.ones((len(states), 1))]
    return np.concatenate(parts, axis=1)


other, seen = record(2)
fitting = daml.assimilate(model, seen, scheme).analysis[SPINUP:]
target = other.state.sel(variable=UNSEEN).values[SPINUP:]
linear = np.linalg.lstsq(columns(fitting), target, rcond=None)[0]
hidden_only = np.linalg.lstsq(columns(fitting)[:, [0, 1, 5]], target, rcond=None)[0]

states = analysis.analysis[SPINUP:]
found, true = columns(states) @ linear, truth.state.sel(variable=UNSEEN).values[SPINUP:]
by_hidden = columns(states)[:, [0, 1, 5]] @ hidden_only
print("         " + "".join(f"{name:>9}" for name in (*model.hidden_names, *SEEN, "constant")))
for name, weights in zip(UNSEEN, linear.T, strict=True):
    print(f"{name} =     " + "".join(f"{weight:9.2f}" for weight in weights))
for name, maps in (("z and x", found), ("z alone", by_hidden)):
    pairs = zip(maps.T, true.T, strict=True)
    print(f"correlation, {name}:", *(f"{np.corrcoef(*pair)[0, 1]:.4f}" for pair in pairs))

fig, axes = plt.subplots(2, 2, figsize=(5.4, 4), width_ratios=(3, 1), layout="constrained")
times = states.time.values[:600]
for row, name in enumerate(UNSEEN):
    axes[row, 0].plot(times, true[:600, row], color="#BBBBBB", linewidth=4, label="truth")
    axes[row, 0].plot(times, found[:600, row], color=FOUND, linewidth=1, label="found, mapped")
    axes[row, 0].set(ylabel=name)
    axes[row, 1].plot(true[::10, row], found[::10, row], ".", color=FOUND, markersize=1)
    axes[row, 1].axline((0, 0), slope=1, color=TRUE, linewidth=0.8)
    axes[row, 1].set(xlabel=f"{name}, truth", ylabel="found, mapped", aspect="equal")
axes[0, 0].legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
axes[1, 0].set(xlabel="time")
plt.show()

# %%
# A free run starts from the model's own climate; the same linear map turns its hidden variables
# into x3 and x4. The oscillator that the imperfect model lacks has the frequency 1.5 / 2π, at which
# the spectra of x3 and x4 have their peaks.

free = daml.simulate(model, steps=STEPS, spinup=1000, seed=3).state
runs = {
    "truth": (truth.state.sel(variable=UNSEEN).values, TRUE),
    "free run, mapped": (columns(free) @ linear, FOUND),
}
fig, axes = plt.subplots(1, 2, figsize=(5.4, 2.8), layout="constrained", sharey=True)
for name, (values, colour) in runs.items():
    frequency, power = welch(values, fs=1 / perfect.dt, nperseg=1024, axis=0)
    inside = (frequency > 0) & (frequency < 4)
    for column, ax in enumerate(axes):
        ax.plot(frequency[inside], power[inside, column], color=colour, label=name)
for name, ax in zip(UNSEEN, axes, strict=True):
    ax.axvline(perfect.omega / (2 * np.pi), color=TRUE, linestyle=":", linewidth=1)
    ax.set(yscale="log", xlabel="frequency", title=name)
axes[0].set(ylabel="power spectral density")
axes[0].legend()
plt.show()

# %%
# Mean and standard deviation of all five variables, and the largest Lyapunov exponent, the growth
# rate of errors:

mapped = np.concatenate((free.sel(variable=SEEN).values, columns(free) @ linear), axis=1)
print("          " + "".join(f"{name:>14}" for name in truth.variable.values))
for name, values in (("truth", truth.state.values), ("free run", mapped)):
    cells = zip(values.mean(axis=0), values.std(axis=0), strict=True)
    print(f"{name:<10}" + "".join(f"{mean:8.2f} ±{spread:5.2f}" for mean, spread in cells))

starts = slice(SPINUP, None, max(STEPS // 100, 1))
growth = daml.lyapunov_exponent(perfect, truth.isel(time=starts), steps=GROWTH)
own = daml.lyapunov_exponent(model, truth.isel(time=starts), steps=GROWTH)
without = daml.lyapunov_exponent(imperfect, truth.isel(time=starts), steps=GROWTH)
print(f"Lyapunov exponent: truth {growth:.2f}, model {own:.2f}, imperfect model {without:.2f}")

# %%
# The length of useful forecasts: from the true x0, x1 and x2, with hidden variables that are
# estimated from them by a filter, and from the filter's own analysis. The unit is the time in which
# an error of the true system grows by a factor e.

part = slice(0, min(STEPS // 2, 10_000))
near = truth.isel(time=part)
kinds = {
    "imperfect model, true states": (imperfect, near, GIVEN, "-"),
    "hidden variables, true states": (model, near, FOUND, "-"),
    "hidden variables, analysis": (model, analysis[["analysis"]].isel(time=part), FOUND, ":"),
}
fig, ax = plt.subplots(figsize=(5.4, 3), layout="constrained")
for name, (judged, initial, colour, line) in kinds.items():
    made = daml.forecast(judged, initial, leads=300, warmup=SPINUP)
    held = daml.diagnosis.valid_time(made, near).values * growth
    print(f"{name:<32} holds for {np.median(held):.1f} Lyapunov times (median)")
    ax.plot(np.sort(held), 100 * (1 - np.arange(len(held)) / len(held)), line, color=colour,
            label=name)  # fmt: skip
ax.axhline(50, color=TRUE, linewidth=0.8, linestyle=":")
ax.set(xlabel="Lyapunov times", ylabel="forecasts that hold [%]", xlim=(0, None), ylim=(0, 100))
ax.legend()
plt.show()
