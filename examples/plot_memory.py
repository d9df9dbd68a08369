"""
Why memory matters
==================

Three of five variables are observed. Information about the other two is contained in the past of
these three, which a network that sees only the last state does not have. This example runs the same
loop with three networks: one that sees the last state (a window of 1), one that sees the last three
states, and one that carries a memory. It takes a minute on 2 cores.
"""

import os

import matplotlib.pyplot as plt
import xarray as xr

import daml

SIZES = {"quick": (2000, 2, 1), "full": (100_000, 16, 16)}
STEPS, EPOCHS, PASSES = SIZES.get(os.environ.get("DAML_DOCS"), (10_000, 20, 3))
plt.style.use(daml.figures.STYLE)

truth = daml.simulate(daml.CoupledLorenz63(), steps=STEPS, spinup=2000, seed=1)
observations = daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)
test = daml.simulate(daml.CoupledLorenz63(), steps=10_000, spinup=2000, seed=4)
model = daml.Lorenz63()

# %%
# All networks predict the increment over the last state, as in the paper, and have the same number
# of weights.
networks = {
    "window of 1": daml.LSTM(window=1, epochs=EPOCHS, batch_size=32),
    "window of 3": daml.LSTM(window=3, epochs=EPOCHS, batch_size=32),
    "memory": daml.LSTM(epochs=EPOCHS, batch_size=32),
}


def error_of(judged):
    """Give the error of forecasts from true states (lead)."""
    ahead = daml.forecast(judged, test, leads=4)
    return daml.verification.mfe(daml.verification.forecast_error(ahead, test))


scores = {}
for name, network in networks.items():
    loop = daml.Loop(model, daml.ThreeDVar("innovations"), network, passes=PASSES)
    passes = list(loop.iterate(observations))
    scores[name] = xr.Dataset(
        {
            "rmse": ("iteration", [
                float(daml.verification.analysis_error(p.analysis, truth).analysis_rmse)
                for p in passes
            ]),
            "mfe": error_of(passes[-1].model),
        },
        coords={"iteration": [p.iteration for p in passes]},
    )  # fmt: skip
    print(name, scores[name].rmse.values.round(3), scores[name].mfe.values.round(3))

# %%
# The left panel shows the errors of the analyses in each pass (-1 is the imperfect model), the
# right panel the errors of forecasts with the networks of the last pass.
figure, (left, right) = plt.subplots(1, 2, figsize=(5.4, 2.9), layout="constrained")
colours = dict(zip(networks, ("#D55E00", "#E69F00", "#0072B2"), strict=True))
for name, found in scores.items():
    left.plot(found.iteration, found.rmse, "o-", color=colours[name], label=name)
    right.plot(found.lead_steps, found.mfe, "o-", color=colours[name], label=name)
given = error_of(model)
right.plot(given.lead_steps, given, "s--", color="#777777", label="imperfect model")
left.set(xlabel="iteration", ylabel="RMSE of the analysis")
left.xaxis.get_major_locator().set_params(integer=True)
right.set(xlabel="lead [steps of dt]", ylabel="model forecast error", xticks=[1, 2, 3, 4])
right.legend()
plt.show()
