"""The LSTM: what it learns, carries, refuses, and keeps on disk."""

import numpy as np
import pytest
import torch

import daml
from daml.emulators import networks
from daml.errors import InputError
from daml.verification import forecast_error, mfe


@pytest.fixture(scope="module")
def run():
    return daml.simulate(daml.Lorenz63(), steps=4000, spinup=500)


@pytest.fixture(scope="module")
def small(run):
    return daml.LSTM(hidden=16, epochs=150, learning_rate=1e-2).fit(run)


@pytest.mark.statistical
def test_it_learns_and_persistence_does_not(run, small):
    learnt = mfe(forecast_error(small.forecast(run), run)).values
    assert learnt[0] < 0.5 * float(run.state.diff("time").std())


def test_fit_leaves_the_given_one_untouched_and_goes_on_from_weights(run):
    plain = daml.LSTM(hidden=8, epochs=2)
    first = plain.fit(run)
    weights = first.fitted.network.head.weight.clone()
    second = first.fit(run)
    assert plain.fitted is None
    assert torch.equal(first.fitted.network.head.weight, weights)
    assert second.history.loss[-1] < first.history.loss[0]


def test_same_seed_same_bits(run):
    one, two = (daml.LSTM(hidden=8, epochs=2, seed=4).fit(run).to_dataset() for _ in range(2))
    assert one.identical(two)
    assert not one.identical(daml.LSTM(hidden=8, epochs=2, seed=5).fit(run).to_dataset())


@pytest.mark.parametrize("base", [None, daml.Lorenz63(dt=0.05, rho=20.0)])
@pytest.mark.parametrize("window", [None, 3])
def test_saved_and_loaded_it_forecasts_the_same(run, base, window, tmp_path):
    emulator = daml.LSTM(hidden=8, epochs=1, base=base, window=window).fit(run)
    emulator.save(tmp_path / "lstm.zarr")
    loaded = daml.load_emulator(tmp_path / "lstm.zarr")
    part = run.isel(time=slice(200))
    assert emulator.forecast(part).forecast.equals(loaded.forecast(part).forecast)


def test_steps_in_numpy_and_torch_agree_and_gradients_pass(small):
    x = np.random.default_rng(0).standard_normal((4, 3))
    plain, _ = small.step(x, small.start(x))
    tensor = torch.as_tensor(x).requires_grad_()
    moved, _ = small.step(tensor, small.start(tensor))
    np.testing.assert_allclose(moved.detach(), plain)
    moved.sum().backward()
    assert torch.isfinite(tensor.grad).all()
    assert tensor.grad.abs().sum() > 0


def test_default_effort_counts_updates():
    run = daml.simulate(daml.Lorenz63(), steps=150)
    assert len(daml.LSTM(hidden=2).fit(run).history.epoch) == 500
    assert len(daml.LSTM(hidden=2, epochs=3).fit(run).history.epoch) == 3


def test_rows_without_observations_are_no_targets(run, scheme):
    observations = daml.observe(run, every=2)
    analysis = daml.assimilate(daml.Lorenz63(), observations, scheme)
    spoiled = analysis.copy(deep=True)
    seen = analysis.innovation.notnull().any("observed")
    blind = spoiled.assign(innovation=analysis.innovation.where(~seen))
    with pytest.raises(InputError, match="nothing to learn from"):
        daml.LSTM(hidden=4, epochs=1).fit(blind)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: daml.LSTM(hidden=0), "'hidden' is 0"),
        (lambda: daml.LSTM(burn_in=100), "'burn_in' is 100"),
        (lambda: daml.LSTM(learning_rate=0), "'learning_rate' is 0"),
        (lambda: daml.LSTM().step(np.ones(3)), "not fitted yet"),
        (
            lambda: daml.LSTM().fit(daml.simulate(daml.Lorenz63(), steps=50)),
            "50 steps is too short to train on",
        ),
    ],
)
def test_wrong_settings_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize(("window", "length"), [(100_000, 100), (101, 100), (4, 3)])
def test_a_window_is_no_longer_than_a_sequence(window, length):
    with pytest.raises(InputError, match=rf"'window' is {window}; give sequence_length \({length}"):
        daml.LSTM(window=window, sequence_length=length, burn_in=0)
    assert daml.LSTM(window=length, sequence_length=length, burn_in=0).window == length


def kept(network, run):
    """Give the result of a run, its gradient, and the numbers that it kept for this."""
    numbers = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (numbers.append(tensor.numel()), tensor)[1], lambda tensor: tensor
    ):
        result = run()
        total = sum(numbers)
        gradient = torch.autograd.grad((result**2).sum(), list(network.parameters()))
    return result.detach(), gradient, total


@pytest.mark.parametrize("window", [1, 7, 20])
def test_a_training_on_long_windows_keeps_the_windows_alone(window, monkeypatch):
    torch.manual_seed(0)
    network = networks.Windowed(torch.nn.LSTM, 3, 4, 2, window)
    inputs = torch.randn(5, 20, 3)

    def one_by_one():
        memory, found = None, []
        for step in range(20):
            x, memory = network.advance(inputs[:, step], memory)
            found.append(x)
        return torch.stack(found, dim=1)

    whole = {run: kept(network, run) for run in (one_by_one, lambda: network(inputs))}
    monkeypatch.setattr(networks, "PIECE", 64)
    for run, (result, gradient, numbers) in whole.items():
        again, same, fewer = kept(network, run)
        torch.testing.assert_close(again, result)
        torch.testing.assert_close(same, gradient, rtol=1e-4, atol=1e-5)
        assert fewer <= inputs.numel() * window < numbers
        with torch.inference_mode():
            torch.testing.assert_close(run(), result)
