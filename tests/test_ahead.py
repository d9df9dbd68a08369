"""A forecast from the end of an analysis is what the cycle itself would forecast from there."""

import resource
import signal

import numpy as np
import pytest
import roster
import xarray as xr
from click.testing import CliRunner
from clocked import Steered, dated

import daml
from daml.cli import main
from daml.errors import InputError

MODEL = daml.Lorenz63()


@pytest.fixture(scope="module")
def record():
    """Some values are missing, but at the first time."""
    seen = daml.observe(daml.simulate(MODEL, steps=160, spinup=500, seed=1), seed=2)
    missing = np.random.default_rng(3).random(seen.observation.shape) < 0.2
    missing[0] = False
    return seen.assign(observation=seen.observation.where(~missing))


def check_is_the_background(model, scheme, record, steps, **how):
    """The first forecast of a cycle that goes on comes from the end alone."""
    result = daml.assimilate(
        model, record.isel(time=slice(0, steps)), scheme, segments=1, keep_members=False, **how
    )
    new = record.isel(time=[steps])
    gone = daml.assimilate(model, new, scheme, segments=1, initial=result, **how)
    found = daml.forecast_ahead(model, result, leads=2, seed=getattr(scheme, "seed", 0), **how)
    size = float(np.abs(gone.background).max())
    np.testing.assert_allclose(found.forecast[0], gone.background[0], rtol=0, atol=1e-10 * size)
    if "forecast_members" in found and getattr(scheme, "model_error", None) is None:
        width = gone.background_spread[0]
        np.testing.assert_allclose(found.spread[0], width, rtol=1e-6, atol=1e-10)
    since = (found.time[0] - record.time[steps]) / (record.time[1] - record.time[0])
    assert abs(since) < 1e-6
    assert found.start.values == record.time.values[steps - 1]
    return found


class Pushed(daml.Lorenz63):
    """Lorenz 63 that is pushed by a known input."""

    forcings = ("push",)

    def step(self, x, memory, forcing):
        return super().step(x, memory)[0] + forcing, memory


WEIGHTED = {"ParticleFilter"}
SCHEMES = [name for name in roster.SCHEMES if name not in WEIGHTED]


@pytest.mark.parametrize("name", SCHEMES)
def test_the_first_forecast_is_the_background_of_a_cycle_that_goes_on(name, record):
    check_is_the_background(roster.Placed(), roster.SCHEMES[name](), record, 13)


@pytest.mark.parametrize("name", ["ThreeDVar", "ETKF", "IEnKS", "FourDEnVar"])
def test_the_memory_of_the_model_and_its_dates_go_on(name, record):
    found = check_is_the_background(Steered(), roster.SCHEMES[name](), dated(record), 13)
    assert str(found.time.values[1]) == "2020-01-01T14:00:00"
    assert found.lead.values[1] == np.timedelta64(2, "h")


MULTIPLE = daml.schemes.IEnKS(members=8, window=6, shift=3, inflation=1.2, multiple=True)
"""It forecasts from another state than the one from which its windows go on."""


@pytest.mark.parametrize(
    "scheme", [*map(lambda name: roster.SCHEMES[name](), ["ETKF", "FourDEnVar"]), MULTIPLE]
)
def test_forcings_have_a_clock_of_their_own(scheme, record):
    """They begin later than those of the analysis, and reach over the leads."""
    times = record.time.values[:30]
    push = xr.Dataset({"push": ("time", np.sin(3 * times))}, {"time": times})
    how = {"forcings": push.isel(time=slice(0, 15))}
    result = daml.assimilate(Pushed(), record.isel(time=slice(0, 13)), scheme, segments=1, **how)
    whole = daml.forecast_ahead(Pushed(), result, leads=2, **how)
    late = push.isel(time=slice(5, 15))
    gone = daml.assimilate(
        *(Pushed(), record.isel(time=[13]), scheme), segments=1, initial=result, forcings=late
    )
    np.testing.assert_allclose(gone.background[0], whole.forecast[0], rtol=1e-10)
    found = daml.forecast_ahead(Pushed(), result, leads=2, forcings=late)
    np.testing.assert_allclose(found.forecast, whole.forecast, rtol=1e-12)
    check_is_the_background(Pushed(), scheme, record, 13, **how)
    with pytest.raises(InputError, match=r"forecast_ahead: .*forcings reach"):
        daml.forecast_ahead(Pushed(), result, leads=9, forcings=late)


@pytest.mark.parametrize("name", ["ETKF", "IEnKS", "ThreeDVar"])
def test_members_have_the_errors_of_the_model(name, record):
    model = daml.models.Stochastic(MODEL, model_error=1e-3)
    check_is_the_background(model, roster.SCHEMES[name](), record, 13)


@pytest.mark.parametrize("name", ["FourDVar", "FourDEnVar"])
def test_the_end_of_a_shorter_window_is_that_of_its_analysis(name, record):
    scheme = roster.SCHEMES[name]()
    keeps = getattr(scheme, "members", None) is not None
    seen = record.isel(time=slice(0, 12))
    result = daml.assimilate(MODEL, seen, scheme, segments=1, keep_members=keeps)
    assert result.left_over
    last = result.analysis_members if keeps else result.analysis
    moved = MODEL.step(last.values[-1], None)[0]
    found = daml.forecast_ahead(MODEL, result, leads=[1])
    np.testing.assert_allclose(found.forecast[0], moved.mean(axis=0) if keeps else moved)
    if keeps:
        with pytest.raises(InputError, match=r"the last 1 steps .*keep_members=True"):
            daml.forecast_ahead(MODEL, result.drop_vars("analysis_members"), leads=[1])


@pytest.fixture(scope="module")
def one(record):
    return daml.assimilate(MODEL, record, roster.SCHEMES["ThreeDVar"](), segments=1)


def test_one_state_is_stepped_by_hand(one):
    found, x, states = daml.forecast_ahead(MODEL, one, leads=[2, 5]), one.analysis.values[-1], []
    for _ in range(5):
        x = MODEL.step(x, None)[0]
        states.append(x)
    np.testing.assert_array_equal(found.forecast, [states[1], states[4]])
    np.testing.assert_allclose(found.lead, [0.1, 0.25])
    np.testing.assert_allclose(found.time, float(one.time[-1]) + found.lead)
    assert set(found.data_vars) == {"forecast"}


def test_the_memory_of_an_lstm_goes_on(record, one):
    """Members of one state have it, too."""
    how = {"hidden": 4, "layers": 2, "epochs": 1, "sequence_length": 20, "burn_in": 2}
    emulator = daml.LSTM(**how).fit(one)
    wide = record.assign(error_variance=100 * record.error_variance)
    for name in ("ThreeDVar", "ETKF"):
        check_is_the_background(emulator, roster.SCHEMES[name](), wide, 13)
    scheme = roster.SCHEMES["ThreeDVar"]()
    result = daml.assimilate(emulator, wide.isel(time=slice(0, 20)), scheme, segments=1)
    narrow = 1e-12 * roster.climatology()
    single = daml.forecast_ahead(emulator, result, leads=3)
    many = daml.forecast_ahead(emulator, result, leads=3, members=4, covariance=narrow)
    np.testing.assert_allclose(many.forecast, single.forecast, rtol=1e-4)


def by_hand(model, result, leads):
    """Step a model along all analyses of a record, and on from the last."""
    name = "members" if "analysis_members" in result else ""
    background = result[f"background_{name}" if name else "background"].values
    analyses = result[f"analysis_{name}" if name else "analysis"].values
    x, memory = analyses[0], model.start(background[0], result.time.values[0])
    for later in analyses[1:]:
        memory = model.step(x, memory)[1]
        x = later
    found = []
    for _ in range(leads):
        x, memory = model.step(x, memory)
        found.append(x)
    return np.array(found)


@pytest.mark.parametrize(
    ("kind", "name"), [("Steered", "ThreeDVar"), ("Steered", "ETKF"), ("LSTM", "ThreeDVar")]
)
def test_a_model_with_a_memory_is_stepped_by_hand(kind, name, record, one):
    scheme = roster.SCHEMES[name]()
    keeps = getattr(scheme, "members", None) is not None
    if kind == "Steered":
        model, seen = Steered(), dated(record)
    else:
        how = {"epochs": 1, "sequence_length": 20, "burn_in": 2}
        model = daml.LSTM(hidden=4, layers=2, **how).fit(one)
        seen = record.assign(error_variance=100 * record.error_variance)
    seen = seen.isel(time=slice(0, 13))
    result = daml.assimilate(model, seen, scheme, segments=1, keep_members=keeps)
    wanted = by_hand(model, result, leads=3)
    result = result.drop_vars("analysis_members", errors="ignore")
    found = daml.forecast_ahead(model, result, leads=3)
    found = found.forecast_members if keeps else found.forecast
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


class Still:
    """A model that moves nothing."""

    variables, dt = MODEL.variables, 0.05

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return 1.0 * x, memory


def test_members_of_one_state_have_the_covariance_that_is_given(record):
    scheme, given = roster.SCHEMES["ThreeDVar"](), roster.climatology()
    result = daml.assimilate(Still(), record.isel(time=slice(0, 9)), scheme, segments=1)
    how = {"leads": 1, "members": 4000, "covariance": given}
    for seed in range(5):
        found = daml.forecast_ahead(Still(), result, seed=seed, **how)
        members = found.forecast_members.values[0]
        np.testing.assert_allclose(found.forecast[0], result.analysis[-1], rtol=1e-9)
        np.testing.assert_allclose(np.cov(members.T), given, atol=0.15 * float(given.max()))
        np.testing.assert_allclose(found.spread[0], members.std(axis=0, ddof=1))
    again = daml.forecast_ahead(Still(), result, seed=4, **how)
    np.testing.assert_array_equal(again.forecast_members, found.forecast_members)
    order = given.isel(variable=[2, 0, 1], covariable=[2, 0, 1])
    turned = daml.forecast_ahead(Still(), result, seed=4, **how | {"covariance": order})
    np.testing.assert_allclose(turned.forecast_members, found.forecast_members)


def test_members_of_one_state_have_its_spread(record):
    scheme = daml.schemes.ExtendedKalman(model_error=0.01)
    result = daml.assimilate(MODEL, record.isel(time=slice(0, 9)), scheme, segments=1)
    result["spread"] = xr.full_like(result.spread, 1e-3) * [1.0, 2.0, 4.0]
    found = daml.forecast_ahead(MODEL, result, leads=1, members=2000)
    x = result.analysis.values[-1]
    steps = 1e-3 * np.diag([1.0, 2.0, 4.0])
    moved = np.array([MODEL.step(x + d, None)[0] - MODEL.step(x - d, None)[0] for d in steps]) / 2
    np.testing.assert_allclose(found.spread[0], (moved**2).sum(axis=0) ** 0.5, rtol=0.1)


def test_trajectories_are_forecast_each(record):
    two = xr.concat(
        [record.isel(time=slice(0, 9)), record.isel(time=slice(0, 9)) + 0.5], "trajectory"
    )
    two["error_variance"] = record.error_variance
    scheme = roster.SCHEMES["ETKF"]()
    result = daml.assimilate(MODEL, two, scheme, segments=1)
    found = daml.forecast_ahead(MODEL, result, leads=2)
    single = daml.assimilate(MODEL, two.isel(trajectory=1), scheme, segments=1)
    wanted = daml.forecast_ahead(MODEL, single, leads=2)
    np.testing.assert_array_equal(found.forecast.isel(trajectory=1), wanted.forecast)


def test_the_fields_of_a_forecast_come_back():
    model, scheme = roster.Fields(), daml.schemes.LETKF(members=5, radius=2.0, inflation=1.1)
    seen = daml.observe(daml.simulate(model, steps=9), error_variance=0.1)
    fields = daml.unflatten(
        daml.forecast_ahead(model, daml.assimilate(model, seen, scheme), leads=3)
    )
    assert fields["forecast"].u.dims == ("lead", "x")
    assert fields["forecast_members"].h.dims == ("lead", "member", "x")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"analysis": lambda r: r[["analysis"]]}, "'analysis' is an analysis without its end"),
        ({"analysis": lambda r: r.isel(time=slice(0, 9))}, "it was cut, or joined"),
        ({"analysis": lambda r: r.drop_vars("end_state")}, "has lost 'end_state'"),
        ({"analysis": lambda r: r.drop_vars("analysis")}, r"no variable 'analysis' \(time, var"),
        ({"analysis": lambda r: r.isel(time=-1)}, r"no variable 'analysis' \(time, variable\)"),
        ({"model": daml.Lorenz63(rho=27.0)}, r"made with the model Lorenz63\(rho=28.0\)"),
        ({"members": 5}, "the uncertainty of the last analysis is not known; .*ETKF"),
        ({"members": 1}, "'members' is 1; give 2 or more"),
        ({"leads": 0}, "'leads' is 0"),
        ({"covariance": roster.climatology()}, "there are no 'members' to draw"),
    ],
)
def test_what_cannot_be_forecast_is_refused(change, text, one):
    how = {"model": MODEL, "leads": 2} | change
    analysis = how.pop("analysis", lambda r: r)(one)
    with pytest.raises(InputError, match=f"^forecast_ahead: .*{text}") as caught:
        daml.forecast_ahead(analysis=analysis, **how)
    assert "\n" not in str(caught.value)


def test_an_ensemble_has_its_own_members(record):
    seen = record.isel(time=slice(0, 9))
    result = daml.assimilate(MODEL, seen, roster.SCHEMES["ETKF"](), segments=1)
    assert daml.forecast_ahead(MODEL, result, leads=1, members=12).sizes["member"] == 12
    for more, text in (
        ({"members": 9}, "'members' is 9, and the ensemble of 'analysis' has 12"),
        ({"covariance": roster.climatology()}, "'analysis' has its own members; leave it out"),
    ):
        with pytest.raises(InputError, match=text):
            daml.forecast_ahead(MODEL, result, leads=1, **more)
    weighted = daml.assimilate(MODEL, seen, roster.SCHEMES["ParticleFilter"](), segments=1)
    with pytest.raises(InputError, match="have different weights"):
        daml.forecast_ahead(MODEL, weighted, leads=1)


def commanded(*words):
    result = CliRunner().invoke(main, ["forecast", *map(str, words)])
    assert result.exit_code in (0, 2), result.output
    return result


def test_an_output_that_cannot_be_written_whole_is_not_left_in_part(record, tmp_path):
    store = tmp_path / "a.zarr"
    daml.assimilate(MODEL, record.isel(time=slice(20)), roster.SCHEMES["ETKF"](), store=store)
    words = store, "--model", "lorenz63", "--leads", 400, "--output", tmp_path / "b.zarr"
    before, on_signal = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        refused = commanded(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, on_signal)
    assert "b.zarr: cannot be written" in refused.output
    assert not (tmp_path / "b.zarr").exists()


def test_the_command_forecasts_from_a_store(record, tmp_path):
    scheme, store = roster.SCHEMES["ETKF"](), tmp_path / "a.zarr"
    result = daml.assimilate(MODEL, record.isel(time=slice(0, 20)), scheme, store=store)
    wanted = daml.forecast_ahead(MODEL, result, leads=6)
    words = store, "--model", "lorenz63", "--leads", 6
    printed = commanded(
        *words, "--output", tmp_path / "b.nc", "--figure", tmp_path / "b.png"
    ).output
    assert "forecast: 6 steps, from 1 to 1.25\nmembers: 12" in printed
    assert (tmp_path / "b.png").stat().st_size > 1000
    commanded(*words, "--output", tmp_path / "b.zarr")
    with xr.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as found:
        xr.testing.assert_allclose(found, wanted)
    with xr.open_zarr(tmp_path / "b.zarr", consolidated=False) as found:
        xr.testing.assert_allclose(found, wanted)
    for more, text in (
        (("--output", tmp_path / "b.nc"), "exists; give another path"),
        (("--output", tmp_path / "c.txt"), "give a name that ends in .nc or .zarr"),
        (("--output", tmp_path / "none" / "c.nc"), "c.nc does not exist; make it first"),
        (("--output", tmp_path / "c.nc", "--figure", tmp_path / "c.txt"), "ends in .png"),
        (("--output", tmp_path / "c.nc", "--fields"), "has no 'template'"),
        (("--output", tmp_path / "c.nc", "--members", 5), "has 12; leave it out"),
        (("--output", tmp_path / "c.nc", "--emulator", store), "forecast: give one of --model"),
    ):
        refused = commanded(*words, *more)
        assert refused.exit_code == 2
        assert text in refused.output
    assert not list(tmp_path.glob("c.*"))


def test_the_command_forecasts_with_an_emulator(record, one, tmp_path):
    how = {"hidden": 4, "epochs": 1, "sequence_length": 20, "burn_in": 2}
    emulator = daml.LSTM(**how).fit(one)
    emulator.save(tmp_path / "emulator.zarr")
    wide = record.isel(time=slice(0, 9)).assign(error_variance=100 * record.error_variance)
    result = daml.assimilate(emulator, wide, roster.SCHEMES["ThreeDVar"](), segments=1)
    result.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    words = "--emulator", tmp_path / "emulator.zarr", "--leads", 2, "--output", tmp_path / "b.nc"
    commanded(tmp_path / "a.nc", *words)
    with xr.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as found:
        wanted = daml.forecast_ahead(emulator, result, leads=2)
        np.testing.assert_allclose(found.forecast, wanted.forecast, rtol=1e-6)


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_the_command_writes_fields(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        "import numpy as np, xarray as xr, daml\n"
        "class Ring(daml.models.Gridded):\n"
        "    template = xr.Dataset({'u': ('x', [0.1, np.nan, 0.2])}, {'x': [0.0, 1.0, 2.0]})\n"
        "    dt, period = '6h', 3.0\n"
        "    def move(self, fields):\n"
        "        return {'u': 0.9 * np.roll(fields['u'], 1, axis=-1)}\n"
    )
    from daml.scripts import load_model

    model = load_model("model.py:Ring")
    truth = daml.simulate(
        model,
        steps=9,
        initial=daml.flatten(model.template)
        .assign_coords(time=np.datetime64("2024-01-01"))
        .rename(state="state"),
    )
    scheme = daml.schemes.LETKF(members=5, radius=2.0, inflation=1.1)
    daml.assimilate(model, daml.observe(truth, error_variance=0.1), scheme, store="a.zarr")
    words = "a.zarr", "--model", "model.py:Ring", "--leads", 2, "--fields"
    printed = commanded(*words, "--output", f"b{ending}").output
    assert "from 2024-01-03T06:00:00" in printed
    how = {"engine": "h5netcdf"} if ending == ".nc" else {"engine": "zarr", "consolidated": False}
    with xr.open_datatree(f"b{ending}", **how) as found:
        assert found["forecast"].u.dims == ("lead", "x")
        assert found["spread"].u.sizes["lead"] == 2


def test_the_figure_has_a_band_of_spread(record, one):
    ensemble = daml.assimilate(MODEL, record.isel(time=slice(0, 9)), roster.SCHEMES["ETKF"]())
    found = daml.forecast_ahead(MODEL, ensemble, leads=6)
    figure = daml.figures.plume(found, variables=["x2", "x0"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["x2", "x0"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), found.forecast[:, 0])
    band = figure.axes[0].collections[0].get_datalim(figure.axes[0].transData).ymax
    assert band == pytest.approx(float((found.forecast + found.spread)[:, 2].max()))
    alone = daml.figures.plume(daml.forecast_ahead(MODEL, one, leads=6))
    assert not alone.axes[0].collections
    with pytest.raises(InputError, match="no variable 'u'"):
        daml.figures.plume(found, variables=["u"])
