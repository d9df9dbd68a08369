"""Lyapunov spectra against analytic and published ones."""

from dataclasses import dataclass

import numpy as np
import pytest
from array_api_compat import array_namespace

import daml
from daml.errors import InputError
from daml.models import KuramotoSivashinsky, Lorenz96
from daml.verification.predictability import lyapunov_exponent, lyapunov_spectrum


@dataclass(frozen=True)
class Linear(daml.models.ODE):
    """A triangular system, whose exponents are its diagonal."""

    variables = ("u", "v", "w")

    def tendency(self, x):
        u, v, w = (x[..., place] for place in range(3))
        return array_namespace(x).stack((2 * u + 9 * v - w, -0.5 * v + 4 * w, -3 * w), -1)


def spectrum(model, starts, apart, seed=0, **how):
    run = daml.simulate(model, steps=starts * apart, spinup=500, seed=seed)
    return lyapunov_spectrum(model, run.isel(time=slice(0, None, apart)), **how)


def test_the_spectrum_of_a_linear_system_is_its_diagonal():
    run = daml.simulate(Linear(), steps=2)
    how = {"steps": 20, "spinup": 140}
    found = lyapunov_spectrum(Linear(), run, **how)
    np.testing.assert_allclose(found.exponent, [2.0, -0.5, -3.0], atol=5e-5)
    assert float(found.standard_error.max()) < 1e-5
    assert float(found.kaplan_yorke_dimension) == pytest.approx(2 + 1.5 / 3, abs=1e-4)
    few = lyapunov_spectrum(Linear(), run, exponents=2, **how)
    np.testing.assert_allclose(few.exponent, found.exponent[:2], atol=1e-6)
    assert np.isnan(few.kaplan_yorke_dimension)
    one = lyapunov_exponent(Linear(), run, **how)
    assert one == pytest.approx(float(found.exponent[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ([0.9, 0.0, -14.6], 3, 2 + 0.9 / 14.6),
        ([-0.1, -0.2], 2, 0.0),
        ([0.2, 0.1], 2, 2.0),
        ([0.2, 0.1], 3, np.nan),
    ],
)
def test_the_dimension_of_kaplan_and_yorke_by_hand(exponents, size, dimension):
    found = daml.verification.predictability.kaplan_yorke(np.array(exponents), size)
    assert found == pytest.approx(dimension, nan_ok=True)


@pytest.mark.statistical
def test_the_spectrum_of_lorenz_63_is_the_published_one():
    """0.906, 0 and -14.572; dimension 2.062 (Sprott 2003, Chaos and Time-Series Analysis)."""
    found = spectrum(daml.Lorenz63(dt=0.02), 100, 200, steps=200, spinup=200)
    np.testing.assert_allclose(found.exponent, [0.906, 0.0, -14.572], atol=0.05)
    assert float(found.exponent.sum()) == pytest.approx(-(10 + 1 + 8 / 3), abs=0.005)
    assert float(found.kaplan_yorke_dimension) == pytest.approx(2.062, abs=0.004)
    assert (found.standard_error < 0.03).all()


@pytest.mark.statistical
@pytest.mark.slow
def test_the_standard_error_is_that_of_repeated_runs():
    model, repeated = daml.Lorenz63(), []
    how = {"exponents": 1, "steps": 40, "spinup": 40}
    for seed in range(10):
        found = spectrum(model, 40, 40, seed, **how)
        repeated.append((float(found.exponent[0]), float(found.standard_error[0])))
    values, errors = np.transpose(repeated)
    # Pieces that follow one another are anticorrelated: the error is rather too large.
    assert 0.2 < values.std(ddof=1) / errors.mean() < 2.0


@pytest.mark.slow
@pytest.mark.statistical
def test_the_spectrum_of_lorenz_96_is_the_published_one():
    """Largest 1.69, 13 are positive, dimension 27.1 (Lorenz and Emanuel 1998 and later ones)."""
    found = spectrum(Lorenz96(), 100, 400, steps=400, spinup=400)
    assert float(found.exponent[0]) == pytest.approx(1.69, abs=0.06)
    assert int((found.exponent > 0.018).sum()) == 13
    assert abs(float(found.exponent[13])) < 0.03
    assert float(found.kaplan_yorke_dimension) == pytest.approx(27.1, abs=0.4)
    assert float(found.exponent.sum()) == pytest.approx(-40.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.statistical
def test_the_exponent_of_kuramoto_and_sivashinsky_is_the_published_one():
    """0.07 on a ring of 35 (Pathak et al. 2018, Chaos 28, 041101)."""
    model = KuramotoSivashinsky(dt=0.25, length=35.0, n=64)
    found = spectrum(model, 40, 500, exponents=1, steps=500, spinup=300)
    assert float(found.exponent[0]) == pytest.approx(0.07, abs=0.012)


def test_a_spectrum_that_cannot_be_is_refused():
    model = daml.Lorenz63()
    run = daml.simulate(model, steps=2)
    with pytest.raises(InputError, match="'exponents' is 4, and state and memory of Lorenz63 are"):
        lyapunov_spectrum(model, run, exponents=4, steps=1)
    with pytest.raises(InputError, match="lyapunov_spectrum: steps=1, spinup=0, seed=0, exponents"):
        lyapunov_spectrum(model, run, exponents=0, steps=1, spinup=0)
    with pytest.raises(InputError, match=r"lyapunov_exponent: steps=0.*; give steps >= 1"):
        lyapunov_exponent(model, run, steps=0)
