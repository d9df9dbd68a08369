"""One analysis of a large state: places at random in a plane, every tenth of them observed."""

from typing import NamedTuple

import numpy as np
import xarray as xr

import daml
from daml.covariance import Diffusion, Localised
from daml.labels.space import StateSpace
from daml.observing.functions import Function
from daml.observing.noise import TabledNoise
from daml.observing.operators import Selection
from daml.protocols import Forecast, Observed, Run, Setting, Window

RADIUS = 5.0
"""In mean distances of places: some 30 observations are near each."""
LENGTH = 2.7
"""Of a Gaussian that is as wide."""
STEPS = 4
"""Of a window; the last one is observed."""


class Kind(NamedTuple):
    """A scheme of the table."""

    made: object
    """Gives the scheme for names of variables."""
    members: int | None = None
    bent: bool = False
    """Whether H is not linear."""
    window: bool = False


def over_water(size):
    """Give a B of so many points of a grid, a twentieth of which is land."""
    rows = int(size**0.5)
    mask = np.zeros(rows * -(-size * 21 // (20 * rows)), bool)
    mask[np.random.default_rng(1).permutation(mask.size)[:size]] = True
    return Diffusion(mask.reshape(rows, -1), length=LENGTH)


def interpolating(names):
    """Give an optimal interpolation about 0."""
    mean = xr.Dataset({"mean": ("variable", np.zeros(len(names)))}, {"variable": list(names)})
    return daml.schemes.OptimalInterpolation(mean, covariance=Localised(RADIUS))


def hybrid(names):
    """Give a hybrid of 20 members and a climatology."""
    return daml.schemes.EnVar(20, beta=0.5, background_covariance=Localised(RADIUS))


def four_d_var(names):
    """Give a 4DVar by products alone."""
    return daml.schemes.FourDVar(Localised(RADIUS), window=STEPS, method="cg")


SCHEMES = {
    "LETKF": Kind(lambda names: daml.schemes.LETKF(20, radius=RADIUS), members=20),
    "3DVar": Kind(lambda names: daml.ThreeDVar(Localised(RADIUS))),
    "3DVar, H not linear": Kind(lambda names: daml.ThreeDVar(Localised(RADIUS)), bent=True),
    "3DVar, Diffusion": Kind(lambda names: daml.ThreeDVar(over_water(len(names)))),
    "OptimalInterpolation": Kind(interpolating),
    "EnVar": Kind(hybrid, members=20),
    "4DVar": Kind(four_d_var, window=True),
}


class Analysis:
    """What is prepared once, and the analysis of one time."""

    params = [list(SCHEMES), [1_000, 10_000, 100_000]]
    param_names = ["scheme", "size"]
    number, repeat, warmup_time = 1, 2, 0
    timeout = 300

    def setup(self, scheme, size):
        self.place(scheme, size)
        self.prepare()

    def place(self, scheme, size):
        """Draw places, states and values, and make the scheme."""
        drawn, self.kind = np.random.default_rng(0), SCHEMES[scheme]
        positions = drawn.uniform(0, size**0.5, (size, 2))
        places = tuple(range(0, size, 10))
        self.names = tuple(f"x{place:06}" for place in range(size))
        observed = tuple(self.names[place] for place in places)
        noise = TabledNoise(np.ones((1, len(places)), bool), np.ones((1, len(places))), None)
        operator = Selection(places, size)
        if self.kind.bent:
            chosen = list(places)
            operator = Function(lambda x: x[..., chosen] + x[..., chosen] ** 2 / 20, observed, size)
        space = StateSpace(self.names, positions)
        own = positions[list(places)]
        self.setting = Setting(self.names, observed, operator, noise, space, own)
        members = [] if self.kind.members is None else [self.kind.members]
        self.state = drawn.standard_normal((1, *members, size))
        self.values = drawn.standard_normal((1, len(places)))
        self.renew()

    def renew(self):
        """Make the scheme anew, which knows nothing of its covariance."""
        self.scheme, self.prepared = self.kind.made(self.names), None

    def prepare(self):
        """Prepare what does not change with time."""
        self.prepared = self.scheme.prepare(self.setting)

    def update(self):
        """Analyse one time, or one window."""
        about = self.setting.noise, self.setting.operator
        observed = Observed(self.values, np.zeros(1, int), *about)
        run = Run(np.zeros(1, int), np.zeros(1, int), 1_000, frozenset())
        if not self.kind.window:
            return self.scheme.update(Forecast(self.state), observed, run, self.prepared)
        states, zero = moved(self.state), 0 * self.state
        window = Window(self.state, states, 1, moved, None, STEPS * (zero,))
        unseen = observed._replace(values=0 * self.values)
        times = (*STEPS * (unseen,), observed)
        return self.scheme.update(window, times, len(times) * (run,), self.prepared)

    def time_prepare(self, scheme, size):
        self.prepare()

    def time_update(self, scheme, size):
        self.update()

    def peakmem_both(self, scheme, size):
        self.prepare()
        self.update()


def moved(x):
    """Give the states at the times of a window, by a model that damps and bends them."""
    states = [x]
    for _ in range(STEPS):
        states.append(0.95 * states[-1] - 0.01 * states[-1] ** 3)
    return tuple(states)
