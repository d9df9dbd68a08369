"""Hidden variables at the places of a base, and a network whose weights all places share."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import xarray as xr

import daml
from daml.emulators import Augmented
from daml.emulators.hidden.local import LocalCorrection
from daml.emulators.hidden.shared_places import places_of
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.models import ODE, Lorenz96
from daml.schemes import ETKF, LETKF, SigmaPoint
from daml.training.stages import Stage


@dataclass(frozen=True)
class Rod(ODE):
    """Five variables along a line, each drawn to its neighbours; they are not in order."""

    variables = ("a", "b", "c", "d", "e")
    positions = (2.0, 0.0, 1.0, 4.0, 7.0)

    def tendency(self, x):
        return -x


@dataclass(frozen=True)
class Fields(ODE):
    """Two fields on a ring of four places."""

    variables = ("u0", "v0", "u1", "v1", "u2", "v2", "u3", "v3")
    positions = (0, 0, 90, 90, 180, 180, 270, 270)
    period = 360

    def tendency(self, x):
        return -x


def free(places, hidden, reach, layers=1):
    """Give a local network whose weights are all away from zero."""
    network = LocalCorrection(places, hidden, 3, layers, reach).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return network


def by_a_loop(network, places, u, reach):
    """Give the increments of one state (variable,), place by place."""
    count, fields = places.variables.shape
    found = np.zeros(len(u))
    for place in range(count):
        seen = []
        for shift in range(-reach, reach + 1):
            other = (place + shift) % count if places.ring else place + shift
            inside = 0 <= other < count
            seen.extend(u[places.variables[other]] if inside else np.zeros(fields))
        given = torch.as_tensor(np.array(seen))
        out = network.head(network.layers(given)) + network.linear(given)
        found[places.variables[place]] = out.detach().numpy()
    return found


@pytest.mark.parametrize("base", [Lorenz96(n=7), Rod(), Fields()], ids=["ring", "line", "fields"])
@pytest.mark.parametrize(("reach", "hidden", "layers"), [(0, 1, 1), (1, 2, 1), (1, 0, 2)])
def test_each_place_sees_what_is_near_it_with_the_same_weights(base, reach, hidden, layers):
    places = places_of(base, reach, "Augmented")
    network = free(places, hidden, reach, layers)
    whole = places.widened(hidden)
    assert sorted(whole.variables.ravel()) == list(range(whole.variables.size))
    states = np.random.default_rng(0).standard_normal((3, whole.variables.size))
    found = network(torch.as_tensor(states)).detach().numpy()
    for row, state in zip(found, states, strict=True):
        np.testing.assert_allclose(row, by_a_loop(network, whole, state, reach), atol=1e-12)


@pytest.mark.parametrize("base", [Lorenz96(n=7), Rod(), Fields()], ids=["ring", "line", "fields"])
def test_the_model_error_is_local_and_has_the_same_weights_everywhere(base):
    places = places_of(base, 1, "Augmented").widened(1)
    network = free(places_of(base, 1, "Augmented"), 1, 1)
    count, fields = places.variables.shape
    root = network.error_root(torch.ones(count * fields, dtype=torch.float64)).detach().numpy()
    mixing = network.error_mixing.detach().numpy().reshape(3, fields, fields)
    size = np.exp(network.error_scale.detach().numpy())
    expected = np.eye(count * fields)
    for place in range(count):
        for shift in (-1, 0, 1):
            other = place + shift
            if places.ring or 0 <= other < count:
                at = np.ix_(places.variables[place], places.variables[other % count])
                expected[at] += mixing[shift + 1]
    for place in range(count):
        expected[places.variables[place]] *= size[:, None]
    np.testing.assert_allclose(root, expected)


def test_numbers_of_variables_are_shared_by_places():
    network = free(places_of(Fields(), 1, "Augmented"), 1, 1)
    given = np.arange(12.0)
    expected = [3, 4] * 4 + [9.5] * 4
    np.testing.assert_allclose(network.shared(given), expected)


RING = Lorenz96(n=8, forcing=8.0)


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(RING, steps=1000, spinup=200, seed=1)
    return daml.observe(truth, variables=[f"x{k}" for k in range(0, 8, 2)], seed=2)


@pytest.fixture(scope="module")
def begun():
    analysis = daml.simulate(RING, steps=300, spinup=200, seed=3)
    base = Lorenz96(n=8, forcing=7.0)
    return Augmented(hidden_variables=2, reach=1, base=base, units=3).begin(analysis)


@pytest.fixture(scope="module")
def widened(begun):
    """An emulator with hidden variables, before its training."""
    names = begun.names_of(2)
    network = begun.network(8 + len(names), len(names)).requires_grad_(False)
    return replace(begun, fitted=begun.known.widened(names, network))


def test_hidden_variables_have_names_and_positions_of_their_places(begun, widened):
    assert widened.variables[8:] == tuple(f"hidden{h}_{k}" for h in (0, 1) for k in range(8))
    np.testing.assert_array_equal(widened.positions, np.tile(np.arange(8), 3))
    space = StateSpace.of(widened)
    assert space.distance([0], [8 + 7, 16 + 4]).tolist() == [[1.0, 4.0]]
    dense = replace(begun, reach=None)
    assert dense.names_of(2) == ("hidden0", "hidden1")
    np.testing.assert_array_equal(dense.positions, np.arange(8))  # it has no hidden ones yet


def test_a_turn_of_the_ring_turns_the_step(widened):
    x = np.random.default_rng(0).standard_normal((4, 24))
    turn = np.concatenate([8 * field + np.roll(np.arange(8), 3) for field in range(3)])
    moved, turned = widened.step(x)[0], widened.step(x[:, turn])[0]
    np.testing.assert_allclose(turned, moved[:, turn], atol=1e-5)
    assert (widened.step(x)[0][:, 8:] != x[:, 8:]).all()


@pytest.mark.parametrize("scheme", [SigmaPoint(), ETKF(10), LETKF(5, radius=2.0)])
def test_filters_estimate_hidden_variables_at_places(widened, seen, scheme):
    analysis = daml.assimilate(widened, seen.isel(time=slice(0, 60)), scheme)
    assert analysis.sizes["variable"] == 24
    assert np.isfinite(analysis.analysis).all()
    away = analysis.spread.sel(variable=["hidden0_0"])
    assert (away > 0).all()


def test_a_training_can_be_stored(begun, seen, tmp_path, monkeypatch):
    short = Stage(updates=3, length=6, rate=1e-2, error_rate=1.0, narrowed=1.0)
    monkeypatch.setattr("daml.emulators.hidden.learning.WIDE", (short,))
    monkeypatch.setattr("daml.emulators.hidden.learning.FURTHER", (short,))
    monkeypatch.setattr("daml.emulators.hidden.lessons.JUDGED", 100)
    monkeypatch.setattr("daml.training.error_size.TRIALS", 1)
    few = seen.isel(time=slice(0, 120))
    fitted = begun.fit_cycle(few, ETKF(12), held_out=0.0)
    assert fitted.variables[-1] == "hidden1_7"
    error = fitted.model_error
    turn = np.concatenate([8 * field + np.roll(np.arange(8), 3) for field in range(3)])
    np.testing.assert_allclose(error[np.ix_(turn, turn)], error, rtol=1e-9, atol=1e-12)
    fitted.save(tmp_path / "emulator.zarr")
    loaded = daml.load_emulator(tmp_path / "emulator.zarr")
    x = np.random.default_rng(0).standard_normal((4, 24))
    np.testing.assert_array_equal(loaded.step(x)[0], fitted.step(x)[0])
    xr.testing.assert_identical(loaded.to_dataset(), fitted.to_dataset())
    again = loaded.fit_cycle(few, ETKF(12), held_out=0.0)
    assert again.known.trainings == 2
    assert not np.array_equal(again.step(x)[0], fitted.step(x)[0])


class Plane(Lorenz96):
    positions = np.indices((2, 4)).reshape(2, 8).T
    period = None


class Uneven(Lorenz96):
    positions = (0, 1, 2, 3, 4, 5, 6, 6.5)


class Crowded(Lorenz96):
    positions = (0, 0, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("base", "reach", "text"),
    [
        (None, 1, "there is no base to say where variables lie; give 'base'"),
        (Fields(), 2, "give a number of places from 0 to 1, as Fields has 4"),
        (RING, -1, "give a number of places from 0 to 3, as Lorenz96 has 8"),
        (Plane(n=8), 1, "the positions of Plane have 2 dimensions"),
        (Uneven(n=8), 1, "the variables of Uneven do not lie evenly around the ring"),
        (Crowded(n=8), 1, "Crowded has from 1 to 2 variables at a place"),
        (daml.models.each(daml.Lorenz63()), 1, "the variables of Lorenz63 have no positions"),
    ],
)
def test_a_base_without_such_places_is_refused(base, reach, text):
    record = daml.simulate(RING if base is None else base, steps=50)
    with pytest.raises(InputError, match=f"Augmented: 'reach' is {reach}.*{text}"):
        Augmented(reach=reach, base=base).begin(record)
