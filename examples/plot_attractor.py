"""
The attractor, coloured by error
================================

Where in its state space is a model accurate? The figures show forecasts from true states, each
start coloured by the error four steps later, for the imperfect model and for the model that the
loop made from it. This example takes half a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import daml

SIZES = {"quick": (3000, 3, 2), "full": (100_000, None, 16)}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (16_000, 25, 3))
plt.style.use(daml.figures.STYLE)

truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
model = daml.Lorenz63()
network = daml.LSTM(base=model, epochs=EPOCHS, batch_size=32)
tree = daml.improve(model, observations, emulator=network, passes=PASSES)
improved = daml.load_emulator(tree)

# %%
# The errors are those on a record that was not used in training.
test = daml.simulate(daml.CoupledLorenz63(), steps=8000, spinup=2000, seed=4)
errors = {
    name: daml.verification.forecast_error(daml.forecast(m, test, leads=[4]), test)
    for name, m in (("imperfect model", model), ("improved model", improved))
}
for name, found in errors.items():
    print(name, daml.verification.mfe(found).values.round(3))

# %%
# The imperfect model lacks two variables that act on x0 and x1, so it has errors nearly everywhere.
# After a sufficient training, the errors that remain are largest where the flow itself separates
# states.
figure, panels = plt.subplots(
    2, 1, figsize=(5, 7.6), layout="constrained", subplot_kw={"projection": "3d"}
)
for axes, (name, found) in zip(panels, errors.items(), strict=True):
    whole = found.isel(lead=0).dropna("start")
    size = np.sqrt(whole.squared_error)
    points = axes.scatter(
        *whole.initial.transpose("variable", "start").values,
        c=size, s=2, norm=LogNorm(0.03, 3), cmap="viridis", linewidths=0, rasterized=True,
    )  # fmt: skip
    axes.set(title=name, xlabel="x0", ylabel="x1", zlabel="x2")
    axes.set(xticks=[-20, 0, 20], yticks=[-20, 0, 20], zticks=[0, 20, 40])
    axes.set_box_aspect((1, 1, 0.8), zoom=0.95)
    axes.view_init(elev=18, azim=-58)
    axes.tick_params(pad=-2)
figure.colorbar(points, ax=panels, shrink=0.5, pad=0.14, label="error after 4 steps")
plt.show()
