"""What the loop gains without the truth, at a tenth of the size that docs/tuning.md tells of."""

import numpy as np
import pytest

import daml
from daml.verification import analysis_error, forecast_error, mfe, reduction

SEEN = ["x0", "x1", "x2"]
MODEL = daml.Lorenz63()
PASSES = 3

pytestmark = pytest.mark.statistical


def improved(given=1.0, missing=0.0, error_factor=1.0, seed=1):
    """Give the loop's tree, and RMSE of the analyses: of the model given, then of each pass."""
    truth = daml.simulate(daml.CoupledLorenz63(), steps=10_000, spinup=2000, seed=seed)
    seen = daml.observe(truth, variables=SEEN, missing=missing, seed=seed + 50)
    seen["error_variance"] = given * seen.error_variance
    tree = daml.improve(
        MODEL,
        seen,
        daml.ThreeDVar(error_factor=error_factor),
        daml.LSTM(base=MODEL, hidden=50, epochs=40, batch_size=20, seed=seed),
        passes=PASSES,
    )
    groups = ["imperfect", *(f"iteration/{number:04d}" for number in range(PASSES))]
    analyses = [analysis_error(tree[g].to_dataset(), truth, variables=SEEN) for g in groups]
    return tree, np.array([float(scores.analysis_rmse) for scores in analyses])


@pytest.fixture(scope="module")
def complete():
    return improved()


def test_each_pass_makes_the_analysis_better(complete):
    tree, rmse = complete
    assert (np.diff(rmse) < 0).all()  # seeds 1 to 4: -0.006 at most
    assert rmse[-1] < 0.88 * rmse[0]  # 0.83 to 0.85
    assert rmse[1 + tree.attrs["chosen"]] < 0.96 * rmse[0]


def test_the_forecasts_of_the_chosen_pass_are_better(complete):
    truth = daml.simulate(daml.CoupledLorenz63(), steps=5000, spinup=2000, seed=91)
    models = daml.load_emulator(complete[0]), MODEL
    errors = [mfe(forecast_error(daml.forecast(model, truth), truth)) for model in models]
    assert (reduction(*errors) > 20).all()  # 29 to 64


def test_a_third_missing_is_no_hindrance(complete):
    _, rmse = improved(missing=0.3)
    assert rmse[-1] < 0.92 * rmse[0]  # 0.84 to 0.87
    assert rmse[-1] < 1.4 * complete[1][-1]  # 1.26 to 1.30


@pytest.mark.parametrize("given", [0.5, pytest.param(2.0, marks=pytest.mark.slow)])
def test_a_wrong_r_is_mended_in_the_loop(given, complete):
    _, rmse = improved(given, error_factor="estimated")
    assert rmse[-1] < 1.1 * complete[1][-1]  # 0.96 to 0.98
