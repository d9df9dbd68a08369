"""The loop: what it keeps, that it repeats itself, and that it never sees the truth."""

import importlib
import sys

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import DivergedError, InputError
from daml.moved import MOVED
from daml.protocols import Update


def run(observations, scheme, **settings):
    emulator = daml.LSTM(hidden=8, epochs=2)
    return daml.improve(daml.Lorenz63(), observations, scheme, emulator, passes=2, **settings)


def test_store_and_memory_hold_the_same(observations, scheme, tmp_path):
    plain = run(observations, scheme)
    stored = run(observations, scheme, store=tmp_path / "out.zarr")
    assert set(plain.groups) == set(stored.groups)
    for group in plain.groups:
        xr.testing.assert_equal(plain[group].to_dataset(), stored[group].to_dataset().load())
    opened = xr.open_datatree(tmp_path / "out.zarr", engine="zarr")
    assert set(opened.groups) == set(plain.groups)


def test_the_truth_does_not_leak(truth, observations, scheme):
    with_truth = observations.merge(truth.sel(variable=["x0", "x1", "x2"]))
    one, two = run(observations, scheme), run(with_truth, scheme)
    for group in ("imperfect", "iteration/0001", "iteration/0001/emulator"):
        xr.testing.assert_identical(one[group].to_dataset(), two[group].to_dataset())


def test_a_cold_start_trains_afresh(observations, scheme):
    warm, cold = (run(observations, scheme, warm_start=w) for w in (True, False))
    trainings = [t["iteration/0001/emulator"].attrs["trainings"] for t in (warm, cold)]
    assert trainings == [2, 1]


def test_fewer_than_one_pass_is_refused(scheme):
    with pytest.raises(InputError, match="'passes' is 0"):
        daml.Loop(daml.Lorenz63(), scheme, daml.LSTM(), passes=0)


def test_a_training_that_breaks_names_the_pass_and_leaves_the_finished(
    observations, scheme, tmp_path
):
    class Breaks(daml.LSTM):
        def fit(self, analysis):
            if self.fitted is not None:
                return daml.LSTM(epochs=3, learning_rate=1e30).fit(analysis)
            return super().fit(analysis)

    emulator = Breaks(hidden=4, epochs=1)
    with pytest.raises(DivergedError, match="pass 1: "):
        daml.improve(
            daml.Lorenz63(), observations, scheme, emulator, passes=3, store=tmp_path / "o.zarr"
        )
    tree = xr.open_datatree(tmp_path / "o.zarr", engine="zarr")
    assert list(tree["iteration"].children) == ["0000"]
    assert np.isfinite(tree["iteration/0000"].analysis).all()


class Nudging:
    """A scheme of a user's: it moves a part of the way to what is observed."""

    def prepare(self, setting):
        return None

    def update(self, forecast, observed, run, memory):
        return Update(forecast.state + 0.5 * (observed.values - forecast.state)), memory


class OwnSteps(Nudging):
    """It steps the model that it was made with, whatever the loop has learned."""

    def update(self, forecast, observed, run, memory):
        own = observed.values if memory is None else daml.Lorenz63().step(memory)[0]
        analysis = own + 0.3 * (observed.values - own)
        return Update(analysis), analysis


class OwnStepsFromTheFirst(OwnSteps):
    """As that one, but it starts from the first background."""

    def update(self, forecast, observed, run, memory):
        return super().update(forecast, observed, run, forecast.state if memory is None else memory)


class Replacing(Nudging):
    """It takes the observations as they are."""

    def update(self, forecast, observed, run, memory):
        return Update(observed.values + 0.0), memory


@pytest.mark.parametrize("scheme", [OwnSteps(), OwnStepsFromTheFirst(), Replacing()])
def test_a_scheme_that_ignores_the_forecasts_is_refused(observations, scheme, tmp_path):
    with pytest.raises(InputError, match="do not depend on the forecasts of the model"):
        daml.improve(daml.Lorenz63(), observations, scheme, store=tmp_path / "o.zarr")
    assert not list(tmp_path.iterdir())


def test_a_scheme_of_ones_own_is_given_the_model_of_each_pass(observations, truth):
    network = daml.LSTM(base=daml.Lorenz63(), hidden=8, epochs=1)
    tree = daml.improve(daml.Lorenz63(), observations, Nudging(), network, passes=1)
    analyses = [tree[group].to_dataset().analysis for group in ("imperfect", "iteration/0000")]
    assert float(abs(analyses[0] - analyses[1]).max()) > 0.01


class Faulty:
    """An emulator that leaves out what it is to return."""

    def __init__(self, fit=True):
        self.fits = fit
        self.variables, self.dt = daml.Lorenz63().variables, daml.Lorenz63().dt

    def fit(self, analysis):
        return self if self.fits else None

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return daml.Lorenz63().step(x)

    def to_dataset(self):
        return {"weights": 1.0}


@pytest.mark.parametrize(
    ("emulator", "text"),
    [(Faulty(fit=False), "Faulty: 'fit' gave a NoneType"), (Faulty(), "'to_dataset' gave a dict")],
)
def test_an_emulator_that_returns_nothing_of_use_is_named(observations, scheme, emulator, text):
    with pytest.raises(InputError, match=text):
        daml.improve(daml.Lorenz63(), observations, scheme, emulator, passes=1)


def test_the_old_name_of_the_loop_works_for_a_release():
    with pytest.warns(DeprecationWarning, match=r"daml\.Cycle is now daml\.Loop"):
        assert daml.Cycle is daml.Loop


@pytest.mark.parametrize("old", MOVED)
def test_the_old_names_of_modules_work_for_a_release(old):
    sys.modules.pop(f"daml.{old}", None)
    new = importlib.import_module(f"daml.{MOVED[old]}")
    with pytest.warns(DeprecationWarning, match=rf"daml\.{old} is now daml\.{MOVED[old]}"):
        found = importlib.import_module(f"daml.{old}")
    public = [name for name in vars(new) if not name.startswith("_")]
    assert public
    assert all(getattr(found, name) is getattr(new, name) for name in public)
