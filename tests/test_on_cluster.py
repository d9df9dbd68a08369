"""Groups of segments on a cluster of dask.distributed: the same bits as here."""

import os
import threading
import time
from typing import ClassVar

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, get_client

import daml
from daml import segments
from daml.errors import InputError

HERE = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}


class Marked(daml.Lorenz63):
    """Lorenz 63 that says in an environment variable where it ran."""

    def step(self, x, memory):
        try:
            get_client()
            os.environ["DAML_TEST_RAN"] = "on a worker"
        except ValueError:
            pass
        return super().step(x, memory)


class Wild(daml.Lorenz63):
    """Lorenz 63 that fails in a segment."""

    def step(self, x, memory):
        if len(x) == 2:
            raise ArithmeticError("no step here")
        return super().step(x, memory)


class Late(daml.Lorenz63):
    """Lorenz 63 that fails in one task, while another is at work until the client has ended."""

    at_work: ClassVar[list[threading.Thread]] = []

    def step(self, x, memory):
        if len(x) == 2 and threading.current_thread() not in self.at_work:
            self.at_work.append(threading.current_thread())
            if len(self.at_work) == 2:
                raise ArithmeticError("no step here")
            until = time.monotonic() + 20
            while dask.config.get("scheduler", None) is not None and time.monotonic() < until:
                time.sleep(0.01)
        return super().step(x, memory)


class Locked(daml.Lorenz63):
    """Lorenz 63 that no process can send to another."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "_lock", threading.Lock())


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(segments, "WIDTH", 2)  # groups of two segments
    return daml.observe(daml.simulate(daml.Lorenz63(), steps=800, spinup=100, seed=1), seed=2)


def schemes():
    run = daml.simulate(daml.Lorenz63(), steps=500, spinup=100, seed=3)
    three = daml.ThreeDVar(daml.climatological(run, max_variance=2))
    return {"3DVar": three, "ETKF": daml.schemes.ETKF(8, inflation=1.3, rotate=True)}


@pytest.mark.parametrize("name", ["3DVar", "ETKF"])
def test_any_number_of_workers_gives_the_same_bits(name, seen, monkeypatch, tmp_path):
    scheme, model = schemes()[name], Marked()
    plain = daml.assimilate(model, seen, scheme)
    monkeypatch.setenv("DAML_TEST_RAN", "here")
    for workers in (1, 2):
        with Client(n_workers=workers, **HERE):
            found = daml.assimilate(model, seen, scheme)
            assert os.environ["DAML_TEST_RAN"] == "on a worker"
            xr.testing.assert_identical(found, plain)
            if workers == 2:
                kept = daml.assimilate(model, seen, scheme, store=tmp_path / "kept.zarr")
                xr.testing.assert_equal(kept.load(), plain)


def test_a_failure_on_a_worker_is_the_error_of_a_failure_here(seen):
    text = r"no step here.*this was step"
    with Client(n_workers=1, **HERE), pytest.raises(InputError, match=text):
        daml.assimilate(Wild(), seen, schemes()["3DVar"])


def test_a_task_that_ends_after_its_client_leaves_the_configuration_of_dask(seen, monkeypatch):
    monkeypatch.setattr(Late, "at_work", [])  # of this run of the test alone
    with Client(n_workers=2, **HERE), pytest.raises(InputError, match="no step here"):
        daml.assimilate(Late(), seen, schemes()["3DVar"])
    Late.at_work[0].join(60)
    assert dask.config.get("scheduler", None) is None


@pytest.mark.slow
def test_processes_of_a_cluster_give_the_same_bits(seen):
    scheme = schemes()["ETKF"]
    plain = daml.assimilate(daml.Lorenz63(), seen, scheme)
    smooth = daml.smooth(daml.Lorenz63(), seen, scheme, lag=5)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        xr.testing.assert_identical(daml.assimilate(daml.Lorenz63(), seen, scheme), plain)
        xr.testing.assert_identical(daml.smooth(daml.Lorenz63(), seen, scheme, lag=5), smooth)
        lazy = daml.assimilate(daml.Lorenz63(), seen.chunk(time=100), scheme)
        np.testing.assert_array_equal(lazy.analysis.compute(), plain.analysis)
        with pytest.raises(InputError, match=r"assimilate: .*cannot be sent to the workers"):
            daml.assimilate(Locked(), seen, scheme)
