"""A small twin experiment that many tests share."""

import os

import pytest
from hypothesis import settings

import daml

if "PYTEST_XDIST_WORKER" in os.environ:
    # A core for each worker of pytest-xdist, before NumPy and torch are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("daml", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("daml")


@pytest.fixture(scope="session")
def truth():
    return daml.simulate(daml.CoupledLorenz63(), steps=3000, spinup=1000, seed=1)


@pytest.fixture(scope="session")
def observations(truth):
    return daml.observe(truth, variables=["x0", "x1", "x2"], seed=2)


@pytest.fixture(scope="session")
def scheme():
    run = daml.simulate(daml.Lorenz63(), steps=3000, spinup=500, seed=3)
    return daml.ThreeDVar(daml.climatological(run, max_variance=2))
