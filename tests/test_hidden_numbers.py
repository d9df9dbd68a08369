"""How many hidden variables: tried on short trainings, chosen, reported and drawn."""

import numpy as np
import pytest
import xarray as xr

import daml
from daml.emulators.hidden.how_many import FIRST, MOST, UNFINISHED, Kept, compared, judged
from daml.emulators.hidden.learning import tried
from daml.errors import DivergedError, InputError
from daml.training import error_size

BLOCKS = np.random.default_rng(0).normal(0.0, 0.3, 20)
"""How much harder than the mean each block is; all numbers share it."""
TINY = {"units": 4, "updates": 2}


def scores(*losses, noise=0.0):
    """Give blocks of these mean losses, by number; the blocks of each vary by some noise more."""
    random = np.random.default_rng(1)
    return {
        number: loss + BLOCKS - BLOCKS.mean() + noise * random.standard_normal(20)
        for number, loss in enumerate(losses)
    }


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ((0.70, 0.65, 0.600, 0.598), 2),  # within what a short training leaves open
        ((0.70, 0.65, 0.600, 0.590), 3),
        ((0.60, 0.5995, 0.599), 0),
        ((0.60, 0.61, 0.57, 0.571), 2),  # one alone makes it worse, two are an oscillation
    ],
)
def test_the_smallest_number_within_its_standard_error_of_the_best_is_chosen(losses, chosen):
    assert judged(scores(*losses)).attrs["chosen"] == chosen


def test_the_standard_error_is_that_of_differences_between_the_same_blocks():
    found = judged(scores(0.65, 0.6, noise=0.02))
    one, two = scores(0.65, 0.6, noise=0.02).values()
    sampled = (one - two).std(ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(found["number_error"], [np.hypot(sampled, UNFINISHED), 0.0])
    np.testing.assert_allclose(found["number_difference"], [one.mean() - two.mean(), 0.0])
    assert BLOCKS.std() / np.sqrt(20) > 5 * found["number_error"][0]  # which all blocks share


def test_it_stops_when_one_more_gains_nothing():
    tried = []

    def score(number):
        tried.append(number)
        return scores(0.7, 0.65, 0.6, 0.599, 0.5)[number]

    assert compared(score).attrs["chosen"] == 2
    assert tried == [0, 1, 2, 3]


def test_it_tries_two_where_one_gains_nothing_and_ends_at_the_largest():
    assert compared(scores(0.7, 0.7, 0.7, 0.5).__getitem__)["number"].max() == FIRST
    falling = compared(scores(*np.linspace(1.0, 0.4, MOST + 2)).__getitem__)
    assert falling.attrs["chosen"] == falling["number"].max() == MOST


def test_a_number_whose_training_is_lost_is_left_out():
    def score(number):
        if number == 1:
            raise DivergedError("lost")
        return np.full(20, np.nan) if number == 3 else scores(0.7, 0.6, 0.6)[number]

    found = compared(score)
    assert found["number"].values.tolist() == [0, 2]
    assert found.attrs["chosen"] == 2


def test_if_all_are_lost_it_says_what_to_check():
    def score(number):
        raise DivergedError("lost")

    with pytest.raises(DivergedError, match=r"0 to 2 hidden variables lost .*; check the model's"):
        compared(score)


class Memory:
    """A checkpoint that is always due."""

    def __init__(self):
        self.saved = None

    def load(self):
        return self.saved

    def due(self):
        return True

    def save(self, arrays):
        self.saved = arrays


def test_an_interrupted_run_repeats_at_most_one_number():
    checkpoint, tried = Memory(), []
    table = scores(0.7, 0.65, 0.6, 0.599)

    def score(number):
        tried.append(number)
        if tried == [0, 1, 2]:
            raise KeyboardInterrupt
        return table[number]

    with pytest.raises(KeyboardInterrupt):
        compared(score, Kept(checkpoint))
    kept = Kept(checkpoint)
    assert kept.load() is None  # the training itself has not begun
    xr.testing.assert_identical(compared(score, kept), compared(table.__getitem__))
    assert tried == [0, 1, 2, 2, 3]
    kept.save({"weight": np.ones(2)})
    assert list(Kept(checkpoint).load()) == ["weight"]
    compared(score, Kept(checkpoint))
    assert tried == [0, 1, 2, 2, 3]


@pytest.fixture(scope="module")
def record():
    truth = daml.simulate(daml.CoupledLorenz63(), steps=400, spinup=500, seed=3)
    return daml.observe(truth, variables=["x0", "x1", "x2"], seed=4)


@pytest.fixture(scope="module")
def analysis(record):
    scheme = daml.schemes.ETKF(12, inflation=1.2)
    return daml.assimilate(daml.Lorenz63(), record, scheme)


@pytest.fixture(scope="module")
def trained(record, analysis):
    """A model that chose its number on trainings which are far too short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(error_size, "TRIALS", 1)
        begun = daml.emulators.Augmented(base=daml.Lorenz63(), **TINY).begin(analysis)
        return begun.fit_cycle(record, daml.schemes.SigmaPoint(), held_out=0.3)


def test_a_model_finds_its_own_number_and_tells_why(trained, tmp_path):
    numbers = trained.numbers
    assert numbers["number"].values.tolist()[:3] == [0, 1, 2]
    assert np.isfinite(numbers.to_array()).all()
    chosen = numbers.attrs["chosen"]
    assert trained.variables == ("x0", "x1", "x2", *(f"hidden{n}" for n in range(chosen)))
    assert trained.fitted.summary()["hidden variables"].startswith(f"{chosen}, ")
    trained.save(tmp_path / "model.zarr")
    back = daml.load_emulator(tmp_path / "model.zarr")
    xr.testing.assert_identical(back.numbers, numbers)
    assert back.hidden_variables == "auto"


def test_the_figure_marks_the_number_that_was_chosen(trained):
    (axes,) = daml.figures.hidden_numbers(trained.numbers).axes
    chosen = trained.numbers.attrs["chosen"]
    assert axes.get_legend().texts[1].get_text() == f"chosen: {chosen}"
    assert axes.get_xlabel() == "number of hidden variables"
    marked = [line for line in axes.lines if line.get_label() == f"chosen: {chosen}"]
    assert marked[0].get_xdata() == [chosen]
    with pytest.raises(InputError, match="the attribute 'chosen' is needed, one of 'number'"):
        daml.figures.hidden_numbers(trained.numbers.drop_attrs())
    with pytest.raises(InputError, match=r"'number_loss' \(number\) is needed"):
        daml.figures.hidden_numbers(xr.Dataset())


@pytest.mark.slow
@pytest.mark.statistical
def test_two_or_three_are_found_on_four_of_five_records_of_coupled_lorenz_63():
    found = []
    for seed in range(5):
        truth = daml.simulate(daml.CoupledLorenz63(), steps=20_000, spinup=2000, seed=seed)
        seen = daml.observe(truth, variables=["x0", "x1", "x2"], seed=seed + 100)
        found.append(chosen(seen, seed))
    assert sum(number in (2, 3) for number in found) >= 4, found


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(2))
def test_none_is_found_where_nothing_is_lacking(seed):
    truth = daml.simulate(daml.Lorenz63(), steps=20_000, spinup=2000, seed=seed)
    assert chosen(daml.observe(truth, seed=seed + 100), seed) == 0


def chosen(seen, seed):
    scheme = daml.schemes.ETKF(12, inflation=1.2)
    analysis = daml.assimilate(daml.Lorenz63(), seen.isel(time=slice(4000)), scheme)
    model = daml.emulators.Augmented(base=daml.Lorenz63(), seed=seed).begin(analysis)
    scheme = daml.schemes.SigmaPoint()
    return tried(model, observations=seen, scheme=scheme, operator=None).attrs["chosen"]
