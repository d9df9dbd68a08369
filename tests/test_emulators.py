"""The LSTM: what it learns, carries, refuses, and keeps on disk."""

import numpy as np
import pytest
import torch

import daml
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
