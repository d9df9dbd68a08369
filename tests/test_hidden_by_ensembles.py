"""Models with hidden variables, taught through the cycles of ensembles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import daml
from daml.covariances.model_error import error_root
from daml.emulators import Augmented
from daml.schemes import ETKF, SigmaPoint
from daml.training.streams import Streams
from daml.training.through_cycle import Course, Innovations


def covariance(entries):
    """Give T T' of the entries of a triangular T, I + entries."""
    root = torch.eye(3, dtype=torch.float64).index_put(
        (torch.tensor([1, 2, 2]), torch.tensor([0, 0, 1])), entries
    )
    return root @ root.T


@pytest.mark.parametrize("first", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.1)])
def test_a_gradient_passes_through_the_root_of_a_model_error(first):
    entries = torch.tensor(first, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: error_root(covariance(given)), (entries,))
    with_gradient, without = (error_root(covariance(e)) for e in (entries, entries.detach()))
    assert (with_gradient == without).all()
    torch.testing.assert_close(without @ without, covariance(entries.detach()))


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=1000, spinup=500, seed=1)
    return daml.observe(truth.isel(variable=slice(0, 3)), seed=2)


@pytest.fixture(scope="module")
def begun(seen):
    analysis = daml.assimilate(daml.Lorenz63(), seen, ETKF(6, inflation=1.3))
    return Augmented(hidden_variables=2, base=daml.Lorenz63(), units=4).begin(analysis)


def opened(begun, seen, scheme):
    """Give the network of a training at its start, and its streams."""
    names = begun.names_of(2)
    network = begun.network(len(begun.variables) + len(names), len(names)).double()
    known = begun.known.widened(names, network)
    emulator = replace(begun, fitted=known)
    like = torch.zeros((), dtype=torch.float64)
    course = Course(emulator, seen, 0.0, like)
    scheme = scheme.sized(emulator.variables) if hasattr(scheme, "sized") else scheme
    objective = Innovations(lambda: emulator, scheme, course.record, like, 0)
    return network, Streams(course, objective, 3, known.climate, known.climate_spread)


def check_gradients(network, loss):
    """Compare the largest entry of each weight's gradient with differences."""
    weights = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss(), list(weights.values()))
    for weight, gradient in zip(weights.values(), gradients, strict=True):
        place = tuple(int(n) for n in np.unravel_index(int(gradient.abs().argmax()), weight.shape))
        sides = []
        with torch.no_grad():
            for sign in (1, -2):
                weight[place] += sign * 1e-5
                sides.append(float(loss()))
            weight[place] += 1e-5
        expected = (sides[0] - sides[1]) / 2e-5
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("scheme", [SigmaPoint(), ETKF(6), ETKF(6, inflation=1.1, rotate=True)])
def test_the_gradient_through_a_stream_is_that_of_differences(seen, begun, scheme):
    network, streams = opened(begun, seen, scheme)
    check_gradients(network, lambda: streams.run(4)[0])


@pytest.mark.slow
@pytest.mark.statistical
def test_a_model_taught_through_an_ensemble_predicts_what_its_base_does_not():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=6000, spinup=500, seed=1)
    seen = daml.observe(truth.isel(variable=slice(0, 3)), seed=2)
    first, second = seen.isel(time=slice(0, 5000)), seen.isel(time=slice(5000, None))
    base, wide = daml.Lorenz63(), ETKF(20, inflation=1.3)
    analysis = daml.assimilate(base, first, wide)
    taught = Augmented(hidden_variables=2, base=base, updates=100).begin(analysis)
    taught = taught.fit_cycle(first, ETKF(20))

    def error(model, scheme):
        found = daml.assimilate(model, second, scheme)
        away = found.analysis.sel(variable=list(base.variables)) - truth.state
        return float(np.sqrt((away[300:] ** 2).mean()))

    assert error(taught, ETKF(20)) < 0.8 * error(base, wide)
