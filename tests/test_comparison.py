"""Schemes side by side on one record."""

import numpy as np
import pytest

import daml
from daml.errors import InputError

MODEL = daml.Lorenz63()
TRUTH = daml.simulate(MODEL, steps=300, spinup=200, seed=2)
SEEN = daml.observe(TRUTH, seed=3)


class Counted(daml.Lorenz63):
    """Notes how many states it steps; `model_error` is what a stochastic model has."""

    model_error = 0.01
    stepped = 0

    def step(self, x, memory):
        type(self).stepped += int(np.prod(x.shape[:-1]))
        return super().step(x, memory)


def test_scores_and_costs_are_those_of_each_scheme():
    B = daml.climatological(TRUTH, max_variance=2)
    schemes = {"3DVar": daml.ThreeDVar(B), "ETKF": daml.schemes.ETKF(10, seed=1)}
    found = daml.compare_schemes(MODEL, SEEN, schemes, truth=TRUTH, skip=50, segments=1)
    assert found.scheme.values.tolist() == ["3DVar", "ETKF"]
    analysis = daml.assimilate(MODEL, SEEN, schemes["ETKF"], segments=1)
    error = daml.verification.analysis_error(analysis, TRUTH, skip=50)
    at = found.sel(scheme="ETKF")
    assert float(at.analysis_rmse) == float(error.analysis_rmse)
    assert float(at.background_rmse) == float(error.background_rmse)
    part = analysis.isel(time=slice(50, None))
    assert float(at.chi_square) == pytest.approx(float(part.chi_square.mean()))
    assert float(at.log_likelihood) == pytest.approx(float(part.log_likelihood.mean()))
    assert at.reason.item() == ""
    assert float(at.lost) == 0
    assert (found.seconds > 0).all()
    # Besides, a model is tried on a few states, and an ensemble starts from a free run.
    assert (found.states >= [1, 10]).all()
    assert (found.states <= [1.1, 50]).all()
    assert np.isnan(found.spread.sel(scheme="3DVar"))


def test_without_a_truth_schemes_are_compared_by_their_likelihood():
    schemes = {str(k): daml.schemes.ETKF(12, inflation=k) for k in (1.02, 2.5)}
    found = daml.compare_schemes(MODEL, SEEN, schemes)
    assert "analysis_rmse" not in found
    assert found.log_likelihood.idxmax().item() == "1.02"


def test_what_is_open_is_tuned_and_is_no_part_of_the_cost():
    found = daml.compare_schemes(MODEL, SEEN, {"3DVar": daml.ThreeDVar()}, truth=TRUTH, segments=1)
    assert float(found.analysis_rmse[0]) < 0.8
    assert float(found.states[0]) < 1.1


def test_a_scheme_that_diverges_does_not_end_the_comparison():
    model = daml.models.Lorenz96(n=40)
    truth = daml.simulate(model, steps=200, spinup=200)
    schemes = {"few": daml.schemes.ETKF(3), "3DVar": daml.ThreeDVar("climatological")}
    found = daml.compare_schemes(model, daml.observe(truth), schemes, truth=truth)
    assert "ETKF has lost the observations" in found.reason.sel(scheme="few").item()
    assert np.isfinite(found.analysis_rmse).values.tolist() == [False, True]


def test_a_model_with_an_error_of_its_own_is_counted_and_keeps_it():
    Counted.stepped = 0
    found = daml.compare_schemes(
        Counted(), SEEN, {"EKF": daml.schemes.ExtendedKalman()}, segments=1
    )
    given = daml.assimilate(MODEL, SEEN, daml.schemes.ExtendedKalman(model_error=0.01), segments=1)
    part = given.chi_square.isel(time=slice(100, None))
    assert float(found.chi_square[0]) == pytest.approx(float(part.mean()), rel=1e-6)
    assert Counted.stepped >= 300 * float(found.states[0]) > 300


def test_a_stochastic_model_is_stepped_without_its_noise():
    model = daml.models.Stochastic(MODEL, model_error=0.01)
    scheme = {"ETKF": daml.schemes.ETKF(10)}
    found = daml.compare_schemes(model, SEEN, scheme, segments=1)
    given = daml.assimilate(model, SEEN, scheme["ETKF"], segments=1)
    expected = given.log_likelihood.isel(time=slice(100, None)).mean()
    assert float(found.log_likelihood[0]) == pytest.approx(float(expected))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="there is no scheme"):
        daml.compare_schemes(MODEL, SEEN, {})
    with pytest.raises(InputError, match="'skip' is -1; give 0 or more"):
        daml.compare_schemes(MODEL, SEEN, {"3DVar": daml.ThreeDVar()}, skip=-1)
    with pytest.raises(InputError, match="a list; give a mapping"):
        daml.compare_schemes(MODEL, SEEN, [daml.ThreeDVar()])
