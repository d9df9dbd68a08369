"""Emulators of convolutions, and targets that are weighted by the variance of the analysis."""

import re

import numpy as np
import pytest
import roster
import torch
import xarray as xr

import daml
from daml.emulators import CNN, Module
from daml.emulators.convolutional.lattice import lattice_of
from daml.errors import InputError
from daml.labels.templates import Template

RING = daml.models.Lorenz96(n=8)


class Plane(daml.models.Gridded):
    """Two fields on a plane that is periodic along x, with one point of land."""

    template = xr.Dataset(
        {"u": (("y", "x"), np.zeros((3, 5))), "h": (("x", "y"), np.zeros((5, 3)))},
        {"y": [0.0, 1.0, 2.0], "x": np.arange(5.0)},
    ).where(lambda ds: (ds.x != 2) | (ds.y != 1))
    dt, period = 1.0, (None, 5.0)

    def move(self, fields):
        return {name: 0.8 * field + 0.1 * field**2 for name, field in fields.items()}


@pytest.fixture(scope="module")
def run():
    return daml.simulate(RING, steps=300, spinup=100, seed=1)


def network(emulator, size):
    made = emulator.initial(size).double()
    with torch.no_grad():
        made.head.bias.copy_(torch.linspace(-1, 1, size))
    return made


def by_loops(made, x, ring, kernel, bilinear):
    """Give increments of one state (field, y, x) by plain loops; ``ring`` is (y, x)."""
    half, there = kernel // 2, made.mask.numpy().reshape(x.shape[1:])

    def at(field, y, x):
        sizes = field.shape[1:]
        for place, size, around in zip((y, x), sizes, ring, strict=True):
            if not around and not 0 <= place < size:
                return np.zeros(len(field))
        return field[:, y % sizes[0], x % sizes[1]]

    for number, layer in enumerate(made.layers):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        found = np.zeros((len(bias), *x.shape[1:]))
        for row, column in np.argwhere(there):
            total = bias.copy()
            for i in range(kernel):
                for j in range(kernel):
                    near = at(x, row + i - half, column + j - half)
                    total += weight[:, :, i, j] @ near
            found[:, row, column] = np.maximum(total, 0)
        if bilinear and number == 0:
            plain, one, other = np.split(found, 3)
            found = np.concatenate((plain, one * other))
        x = found
    last = made.last.weight.detach().numpy()[:, :, 0, 0]
    return np.einsum("fc,cyx->fyx", last, x) + made.last.bias.detach().numpy()[:, None, None]


@pytest.mark.parametrize("bilinear", [False, True])
def test_the_network_is_that_of_plain_loops(bilinear):
    model = Plane()
    made = network(CNN((4, 3), kernel=3, bilinear=bilinear, grid=model, seed=3), 28)
    x = np.random.default_rng(0).standard_normal(28)
    fields = Template.of(model).fields(x)
    stacked = np.stack([fields["u"], fields["h"].T])
    found = by_loops(made, stacked, (False, True), 3, bilinear)
    expected = Template.of(model).state({"u": found[0], "h": found[1].T}) + np.linspace(-1, 1, 28)
    with torch.no_grad():
        given = made.convolved(torch.as_tensor(x[None]))[0].numpy()
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_a_ring_that_is_turned_gives_increments_that_are_turned(run):
    emulator = CNN((5,), kernel=5, bilinear=True, grid=RING, epochs=1).fit(run)
    x = torch.randn(4, 8, generator=torch.manual_seed(0))
    turned = emulator.step(3 * x.roll(3, dims=1))[0]
    np.testing.assert_allclose(turned, emulator.step(3 * x)[0].roll(3, dims=1), atol=1e-5)
    line = CNN((5,), kernel=5, grid=RING, periodic=False).initial(8).requires_grad_(False)
    assert (line.convolved(x.roll(3, dims=1)) - line.convolved(x).roll(3, dims=1)).abs().max() > 0.1


def test_the_network_of_brajard_has_its_weights():
    made = CNN(bilinear=True, grid=daml.models.Lorenz96()).initial(40)
    parts = (*made.layers.parameters(), *made.last.parameters())
    assert sum(part.numel() for part in parts) == 9387  # 9,389 with a batch normalisation


def test_positions_in_any_order_give_the_grid():
    class Mixed:
        variables, dt = ("a", "b", "c", "d", "e", "f"), 1.0
        positions = ((2.0, 0.0), (0.0, 0.5), (2.0, 0.5), (0.0, 0.0), (0.0, 0.5), (0.0, 0.0))
        period = (4.0, None)

    class Whole(Mixed):
        variables = (*Mixed.variables, "g", "h")
        positions = (*Mixed.positions, (2.0, 0.0), (2.0, 0.5))

    found = lattice_of(Whole(), None, "CNN")
    assert (found.shape, found.fields, found.ring) == ((2, 2), 2, (True, False))
    names = np.array(Whole.variables)[found.lookup].reshape(2, 2, 2)
    assert names.tolist() == [[["d", "b"], ["a", "c"]], [["f", "e"], ["g", "h"]]]
    with pytest.raises(InputError, match="the positions of Mixed have from 1 to 2 variables at"):
        lattice_of(Mixed(), None, "CNN")


def test_it_learns_a_ring_and_corrects_a_model(run):
    test = daml.simulate(RING, steps=200, spinup=200, seed=2)

    def error(model):
        forecast = daml.forecast(model, test, leads=1)
        return float(daml.verification.mfe(daml.verification.forecast_error(forecast, test))[0])

    wrong = daml.models.Lorenz96(n=8, forcing=7.0)
    alone = CNN((16,), bilinear=True, grid=RING, epochs=40, batch_size=2).fit(run)
    correction = CNN((8,), base=wrong, epochs=10, batch_size=4).fit(run)
    assert error(alone) < 0.3 * float(test.state.diff("time").std())
    assert error(correction) < 0.25 * error(wrong)


def test_fields_need_no_model_and_come_back_with_their_grid(tmp_path):
    model, made = Plane(), CNN((4,), kernel=3, periodic=(False, True), epochs=1)
    record = daml.unflatten(daml.simulate(model, steps=60, seed=1))
    emulator = made.fit(record)
    emulator.save(tmp_path / "a.zarr")
    back = daml.load_emulator(tmp_path / "a.zarr")
    assert back.template.u.isnull().sum() == 1
    assert back.positions.shape == (28, 2)
    for one in (emulator, back):
        forecast = daml.forecast(one, record.isel(time=slice(9)), leads=2, warmup=3)
        found = daml.unflatten(forecast)["forecast"]
        assert found["u"].dims[-2:] == ("y", "x")
        assert found["h"].dims[-2:] == ("x", "y")
    same = CNN((4,), kernel=3, grid=model, epochs=1).fit(record)
    x = np.random.default_rng(0).standard_normal((3, 28)) / 9
    np.testing.assert_array_equal(same.step(x)[0], back.step(x)[0])


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_a_local_scheme_takes_it_in_a_loop_and_trains_it_through_the_cycle(run, tmp_path):
    seen = daml.observe(run, seed=2)
    scheme = daml.schemes.LETKF(members=6, radius=2.0, inflation=1.1)
    emulator = CNN((8,), bilinear=True, grid=RING, epochs=30, batch_size=2, cycle_epochs=3)
    daml.improve(RING, seen, scheme, emulator, passes=1, held_out=0, store=tmp_path / "a")
    found = daml.load_emulator(tmp_path / "a", 0)
    assert found.period == 8 or list(found.period) == [8.0]
    trained = found.fit_cycle(seen, scheme, sequence_length=30, burn_in=10, held_out=0)
    losses = trained.history.loss.values
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: CNN(channels=()), "'channels' is empty"),
        (lambda: CNN(channels=(4, 0)), "an entry of 'channels' is 0"),
        (lambda: CNN(kernel=4), "'kernel' is 4; give an odd number"),
        (lambda: CNN(kernel=9, grid=RING), "'kernel' is 9, and the periodic dimension 0"),
        (lambda: CNN(grid=daml.Lorenz63()), "the variables of Lorenz63 have no positions"),
        (lambda: CNN(base=daml.Lorenz63()), "the variables of Lorenz63 have no positions"),
        (lambda: CNN(grid=RING, base=RING), "leave 'grid' out"),
        (lambda: CNN(grid=RING, periodic="yes"), "'periodic' is 'yes'"),
        (lambda: CNN(grid=RING, periodic=(True, True)), "'periodic' has 2 entries"),
        (lambda: CNN(grid=3), "'grid' is 3; give a model with 'positions'"),
        (lambda: CNN(grid=xr.Dataset()), "'grid' is a Dataset without fields"),
        (
            lambda: CNN(grid=daml.models.TwoScaleLorenz96(sectors=4, fast=2)),
            "are not evenly spaced along dimension 0",
        ),
        (lambda: CNN(grid=roster.Placed(), variance_floor=0.0), "'variance_floor' is 0"),
    ],
)
def test_what_lies_on_no_grid_is_one_line(make, match):
    with pytest.raises(InputError, match=match) as found:
        make()
    assert "\n" not in str(found.value)


def test_a_record_without_a_grid_is_one_line(run):
    with pytest.raises(InputError, match=re.escape("give CNN(grid=model)")):
        CNN(epochs=1).fit(run)
    other = CNN(grid=daml.models.Lorenz96(n=9), epochs=1)
    with pytest.raises(InputError, match="give the grid of the record"):
        other.fit(run)
    with pytest.raises(InputError, match="the analysis has no 'spread'"):
        CNN(grid=RING, epochs=1, variance_floor=0.01).fit(run)


def pairs(spread):
    """Give a record of pairs s, 0.9 s; what follows a pair is any number."""
    first = np.random.default_rng(0).standard_normal(400)
    values = np.stack([first, 0.9 * first], axis=1).reshape(-1, 1)
    deviations = np.tile([[spread], [0.0]], (400, 1))
    fields = {"analysis": (("time", "variable"), values)}
    fields["spread"] = (("time", "variable"), deviations)
    return xr.Dataset(fields, {"time": np.arange(800.0), "variable": ["x"]})


@pytest.mark.parametrize(("spread", "slope"), [(np.nan, 0.9), (np.inf, 0.9), (3.0, 0.9)])
def test_targets_count_by_the_variance_of_the_analysis(spread, slope):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Linear(1, 1)
    how = {"epochs": 40, "sequence_length": 20, "burn_in": 0, "batch_size": 10}
    plain, weighted = (
        Module(module, variance_floor=floor, **how).fit(pairs(spread)) for floor in (None, 0.01)
    )

    def found(emulator):
        return float((emulator.step(np.array([1.0]))[0] - emulator.step(np.array([0.0]))[0])[0])

    assert found(weighted) == pytest.approx(slope, abs=0.02)
    assert found(plain) < 0.7


def test_the_weight_of_a_target_is_that_of_the_formula():
    from daml.training.examples import Block

    states = np.zeros((2, 2))
    variances = np.array([[0.03, np.nan], [0.0, 0.0]])
    block = Block(states, states, np.array([1.0, 0.0]), np.empty((2, 0)), variances)
    found = block.precision(0.01, np.array([2.0, 5.0]))
    np.testing.assert_allclose(found, [[4 / 0.04, 0], [0, 0]])
    np.testing.assert_array_equal(block.precision(None, np.ones(2)), [1.0, 0.0])
