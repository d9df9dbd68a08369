"""Lorenz 96 with 40 variables, every second one observed at each step.

Bocquet, M., Pires, C. A. and Wu, L. (2010): Beyond Gaussian statistical modeling in geophysical
data assimilation. Mon. Wea. Rev. 138, 2997-3023. The setting is that of DAPPER 1.7.1
(mods/Lorenz96/bocquet2010_m40.py) with the variance 2.25, for which the value was computed by it.
"""

import daml
from daml.schemes import EnKFN, IEnKS

MODEL = daml.models.Lorenz96(n=40, forcing=8.0, dt=0.05)
EVERY, ERROR_VARIANCE = 2, 2.25
LONG, SHORT = 20_000, 1_000
"""Steps."""
HOW = {"spinup": 400}
LOST = 0.0
"""Of the record at most."""
SCORES = {
    "EnKFN 24": (lambda: EnKFN(24, inflation=1.01, rotate=True), 0.58),
    "IEnKS 19": (lambda: IEnKS(19, window=2, shift=1, inflation=1.04), 0.46),
}
LONG_ONLY = {"IEnKS 19"}
"""Schemes that are too slow for a short run."""
LONG_BY = {"IEnKS 19": 32_000}
"""Steps for a standard error below 2 %."""
MEASURED = {"EnKFN 24": (0.600, 0.009), "IEnKS 19": (0.506, 0.009)}
"""Where DAPPER 1.7.1 itself does not reach this value: the mean of two runs (seeds 3 and 4) with
these settings on 4,000 observations each. EnKFN: 0.585 +- 0.011 and 0.616 +- 0.013; IEnKS: 0.491 +-
0.012 and 0.522 +- 0.014."""
