"""Ensembles: their cycle, and an analysis of a large state."""

import numpy as np

import daml
from daml.labels.space import StateSpace
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.protocols import Forecast, Observed, Run, Setting
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


class LargeState:
    """One analysis by a LETKF of 20 members: variables on a line, every tenth observed."""

    params = [1_000, 10_000, 100_000]
    param_names = ["size"]
    number, repeat, warmup_time = 1, 2, 0
    timeout = 300

    def setup(self, size):
        self.scheme = LETKF(20, radius=50.0)
        names = tuple(f"x{place:06}" for place in range(size))
        places = tuple(range(0, size, 10))
        drawn = np.random.default_rng(0)
        self.forecast = Forecast(drawn.standard_normal((1, 20, size)))
        self.values = drawn.standard_normal((1, len(places)))
        present = np.ones((1, len(places)), bool)
        noise = TabledNoise(present, np.ones((1, len(places))), None)
        positions = np.arange(size, dtype=float)[:, None]
        space = StateSpace(names, positions)
        observed = tuple(names[place] for place in places)
        self.setting = Setting(
            names, observed, Selection(places, size), noise, space, positions[list(places)]
        )

    def analysed(self):
        """Search for neighbours, and analyse."""
        memory = self.scheme.prepare(self.setting)
        observed = Observed(
            self.values, np.zeros(1, int), self.setting.noise, self.setting.operator
        )
        run = Run(np.zeros(1, int), np.zeros(1, int), 1_000, frozenset())
        return self.scheme.update(self.forecast, observed, run, memory)

    def time_analysis(self, size):
        self.analysed()

    def peakmem_analysis(self, size):
        self.analysed()
