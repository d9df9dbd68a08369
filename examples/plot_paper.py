"""
The figures of the paper
========================

Figures 1 to 4 of Goodliff and Miyoshi (2025), drawn from the scores of a run.

The paper is :cite:`goodliff2025`; :doc:`/paper` compares each of its statements with our results.
The scores are those of ``daml paper --preset fast --seed 0``: 100,000 steps, 30 passes. They come
with daml, so this example takes seconds. With ``DAML_DOCS=full`` it runs the experiment, which
takes 4 to 10 minutes on 2 cores.
"""

import os

import matplotlib.pyplot as plt

import daml

# sphinx_gallery_thumbnail_number = 4
plt.style.use(daml.figures.STYLE)
if os.environ.get("DAML_DOCS") != "full":
    scores = daml.reports.published("seed_0")
else:
    scores = daml.reports.collect(daml.paper.run("fast"))

# %%
# Figure 1: the loop
# ------------------
#
# The diagram has the content of the paper's: the assimilation cycle is a box inside the outer loop.
figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
daml.figures.loop_diagram(axes=axes)
figure.set_label(
    "A diagram. In the box of the assimilation cycle, a forecast by the model and the "
    "observations give an analysis by 3DVar, from which the next forecast starts. The analyses "
    "train LSTM-n, which replaces the model as long as n is less than the maximum."
)
plt.show()

# %%
# Figure 2: the analyses
# ----------------------
#
# The error of the analyses falls with each pass, and that of the backgrounds, their forecasts of
# one step, falls faster: from LSTM-3 on the background is the better of the two, because B stays as
# it was for the imperfect model. The levels of the lines depend on the size of B, which the paper
# does not give. With the size that was chosen here, 3DVar with the perfect model is far from
# optimal, as the second panel shows.
figure, axes = plt.subplots(2, 1, figsize=(5.4, 5.8), layout="constrained")
daml.figures.analysis_rmse(scores, axes=axes)
figure.set_label(
    "Two panels. Above, the analysis error of LSTM-n falls from 0.66 to 0.61 over 30 "
    "iterations and the background error from 0.76 to 0.38. Below, the analysis error of both "
    "models against the size of B, with a minimum at 1 for the imperfect and at 0.5 for the "
    "perfect model."
)
plt.show()

# %%
# Figure 3: the forecasts
# -----------------------
#
# The figure shows the reduction of the imperfect model's forecast error from true states. At 1 dt
# the gain peaks and then falls a little: the network has learned to trust its memory more than its
# noisy input, which is a disadvantage for exact initial states. These are not known in practice,
# and forecasts from the network's own analyses continue to improve. In the paper the gain at 1 dt
# begins later; :doc:`/paper` shows settings with which the results are closer to that.
figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
daml.figures.error_reduction(scores, axes=axes)
figure.set_label(
    "The reduction of the forecast error against the iteration, for leads of 1 to 4 steps. All "
    "lines start between 35 and 44 percent and rise to 68 percent at 1 step and 86 percent at "
    "4 steps."
)
plt.show()

# %%
# Figure 4: where on the attractor
# --------------------------------
#
# The errors of the imperfect model are small at 1 dt and largest at 3 and 4 dt where the wings
# part, because a small error decides in which wing the state continues. LSTM-29 is the best model
# nearly everywhere but on the outer edge, where there are few data.
figure, axes = plt.subplots(
    4, 3, figsize=(5.4, 6.7), layout="constrained", sharex=True, sharey=True
)
daml.figures.error_maps(scores, axes=axes)
figure.set_label(
    "Twelve maps of the forecast error over x0 and x2, in rows for leads of 1 to 4 steps, in "
    "columns for the imperfect model, LSTM-0 and LSTM-29, which errs little nearly everywhere."
)
plt.show()

# %%
# In numbers
# ----------
last = scores.isel(iteration=[0, 1, 4, 10, 29])
print(last.mfe_reduction.to_pandas().round(0).rename_axis(columns="lead [model time]"))
