"""One analysis of a large state: places at random in a plane, every tenth of them observed."""

import numpy as np

import daml
from daml.covariance import Localised
from daml.labels.space import StateSpace
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.protocols import Forecast, Observed, Run, Setting

RADIUS = 5.0
"""In mean distances of places: some 30 observations are near each."""
SCHEMES = {
    "LETKF": lambda: daml.schemes.LETKF(20, radius=RADIUS),
    "3DVar": lambda: daml.ThreeDVar(Localised(radius=RADIUS)),
}


class Analysis:
    """What is prepared once, and the analysis of one time."""

    params = [list(SCHEMES), [1_000, 10_000, 100_000]]
    param_names = ["scheme", "size"]
    number, repeat, warmup_time = 1, 2, 0
    timeout = 300

    def setup(self, scheme, size):
        drawn = np.random.default_rng(0)
        positions = drawn.uniform(0, size**0.5, (size, 2))
        places = tuple(range(0, size, 10))
        names = tuple(f"x{place:06}" for place in range(size))
        observed = tuple(names[place] for place in places)
        noise = TabledNoise(np.ones((1, len(places)), bool), np.ones((1, len(places))), None)
        space = StateSpace(names, positions)
        self.setting = Setting(
            names, observed, Selection(places, size), noise, space, positions[list(places)]
        )
        self.scheme = SCHEMES[scheme]()
        members = [] if scheme == "3DVar" else [20]
        self.forecast = Forecast(drawn.standard_normal((1, *members, size)))
        self.values = drawn.standard_normal((1, len(places)))
        self.prepared = self.scheme.prepare(self.setting)

    def update(self):
        """Analyse one time."""
        about = self.setting.noise, self.setting.operator
        observed = Observed(self.values, np.zeros(1, int), *about)
        run = Run(np.zeros(1, int), np.zeros(1, int), 1_000, frozenset())
        return self.scheme.update(self.forecast, observed, run, self.prepared)

    def time_prepare(self, scheme, size):
        self.scheme.prepare(self.setting)

    def time_update(self, scheme, size):
        self.update()

    def peakmem_both(self, scheme, size):
        self.scheme.prepare(self.setting)
        self.update()
