"""The cycle of schemes that analyse windows: which times a window has, and how it goes on."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

import daml
from daml.errors import InputError
from daml.protocols import Update

RECORD = {"variables": ["x0"], "every": 5, "seed": 4}


@dataclass(frozen=True)
class Watching:
    """A scheme that moves nothing, or the start of each window by a constant; it notes its windows.

    With ``error`` it adds this after each step.
    """

    window: int = 5
    shift: int = 5
    push: float = 0.0
    error: float | None = None
    seen: list = field(default_factory=list, compare=False)
    outputs: ClassVar = {"number": (("time",), {"units": "1"})}

    def prepare(self, setting):
        return None

    def update(self, window, observed, run, memory):
        self.seen.append((window, observed, run))
        errors = None
        if self.error is not None:
            errors = tuple(e + self.error for e in window.errors)
        zero = np.zeros(window.state.shape[:-1])
        number = [zero + r.step for r in run[-window.fresh :]]
        return Update(window.state + self.push, {"number": number}, errors=errors), memory


def record(steps, **how):
    return daml.observe(daml.simulate(daml.Lorenz63(), steps=steps, seed=1), **(RECORD | how))


def assimilated(scheme, observations, **how):
    return daml.assimilate(daml.Lorenz63(), observations, scheme, **how)


def test_a_scheme_that_moves_nothing_leaves_the_model_alone():
    observations = record(61)
    found = assimilated(Watching(5, 5), observations, segments=1)
    free = daml.forecast(daml.Lorenz63(), found[["analysis"]].isel(time=[0]), leads=60, warmup=0)
    np.testing.assert_array_equal(found.analysis, found.background)
    np.testing.assert_array_equal(found.analysis.values[1:], free.forecast.values[0, :60])


@pytest.mark.parametrize(
    ("window", "shift", "lengths", "new"),
    [
        (5, 5, [0, 5, 5, 5, 3], [1, 5, 5, 5, 3]),
        (4, 2, [0, 2, 4, 4, 4], [1, 2, 2, 2, 2]),
        (5, 2, [0, 2, 4, 5, 5], [1, 2, 2, 2, 2]),
        (3, 1, [0, 1, 2, 3, 3], [1, 1, 1, 1, 1]),
    ],
)
def test_windows_grow_to_their_length_and_go_on_by_their_shift(window, shift, lengths, new):
    total = 1 + sum(new[1:])
    scheme = Watching(window, shift)
    found = assimilated(scheme, record(total, every=1), segments=1)
    windows = [w for w, _, _ in scheme.seen][: len(lengths)]
    assert [w.steps for w in windows] == lengths
    assert [w.fresh for w in windows] == new
    assert found.attrs["left_over"] == (total - 1) % shift
    for part, observed, run in scheme.seen:
        assert len(observed) == len(run) == len(part.background) == max(part.steps, 1)
        moved = part.moved(part.state)
        np.testing.assert_array_equal(np.stack(moved), np.stack(part.background))


def test_each_time_is_new_once_and_has_the_outputs_of_its_own():
    scheme = Watching(7, 3)
    found = assimilated(scheme, record(50, every=1), segments=1)
    new = np.concatenate([[int(r.step[0]) for r in run[-w.fresh :]] for w, _, run in scheme.seen])
    np.testing.assert_array_equal(new, np.arange(50))
    np.testing.assert_array_equal(found["number"], np.arange(50))


def test_windows_end_at_the_same_times_in_all_segments():
    scheme = Watching(10, 5)
    assimilated(scheme, record(403), segments=4, spinup=42, tolerance=1e9)
    ends = np.concatenate([run[-1].step for w, _, run in scheme.seen if w.steps])
    assert set(ends[ends < 402] % 5) == {0}


@pytest.mark.filterwarnings("ignore:.*squared innovations")  # it runs freely, from anywhere
def test_nothing_is_observed_after_the_record():
    observations = record(203, every=1)
    scheme = Watching(10, 10)
    assimilated(scheme, observations, segments=3, spinup=20, tolerance=1e9)
    for _, observed, run in scheme.seen:
        for before, seen, after in zip(run[:-1], observed[1:], run[1:], strict=True):
            beyond = before.step == after.step  # the number of the last step is repeated
            assert not seen.present[beyond].any()
            assert seen.present[~beyond].all()


def test_the_next_window_starts_on_the_way_of_the_analysis():
    scheme = Watching(4, 2, push=0.1)
    assimilated(scheme, record(21, every=1), segments=1)
    model = daml.Lorenz63()
    for (one, _, _), (two, _, _) in zip(scheme.seen[3:-1], scheme.seen[4:], strict=True):
        x = one.state + 0.1
        for _ in range(2):
            x = model.step(x, None)[0]
        np.testing.assert_allclose(two.state, x, rtol=1e-13)


def test_errors_that_an_analysis_adds_are_the_background_of_the_next_window():
    scheme = Watching(6, 2, error=0.01)
    found = assimilated(scheme, record(13, every=1), segments=1)
    sizes = [[float(np.max(e)) for e in w.errors] for w, _, _ in scheme.seen]
    np.testing.assert_allclose(sizes[2], [0.01, 0.01, 0.0, 0.0])
    np.testing.assert_allclose(sizes[4], [0.02, 0.02, 0.01, 0.01, 0.0, 0.0])
    for window, _, _ in scheme.seen[1:]:
        again = window.moved(window.state, window.errors)
        np.testing.assert_array_equal(np.stack(again), np.stack(window.background))
    step = daml.Lorenz63().step(found.analysis.values[11:12], None)[0][0]
    np.testing.assert_allclose(found.analysis.values[12] - step, 0.01, atol=1e-12)


class Forced(daml.Lorenz63):
    """Lorenz 63 with a push in x0 that grows with the time since the start, its memory."""

    model_error = 0.1

    def start(self, x, time=None):
        return x[..., :1] * 0

    def step(self, x, memory):
        x, _ = super().step(x, None)
        return x + 0.01 * memory, memory + 1


@dataclass(frozen=True)
class Members(Watching):
    """Watches an ensemble, and moves the mean of its members alone."""

    members: int = 4
    seed: int = 0
    needs: ClassVar = frozenset({"gradient"})
    means: list = field(default_factory=list, compare=False)

    def update(self, window, observed, run, memory):
        mean = window.state.mean(axis=-2)
        self.means.append((mean, window.moved(mean), window.linear(mean)))
        found, memory = super().update(window, observed, run, memory)
        number = [part[..., 0] for part in found.extras["number"]]
        return Update(found.state, {"number": number}), memory


def test_one_state_is_moved_beside_the_members():
    scheme = Members(4, 4)
    daml.assimilate(Forced(), record(13, every=1), scheme, segments=1)
    age = 0
    for (window, _, _), (mean, states, (same, tangents)) in zip(
        scheme.seen, scheme.means, strict=True
    ):
        x = mean
        if window.steps == 0:
            np.testing.assert_array_equal(states[0], mean)
            continue
        for step in range(window.steps):
            near = np.eye(3) * 1e-6
            ahead = daml.Lorenz63().step(x[:, None] + near, None)[0]
            behind = daml.Lorenz63().step(x[:, None] - near, None)[0]
            right = np.swapaxes(ahead - behind, -1, -2) / 2e-6
            np.testing.assert_allclose(tangents[step], right, atol=1e-5)
            x = daml.Lorenz63().step(x, None)[0] + 0.01 * (age + step)
            np.testing.assert_allclose(states[step], x, rtol=1e-12)
            np.testing.assert_array_equal(states[step], same[step])
        assert np.abs(window.background[-1].mean(axis=-2) - x).max() > 1e-3  # members draw errors
        age += window.steps


def test_results_do_not_depend_on_how_the_record_is_chunked():
    observations = record(400)
    whole = assimilated(Watching(10, 5, push=1e-3), observations, segments=4, tolerance=1e9)
    lazy = assimilated(
        Watching(10, 5, push=1e-3), observations.chunk(time=7), segments=4, tolerance=1e9
    )
    xr.testing.assert_identical(whole, lazy.compute().assign_attrs(whole.attrs))


@pytest.mark.parametrize(
    ("window", "shift", "text"),
    [
        (0, 1, "'window' is 0; give 1 model step or more"),
        (5, 2.5, "'shift' is 2.5; give 1 model step or more"),
        (5, None, "'shift' is None"),
        (3, 4, "'shift' is 4 model steps, and 'window' 3"),
    ],
)
def test_a_window_is_refused_that_is_none(window, shift, text):
    with pytest.raises(InputError, match=text):
        assimilated(Watching(window, shift), record(20))


def test_a_window_is_not_smoothed_and_needs_a_model():
    observations = record(20, every=1)
    with pytest.raises(InputError, match="analyses windows, whose later observations count"):
        daml.smooth(daml.Lorenz63(), observations, Watching())
    states = daml.simulate(daml.Lorenz63(), steps=20, seed=1)
    with pytest.raises(InputError, match="there is no model here; use daml"):
        daml.schemes.analyse(Watching(), states, observations)


def test_a_window_longer_than_the_record_is_one_window():
    scheme = Watching(100, 50)
    found = assimilated(scheme, record(20, every=1))
    assert [w.steps for w, _, _ in scheme.seen] == [0, 19]
    assert found.attrs["left_over"] == 19
