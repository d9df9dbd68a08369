"""An analysis goes on with new observations as if the record had never ended."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import roster
import xarray as xr
from click.testing import CliRunner
from clocked import Steered, dated
from test_moving import as_moving
from test_points import MODEL as WAVES
from test_points import table

import daml
from daml.cli import main
from daml.errors import InputError
from daml.protocols import Update
from daml.stores.memories import apart, together
from daml.stores.opening import open_record

JUDGING = {"end_counts", "end_signs", "end_state_time"}
"""What says whether a filter is lost, and times between records, are equal within rounding."""
MODEL = daml.Lorenz63()


@pytest.fixture(scope="module")
def truth():
    return daml.simulate(daml.CoupledLorenz63(), steps=400, spinup=500, seed=1)


@pytest.fixture(scope="module")
def record(truth):
    """Some values are missing, but at the first time: a start follows from the nearest ones."""
    seen = daml.observe(truth, variables=["x0", "x1", "x2"], error_variance=1.3, seed=2)
    missing = np.random.default_rng(3).random(seen.observation.shape) < 0.2
    missing[0] = False
    return seen.assign(observation=seen.observation.where(~missing))


def parts(record, *ends):
    return [record.isel(time=slice(*pair)) for pair in zip((0, *ends[:-1]), ends, strict=True)]


def check_same(found, whole, since):
    """Bit for bit, from a row on, and so is what a further run would need."""
    assert set(found.data_vars) == set(whole.data_vars)
    for name in set(whole.data_vars) - JUDGING:
        wanted = whole[name].isel(time=slice(since, None)) if "time" in whole[name].dims else None
        wanted = whole[name] if wanted is None else wanted
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)


def check_goes_on(model, scheme, record, *ends, through=lambda result: result, **how):
    """Run over a record in parts; compare the last one with a run over the whole."""
    how = {"segments": 1} | how
    whole = daml.assimilate(model, record.isel(time=slice(0, ends[-1])), scheme, **how)
    first, *rest = parts(record, *ends)
    found = daml.assimilate(model, first, scheme, **how)
    for part in rest:
        found = daml.assimilate(model, part, scheme, initial=through(found), **how)
    check_same(found, whole, ends[-2])
    assert found.attrs["model"] == whole.attrs["model"]
    assert found.attrs.get("left_over") == whole.attrs.get("left_over")


@pytest.mark.parametrize("make", roster.SCHEMES.values(), ids=roster.SCHEMES.keys())
def test_an_analysis_that_goes_on_is_that_of_both_records(make, record):
    """The second record has one time: a window of the first goes on through it."""
    check_goes_on(roster.Placed(), make(), record, 7, 8, 14)


@pytest.mark.parametrize("make", roster.SCHEMES.values(), ids=roster.SCHEMES.keys())
def test_the_model_is_stepped_through_what_lies_between(make, record):
    between = xr.where(record.time.isin(record.time[6:9]), np.nan, record.observation)
    gap = record.assign(observation=between.transpose("time", "variable")).isel(time=slice(0, 13))
    whole = daml.assimilate(roster.Placed(), gap, make(), segments=1)
    first = daml.assimilate(roster.Placed(), gap.isel(time=slice(0, 6)), make(), segments=1)
    new = gap.isel(time=slice(9, None))
    found = daml.assimilate(roster.Placed(), new, make(), initial=first, segments=1)
    check_same(found, whole, 9)


@pytest.mark.parametrize("name", ["ThreeDVar", "OptimalInterpolation"])
def test_a_record_of_one_pattern_goes_on_from_one_of_many(name, record):
    scheme = roster.SCHEMES[name]()
    whole = daml.assimilate(MODEL, record.isel(time=slice(0, 20)), scheme, segments=1)
    found = daml.assimilate(MODEL, record.isel(time=[0]), scheme, segments=1)
    for row in range(1, 20):
        one = record.isel(time=[row])
        if not one.observation.notnull().any():
            continue
        found = daml.assimilate(MODEL, one, scheme, segments=1, initial=found)
        np.testing.assert_array_equal(found.chi_square[-1], whole.chi_square[row])


@pytest.mark.parametrize("scheme", ["ThreeDVar", "ETKF", "IEnKS", "FourDEnVar"])
def test_the_memory_of_a_model_goes_on(scheme, record):
    check_goes_on(Steered(), roster.SCHEMES[scheme](), dated(record), 9, 14)


@pytest.fixture(scope="module")
def analysis(record):
    return daml.assimilate(MODEL, record, roster.SCHEMES["ThreeDVar"]())


EMULATORS = [
    "LSTM",
    *(pytest.param(name, marks=pytest.mark.slow) for name in roster.EMULATORS if name != "LSTM"),
]


@pytest.mark.parametrize("name", EMULATORS)
def test_the_memory_of_an_emulator_goes_on(name, record, analysis):
    emulator = roster.EMULATORS[name]()
    if "analyses" in getattr(emulator, "trainings", ("analyses",)):
        emulator = emulator.fit(analysis)
    else:
        emulator = emulator.begin(analysis)
    wide = record.assign(error_variance=100 * record.error_variance)  # so that no filter is lost
    for scheme in ("ThreeDVar", "FourDEnVar"):
        check_goes_on(emulator, roster.SCHEMES[scheme](), wide, 9, 14)


@pytest.mark.slow
def test_hidden_variables_go_on(record, analysis):
    augmented = daml.emulators.Augmented(1, units=4, updates=3, base=MODEL).begin(analysis)
    augmented = augmented.fit_cycle(record, daml.schemes.SigmaPoint(), held_out=0)
    check_goes_on(augmented, daml.schemes.SigmaPoint(), record, 9, 14)


def test_errors_of_a_stochastic_model_are_drawn_on(record):
    model = daml.models.Stochastic(MODEL, model_error=0.1)
    for scheme in (roster.SCHEMES["ETKF"](), roster.SCHEMES["FourDEnVar"]()):
        check_goes_on(model, scheme, record, 8, 14)


class Pushed(daml.Lorenz63):
    """Lorenz 63 with a forcing; free runs with it, to start from, would depend on its record."""

    forcings = ("push",)
    climate, climate_spread = np.array([0.0, 0.0, 23.5]), np.array([8.0, 9.0, 8.6])

    def step(self, x, memory, forcing):
        return super().step(x, memory)[0] + 0.05 * forcing, memory


@pytest.mark.parametrize("name", ["ETKF", "FourDEnVar"])
def test_forcings_go_on_with_a_clock_of_their_own(name, record):
    scheme, times = roster.SCHEMES[name](), record.time.values[:30]
    push = xr.Dataset({"push": ("time", np.sin(3 * times))}, {"time": times})
    first, rest = parts(record, 13, 20)
    whole = daml.assimilate(
        Pushed(), record.isel(time=slice(0, 20)), scheme, segments=1, forcings=push
    )
    early, late = push.isel(time=slice(0, 14)), push.isel(time=slice(7, None))
    found = daml.assimilate(Pushed(), first, scheme, segments=1, forcings=early)
    how = {"segments": 1, "initial": found}
    gone = daml.assimilate(Pushed(), rest, scheme, forcings=late, **how)
    check_same(gone.drop_vars("end_model_0"), whole.drop_vars("end_model_0"), 13)
    short = push.isel(time=slice(13, None))
    with pytest.raises(InputError, match=r"forcings reach from 0\.65 to"):
        daml.assimilate(Pushed(), rest, scheme, forcings=short, **how)


@dataclass(frozen=True)
class Pulling:
    """A scheme that overlaps its windows, and goes on from another state than its analysis."""

    window: int = 4
    shift: int = 2

    def prepare(self, setting):
        return None

    def update(self, window, observed, run, memory):
        pulls = [
            o.present * (o.values - b) for o, b in zip(observed, window.background, strict=True)
        ]
        errors = tuple(0.02 * pull for pull in pulls[: len(window.errors)])
        onward = Update(window.state + 0.01 * sum(pulls), errors=errors)
        return Update(window.state + 0.05 * pulls[-1], onward=onward), memory


def test_windows_that_go_on_from_another_state_keep_it(record):
    for cut in (8, 9, 10):
        check_goes_on(Steered(), Pulling(), dated(record), cut, 15)
    check_goes_on(Steered(), Pulling(), dated(record), 1, 2, 3, 8)


class Counted(NamedTuple):
    """Memory of a user's scheme."""

    weight: Any
    steps: int


@dataclass(frozen=True)
class Growing:
    """A scheme of a user's whose memory changes, also in place."""

    kind: str

    def prepare(self, setting):
        weight = np.full(len(setting.variables), 0.3)
        made = {"array": weight, "fields": Counted(weight, 0), "later": None, "object": object()}
        return made | {"dict": {"weight": weight, "parts": [0, (1.5, "text", True)]}}

    def update(self, forecast, observed, run, memory):
        held = memory[self.kind]
        if self.kind == "fields":
            held.weight[...] += 0.01
            held, weight = held._replace(steps=held.steps + 1), held.weight + 0.001 * held.steps
        elif self.kind == "dict":
            held["weight"] *= 1.02
            held["parts"][0] += 1
            weight = held["weight"] + 0.001 * held["parts"][0]
        elif self.kind == "later":
            held = (np.float32(0.3),) if held is None else (held[0] * np.float32(1.01),)
            weight = held[0]
        elif self.kind == "array":
            held += 0.01
            weight = held
        else:
            held, weight = object(), 0.3
        moved = weight * observed.present * (observed.values - forecast.state)
        return Update(forecast.state + moved), memory | {self.kind: held}


@pytest.mark.parametrize("kind", ["array", "fields", "dict", "later"])
def test_the_memory_of_a_scheme_of_a_users_goes_on(kind, record):
    check_goes_on(MODEL, Growing(kind), record, 8, 9, 14)


def test_a_memory_that_is_no_array_says_so_when_it_is_to_go_on(record):
    first, rest = parts(record, 8, 14)
    found = daml.assimilate(MODEL, first, Growing("object"))
    with pytest.raises(
        InputError, match="cannot be continued: the memory of Growing holds object, and"
    ):
        daml.assimilate(MODEL, rest, Growing("object"), initial=found)


def test_a_memory_comes_back_as_it_was():
    torch = pytest.importorskip("torch")
    dates = np.array(["2020-01-01"], "M8[s]")
    memory = (
        torch.ones(2, dtype=torch.float32),
        [Counted(dates, 3)],
        {"a": None, "b": np.bool_(1)},
    )
    plan, arrays = apart(memory, "m")
    back = together(plan, arrays, before=(None, [Counted(None, 0)], {}))
    assert torch.equal(back[0], memory[0])
    assert back[0].dtype == torch.float32
    assert type(back[1][0]) is Counted
    assert back[1][0].weight.dtype == dates.dtype
    assert back[1][0].steps == 3
    assert back[2] == {"a": None, "b": True}


STORES = {
    "Zarr": lambda result, path: result.to_zarr(path / "r.zarr") and xr.open_zarr(path / "r.zarr"),
    "NetCDF": lambda result, path: (
        result.to_netcdf(path / "r.nc", engine="h5netcdf")
        or xr.open_dataset(path / "r.nc", engine="h5netcdf")
    ),
}


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scheme", ["ExtendedKalman", "IEnKS"])
def test_an_analysis_goes_on_from_a_file(store, scheme, record, tmp_path):
    there = roster.SCHEMES[scheme]()
    check_goes_on(
        Steered() if scheme == "IEnKS" else MODEL,
        *(there, dated(record) if scheme == "IEnKS" else record, 9, 13),
        through=lambda result: STORES[store](result, tmp_path),
    )


@pytest.mark.parametrize("scheme", ["ParticleFilter", "FourDVar"])
def test_an_analysis_goes_on_from_one_store_into_another(scheme, record, tmp_path):
    scheme = roster.SCHEMES[scheme]()
    first, rest = parts(record, 9, 14)
    whole = daml.assimilate(MODEL, record.isel(time=slice(0, 14)), scheme, segments=1)
    how = {"segments": 1, "store": tmp_path / "one.zarr"}
    made = daml.assimilate(MODEL, first, scheme, **how)
    before = {p: p.read_bytes() for p in (tmp_path / "one.zarr").rglob("*") if p.is_file()}
    how = {"segments": 1, "store": tmp_path / "two.zarr"}
    found = daml.assimilate(MODEL, rest, scheme, initial=open_record(tmp_path / "one.zarr"), **how)
    check_same(found, whole, 9)
    check_same(open_record(tmp_path / "two.zarr"), whole, 9)
    assert made["end_step"] == 8
    assert before == {p: p.read_bytes() for p in (tmp_path / "one.zarr").rglob("*") if p.is_file()}


@pytest.mark.parametrize("scheme", ["ExtendedKalman", "ETKF", "FourDEnVar"])
def test_lazy_analyses_go_on(scheme, record):
    scheme = roster.SCHEMES[scheme]()
    first, rest = parts(record, 8, 14)
    whole = daml.assimilate(MODEL, record.isel(time=slice(0, 14)), scheme, segments=1)
    lazy = daml.assimilate(MODEL, first.chunk(time=3), scheme, segments=1)
    assert lazy["end_state"].chunks is not None
    found = daml.assimilate(MODEL, rest.chunk(time=4), scheme, segments=1, initial=lazy)
    assert found["analysis"].chunks is not None
    check_same(found.compute(), whole, 8)


class Late(Growing):
    """A scheme whose memory looks otherwise after a while."""

    def update(self, forecast, observed, run, memory):
        memory = memory | ({"more": np.zeros(3)} if run.age > 4 else {})
        return super().update(forecast, observed, run, memory)


def test_the_end_of_a_lazy_analysis_that_looks_otherwise_is_not_known(record):
    first, rest = parts(record, 8, 14)
    lazy = daml.assimilate(MODEL, first.chunk(time=3), Late("array"), segments=1)
    with pytest.raises(InputError, match=r"end of 'initial' is not known.*store="):
        daml.assimilate(MODEL, rest, Late("array"), initial=lazy)
    np.testing.assert_array_equal(
        lazy.analysis, daml.assimilate(MODEL, first, Late("array"), segments=1).analysis
    )


@pytest.mark.parametrize("scheme", ["ThreeDVar", "ETKF", "FourDEnVar"])
def test_segments_that_go_on_meet(scheme, record):
    scheme = roster.SCHEMES[scheme]()
    whole = daml.assimilate(MODEL, record, scheme, segments=1)
    first = daml.assimilate(MODEL, record.isel(time=slice(0, 53)), scheme, segments=1)
    rest = record.isel(time=slice(53, None))
    many = daml.assimilate(MODEL, rest, scheme, initial=first, segments=3, spinup=40)
    assert many.attrs["segments"] == 3
    apart = ((many.analysis - whole.analysis) ** 2).mean("time")
    width = (whole["spread"] ** 2).mean("time") if "spread" in whole else 1e-4
    assert float((apart / width).max()) < 0.5
    head = slice(0, 82)  # the first segment goes on to the bits
    np.testing.assert_array_equal(many.analysis[head], whole.analysis[53:][head])
    again = daml.assimilate(MODEL, rest, scheme, initial=first, segments=1)
    assert int(many["end_step"]) == int(again["end_step"])
    assert many["end_state"].shape == again["end_state"].shape


def test_windows_end_at_the_same_times_in_all_segments(record):
    scheme, cut = daml.schemes.FourDEnVar(members=8, window=6, shift=3, inflation=1.2), 53
    first = daml.assimilate(MODEL, record.isel(time=slice(0, cut)), scheme, segments=1)
    rest = record.isel(time=slice(cut, None))
    one = daml.assimilate(MODEL, rest, scheme, initial=first, segments=1)
    many = daml.assimilate(MODEL, rest, scheme, initial=first, segments=3, spinup=100)
    spread = (many.background_spread - one.background_spread).values
    assert np.abs(spread).mean() < 0.3 * float(one.background_spread.mean())
    age, _, window = many["end_cycle"].values
    assert window == one["end_cycle"].values[2] == 6
    assert age % 3 == 0
    assert len(many["end_observation"]) == len(one["end_observation"])


def test_a_few_new_steps_are_judged_with_those_before(record):
    """A filter that has lost the observations in the new steps is warned of, and not for a few."""
    scheme = daml.schemes.ETKF(members=12, inflation=1.2)
    first = daml.assimilate(MODEL, record, scheme)
    new = daml.observe(
        daml.simulate(MODEL, steps=200, spinup=100, seed=9), error_variance=0.3, seed=5
    )
    new = new.assign_coords(time=record.time.values[-1] + 0.05 * (1 + np.arange(200)))
    shifted = new.assign(observation=-3 * new.observation)
    few = daml.assimilate(MODEL, shifted.isel(time=[0]), scheme, initial=first)
    assert float(few.lost.sum()) == 0
    with pytest.raises(daml.errors.DivergedError, match="lost the observations"):
        daml.assimilate(MODEL, shifted.isel(time=slice(0, 120)), scheme, initial=first)


KILLED = """
import sys, time, xarray as xr, daml
from daml.stores.opening import open_record

class Slow(daml.Lorenz63):
    def step(self, x, memory=None):
        if x.ndim == 3 and (open(sys.argv[3], "a").write("."), time.sleep(0.05)):
            pass
        return super().step(x, memory)

record = xr.load_dataset(sys.argv[1], engine="h5netcdf")
scheme = daml.schemes.ETKF(members=6, inflation=1.1)
old, new = record.isel(time=slice(0, 4)), record.isel(time=slice(4, None))
one, two = sys.argv[2] + "/one.zarr", sys.argv[2] + "/two.zarr"
import os
if not os.path.exists(one):
    daml.assimilate(Slow(), old, scheme, segments=1, store=one)
    print("one", flush=True)
daml.assimilate(Slow(), new, scheme, segments=1, initial=open_record(one), store=two)
print("two", flush=True)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_goes_on_loses_nothing(record, tmp_path):
    record.isel(time=slice(0, 40)).to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    words = [sys.executable, str(script), *(str(tmp_path / n) for n in ("record.nc", "", "log"))]
    words[3] = str(tmp_path)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "one\n"
        there = {p: p.read_bytes() for p in (tmp_path / "one.zarr").rglob("*") if p.is_file()}
        steps = (tmp_path / "log").stat().st_size
        while (tmp_path / "log").stat().st_size < steps + 5:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "two.zarr").exists()
    assert there == {p: p.read_bytes() for p in (tmp_path / "one.zarr").rglob("*") if p.is_file()}
    subprocess.run(words, check=True, capture_output=True)
    found, scheme = open_record(tmp_path / "two.zarr"), daml.schemes.ETKF(members=6, inflation=1.1)
    whole = daml.assimilate(MODEL, record.isel(time=slice(0, 40)), scheme, segments=1)
    np.testing.assert_array_equal(found.analysis, whole.analysis[4:])


@pytest.fixture(scope="module")
def ended(record):
    scheme = daml.schemes.ETKF(members=10, inflation=1.2)
    return scheme, daml.assimilate(MODEL, record.isel(time=slice(0, 150)), scheme)


def later(record, shift=0.0):
    new = record.isel(time=slice(150, 170))
    return new.assign_coords(time=new.time + shift)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"scheme": daml.schemes.EnKF(10)},
            "the scheme ETKF, and EnKF is given; give the same, or",
        ),
        (
            {"scheme": daml.schemes.ETKF(12, inflation=1.2)},
            r"made with the scheme ETKF\(members=10\), and ETKF\(members=12\) is given",
        ),
        ({"model": daml.Lorenz63(rho=27.0)}, r"model Lorenz63\(rho=28.0\), and Lorenz63\(rho=27.0"),
        ({"model": daml.CoupledLorenz63()}, "model Lorenz63, and CoupledLorenz63 is given"),
        (
            {"new": lambda r: r},
            "begin at 0.0, and 'initial' ends at 7.45; give those after its end",
        ),
        ({"new": lambda r: later(r, 0.02)}, "1.4 model steps after the end of 'initial'"),
        (
            {"new": lambda r: dated(later(r), np.timedelta64(50, "ms"))},
            "'initial' are numbers, and those of the obs.* dates",
        ),
        ({"initial": lambda r: r.isel(time=slice(0, 99))}, "ends at 4.9.*was cut, or joined"),
        (
            {"initial": lambda r: xr.concat([r, r], "time", data_vars="all")},
            "of several times: it was cut, or joi",
        ),
        (
            {"initial": lambda r: r[["analysis", "background"]]},
            "is an analysis without its end .*older daml.*start anew from its last analysis",
        ),
        ({"initial": lambda r: r.drop_vars("end_state")}, "has lost 'end_state', or its values"),
        ({"initial": lambda r: r.isel(end_member=[0, 1])}, "has lost 'end_state', or its values"),
        ({"initial": lambda r: r.assign(end_state=r.end_state * np.nan)}, "has lost 'end_state'"),
        ({"initial": lambda r: r.drop_attrs()}, "made with the model unknown, and Lorenz63"),
    ],
)
def test_what_does_not_go_on_is_refused(change, text, ended, record):
    scheme, result = ended
    initial = change.get("initial", lambda r: r)(result)
    new = change.get("new", later)(record)
    with pytest.raises(InputError, match=text) as caught:
        daml.assimilate(
            change.get("model", MODEL), new, change.get("scheme", scheme), initial=initial
        )
    assert "\n" not in str(caught.value)


def covariance(matrix):
    names = ["x0", "x1", "x2"]
    return xr.DataArray(matrix, [("variable", names), ("covariable", names)])


def test_a_window_that_goes_on_needs_what_it_observed(record):
    scheme = roster.SCHEMES["FourDEnVar"]()
    first = daml.assimilate(MODEL, record.isel(time=slice(0, 150)), scheme)
    with pytest.raises(InputError, match=r"last window of 'initial' .* has observations of 'x2'"):
        daml.assimilate(MODEL, later(record).sel(variable=["x0", "x1"]), scheme, initial=first)
    errors = covariance(np.eye(3))
    correlated = later(record).drop_vars("error_variance").assign(error_covariance=errors)
    with pytest.raises(InputError, match="'error_covariance' differs"):
        daml.assimilate(MODEL, correlated, scheme, initial=first)


def test_a_window_goes_on_through_other_errors(record):
    """Its variances differ from record to record; correlated errors stay the same."""
    other = xr.where(record.time < record.time[9], record.error_variance, 0.7)
    timed = record.assign(error_variance=other.transpose("time", "variable"))
    scheme = roster.SCHEMES["FourDVar"]()
    whole = daml.assimilate(MODEL, timed.isel(time=slice(0, 14)), scheme, segments=1)
    first = daml.assimilate(MODEL, record.isel(time=slice(0, 9)), scheme, segments=1)
    new = record.isel(time=slice(9, 14)).assign(error_variance=("variable", np.full(3, 0.7)))
    found = daml.assimilate(MODEL, new, scheme, initial=first, segments=1)
    check_same(found, whole, 9)
    matrix = covariance(0.3 * (np.eye(3) + 0.2))
    correlated = record.drop_vars("error_variance").assign(error_covariance=matrix)
    check_goes_on(MODEL, scheme, correlated, 8, 14)


@pytest.mark.parametrize("name", ["ETKF", "FourDEnVar"])
def test_gross_errors_of_a_window_that_goes_on_stay_left_out(name, record):
    wrong = record.observation.copy(deep=True)
    wrong[95:104:2, 0] += 40
    checked = record.assign(observation=wrong, gross_error=5.0)
    whole = daml.assimilate(MODEL, checked.isel(time=slice(0, 106)), roster.SCHEMES[name]())
    assert float(whole.rejected.sum()) > 2
    for cut in (100, 101):
        check_goes_on(MODEL, roster.SCHEMES[name](), checked, cut, 106)


def test_a_state_is_a_start_as_before(ended, record):
    scheme, result = ended
    start = result[["analysis"]].rename(analysis="state").isel(time=-1)
    found = daml.assimilate(MODEL, later(record), scheme, initial=start)
    assert int(found["end_step"]) == 19


def test_an_emulator_that_was_stored_goes_on(record, analysis, tmp_path):
    emulator, scheme = roster.EMULATORS["LSTM"]().fit(analysis), roster.SCHEMES["ThreeDVar"]()
    first = daml.assimilate(emulator, record.isel(time=slice(0, 150)), scheme, segments=1)
    emulator.save(tmp_path / "emulator.zarr")
    back = daml.load_emulator(tmp_path / "emulator.zarr")
    found = daml.assimilate(back, later(record), scheme, initial=first, segments=1)
    one = daml.assimilate(emulator, record.isel(time=slice(0, 170)), scheme, segments=1)
    np.testing.assert_array_equal(found.analysis, one.analysis[150:])


def commanded(*words):
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code in (0, 2), result.output
    return result


def test_the_command_goes_on_from_its_store(record, tmp_path):
    """What was found of the scheme, here B, is that of the first store."""
    first, rest, model = tmp_path / "a.zarr", tmp_path / "b.zarr", ("--model", "lorenz63")
    seen = daml.observe(daml.simulate(MODEL, steps=1010, spinup=200, seed=7), seed=8)
    for name, rows in (("a", slice(0, 1000)), ("b", slice(1000, 1005)), ("c", slice(1005, None))):
        seen.isel(time=rows).to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    how = (*model, "--segments", 1)
    commanded("assimilate", tmp_path / "a.nc", *how, "--store", first)
    commanded("assimilate", tmp_path / "b.nc", *how, "--store", rest, "--continue", first)
    last = tmp_path / "c.zarr"
    commanded("assimilate", tmp_path / "c.nc", *how, "--store", last, "--continue", rest)
    found = xr.open_zarr(first, group="scheme", consolidated=False)
    scheme = daml.ThreeDVar().restored(found.load())
    whole = daml.assimilate(MODEL, seen, scheme, segments=1)
    np.testing.assert_array_equal(open_record(last).analysis, whole.analysis[1005:])
    words = "assimilate", tmp_path / "c.nc", "--store", tmp_path / "d.zarr"
    for more, text in (
        ((*model, "--continue", tmp_path / "a.nc"), "has no estimate of it"),
        ((*model, "--continue", first, "--scheme", "etkf", "--members", 8), "and ETKF is given"),
        ((), "give one of --model, such as lorenz63, and --emulator"),
        ((*model, "--emulator", first), "give one of --model"),
    ):
        refused = commanded(*words, *more)
        assert refused.exit_code == 2
        assert text in refused.output
    assert not (tmp_path / "d.zarr").exists()


def test_fields_go_on_and_the_end_is_none_of_them():
    model = roster.Fields()
    record = daml.observe(daml.simulate(model, steps=14), error_variance=0.1)
    scheme = daml.schemes.LETKF(members=5, radius=2.0, inflation=1.1)
    check_goes_on(model, scheme, record, 8, 14)
    fields = daml.unflatten(daml.assimilate(model, record, scheme))
    assert not [name for name in fields.children if name.startswith("end_")]
    assert "end_state" in fields


WINDOWED = [name for name, make in roster.SCHEMES.items() if getattr(make(), "window", None)]


def moved(record, turned=False):
    """Give a record whose variables change from time to time."""
    found = as_moving(record, roster.Placed())
    if turned:  # another order of the model's variables: places are others then
        found = found.assign(place=2 - found.place, model_variable=["x2", "x1", "x0"])
    return found


def test_the_end_of_a_lazy_window_over_places_that_change_is_known(record, tmp_path):
    model, scheme = roster.Placed(), daml.schemes.IEnKS(6, 4)
    part = moved(record).isel(time=slice(0, 7))
    lazy = daml.assimilate(model, part.chunk(time=3), scheme, segments=1)
    stored = daml.assimilate(model, part, scheme, segments=1, store=tmp_path / "a.zarr")
    plain = daml.assimilate(model, part, scheme, segments=1)
    for found in (lazy, stored):
        for name in ("end_place", "end_weight", "end_position", "end_observation"):
            np.testing.assert_array_equal(found[name], plain[name])


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_goes_on_over_places_that_change(name, record, tmp_path):
    def stored(result):
        result.to_netcdf(tmp_path / "first.nc", mode="w")
        return xr.open_dataset(tmp_path / "first.nc")

    scheme = roster.SCHEMES[name]()
    check_goes_on(roster.Placed(), scheme, moved(record), 7, 8, 14, through=stored)


def test_a_window_brings_slots_that_a_new_record_lacks(record):
    model, scheme = roster.Placed(), daml.schemes.IEnKS(6, 4)
    part = record.isel(time=slice(0, 14)).copy(deep=True)
    part.observation[6:, 1] = np.nan
    whole = daml.assimilate(model, moved(part), scheme, segments=1)
    first = daml.assimilate(model, moved(part).isel(time=slice(0, 6)), scheme, segments=1)
    new = moved(part, turned=True).isel(time=slice(6, None), variable=[0, 2])
    found = daml.assimilate(model, new, scheme, initial=first, segments=1)
    assert found.observed.values.tolist() == ["#0", "#2", "#1"]
    for got in ("analysis", "background", "spread", "chi_square"):
        np.testing.assert_allclose(found[got], whole[got][6:], rtol=1e-9)
    np.testing.assert_allclose(found.innovation[:, [0, 2, 1]], whole.innovation[6:], rtol=1e-8)


def test_a_window_of_points_goes_on():
    """A record has as many slots as there are values at a time at most."""
    random = np.random.default_rng(0)
    time = np.repeat(np.arange(14.0), [*[3] * 9, *[2] * 5])
    values = {"y": 20 * random.random(len(time)), "x": 40 * random.random(len(time))}
    values |= {"observation": random.standard_normal(len(time)), "error_variance": 4.0}
    rows = table(time=time, **values)
    given = [
        daml.from_points(part.to_xarray(), WAVES, moving=True)
        for part in (rows, rows[time < 9], rows[time >= 9])
    ]
    assert [record.sizes["variable"] for record in given] == [3, 3, 2]
    scheme, how = daml.schemes.IEnKS(6, 4), {"segments": 1}
    start = daml.simulate(WAVES, steps=1, spinup=25, seed=1).isel(time=0)
    whole = daml.assimilate(WAVES, given[0], scheme, initial=start, **how)
    before = daml.assimilate(WAVES, given[1], scheme, initial=start, **how)
    found = daml.assimilate(WAVES, given[2], scheme, initial=before, **how)
    for name in ("analysis", "spread", "innovation"):
        np.testing.assert_allclose(found[name], whole[name][9:], rtol=1e-7, atol=1e-9)


def test_a_window_over_places_that_change_needs_a_record_with_such(record):
    model, scheme = roster.Placed(), daml.schemes.IEnKS(6, 4)
    first = daml.assimilate(model, moved(record).isel(time=slice(0, 6)), scheme)
    new = record.isel(time=slice(6, None))
    with pytest.raises(InputError, match="observations at places that change in time, and the new"):
        daml.assimilate(model, new, scheme, initial=first)
    first = daml.assimilate(model, record.isel(time=slice(0, 6)), scheme)
    new = moved(record).isel(time=slice(6, None))
    new = new.assign_coords(variable=record["variable"].values)
    with pytest.raises(InputError, match=r"'(place|weight|position)' changes in time"):
        daml.assimilate(model, new, scheme, initial=first)
