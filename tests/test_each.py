"""A model that steps one state at a time runs in every batch."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray as xr
from roster import OneAtATime, climatology

import daml
from daml.errors import InputError, StepError
from daml.models import each


class Counting:
    """A damped model of one state, whose memory counts its steps in a form that is given."""

    variables, dt = ("u", "v"), 1.0

    def __init__(self, form, read):
        self._form, self._read = form, read

    def start(self, x, time=None):
        return self._form(0.0 if time is None else float(time))

    def step(self, x, memory):
        steps = self._read(memory)
        return 0.5 * x + steps, self._form(steps + 1)


FORMS = {
    "number": (float, float),
    "array": (lambda n: np.full(2, n), lambda m: float(m[1])),
    "tuple of arrays": (lambda n: (np.full(3, n), (np.float64(n),)), lambda m: float(m[1][0])),
    "object": (lambda n: {"steps": n}, lambda m: m["steps"]),
    "arrays of other lengths": (lambda n: np.full(1 + int(n), n), lambda m: float(m[0])),
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_state_keeps_a_memory_of_its_own(form, workers):
    model = each(Counting(*form), workers=workers)
    x = np.random.default_rng(0).standard_normal((2, 3, 2))
    times = np.arange(6.0).reshape(2, 3)
    memory = model.start(x, times)
    moved, later = model.step(x, memory)
    np.testing.assert_array_equal(moved, 0.5 * x + times[..., None])
    twice, _ = model.step(moved, later)
    np.testing.assert_array_equal(twice, 0.5 * moved + times[..., None] + 1)
    again, _ = model.step(x, memory)  # a step leaves the memory that it is given
    np.testing.assert_array_equal(again, moved)
    alone, _ = model.step(x[1, 2], model.start(x[1, 2], times[1, 2]))
    np.testing.assert_array_equal(alone, moved[1, 2])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forecasts_carry_any_memory(form):
    model = each(Counting(*form))
    record = daml.simulate(model, steps=30)
    found = daml.forecast(model, record, leads=2, warmup=0)
    np.testing.assert_allclose(found.forecast[:-2, 0], record.state[1:-1])
    np.testing.assert_allclose(found.forecast[0, 1], record.state[2])


def test_it_gives_the_analyses_of_the_model_of_batches():
    seen = daml.observe(daml.simulate(daml.Lorenz63(), steps=60, spinup=50), missing=0.2)
    scheme = daml.ThreeDVar(climatology())
    one, many = (
        daml.assimilate(model, seen, scheme, initial=None, segments=3, spinup=20, tolerance=1e9)
        for model in (each(OneAtATime()), daml.Lorenz63())
    )
    xr.testing.assert_allclose(one, many, rtol=1e-9)
    assert '"OneAtATime"' in one.attrs["model"]


def test_workers_step_side_by_side():
    """Each waits for the other."""
    meeting = threading.Barrier(2, timeout=30)

    class Waiting(OneAtATime):
        def step(self, x, memory):
            meeting.wait()
            return super().step(x, memory)

    x = np.ones((2, 3))
    moved, _ = each(Waiting(), workers=2).step(x, None)
    np.testing.assert_array_equal(moved, daml.Lorenz63().step(x, None)[0])


def test_an_external_program_is_a_model():
    class Program(OneAtATime):
        variables, dt = ("u",), 1.0

        def step(self, x, memory):
            code = "import sys; print(float(sys.argv[1]) / 2)"
            done = subprocess.run(
                [sys.executable, "-S", "-c", code, str(x[0])], capture_output=True, check=True
            )
            return np.array([float(done.stdout)]), memory

    moved, _ = each(Program(), workers=2).step(np.array([[4.0], [3.0]]), None)
    np.testing.assert_array_equal(moved, [[2.0], [1.5]])


class Breaking(OneAtATime):
    def step(self, x, memory):
        if x[0] > 1:
            raise ValueError("too warm")
        return x[: 2 if x[1] > 1 else 3], memory


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (0, "ValueError: too warm"),
        (1, r"it gave a state of float64 and shape \(2,\); return.*"),
    ],
)
def test_an_error_names_the_state(workers, variable, message):
    x = np.zeros((2, 4, 3))
    x[1, 2, variable] = 2
    text = rf"Breaking: 'step' failed for state 1, 2 of a batch of \(2, 4\) \({message}\)"
    with pytest.raises(StepError, match=text):
        each(Breaking(), workers=workers).step(x, None)


def test_a_run_says_when_a_state_failed():
    class Warming(Breaking):
        climate = np.zeros(3)

        def step(self, x, memory):
            return super().step(x, memory)[0] + 0.4, memory

    initial = xr.Dataset({"state": ("variable", np.zeros(3))}).assign_coords(
        variable=list(Warming.variables)
    )
    with pytest.raises(InputError, match=r"state 0 of a batch of .*too warm.*this was step 4"):
        daml.simulate(each(Warming()), steps=9, initial=initial)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"'model' is .*; give a model"):
        each(3)
    with pytest.raises(InputError, match="'workers' is 0; give 1 or more"):
        each(OneAtATime(), workers=0)
    import torch

    with pytest.raises(InputError, match="takes NumPy's arrays, not a Tensor"):
        each(OneAtATime()).step(torch.ones(2, 3), None)


def test_attributes_of_the_model_are_its_own():
    model = each(type("Own", (OneAtATime,), {"time_unit": "h", "climate": np.ones(3)})())
    assert (model.time_unit, model.variables) == ("h", OneAtATime.variables)
    assert not hasattr(model, "device")


STATES = {
    r"it gave a ndarray; return \(state, memory\)": lambda x: x,
    r"it gave a tuple of 3; return": lambda x: (x, None, None),
    r"a state of float64 and shape \(\); return": lambda x: (x[0], None),
    "a state of complex128 and": lambda x: (x * 1j, None),
    "a state of bool and": lambda x: (x > 0, None),
}


@pytest.mark.parametrize("text", STATES)
def test_what_is_no_state_is_refused_without_further_advice(text):
    class Own:
        variables, dt = daml.Lorenz63.variables, 0.05

        def start(self, x, time=None):
            return None

        def step(self, x, memory):
            return STATES[text](x)

    with pytest.raises(InputError, match=f"Own: .*{text}") as raised:
        daml.simulate(daml.models.each(Own()), steps=2)
    assert "climate" not in str(raised.value)


def test_a_masked_value_of_a_state_is_a_missing_one():
    class Own:
        variables, dt = ("u", "v"), 1.0

        def start(self, x, time=None):
            return None

        def step(self, x, memory):
            return np.ma.array(x, mask=[False, True]), memory

    x = np.ones((2, 2))
    np.testing.assert_array_equal(
        daml.models.each(Own()).step(x, None)[0], [[1.0, np.nan], [1.0, np.nan]]
    )
