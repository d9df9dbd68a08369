"""Where arrays live: few transfers to a device, and numbers that no count of cores changes."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from roster import SCHEMES, Placed
from torch.utils._python_dispatch import TorchDispatchMode

import daml
from daml.errors import InputError
from daml.running import checks, forecasting, kept
from daml.running.onward import ends
from daml.schemes import calling
from daml.stores import memories


class CountTransfers(TorchDispatchMode):
    """Counts what moves to torch's device without memory, which stands in for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        given = [a for a in args if isinstance(a, torch.Tensor)]
        self.count += moves and result.device.type == "meta" and given[-1].device.type == "cpu"
        return result


@pytest.fixture(scope="module")
def run():
    return daml.simulate(daml.Lorenz63(), steps=2000, spinup=500)


def on(device, fitted):
    """Give a fitted LSTM that computes elsewhere."""
    moved = replace(fitted.fitted, network=deepcopy(fitted.fitted.network).to(device))
    return replace(fitted, device=device, fitted=moved)


@pytest.mark.filterwarnings("ignore:.*squared innovations")  # what comes back is 0
@pytest.mark.parametrize("what", ["assimilate", "forecast"])
def test_transfers_go_by_blocks_and_not_by_steps(run, scheme, what, monkeypatch):
    model = on("meta", daml.LSTM(hidden=8, epochs=1).fit(run))
    back = []

    def fetch(array):
        back.append(array)
        return np.zeros(array.shape)

    monkeypatch.setattr(kept, "fetch", fetch)
    monkeypatch.setattr(calling, "fetch", fetch)
    monkeypatch.setattr(forecasting, "fetch", fetch)
    monkeypatch.setattr(ends, "fetch", lambda array: np.zeros(array.shape))  # once, at the end
    monkeypatch.setattr(memories, "fetch", lambda array: np.zeros(array.shape))
    monkeypatch.setattr(checks, "fetch", lambda array: np.zeros(array.shape))  # once, before
    moved = []
    for length in (500, 2000):
        part = run.isel(time=slice(length))
        model.fitted.scaling  # noqa: B018, once a model
        with CountTransfers() as transfers:
            if what == "assimilate":
                daml.assimilate(model, daml.observe(part), scheme, tolerance=np.inf)
            else:
                daml.forecast(model, part)
        moved.append((transfers.count, len(back)))
        back.clear()
    assert moved[0] == moved[1]
    assert 0 < moved[0][0] <= 12
    assert 0 < moved[0][1] <= 3  # background, analysis, chi-square


class NumpyOnly:
    """A model of a user's own, which would not know what to do with a tensor."""

    variables, dt = ("x0", "x1", "x2"), 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        assert isinstance(x, np.ndarray)
        return daml.Lorenz63().step(x, memory)


def test_a_base_that_knows_no_tensors_gets_none_of_a_device(run):
    model = daml.LSTM(hidden=8, epochs=1, base=NumpyOnly()).fit(run)
    part = run.isel(time=slice(200))
    # torch's name for the CPU as a device among others: the states come as its tensors
    there = on("cpu:0", model).forecast(part)
    np.testing.assert_allclose(there.forecast, model.forecast(part).forecast, atol=1e-5)


@pytest.fixture(scope="module")
def network(run):
    hidden = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    return daml.emulators.Module(hidden, base=Placed(), epochs=1).fit(run)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_makes_its_arrays_on_the_device_of_the_model(run, network, name):
    """What it made elsewhere would be on torch's device without memory, and fail."""
    seen = daml.observe(run.isel(time=slice(24)), variables=["x0", "x2"], seed=1)
    how = {"segments": 1, "tolerance": np.inf}
    plain = daml.assimilate(network, seen, SCHEMES[name](), **how)
    with torch.device("meta"):
        there = daml.assimilate(replace(network, device="cpu:0"), seen, SCHEMES[name](), **how)
    np.testing.assert_allclose(there.analysis, plain.analysis, atol=1e-3)


@pytest.mark.parametrize("scheme", ["ThreeDVar", "ETKF"])
def test_a_training_makes_its_arrays_on_the_device_of_the_network(run, scheme):
    part = run.isel(time=slice(1000))
    seen, base = daml.observe(part, seed=1), daml.Lorenz63()
    how = {"hidden": 4, "epochs": 1, "cycle_epochs": 1, "base": base}
    with torch.device("meta"):
        begun = daml.LSTM(**how, device="cpu:0").fit(part, held_out=0.1)
        there = begun.fit_cycle(seen, SCHEMES[scheme](), held_out=0.1)
    begun = daml.LSTM(**how).fit(part, held_out=0.1)
    plain = begun.fit_cycle(seen, SCHEMES[scheme](), held_out=0.1)
    for one, two in zip(*(m.fitted.network.parameters() for m in (plain, there)), strict=True):
        np.testing.assert_allclose(one.detach(), two.detach(), atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_same(run, scheme):
    plain = daml.LSTM(hidden=8, epochs=5).fit(run)
    observations = daml.observe(run)
    one, two = (daml.assimilate(m, observations, scheme) for m in (plain, on("cuda", plain)))
    np.testing.assert_allclose(one.analysis, two.analysis, atol=1e-3)
    one, two = (m.forecast(run) for m in (plain, on("cuda", plain)))
    np.testing.assert_allclose(one.forecast, two.forecast, atol=1e-3)
    trained = daml.LSTM(hidden=8, epochs=2, cycle_epochs=1, device="cuda").fit(run)
    assert np.isfinite(trained.history.loss).all()
    assert np.isfinite(trained.fit_cycle(observations, scheme).history.loss).all()


def test_the_number_of_cores_changes_no_bit(run, scheme):
    truth = daml.simulate(daml.Lorenz63(), steps=20_000, seed=1)
    observations = daml.observe(truth)
    before, found = torch.get_num_threads(), []
    for cores in (1, 2):
        torch.set_num_threads(cores)
        try:
            model = daml.LSTM(hidden=40, epochs=2).fit(run)
            found.append((model, daml.assimilate(model, observations, scheme)))
        finally:
            torch.set_num_threads(before)
    (one, first), (two, second) = found
    assert one.to_dataset().identical(two.to_dataset())
    assert first.identical(second)


def test_a_model_on_a_device_that_is_not_here_is_refused():
    class Elsewhere(daml.Lorenz63):
        device = "cuda:99"

    with pytest.raises(InputError, match="Elsewhere: its 'device' is 'cuda:99', on which torch"):
        daml.simulate(Elsewhere(), steps=2)
