"""Schemes of a user's own: what they may do with arrays, and what is refused in a line."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import roster
import torch

import daml
from daml.errors import DivergedError, InputError
from daml.protocols import Update

MODEL = daml.Lorenz63()


@pytest.fixture(scope="module")
def seen():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=600, spinup=200, seed=1)
    found = daml.observe(truth, variables=["x0", "x2"], seed=2)
    missing = np.random.default_rng(3).random(found.observation.shape) < 0.2
    return found.assign(observation=found.observation.where(~missing))


def scheme(update=None, **attributes):
    """Give nudging with another update(forecast, observed, run, memory), and further attributes."""
    if update is not None:
        attributes["update"] = lambda self, *given: update(*given)
    return type("Own", (roster.Nudging,), attributes)()


def nudged(*given):
    return roster.Nudging().update(*given)[0].state


def writes_state(forecast, observed, run, memory):
    state = nudged(forecast, observed, run, memory)
    forecast.state[...] = 0.0
    return Update(state), memory


def writes_values(forecast, observed, run, memory):
    state = nudged(forecast, observed, run, memory)
    observed.values[...] = 0.0
    return Update(state), memory


def gives_float32(*given):
    return Update(nudged(*given).astype(np.float32)), given[-1]


class SameArray(roster.Nudging):
    """Gives one array again and again, as well as what it gives besides."""

    outputs: ClassVar = {"first": (("time",), {})}

    def update(self, *given):
        state = nudged(*given)
        shape = state.shape
        room, first = ROOM.setdefault(shape, (np.empty(shape), np.empty(shape[:-1])))
        room[...], first[...] = state, state[..., 0]
        return Update(room, {"first": first}), given[-1]


ROOM = {}


@pytest.mark.parametrize("update", [writes_state, writes_values])
def test_a_scheme_may_write_into_what_it_is_given(update, seen):
    expected = daml.assimilate(MODEL, seen, roster.Nudging())
    found = daml.assimilate(MODEL, seen, scheme(update))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_scheme_may_give_the_same_array_each_time(seen):
    expected = daml.assimilate(MODEL, seen, roster.Nudging())
    found = daml.assimilate(MODEL, seen, SameArray())
    np.testing.assert_array_equal(found.analysis, expected.analysis)
    np.testing.assert_array_equal(found.first, expected.analysis[:, 0])


def test_a_step_follows_in_double_precision_from_a_single_one(seen):
    found = daml.assimilate(MODEL, seen, scheme(gives_float32), segments=1)
    moved, _ = MODEL.step(found.analysis.values[:-1], None)
    np.testing.assert_array_equal(found.background[1:], moved)


class Counting(roster.Nudging):
    """Counts its updates in the memory that it is given."""

    outputs: ClassVar = {"number": (("time",), {})}

    def prepare(self, setting):
        return {"count": [np.zeros(())], "operator": setting.operator}

    def update(self, forecast, observed, run, memory):
        memory["count"][0] += 1
        state = nudged(forecast, observed, run, memory["operator"])
        return Update(state, {"number": memory["count"][0] + np.zeros(state.shape[:-1])}), memory


def test_each_cycle_starts_from_what_was_prepared(seen):
    found = daml.assimilate(MODEL, seen, Counting(), spinup=5)  # which is doubled a few times
    assert found.attrs["spinup"] > 5
    np.testing.assert_array_equal(found.number[:20], np.arange(1, 21))


def writes_noise(forecast, observed, run, memory):
    np.negative(observed.noise.variance, out=observed.noise.variance)
    return Update(forecast.state), memory


def writes_pattern(forecast, observed, run, memory):
    observed.pattern[...] = 0
    return Update(forecast.state), memory


STATES = {
    "too many values to unpack": lambda f, o, r, m: f.state,
    "'numpy.ndarray' object has no attribute 'state'": lambda f, o, r, m: (f.state, m),
    "cannot unpack non-iterable NoneType": lambda f, o, r, m: None,
    "ndarray of complex128": lambda f, o, r, m: (Update(f.state + 0j), m),
    "ndarray of object": lambda f, o, r, m: (Update(f.state.astype(object)), m),
    "ndarray of bool": lambda f, o, r, m: (Update(f.state > 0), m),
    "Tensor of torch.float64": lambda f, o, r, m: (Update(torch.from_numpy(f.state)), m),
    r"MaskedArray of float64 of shape": lambda f, o, r, m: (Update(np.ma.array(f.state)), m),
    "a list of shape": lambda f, o, r, m: (Update(f.state.tolist()), m),
    "output array is read-only": writes_noise,
    "destination is read-only": writes_pattern,
}


@pytest.mark.parametrize("text", STATES)
def test_what_is_no_analysis_is_refused(text, seen):
    with pytest.raises(InputError, match=f"Own: .*{text}"):
        daml.assimilate(MODEL, seen, scheme(STATES[text]))


def test_an_analysis_that_is_not_finite_is_the_schemes_own_fault(seen):
    with pytest.raises(DivergedError, match=r"Own: 'update' turned .*at time 0.0; a missing"):
        daml.assimilate(MODEL, seen, scheme(lambda f, o, r, m: (Update(f.state / 0), m)))


@pytest.mark.parametrize("extra", [np.array(["a"]), np.array([1j])])
def test_extras_are_real_numbers(extra, seen):
    def update(forecast, observed, run, memory):
        extras = {"more": np.broadcast_to(extra, forecast.state.shape[:-1])}
        return Update(forecast.state, extras), memory

    with pytest.raises(InputError, match=r"Own: 'update' gave 'more' of type .*; give"):
        daml.assimilate(MODEL, seen, scheme(update, outputs={"more": (("time",), {})}))


ATTRIBUTES = {
    "Own: 'outputs' is a list; give a mapping": {"outputs": ["more"]},
    "Own: 'outputs' is None; give a mapping": {"outputs": None},
    "'outputs' holds 'more' with a tuple; give a pair": {"outputs": {"more": ("time", "variable")}},
    "'more' with the dimensions 'time'": {"outputs": {"more": ("time", {})}},
    "'time' with the dimensions .* another name": {"outputs": {"time": (("time",), {})}},
    "3 with the dimensions .* another name": {"outputs": {3: (("time",), {})}},
    "Own: 'needs' holds 'covarience'; give .* 'covariance'": {"needs": {"covarience"}},
    "Own: 'needs' is 'covariance'; give a set": {"needs": "covariance"},
    "Own: 'needs' is None; give a set": {"needs": None},
    "Own is not a scheme: it has no method 'prepare'": {"prepare": 3},
    r"Own: 'prepare' failed \(ZeroDivisionError": {"prepare": lambda self, setting: 1 / 0},
    r"Own: 'prepare' failed \(TypeError": {"prepare": lambda self: None},
}


@pytest.mark.parametrize("text", ATTRIBUTES)
def test_attributes_that_are_wrong_are_refused(text, seen):
    with pytest.raises(InputError, match=text):
        daml.assimilate(MODEL, seen, scheme(**ATTRIBUTES[text]))


TUNED = {
    "Own: 'tuned' returned None; return the scheme": lambda self, trial, before: None,
    "Own: 'tuned' returned the class Nudging; return": lambda self, trial, before: roster.Nudging,
    r"Own: 'tuned' failed \(ZeroDivisionError": lambda self, trial, before: 1 / 0,
    r"Own: 'tuned' failed \(TypeError": lambda self: self,
}


@pytest.mark.parametrize("text", TUNED)
def test_what_is_no_tuned_scheme_is_refused(text, seen):
    with pytest.raises(InputError, match=text):
        daml.tuned(scheme(open=("weight",), tuned=TUNED[text]), MODEL, seen)


def test_analyse_refuses_what_is_no_analysis():
    truth = daml.simulate(MODEL, steps=50)
    own = scheme(lambda f, o, r, m: f.state)
    with pytest.raises(InputError, match="Own: 'update' failed"):
        daml.schemes.analyse(own, truth, daml.observe(truth))


class Older:
    """Nudging as an older daml had it, for NumPy's arrays and torch's."""

    def start(self, variables, record):
        return record.operator

    def update(self, background, values, kind, operator):
        matrix = operator.matrix()
        if isinstance(background, torch.Tensor):
            matrix = torch.as_tensor(matrix)
        return background + 0.3 * (values - operator.apply(background)) @ matrix, operator


def test_a_scheme_of_the_older_kind_trains_through_the_cycle():
    truth = daml.simulate(MODEL, steps=300, spinup=200, seed=1)
    seen = daml.observe(truth, seed=2)
    emulator = daml.LSTM(base=MODEL, hidden=4, cycle_epochs=1).begin(truth)
    with pytest.warns(DeprecationWarning, match=r"Older: schemes with 'start'"):
        found = emulator.fit_cycle(seen, Older(), held_out=0)
    assert np.isfinite(found.history.loss).all()


def test_a_scheme_that_torch_cannot_follow_says_what_it_was_given():
    truth = daml.simulate(MODEL, steps=300, spinup=200, seed=1)
    emulator = daml.LSTM(hidden=4, epochs=1, cycle_epochs=1).fit(truth)
    own = scheme(lambda f, o, r, m: (Update(torch.from_numpy(f.state.numpy())), m))
    with pytest.raises(InputError, match=r"Own: 'update' failed .* torch tensors with a gradient"):
        emulator.fit_cycle(daml.observe(truth), own, held_out=0)


class Kalman(roster.Nudging):
    """Takes the model's B of each forecast, in NumPy."""

    needs: ClassVar = {"covariance"}

    def prepare(self, setting):
        return setting.operator.matrix()

    def update(self, forecast, observed, run, matrix):
        cross = forecast.covariance @ matrix.T
        error = observed.variance[..., None] * np.eye(len(matrix))
        gap = (observed.values - forecast.state @ matrix.T)[..., None]
        assert forecast.covariance.dtype == forecast.state.dtype
        increment = (cross @ np.linalg.solve(matrix @ cross + error, gap))[..., 0]
        return Update(forecast.state + increment), matrix


def test_a_scheme_has_the_models_covariance_in_its_own_kind_of_array():
    truth = daml.simulate(MODEL, steps=300, spinup=200, seed=1)
    seen, B = daml.observe(truth, variables=["x0", "x2"]), roster.climatology()
    emulator = daml.LSTM(base=MODEL, hidden=4, cycle_epochs=1, covariance="predicted").begin(truth)
    emulator = emulator.fit_cycle(seen, daml.ThreeDVar(B), held_out=0)
    found = daml.assimilate(emulator, seen, Kalman())
    expected = daml.assimilate(emulator, seen, daml.ThreeDVar("model"))
    np.testing.assert_allclose(found.analysis, expected.analysis, atol=1e-9)


@dataclass(frozen=True)
class HalfTold(daml.schemes.ETKF):
    """An ensemble that gives only some of its moments."""

    def update(self, forecast, observed, run, memory):
        update, memory = super().update(forecast, observed, run, memory)
        return update._replace(moments={"analysis": update.state.mean(axis=-2)}), memory


def test_moments_are_given_whole_or_not_at_all():
    seen = daml.observe(daml.simulate(MODEL, steps=20, spinup=100), seed=1)
    with pytest.raises(InputError, match="HalfTold: 'update' gave no 'background' in the moments"):
        daml.assimilate(MODEL, seen, HalfTold(5))


@dataclass(frozen=True)
class AllTold(daml.schemes.ETKF):
    """An ensemble that gives moments of its own."""

    def update(self, forecast, observed, run, memory):
        update, memory = super().update(forecast, observed, run, memory)
        zero = 0 * forecast.state[..., 0, :]
        names = ("background", "background_spread", "analysis", "spread")
        moments = {name: zero + number for number, name in enumerate(names)}
        return update._replace(moments=moments | {"equivalent": zero}), memory


def test_moments_take_the_place_of_those_of_the_members():
    seen = daml.observe(daml.simulate(MODEL, steps=20, spinup=100), seed=1)
    found = daml.assimilate(MODEL, seen, AllTold(5), segments=1)
    for number, name in enumerate(("background", "background_spread", "analysis", "spread")):
        np.testing.assert_array_equal(found[name], number)
    np.testing.assert_array_equal(found.innovation, seen.observation)
