"""Times whose H or R is not that of the setting, so that no gain is prepared for them."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
import roster
import xarray as xr

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.observing.batches import placed, restricted
from daml.observing.records import Record, read
from daml.protocols import Update
from daml.running.assimilation import assimilated

MODEL = roster.Placed()


class Own(Record):
    """A record whose times have a noise of their own, the same as in the tables."""

    def seen(self, steps, parts=None):
        observed = super().seen(steps, parts)
        return restricted(observed, observed.present)

    def silenced(self, observed, over):
        return restricted(observed, ~over[..., None])


def record(kind, observations, model=MODEL):
    found = read(observations, model.variables, model.dt, space=StateSpace.of(model))
    return kind(**{field.name: getattr(found, field.name) for field in fields(Record)})


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.Lorenz63(), steps=60, spinup=300, seed=1)
    return daml.observe(truth, variables=["x0", "x2"], missing=0.3, seed=2)


def correlated(observations):
    error = xr.DataArray(
        [[1.0, 0.5], [0.5, 2.0]],
        {"variable": observations["variable"], "covariable": observations["variable"].values},
        ("variable", "covariable"),
    )
    return observations.drop_vars("error_variance").assign(error_covariance=error)


class Doubtful(roster.Placed):
    """Says how large the error of its forecasts is."""

    def background_covariance(self, memory):
        return np.diag([0.5, 1.0, 1.0])


TABLED = ("ThreeDVar", "ThreeDVar by conjugate gradients", "OptimalInterpolation", "EnKF")
ENTRIES = {  # test_moving.py has the others, whose record has a noise of its own at each time
    **{name: roster.SCHEMES[name] for name in (*TABLED, "IEnKS", "FourDVar")},
    "ThreeDVar, correlated": roster.SCHEMES["ThreeDVar"],
    "ThreeDVar by the model": lambda: daml.ThreeDVar("model", error_factor=1.5),
    "ThreeDVar by the model, correlated": lambda: daml.ThreeDVar("model", error_factor=1.5),
}


@pytest.mark.parametrize("make", ENTRIES.values(), ids=ENTRIES.keys())
def test_a_noise_of_its_own_gives_the_analysis_of_the_tables(make, seen, request):
    if "correlated" in request.node.name:
        seen = correlated(seen)
    model = Doubtful() if "by the model" in request.node.name else MODEL
    tabled, own = (
        assimilated(model, seen, make(), record(kind, seen), segments=1) for kind in (Record, Own)
    )
    for name in tabled.data_vars:
        np.testing.assert_allclose(own[name], tabled[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_rejected_value_is_a_missing_one(seen):
    seen = seen.assign(observation=seen.observation.fillna(1.0))
    steps, setting = np.array([3, 4]), record(Record, seen).setting()
    observed = restricted(record(Record, seen).seen(steps), np.array([[True, False], [True, True]]))
    missing = seen.copy(deep=True)
    missing["observation"][3, 1] = np.nan
    found = record(Record, missing).seen(steps)
    for name in ("values", "present", "variance", "covariance", "log_deviation"):
        np.testing.assert_array_equal(getattr(observed, name), getattr(found, name))
    on_torch = placed(observed, setting, "cpu")
    np.testing.assert_array_equal(on_torch.covariance.numpy(), found.covariance)
    again = restricted(on_torch, on_torch.present)
    np.testing.assert_array_equal(again.log_deviation.numpy(), found.log_deviation)


@dataclass(frozen=True)
class Prepared(roster.Nudging):
    """Takes what it has prepared for a pattern, whatever the noise is."""

    def prepare(self, setting):
        return 1 / setting.noise.variance

    def update(self, forecast, observed, run, weights):
        return Update(forecast.state + 0 * weights[observed.pattern].sum()), weights


def test_what_was_prepared_for_a_pattern_is_not_taken_for_another_noise(seen):
    assimilated(MODEL, seen, Prepared(), record(Record, seen))
    with pytest.raises(InputError, match=r"observed\.pattern: H or R of this time is not that of"):
        assimilated(MODEL, seen, Prepared(), record(Own, seen))
