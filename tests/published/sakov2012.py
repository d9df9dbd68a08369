"""Lorenz 63, all observed every 0.25 time units.

Sakov, P., Oliver, D. S. and Bertino, L. (2012): An iterative EnKF for strongly nonlinear systems.
Mon. Wea. Rev. 140, 1988-2004. The values are those of DAPPER 1.7.1 (mods/Lorenz63/sakov2012.py).
"""

import daml
from daml.schemes import ETKF, EnKF, EnKFN, IEnKS, ParticleFilter, SerialEnSRF

MODEL = daml.Lorenz63(dt=0.25, substeps=25)  # a step of the cycle is an observation
EVERY, ERROR_VARIANCE = 1, 2.0
CLIMATE = 2_000, 0.1
"""Steps of the climatology, and the part of it that is the B of 3DVar."""
LONG, SHORT = 40_000, 1_500
"""Steps."""
LONG_BY = {"EnKF 10": 160_000}
"""Steps for a scheme whose errors differ more from one part of a record to the next: for a standard
error below 2 %."""
HOW = {"spinup": 200}
LOST = 0.0
"""Of the record at most."""
SCORES = {
    "ThreeDVar": (daml.ThreeDVar, 1.04),
    "EnKF 10": (lambda: EnKF(10, inflation=1.04), 0.65),
    "EnKF 100": (lambda: EnKF(100, inflation=1.01), 0.56),
    "ETKF 10": (lambda: ETKF(10, inflation=1.02, rotate=True), 0.60),
    "EnKFN 10": (lambda: EnKFN(10, rotate=True), 0.54),
    "ParticleFilter 100": (
        lambda: ParticleFilter(100, regularisation=2.4, resample_below=0.3),
        0.38,
    ),
    "ParticleFilter 800": (
        lambda: ParticleFilter(800, regularisation=0.9, resample_below=0.2),
        0.28,
    ),
    "IEnKS 10": (lambda: IEnKS(10, 1, inflation=1.02, rotate=True), 0.31),
    # Any square root filter with the same members has the same law.
    "SerialEnSRF 10": (lambda: SerialEnSRF(10, inflation=1.02, rotate=True), 0.60),
}
LOST_BY = {"ParticleFilter 800": 0.05}
"""Of the record at most, by schemes that lose more: with this little regularisation a particle
filter loses the truth at times (0.03 of the record here), and DAPPER's, too (one of two runs with
2,000 observations, which has 0.50)."""
LONG_ONLY = {"ParticleFilter 800", "IEnKS 10"}
"""Schemes that are too slow for a short run."""
MEASURED = {"EnKF 10": (0.679, 0.009), "EnKFN 10": (0.555, 0.005)}
"""Where DAPPER 1.7.1 itself does not reach its table's value, which is that of 1,000 observations:
the mean of two runs (seeds 3 and 4) with these settings. EnKF, on 80,000 observations each: 0.690
+- 0.014 and 0.668 +- 0.012; EnKFN, on 8,000 each: 0.550 +- 0.008 and 0.559 +- 0.007."""
