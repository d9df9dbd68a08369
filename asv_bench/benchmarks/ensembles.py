"""Ensembles: their cycle."""

import daml
from daml.schemes import ETKF, LETKF, EnKF

SCHEMES = {
    "ETKF": ETKF(24, inflation=1.02, rotate=True),
    "ETKF, not rotated": ETKF(24, inflation=1.04),
    "EnKF": EnKF(40, inflation=1.06),
    "LETKF": LETKF(7, radius=7.28, inflation=1.04, rotate=True),
}


class Cycle:
    """A cycle of 5,000 steps of Lorenz 96 with 40 variables, all observed."""

    params = list(SCHEMES)
    param_names = ["scheme"]
    number, repeat, warmup_time = 1, 3, 0
    timeout = 300

    def setup(self, scheme):
        self.model = daml.models.Lorenz96()
        self.observations = daml.observe(daml.simulate(self.model, steps=5_000, spinup=500))

    def time_assimilate(self, scheme):
        daml.assimilate(self.model, self.observations, SCHEMES[scheme])

    def peakmem_assimilate(self, scheme):
        daml.assimilate(self.model, self.observations, SCHEMES[scheme])
