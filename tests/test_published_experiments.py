"""The experiments of other papers, at sizes that take seconds, and at the smallest preset."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from daml.cli import main
from daml.errors import DivergedError, InputError
from daml.experiments import amemiya2023, bocquet_brajard, brajard2020, lorenz96_loop
from daml.experiments.at_random import interpolated, observe_at_random
from daml.experiments.presets import changed

SPARSE = brajard2020.Settings(
    *(160, 40, 1, 40, 15),
    observed=40,
    fewer=(),
    members=20,
    skip=20,
    learning_rate=8e-3,
    exponents=2,
)
CORRECTED = amemiya2023.Settings(
    1000, 150, 10, observed=(6,), epochs=1, members=6, skip=20, scales=(0.1, 0.4)
)
CUBIC = bocquet_brajard.Settings(
    *(60, 40, 1, 1), cycle_epochs=0, skip=10, scales=(1.0,), held_out=0.0
)
LOOPED = lorenz96_loop.Settings(
    *(350, 120, 1, ("3DVar",), ("CNN",), ("analyses",)), epochs=1, held_out=0.3, skip=50, n=10
)
TWICE = replace(LOOPED, trainings=("analyses", "cycle"), cycle_epochs=1)
CODES = {
    "brajard2020": (brajard2020, SPARSE),
    "amemiya2023": (amemiya2023, CORRECTED),
    "bocquet_brajard": (bocquet_brajard, CUBIC),
    "lorenz96": (lorenz96_loop, TWICE),
}


def ring(steps=60, n=12):
    """Give a smooth wave that runs around a ring."""
    time, place = np.meshgrid(np.arange(steps), np.arange(n), indexing="ij")
    values = np.sin(2 * np.pi * (place / n - time / 40))
    coords = {"time": np.arange(steps) * 0.05, "variable": [f"x{i:02}" for i in range(n)]}
    return xr.Dataset({"state": (("time", "variable"), values)}, coords)


def test_so_many_variables_are_observed_at_each_time_at_places_drawn_anew():
    truth = ring()
    record = observe_at_random(truth, 5, 0.1, seed=3)
    there = record.observation.notnull()
    assert (there.sum("variable") == 5).all()
    assert len(np.unique(there, axis=0)) > 50
    error = (record.observation - truth.state).std()
    assert 0.08 < error < 0.12
    assert np.allclose(record.error_variance, 0.01)
    assert record.identical(observe_at_random(truth, 5, 0.1, seed=3))


def test_interpolation_goes_around_the_ring():
    truth = ring()
    record = observe_at_random(truth, 6, 1e-6, seed=0)
    found = interpolated(record)
    inner = slice(8, -8)  # cubic surfaces are poor where observations lie on one side
    assert abs(found.analysis - truth.state)[inner].max() < 0.3
    assert np.sqrt(((found.analysis - truth.state)[inner] ** 2).mean()) < 0.03
    seen = record.observation.notnull().values
    np.testing.assert_allclose(found.analysis.values[seen], record.observation.values[seen])
    assert (found.spread.values[seen] == 0).all()
    assert np.isinf(found.spread.values[~seen]).all()
    turned = interpolated(record.assign(observation=record.observation.roll(variable=6)))
    np.testing.assert_allclose(
        turned.analysis[inner], found.analysis.roll(variable=6)[inner], atol=0.05
    )


def same(one, two):
    """Hold two experiments to the same numbers, but for how long they took."""
    assert set(one.groups) == set(two.groups)
    for group in one.groups:
        pair = (
            tree[group].to_dataset().load().drop_vars("seconds", errors="ignore")
            for tree in (one, two)
        )
        xr.testing.assert_equal(*pair)


def test_each_correction_is_scored_and_drawn(tmp_path):
    tree = amemiya2023.run(CORRECTED)
    scores = amemiya2023.collect(tree)
    assert scores.correction.values.tolist() == ["none", "linear", "dense", "LSTM", "RNN"]
    assert (scores.analysis_rmse < 0.3).all()
    assert scores.published_rmse.values.tolist() == [[0.1558, 0.1275, 0.1132, 0.1045, 0.1036]]
    assert len(amemiya2023.table(tree).splitlines()) == 6
    names = [path.name for path in amemiya2023.draw(tree, tmp_path)]
    assert names == ["amemiya2023.png", "amemiya2023.svg"]


def test_the_loop_on_a_ring_is_scored_and_drawn(tmp_path):
    tree = lorenz96_loop.run(LOOPED)
    scores = lorenz96_loop.collect(tree)
    assert scores.variant.values.tolist() == ["3DVar, CNN on analyses"]
    assert scores.lead_steps.values.tolist() == [1, 2, 4, 10, 20]
    assert (scores.perfect_analysis_rmse < scores.imperfect_analysis_rmse).all()
    expected = 100 * (1 - scores.mfe / scores.imperfect_mfe)
    np.testing.assert_allclose(scores.mfe_reduction, expected)
    lines = lorenz96_loop.table(tree).splitlines()
    assert [line[:23].rstrip() for line in lines[1:]] == [
        "3DVar, imperfect model",
        "3DVar, perfect model",
        "3DVar, CNN on analyses",
    ]
    names = [path.stem for path in lorenz96_loop.draw(tree, tmp_path)]
    assert names[::2] == ["lorenz96_analysis_rmse", "lorenz96_error_reduction"]
    with pytest.raises(InputError, match="holds no loop"):
        lorenz96_loop.collect(tree["correction/3DVar_perfect"])


def test_the_truth_of_the_ring_is_damped_by_the_cube():
    model, x = lorenz96_loop.Damped(n=5), np.array([1.0, -2.0, 3.0, 0.0, 4.0])
    expected = [
        (x[(i + 1) % 5] - x[i - 2]) * x[i - 1] - x[i] - 0.01 * x[i] ** 3 + 10 for i in range(5)
    ]
    np.testing.assert_allclose(model.tendency(x), expected)
    assert lorenz96_loop.observed(10) == ["x0", "x1", "x2", "x5", "x6", "x7"]
    settings = changed(LOOPED, {"schemes": "3DVar, LETKF", "learners": "LSTM", "inflation": "1.1"})
    assert settings.loops == [(name, "LSTM", "analyses") for name in ("3DVar", "LETKF")]
    assert settings.inflation == 1.1
    loops = lorenz96_loop.PRESETS["fast"].loops
    assert ("3DVar", "LSTM", "cycle") in loops
    assert ("LETKF", "LSTM", "cycle") not in loops


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"skip": 2000}, "'skip' is 2000; give 0 or more, and less than"),
        ({"n": 4}, "'n'.*5"),
        ({"passes": 0}, "'passes'"),
        ({"cycle_epochs": 0}, "'cycle_epochs'"),
        ({"held_out": 0.9}, "'held_out'"),
        ({"learners": ("GRU",)}, r"'learners' is \('GRU',\); give some of LSTM, CNN, each once"),
        ({"schemes": ()}, r"'schemes' is \(\); give some of 3DVar, LETKF, each once"),
        ({"schemes": ("LETKF",), "trainings": ("cycle",)}, "no loop is left"),
    ],
)
def test_settings_of_the_loop_on_a_ring_out_of_range_are_one_line(change, match):
    with pytest.raises(InputError, match=match):
        lorenz96_loop.Settings(**change)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("brajard2020", marks=pytest.mark.slow),
        pytest.param("amemiya2023", marks=pytest.mark.slow),
        "bocquet_brajard",
        pytest.param("lorenz96", marks=pytest.mark.slow),
    ],
)
def test_an_experiment_that_is_interrupted_goes_on(name, tmp_path, monkeypatch):
    module, settings = CODES[name]
    whole = module.run(settings)
    method = {"brajard2020": "forecasts", "lorenz96": "passed"}.get(name, "scored")
    plain, calls = getattr(module.Experiment, method), []

    def counted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module.Experiment, method, counted)
        with pytest.raises(KeyboardInterrupt):
            module.run(settings, store=tmp_path / "a.zarr")
    same(module.run(settings, store=tmp_path / "a.zarr", resume=True), whole)
    with pytest.raises(InputError, match="exists; give another path, --resume"):
        module.run(settings, store=tmp_path / "a.zarr")
    with monkeypatch.context() as patch:  # what is there stays until there is a new result
        patch.setattr(module.Experiment, "run", lambda *args: None)
        module.run(settings, store=tmp_path / "a.zarr", overwrite=True)
    assert len(module.table(whole).splitlines()) >= 4
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "a.zarr")])
    assert shown.output.rstrip().endswith(module.table(whole))
    words = ["figures", str(tmp_path / "a.zarr"), "--figures", str(tmp_path)]
    drawn = CliRunner().invoke(main, words).output
    figures = {"lorenz96": ["lorenz96_analysis_rmse", "lorenz96_error_reduction"]}.get(name, [name])
    assert all(f"{figure}.svg" in drawn for figure in figures)


@pytest.mark.parametrize("module", [brajard2020, amemiya2023, bocquet_brajard])
@pytest.mark.parametrize(
    ("change", "match"),
    [({"skip": 10**6}, "'skip'"), ({"steps": 0}, "'steps'"), ({"members": 0}, "'members'")],
)
def test_settings_out_of_range_are_one_line(module, change, match):
    with pytest.raises(InputError, match=match):
        module.Settings(**change)
    with pytest.raises(InputError, match="preset 'huge' is unknown; give one of smoke"):
        module.run("huge")


@pytest.mark.parametrize(
    ("module", "change", "match"),
    [
        (brajard2020, {"observed": 41}, "41 of 40 variables"),
        (brajard2020, {"exponents": 41}, "'exponents' is 41; give 40 at most"),
        (amemiya2023, {"observed": (7,)}, "give numbers of 6 and 8"),
        (bocquet_brajard, {"scales": (0.1,)}, "'scales' is .0.1,.; give factors >= 0, and 1 among"),
        (bocquet_brajard, {"cycle_epochs": -1}, "'cycle_epochs'"),
        (bocquet_brajard, {"scales": "1"}, "'scales' is '1'; give a number"),
        (brajard2020, {"fewer": (1.5,)}, "'fewer' is 1.5; give a whole number"),
    ],
)
def test_settings_of_one_experiment_are_one_line(module, change, match):
    with pytest.raises(InputError, match=match):
        module.Settings(**change)


def test_the_cubic_term_is_that_of_plain_loops():
    model, n = bocquet_brajard.CubicLorenz96(n=7, friction=1.5), 7
    x = np.random.default_rng(0).standard_normal((2, n)) * 3
    for row, found in zip(x, model.tendency(x), strict=True):
        for i in range(n):
            at = {k: row[(i + k) % n] for k in range(-3, 4)}
            cubic = at[-2] * at[0] * (at[1] - at[-3]) - at[-1] * at[1] * (at[2] - at[-2])
            own = (at[1] - at[-2]) * at[-1] - 1.5 * at[0] + 8.5
            assert found[i] == pytest.approx(own + 0.025 * cubic)


def test_even_and_odd_variables_are_observed_in_turn():
    truth = ring()
    seen = bocquet_brajard.on_a_checkerboard(truth, 0.1, seed=3).observation
    there = seen.notnull().values
    assert there[::2, ::2].all()
    assert there[1::2, 1::2].all()
    assert there.sum() == there.size / 2
    assert 0.08 < float((seen - truth.state).std()) < 0.12


def test_passes_after_a_filter_that_diverges_have_no_score():
    class Lost(brajard2020.Experiment):
        def passes(self, observed, begun=None):
            yield from islice(super().passes(observed), 1)
            raise DivergedError("lost")

    settings = brajard2020.Settings(60, 40, 2, 1, 1, fewer=(), skip=10)
    scores = Lost(settings, 0).scores_of(12)
    assert scores.analysis_rmse.isnull().values.tolist() == [False, True, True]
    assert scores.forecast_rmse.sizes["iteration"] == 3


def test_settings_are_changed_by_text():
    found = changed(brajard2020.Settings(), {"fewer": "8", "sigma": "2", "passes": "3"})
    assert found == brajard2020.Settings(fewer=(8,), sigma=2.0, passes=3)
    assert changed(found, {"fewer": "8, 12"}).fewer == (8, 12)
    for given, match in (
        (("pases=3",), "'pases' is unknown; did you mean 'passes'"),
        (("passes=many",), "'passes' is 'many'; give a number, or numbers with commas"),
        (("passes=1.5",), "'passes' is 1.5; give a whole number"),
        (("passes",), "--set is 'passes'; give NAME=VALUE, such as --set passes=4"),
        (("passes=1", "--set", "passes=2"), "--set passes is given twice"),
    ):
        done = CliRunner().invoke(main, ["run", "brajard2020", "--set", *given])
        assert done.exit_code == 2
        assert match in done.output


def test_the_command_names_the_experiments_that_it_knows(tmp_path):
    done = CliRunner().invoke(main, ["run", "lorenz1963", "--store", str(tmp_path / "a.zarr")])
    assert done.exit_code == 2
    assert "give one of amemiya2023, bocquet_brajard, brajard2020" in done.output


@pytest.mark.slow
@pytest.mark.statistical
def test_the_smallest_size_of_brajard_runs_from_the_command(tmp_path):
    words = ["run", "brajard2020", "--preset", "smoke", "--store", str(tmp_path / "a.zarr")]
    done = CliRunner().invoke(main, [*words, "--figures", str(tmp_path)])
    assert done.exit_code == 0, done.output
    scores = brajard2020.collect(xr.open_datatree(tmp_path / "a.zarr", engine="zarr"))
    rmse = scores.analysis_rmse.values
    assert rmse[2] < 0.92 * rmse[1] < 0.7 * rmse[0]
    assert float(scores.fewer_analysis_rmse[0, -1]) < 0.85 * rmse[2]


@pytest.mark.slow
@pytest.mark.statistical
def test_the_smallest_size_of_amemiya_is_near_the_published_scores(tmp_path):
    scores = amemiya2023.collect(amemiya2023.run("smoke")).analysis_rmse.sel(observed=8)
    assert 0.082 < float(scores.sel(correction="none")) < 0.096
    for name in ("linear", "dense"):
        assert float(scores.sel(correction=name)) < 0.95 * float(scores.sel(correction="none"))


def filtered(model, record, deviation, members=10):
    """Give analyses by the filter of Amemiya et al. in plain loops: neighbours alone count."""
    random = np.random.default_rng(0)
    values, size = record.observation.values, len(model.variables)
    states = np.nan_to_num(values[0]) + random.standard_normal((members, size))
    found = []
    for number, seen in enumerate(values):
        states = model.step(states, None)[0] if number else states
        mean = states.mean(axis=0)
        parts = (states - mean).T / (members - 1) ** 0.5
        after = states.copy()
        for place in range(size):
            near = [((place + d) % size, np.exp(-(d**2) / 2)) for d in (-1, 0, 1)]
            near = [(other, weight) for other, weight in near if np.isfinite(seen[other])]
            if not near:
                continue
            others = [other for other, _ in near]
            precision = np.array([weight for _, weight in near]) / 0.1
            among = parts[others].T * precision
            roots, vectors = np.linalg.eigh(np.eye(members) + among @ parts[others])
            moved = vectors / roots @ vectors.T @ among @ (seen - mean)[others]
            turned = vectors / np.sqrt(roots) @ vectors.T * (members - 1) ** 0.5
            noise = random.standard_normal(members)
            noise -= noise.mean()
            after[:, place] = mean[place] + parts[place] @ (moved[:, None] + turned)
            after[:, place] += noise * deviation
        states = after
        found.append(states.mean(axis=0))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize(
    ("observed", "deviation", "published"), [(8, 0.8, 0.087), (6, 0.5, 0.1558)]
)
def test_the_filter_is_that_of_plain_loops(observed, deviation, published):
    settings = amemiya2023.Settings(100, 1500, scales=(deviation**2,))
    experiment = amemiya2023.Experiment(settings, seed=0)
    found = float(experiment.swept(experiment.model, observed).analysis_rmse[0])
    record = experiment.record("test", observed)
    error = filtered(experiment.model, record, deviation) - experiment.truth["test"].state.values
    expected = np.sqrt((error[100:] ** 2).mean(axis=1)).mean()
    assert found == pytest.approx(expected, rel=0.06)
    assert found == pytest.approx(published, rel=0.06)


def finite_size(model, record, first, error, members=40):
    """Give analyses by the filter of Bocquet and Brajard in plain loops, by decompositions."""
    random, size = np.random.default_rng(0), first.size
    states = first + 0.2 * random.standard_normal((members, size))
    factors, found = np.exp(np.linspace(0, 3, 2000))[:, None], []
    for number, seen in enumerate(record.observation.values):
        if number:
            states = model.step(states, None)[0]
            mean = states.mean(axis=0)
            left, spread, right = np.linalg.svd(states - mean, full_matrices=False)
            spread = np.sqrt(spread**2 + (members - 1) * error)
            states = mean + left[:, :-1] * spread[:-1] @ right[:-1]
        there, mean = np.isfinite(seen), states.mean(axis=0)
        parts = (states - mean)[:, there] / 0.2 / (members - 1) ** 0.5
        values, vectors = np.linalg.eigh(parts @ parts.T)
        values, seen_by = np.clip(values, 0, None), values > 1e-12
        pulled = vectors.T @ parts @ (seen - mean)[there] / 0.2
        cost = (pulled[seen_by] ** 2 / values[seen_by]) / (1 + factors * values[seen_by])
        cost = cost.sum(axis=1) / (members - 1) + (members + 1) / members / factors[:, 0]
        wide = float(factors[np.argmin(cost + members / (members - 1) * np.log(factors[:, 0]))][0])
        moved = vectors * wide / (1 + wide * values) @ pulled / (members - 1) ** 0.5
        root = vectors * np.sqrt(wide / (1 + wide * values)) @ vectors.T
        states = mean + (moved + root) @ (states - mean)
        found.append(states.mean(axis=0))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.statistical
def test_the_filter_of_bocquet_and_brajard_has_the_published_error():
    settings = bocquet_brajard.Settings(1, 2500, scales=(1.0,))
    experiment = bocquet_brajard.Experiment(settings, seed=0)
    found = experiment.analysed(experiment.model, 1.0)
    assert float(found.analysis_rmse) == pytest.approx(0.199, rel=0.04)
    assert float(found.analysis_spread) == pytest.approx(0.205, rel=0.06)
    truth, record = experiment.truth["test"].state.values, experiment.records["test"]
    error = finite_size(experiment.model, record, truth[0], bocquet_brajard.MODEL_ERROR) - truth
    plain = np.sqrt((error[500:] ** 2).mean(axis=1)).mean()
    assert float(found.analysis_rmse) == pytest.approx(plain, rel=0.02)


@pytest.mark.slow
@pytest.mark.statistical
def test_the_smallest_size_of_bocquet_and_brajard_gains():
    scores = bocquet_brajard.collect(bocquet_brajard.run("smoke")).isel(observed=0)
    rmse = scores.analysis_rmse.sel(scale=1.0)
    none, corrected, true = (
        float(rmse.sel(correction=name)) for name in ("none", "pass_1", "true")
    )
    assert true < corrected < 0.9 * none
    ahead = scores.forecast_rmse
    assert (ahead.sel(correction="pass_1") < 0.75 * ahead.sel(correction="none")).all()


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_loop_on_a_ring_gains_with_each_pass(seed):
    scores = lorenz96_loop.collect(lorenz96_loop.run("smoke", seed=seed)).sel(record="test")
    rmse = scores.analysis_rmse.isel(variant=0).values
    given = float(scores.imperfect_analysis_rmse[0])
    assert rmse[1] < rmse[0] < 0.85 * given
    assert float(scores.perfect_analysis_rmse[0]) < rmse[1]
    assert (scores.mfe_reduction[0, -1] > 10).all()
