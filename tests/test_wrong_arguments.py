"""Wrong arguments at every public function: each works, or is one line that names it."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import daml
from daml import covariance, diagnosis, figures, innovations, models, paper, reports, verification
from daml.errors import DamlError, InputError
from daml.labels.arguments import GIVE, fitting

MODEL = daml.Lorenz63()
TRUTH = daml.simulate(MODEL, steps=260, spinup=100)
SEEN = daml.observe(TRUTH)
B = daml.climatological(TRUTH, max_variance=1)
SCHEME = daml.ThreeDVar(B)
ANALYSIS = daml.assimilate(MODEL, SEEN, SCHEME)
MADE = daml.forecast(MODEL, TRUTH, leads=2)
ERRORS = verification.forecast_error(MADE, TRUTH)
MANY = xr.concat([TRUTH, TRUTH + 0.1, TRUTH - 0.2], "member").rename(state="analysis")
SCORED = {"of": None, "by": None, "seed": 0}
SHORT = SEEN.isel(time=slice(20))  # too short for a loop: what is taken is refused at once
NETWORK = daml.LSTM(hidden=2, layers=1, epochs=1, sequence_length=20, burn_in=2)
FITTED = NETWORK.fit(TRUTH)
KNOWN = xr.Dataset(
    {
        name: (("time", "observed"), np.random.default_rng(0).random((50, 2)))
        for name in ("innovation", "innovation_spread", "normalized_innovation")
    },
    {"observed": ["a", "b"]},
)
TREE = xr.DataTree.from_dict({"/observations": SEEN})
EDGES = ("x0", np.arange(-20, 21, 10)), ("x2", np.arange(0, 51, 10))
SWEEP = {"steps": 300, "passes": 1, "epochs": 1, "skip": 10}

KEPT = xr.DataTree.from_dict(
    {"iteration/0000": ANALYSIS, "iteration/0000/scheme": SCHEME.to_dataset()}
)
CALLS = {
    daml.simulate: {"model": MODEL, "steps": 3, "spinup": 0, "seed": 0, "initial": None},
    daml.observe: {
        "truth": TRUTH,
        "variables": None,
        "operator": None,
        "every": 1,
        "error_variance": 1.0,
        "missing": 0.0,
        "seed": 0,
    },
    daml.assimilate: {
        "model": MODEL,
        "observations": SEEN,
        "scheme": SCHEME,
        "segments": None,
        "spinup": 5,
        "tolerance": 0.5,
        "initial": None,
        "operator": None,
        "keep_members": False,
    },
    daml.smooth: {
        "model": MODEL,
        "observations": SEEN,
        "scheme": daml.schemes.ETKF(4),
        "lag": 2,
        "segments": None,
        "spinup": 5,
        "tolerance": 0.5,
        "initial": None,
        "operator": None,
        "keep_members": False,
    },
    daml.forecast: {"model": MODEL, "initial": TRUTH, "leads": 2, "warmup": 0},
    daml.forecast_ahead: {
        "model": MODEL,
        "analysis": ANALYSIS,
        "leads": 2,
        "members": 4,
        "seed": 0,
        "covariance": B,
    },
    daml.tuned: {
        "scheme": SCHEME,
        "model": MODEL,
        "observations": SEEN,
        "before": None,
        "rows": None,
    },
    daml.climatological: {"run": TRUTH, "scale": 1.0, "max_variance": None},
    daml.lyapunov_exponent: {
        "model": MODEL,
        "initial": TRUTH.isel(time=slice(2)),
        "steps": 2,
        "spinup": 1,
        "seed": 0,
    },
    daml.lyapunov_spectrum: {
        "model": MODEL,
        "initial": TRUTH.isel(time=slice(2)),
        "exponents": 2,
        "steps": 2,
        "spinup": 1,
        "seed": 0,
    },
    daml.fit_parameters: {
        "model": MODEL,
        "parameters": ["rho"],
        "observations": SEEN,
        "scheme": SCHEME,
        "epochs": 1,
        "sequence_length": 20,
        "burn_in": 2,
        "batch_size": 10,
        "learning_rate": 0.01,
        "uncertainty": 0.1,
        "seed": 0,
    },
    daml.improve: {
        "model": MODEL,
        "observations": SHORT,
        "scheme": None,
        "emulator": NETWORK,
        "passes": 1,
        "warm_start": True,
        "held_out": 0.1,
        "training": "analyses",
        "operator": None,
        "overwrite": False,
        "resume": False,
    },
    daml.Loop: {
        "model": MODEL,
        "scheme": SCHEME,
        "emulator": NETWORK,
        "passes": 1,
        "warm_start": True,
        "held_out": 0.1,
        "training": "analyses",
    },
    daml.load_scheme: {"source": KEPT, "iteration": None},
    daml.load_emulator: {"source": FITTED.to_dataset(), "iteration": None, "base": None},
    daml.LSTM: {f: getattr(NETWORK, f) for f in inspect.signature(daml.LSTM).parameters},
    daml.ThreeDVar: {"background_covariance": B, "error_factor": 1.0, "method": "exact"},
    daml.Lorenz63: {"dt": 0.05, "substeps": 1, "time_unit": "s", "sigma": 1.0, "rho": 1.0},
    daml.CoupledLorenz63: {"dt": 0.05, "omega": 1.0, "k": 0.1, "x3_star": 0.0},
    daml.from_points: {"points": TRUTH, "model": MODEL},
    daml.on_steps: {"observations": SEEN, "model": MODEL},
    daml.flatten: {"dataset": TRUTH},
    daml.unflatten: {"dataset": TRUTH},
    daml.compare_schemes: {
        "model": MODEL,
        "observations": SEEN,
        "schemes": {"ETKF": daml.schemes.ETKF(4)},
        "truth": TRUTH,
        "skip": 10,
        "segments": None,
        "spinup": 5,
        "tolerance": 0.5,
    },
    daml.sweep: {
        "grid": {"hidden": [0]},  # no member can be run with it
        "seeds": 1,
        "preset": "smoke",
        "fixed": SWEEP,
        "device": "cpu",
        "scheduler": None,
        "workers": 0,
        "overwrite": False,
        "resume": False,
    },
    SCHEME.analyse: {"background": TRUTH, "observations": SEEN},
    NETWORK.fit: {"analysis": TRUTH, "checkpoint": None},
    FITTED.forecast: {"states": TRUTH, "leads": 1, "warmup": 5},
    FITTED.fit_cycle: {
        "observations": SHORT,
        "scheme": SCHEME,
        "sequence_length": 40,
        "burn_in": 2,
        "batch_size": 4,
        "learning_rate": 0.01,
        "held_out": 0.0,
        "checkpoint": None,
    },
    daml.Loop(MODEL, SCHEME, NETWORK, 1).run: {
        "observations": SHORT,
        "overwrite": False,
        "resume": False,
    },
    covariance.labelled: {"matrix": np.eye(2), "variables": ["u", "v"]},
    covariance.check: {"covariance": B, "variables": ["x0"], "what": "B"},
    diagnosis.calibration: {"analysis": KNOWN, "skip": 0, "window": 10, "bins": 5},
    diagnosis.spread_map: {
        "analysis": ANALYSIS.assign(background_spread=ANALYSIS.background),
        "x": EDGES[0],
        "y": EDGES[1],
    },
    diagnosis.valid_time: {"forecast": MADE, "truth": TRUTH, "threshold": 0.4},
    innovations.from_innovations: {
        "analysis": ANALYSIS,
        "observations": SEEN,
        "climatology": B,
        "error_factor": 1.0,
    },
    innovations.desroziers: {"analysis": ANALYSIS},
    innovations.lagged: {"innovation": ANALYSIS.innovation},
    verification.analysis_error: {
        "analysis": ANALYSIS,
        "truth": TRUTH,
        "skip": 0,
        "variables": None,
    },
    verification.forecast_error: {"forecast": MADE, "truth": TRUTH},
    verification.mfe: {"errors": ERRORS},
    verification.probabilistic.crps: {"estimate": MANY, "truth": TRUTH} | SCORED,
    verification.probabilistic.rank_histogram: {"estimate": MANY, "truth": TRUTH} | SCORED,
    verification.probabilistic.spread_error: {
        **{"estimate": MANY, "truth": TRUTH, "of": None, "by": None},
        "members": None,
    },
    verification.reduction: {"error": B, "reference": B},
    verification.error_map: {"errors": ERRORS, "x": EDGES[0], "y": EDGES[1]},
    verification.innovation_statistics: {"analysis": ANALYSIS, "skip": 0},
    paper.run: {
        "preset": "unknown",  # nothing runs
        "seed": 0,
        "passes": None,
        "epochs": None,
        "window": None,
        "warm_start": None,
        "device": "cpu",
        "overwrite": False,
        "resume": False,
        "beyond": False,
    },
    paper.draw: {"source": TREE, "folder": ".", "only": None},
    reports.collect: {"tree": TREE},
    reports.collect_innovations: {"tree": TREE},
    reports.score_table: {"tree": TREE},
    reports.innovation_table: {"tree": TREE},
    reports.overview: {"tree": TREE},
    figures.analysis_rmse: {"scores": TRUTH, "record": "test", "axes": None},
    figures.error_reduction: {"scores": TRUTH, "axes": None},
    figures.error_maps: {"scores": TRUTH, "axes": None},
    figures.innovations: {"scores": TRUTH, "axes": None},
    figures.attribution: {"result": TRUTH, "axes": None},
    figures.analysis_variants: {"scores": TRUTH, "record": "test", "axes": None},
    figures.hidden_numbers: {"numbers": TRUTH, "axes": None},
    figures.ladder: {"result": TRUTH, "axes": None},
    figures.field: {"array": TRUTH.state, "axes": None},
    figures.animation: {"array": TRUTH.state, "dim": "time", "interval": 100},
    figures.scheme_costs: {
        "compared": TRUTH,
        "score": "analysis_rmse",
        "cost": "seconds",
        "axes": None,
    },
    figures.variants: {"scores": TRUTH, "axes": None},
    figures.sweep_scores: {
        "result": TRUTH,
        "name": "analysis_rmse",
        "over": None,
        "record": "test",
        "axes": None,
    },
    figures.rank_histogram: {
        "found": verification.probabilistic.rank_histogram(MANY, TRUTH),
        "axes": None,
    },
    figures.spread_error: {
        "found": verification.probabilistic.spread_error(MANY, TRUTH, by=["time"]),
        "axes": None,
    },
    figures.crps: {
        "scores": verification.probabilistic.crps(MANY, TRUTH, by=["time"]),
        "axes": None,
    },
    figures.calibration: {"found": diagnosis.calibration(KNOWN, skip=0, window=10), "axes": None},
    figures.loop_diagram: {"axes": None},
    figures.plume: {
        "forecast": daml.forecast_ahead(MODEL, ANALYSIS, leads=2),
        "variables": None,
        "axes": None,
    },
}
WRONG = {
    "None": None,
    "true": True,
    "a negative": -1,
    "zero": 0,
    "half": 0.5,
    "nan": np.nan,
    "infinite": np.inf,
    "complex": 1j,
    "int64": np.int64(2),
    "float32": np.float32(0.5),
    "bool_": np.bool_(True),
    "large": 2**70,
    "text": "text",
    "number as text": "2",
    "empty text": "",
    "bytes": b"x0",
    "path": Path("nothing-there"),
    "span": pd.Timedelta("1h"),
    "span of numpy": np.timedelta64(1, "h"),
    "nanoseconds": np.timedelta64(2, "ns"),
    "date": np.datetime64("2020-01-01"),
    "empty list": [],
    "names": ["x0", "x1"],
    "array of names": np.array(["x0", "x1", "x2"]),
    "index of names": pd.Index(["x2"]),
    "whole names": [0, 1, 2],
    "set": {"x0"},
    "mapping": {"x0": 1.0},
    "tuple": ("x0", [1, 2]),
    "array": np.ones((3, 3)),
    "numbers": np.arange(3.0),
    "objects": np.array([None, "x"], dtype=object),
    "DataArray": TRUTH.state,
    "Dataset": xr.Dataset({"a": ("t", [1.0])}),
    "empty Dataset": xr.Dataset(),
    "other Dataset": TRUTH.rename(state="analysis"),
    "no names": TRUTH.drop_vars("variable"),
    "no time": SEEN.drop_vars("time"),
    "of one time": TRUTH.isel(time=0),
    "whole numbers as names": TRUTH.assign_coords(variable=[0, 1, 2]),
    "of texts": TRUTH.astype(str),
    "a member more": TRUTH.expand_dims(member=2),
    "members": [TRUTH, TRUTH],
    "frame": TRUTH.state.to_pandas(),
    "tree": xr.DataTree(TRUTH),
    "models": [MODEL, MODEL],
    "model": MODEL,
    "class": daml.Lorenz63,
    "scheme": daml.ThreeDVar(),
    "emulator": NETWORK,
    "function": len,
    "object": object(),
}
ARGUMENTS = [
    pytest.param(function, name, id=f"{function.__qualname__}-{name}")
    for function, good in CALLS.items()
    for name in good
]


@pytest.mark.filterwarnings("ignore")  # of numbers that make no sense
@pytest.mark.parametrize(("function", "name"), ARGUMENTS)
def test_an_argument_of_any_type_is_taken_or_refused_in_a_line(
    function, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    failed = {}
    for what, value in WRONG.items():
        try:
            function(**CALLS[function] | {name: value})
        except DamlError as error:
            if "\n" in str(error) or len(str(error)) < 20:
                failed[what] = repr(error)
        except Exception as error:
            failed[what] = repr(error)
    assert not failed


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__qualname__)
def test_a_type_that_cannot_be_meant_is_refused_by_name(function):
    for name, annotation in (
        (n, p.annotation) for n, p in inspect.signature(function).parameters.items()
    ):
        kinds = str(annotation).split(" | ")
        if name in CALLS[function] and all(kind in GIVE for kind in kinds):
            with pytest.raises(InputError, match=repr(name)):
                function(**CALLS[function] | {name: object()})


NUMBERS = {"int", "float", "Seed", "Sequence[int]", "Iterable[int]", "Variances"}
NO_NUMBERS = (
    *("2", "", b"2", True, np.bool_(True), np.timedelta64(2, "ns")),
    *(["2", "2", "2"], [True, 1.0, 1.0], [[1.0], ["1"]]),
)
NUMERIC = [
    pytest.param(function, name, id=f"{function.__qualname__}-{name}")
    for function, good in CALLS.items()
    for name in good
    if NUMBERS & set(str(inspect.signature(function).parameters[name].annotation).split(" | "))
    or name == "leads"
]


@pytest.mark.parametrize(("function", "name"), NUMERIC)
def test_a_text_or_a_truth_value_is_no_number(function, name):
    for value in NO_NUMBERS:
        with pytest.raises(InputError, match=f"{name}'? (is|holds) "):
            function(**CALLS[function] | {name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"x0": "1", "x1": 1.0, "x2": 1.0},
        {"x0": 1.0, "x1": True, "x2": 1.0},
        pd.Series({"x0": "1", "x1": "1", "x2": "1"}),
        xr.DataArray([True, True, True], {"variable": ["x0", "x1", "x2"]}, ("variable",)),
        xr.DataArray("1"),
    ],
)
def test_a_variance_by_name_is_a_number(given):
    with pytest.raises(InputError, match=r"'error_variance' (is|holds) .*; give a number"):
        daml.observe(TRUTH, error_variance=given)


@pytest.mark.parametrize(
    "rows", [np.arange(260), np.ones(259, dtype=bool), np.ones((260, 1), bool)]
)
def test_rows_are_one_truth_value_for_each_time(rows):
    with pytest.raises(InputError, match=r"'rows' has .*; give True or False for each of the 260"):
        daml.tuned(daml.ThreeDVar(), MODEL, SEEN, rows=rows)


@pytest.mark.parametrize("seeds", [2**62, 10**9, 100_001])
def test_more_seeds_than_anyone_runs_are_refused_at_once(seeds):
    with pytest.raises(InputError, match=f"seeds is {seeds}; give 100000 or less"):
        daml.sweep({"hidden": [2]}, seeds=seeds)


def test_the_walk_goes_everywhere():
    modules = covariance, diagnosis, innovations, models, paper, reports, verification
    public = {getattr(daml, name) for name in daml.__all__}
    public |= {f for name in figures.__all__ if callable(f := getattr(figures, name))}
    for module in modules:
        named = {n: v for n, v in vars(module).items() if not n.startswith("_")}
        public |= {v for v in named.values() if getattr(v, "__module__", "") == module.__name__}
    left = {f.__name__ for f in public if callable(f)} - {f.__name__ for f in CALLS}
    inside = {
        "is_twin",
        "squared",
        "valid_rows",
        "binned",
        "save",
        "Seen",
        "pairwise",
        "known_pairs",
        "observed_pairs",
    }
    inside |= {"published", "known_pairs", "corrections", "emulation"}
    assert left <= inside | {"run"}


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.complex_numbers(),
    ),
    st.sampled_from(sorted(GIVE)),
)
def test_what_fits_keeps_its_value(value, kind):
    try:
        found = fitting("f", "argument", value, kind)
    except InputError as refused:
        found, message = value, str(refused)
        assert message.startswith("f: 'argument' is ")
    assert found == value or found != found
