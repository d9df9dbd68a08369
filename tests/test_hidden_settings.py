"""Models with hidden variables: wrong settings and arguments, no base, and further trainings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import daml
from daml.emulators.hidden.first_steps import begun
from daml.emulators.hidden.lessons import Lesson
from daml.errors import InputError
from daml.training import error_size

Augmented = daml.emulators.Augmented
SIGMA = daml.schemes.SigmaPoint()
TINY = {"hidden_variables": 1, "units": 4, "updates": 2}


class Renamed(daml.Lorenz63):
    """Lorenz 63 with a variable that is called as a hidden one is."""

    variables = ("x0", "x1", "hidden0")


@pytest.fixture(scope="module")
def record():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=400, spinup=500, seed=3)
    return daml.observe(truth, variables=["x0", "x1", "x2"], seed=4)


@pytest.fixture(scope="module")
def analysis(record):
    scheme = daml.schemes.ETKF(12, inflation=1.2)
    return daml.assimilate(daml.Lorenz63(), record, scheme)


@pytest.fixture
def quick(monkeypatch):
    """The size of the model error is searched for in one trial."""
    monkeypatch.setattr(error_size, "TRIALS", 1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"hidden_variables": -1}, "'hidden_variables' is -1; give 0 or more, or 'auto'"),
        ({"hidden_variables": 2.5}, r"is 2\.5; give 0 or more, a whole number, or 'auto'"),
        ({"hidden_variables": "many"}, "is 'many'; give 0 or more, a whole number, or 'auto'"),
        ({"hidden_variables": True}, "is True; give 0 or more, a whole number, or 'auto'"),
        ({"units": 0}, "'units' is 0; give 1 or more"),
        ({"layers": 0}, "'layers' is 0; give 1 or more"),
        ({"updates": 0}, "'updates' is 0; give 1 or more"),
        ({"updates": "few"}, "'updates' is 'few'; give a whole number or None"),
        ({"seed": -1}, "'seed' is -1; give a whole number from 0"),
        ({"device": "tpu"}, "device 'tpu' is unknown; give 'cpu'"),
        ({"base": 3}, "'base' is 3; give a model"),
        (
            {"base": daml.Lorenz63},
            r"is the class Lorenz63; give .*; make one with Lorenz63\(",
        ),
        ({"base": Renamed()}, "the base has a variable 'hidden0', .*; give it another name"),
    ],
)
def test_settings_that_are_out_of_range_are_one_line(how, message):
    with pytest.raises(InputError, match=f"^Augmented: .*{message}") as error:
        Augmented(**how)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_plain_ones():
    made = Augmented(hidden_variables=np.int64(2), units=np.float64(8))
    assert (type(made.hidden_variables), type(made.units)) == (int, int)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (daml.ThreeDVar("innovations"), "ThreeDVar has no covariance that it carries on, .*Sigma"),
        (daml.schemes.ParticleFilter(10), "ParticleFilter has no .*; give daml.schemes.SigmaPoint"),
        (3, "'scheme' is 3; give a scheme"),
    ],
)
def test_a_scheme_that_cannot_teach_is_refused(record, analysis, scheme, message):
    with pytest.raises(InputError, match=message):
        Augmented(base=daml.Lorenz63(), **TINY).begin(analysis).fit_cycle(record, scheme)


def test_wrong_records_are_refused_before_a_training(record, analysis):
    with pytest.raises(
        InputError, match=r"Augmented\.fit_cycle: call 'begin' first; give .*begin\("
    ):
        Augmented(base=daml.Lorenz63()).fit_cycle(record, SIGMA)
    model = Augmented(base=daml.Lorenz63(), **TINY).begin(analysis)
    with pytest.raises(
        InputError, match=r"a record of 300 steps is too short to train on; give 400"
    ):
        model.fit_cycle(record.isel(time=slice(300)), SIGMA, held_out=0)
    with pytest.raises(InputError, match=r"a record of 400 steps is too short: .*held_out=0\.25"):
        model.fit_cycle(record, SIGMA)
    with pytest.raises(InputError, match="'heat'"):
        model.fit_cycle(record.assign_coords(variable=["heat", "salt", "wind"]), SIGMA)
    with pytest.raises(InputError, match="has a variable 'hidden0', which is the name of a hidden"):
        Augmented().begin(analysis.assign_coords(variable=["x0", "x1", "hidden0"]))
    with pytest.raises(InputError, match=r"the base steps .* was fitted to"):
        replace(model, base=daml.CoupledLorenz63())
    with pytest.raises(InputError, match="Augmented: analyses do not show hidden variables; train"):
        model.fit(analysis)


def test_a_model_without_a_base_starts_from_single_steps(analysis):
    """It predicts the next analysis far better than the state before does, and knows how well."""
    rows = analysis["analysis"].values
    model = Augmented(units=16, hidden_variables=1).begin(analysis)
    assert model.variables == ("x0", "x1", "x2")
    error = np.sqrt(np.mean((model.step(rows[:-1])[0] - rows[1:]) ** 2, axis=0))
    assert (error < 0.5 * np.sqrt(np.mean(np.diff(rows, axis=0) ** 2, axis=0))).all()
    np.testing.assert_allclose(np.sqrt(np.diag(model.model_error)), 0.6 * error, rtol=1e-3)


def test_hidden_variables_are_added_to_what_single_steps_gave(record, analysis):
    model = Augmented(units=16, hidden_variables=2).fit(analysis)
    lesson = Lesson.of(model, 2, record, SIGMA, 0.3, None)
    wider = replace(model, fitted=replace(lesson.known, network=lesson.network))
    lesson.network.requires_grad_(False)
    x = analysis["analysis"].values[:5]
    u = np.concatenate((x, np.zeros((5, 2))), axis=1)
    moved = wider.step(u)[0]
    np.testing.assert_allclose(moved[:, :3], model.step(x)[0], atol=0.3)
    np.testing.assert_allclose(np.diag(wider.model_error)[:3], np.diag(model.model_error))
    assert wider.variables == ("x0", "x1", "x2", "hidden0", "hidden1")


@pytest.mark.slow
def test_a_further_training_goes_on_from_the_weights_and_never_gets_worse(record, analysis, quick):
    model = Augmented(base=daml.Lorenz63(), **TINY).begin(analysis)
    first = model.fit_cycle(record, SIGMA, held_out=0.3)
    more = first.fit_cycle(record, SIGMA, held_out=0.3)
    assert (first.fitted.trainings, more.fitted.trainings) == (1, 2)
    lesson = Lesson.of(first, 1, record, SIGMA, 0.3, None)
    for name, weight in first.fitted.network.state_dict().items():
        assert torch.equal(lesson.network.state_dict()[name], weight), name
    before = lesson.watch.scores()["held_out_loss"]
    after = Lesson.of(more, 1, record, SIGMA, 0.3, None).watch.scores()["held_out_loss"]
    assert after <= before + 0.02
    with pytest.raises(InputError, match=r"_variables' is 3, and .* was trained with 1; give"):
        replace(first, hidden_variables=3).fit_cycle(record, SIGMA, held_out=0.3)
    kept = replace(first, hidden_variables="auto").fit_cycle(record, SIGMA, held_out=0.3)
    assert kept.variables == first.variables


def test_a_first_training_without_hidden_variables_has_first_weights_too(analysis, record):
    model = Augmented(base=daml.Lorenz63(), hidden_variables=0, units=4).begin(analysis)
    lesson = Lesson.of(model, 0, record, SIGMA, 0.3, None)
    assert all(weight.any() for weight in lesson.network.layers.parameters())
    assert not begun(model, analysis, 0.0).network.head.weight.any()
