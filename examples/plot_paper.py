"""
The figures of the paper
========================

Figures 1 to 4 of Goodliff and Miyoshi (2025), and beside each what the paper says: what agrees,
what differs, and why.

The paper is :cite:`goodliff2025`. The scores are those of ``daml paper --preset fast --seed 0``:
100,000 steps, 30 passes. They come with daml, so this takes seconds. With ``DAML_DOCS=full`` it
runs the experiment, 8 to 10 minutes on 2 cores.
"""

import os

import matplotlib.pyplot as plt

import daml

plt.style.use(daml.figures.STYLE)
if os.environ.get("DAML_DOCS") != "full":
    scores = daml.reports.published("seed_0")
else:
    scores = daml.reports.collect(daml.paper.run("fast"))

# %%
# Figure 1: the loop
# ------------------
#
# The same diagram in substance: the assimilation cycle is a box inside the outer loop.
figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
daml.figures.loop_diagram(axes=axes)
plt.show()

# %%
# Figure 2: the analyses
# ----------------------
#
# *Agrees*: LSTM-0 is below the imperfect model, LSTM-1 below that, and the curve flattens.
#
# *Differs*: in the paper the plateau lies between the imperfect and the perfect model; here it
# comes to lie below the perfect model. Our LSTM carries a memory from step to step, which is a
# filter in itself: it has seen all past observations, and 3DVar with a constant B only the last.
# (:doc:`/gallery/plot_memory` takes the memory away.) And the level of the lines
# depends on B, whose scale the paper does not give: with the one chosen here the perfect model's
# 3DVar is far from its best, as the second panel shows.
figure, axes = plt.subplots(
    1, 2, figsize=(6.5, 3.3), layout="constrained", gridspec_kw={"width_ratios": [3, 2]}
)
daml.figures.analysis_rmse(scores, axes=axes)
plt.show()

# %%
# Figure 3: the forecasts
# -----------------------
#
# *Agrees*: at 2 to 4 dt LSTM-0 is better than the imperfect model at once, and later passes add to
# it; most of the gain comes early.
#
# *Differs*: at 1 dt the paper's LSTM-0 is worse than the imperfect model and takes four passes to
# get better, while ours is better from the start. It then peaks and falls a little: from exact
# states, which no forecast has in practice, a network that has learned to trust its memory more
# than its noisy input is not at its best. Started from its own analyses it goes on to gain. In
# the paper longer leads gain more slowly; here they gain more.
figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
daml.figures.error_reduction(scores, axes=axes)
plt.show()

# %%
# Figure 4: where on the attractor
# --------------------------------
#
# *Agrees*: at 1 dt the imperfect model errs little; LSTM-29 is best nearly everywhere but on the
# outer edge, where data are few.
#
# *Differs*: the paper's LSTM-0 is weak in the wings and strong where they part; ours is weakest on
# the outer edge and strong within the wings. At 3 and 4 dt the imperfect model errs most where the
# wings part: there a small error decides which one the state goes to.
figure, axes = plt.subplots(
    4, 3, figsize=(6.5, 6.7), layout="constrained", sharex=True, sharey=True
)
daml.figures.error_maps(scores, axes=axes)
plt.show()

# %%
# In numbers
# ----------
last = scores.isel(iteration=[0, 1, 4, 10, 29])
print(last.mfe_reduction.to_pandas().round(0).rename_axis(columns="lead [model time]"))
