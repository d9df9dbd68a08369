"""A local filter finds the eddies of the quasi-geostrophic model in tracks of observations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import daml
from daml.models import QuasiGeostrophic
from daml.schemes import LETKF, half_width

MODEL = QuasiGeostrophic(n=65, dt=5.0, substeps=4, biharmonic_friction=2e-11)
MEMBERS, SEEN, VARIANCE = 25, 300, 4.0


@dataclass(frozen=True)
class Sampled(LETKF):
    """Its first members are states of a free run, a few each, and not drawn point by point."""

    wide: ClassVar[float] = 1.0  # no more inflation at first than later
    free: np.ndarray | None = None

    def first_members(self, mean, deviation):
        found = np.broadcast_to(self.free, (len(mean), *self.free.shape))
        return found + mean[:, None] - found.mean(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.statistical
def test_a_local_filter_finds_the_eddies():
    """As Sakov and Oke (2008), on fewer points, with more friction, and at fixed places."""
    run = daml.simulate(MODEL, steps=370, spinup=700, seed=1)
    free, truth = run.state.values[: 10 * MEMBERS : 10], run.isel(time=slice(300, None))
    truth = truth.assign_coords(time=truth.time - truth.time[0])
    places = np.linspace(0, len(MODEL.variables) - 1, SEEN).astype(int)
    seen = daml.observe(truth.isel(variable=places), error_variance=VARIANCE, seed=2)
    scheme = Sampled(MEMBERS, radius=half_width(loc_rad=10) / 128, inflation=1.04, free=free)
    start = truth.isel(time=0).assign(state=("variable", free.mean(axis=0)))
    found = daml.assimilate(MODEL, seen, scheme, initial=start, segments=1)
    errors = np.sqrt(((found.analysis - truth.state) ** 2).mean("variable"))
    late, spread = (float(e.isel(time=slice(50, None)).mean()) for e in (errors, found.spread))
    assert late < 0.2 * float(truth.state.std())
    assert 0.5 < spread / late < 1.5
