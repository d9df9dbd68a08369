"""How ensembles are widened: relaxation, noise, and what innovations want."""

import numpy as np
import pytest
import xarray as xr
from test_filters import FIRST, NAMES, Linear, exact, filtered, record

import daml
from daml.errors import DivergedError, InputError, StoreError
from daml.observing.records import read
from daml.protocols import Run
from daml.running.cycling.cycle import cycle
from daml.schemes import ETKF, RTPP, RTPS, Additive, DEnKF, EnKF, SerialEnSRF

B = daml.covariance.labelled(np.array([[0.5, 0.2, 0.0], [0.2, 0.4, -0.1], [0.0, -0.1, 0.3]]), NAMES)
ROOT = xr.DataArray(
    np.linalg.cholesky(B.values)[:, :2],
    dims=("variable", "mode"),
    coords={"variable": list(NAMES)},
)


def members(scheme, seen, steps=1):
    """Give the first analysed ensembles (step, member, variable), old enough to have started."""
    found = read(seen, NAMES, 1.0)
    at = [
        (found.seen(np.array([k])), Run(np.array([k]), np.zeros(1, int), 1000 + k, frozenset()))
        for k in range(steps)
    ]
    known = scheme.prepare(found.setting())
    pairs = cycle(Linear(), scheme, known, exact(scheme.members), None, at)
    return np.array([update.state[0] for _, update in pairs])


def apart(states):
    return states - states.mean(axis=-2, keepdims=True)


@pytest.fixture
def seen():
    return record(True).isel(time=slice(0, 1))


SCHEMES = [ETKF, EnKF, DEnKF, SerialEnSRF]


@pytest.mark.parametrize("kind", SCHEMES)
def test_relaxation_mixes_the_anomalies_of_analysis_and_background(kind, seen):
    plain, relaxed = (members(kind(8, inflation=i), seen)[0] for i in (1.0, RTPP(0.3)))
    right = 0.7 * apart(plain) + 0.3 * apart(exact(8)[0])
    np.testing.assert_allclose(apart(relaxed), right, atol=1e-12)
    np.testing.assert_allclose(relaxed.mean(axis=0), plain.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("kind", SCHEMES)
@pytest.mark.parametrize("inflation", [RTPP(0.5), RTPS(0.5), Additive(B)])
def test_a_turn_at_random_changes_no_covariance_of_widened_members(kind, inflation, seen):
    how = {"inflation": inflation}
    plain, turned = (members(kind(8, rotate=r, **how), seen)[0] for r in (False, True))
    np.testing.assert_allclose(turned.mean(axis=0), plain.mean(axis=0), atol=1e-12)
    if not isinstance(inflation, Additive):  # whose draws meet other anomalies then
        np.testing.assert_allclose(np.cov(turned.T), np.cov(plain.T), atol=1e-12)


@pytest.mark.parametrize("kind", SCHEMES)
def test_relaxation_of_the_spread_mixes_standard_deviations_and_keeps_correlations(kind, seen):
    plain, relaxed = (members(kind(8, inflation=i), seen)[0] for i in (1.0, RTPS(0.6)))
    own, found = plain.std(axis=0), relaxed.std(axis=0)
    np.testing.assert_allclose(found, 0.4 * own + 0.6 * exact(8)[0].std(axis=0), atol=1e-12)
    np.testing.assert_allclose(np.corrcoef(relaxed.T), np.corrcoef(plain.T), atol=1e-12)
    np.testing.assert_allclose(relaxed.mean(axis=0), plain.mean(axis=0), atol=1e-12)


def test_a_variable_without_spread_stays_so(seen):
    scheme = ETKF(4, inflation=RTPS(1.0))
    zero = np.zeros((1, 4, 3))
    assert (scheme.rule.widened(zero, zero, None, 0, None) == 0).all()


@pytest.mark.parametrize("given", [B, xr.DataArray([0.5, 0.0, 0.3], B.coords["variable"].coords)])
def test_noise_adds_its_covariance_in_the_mean_and_moves_no_mean(given, seen):
    plain, wide = (members(EnKF(20_000, inflation=i), seen)[0] for i in (1.0, Additive(given, 2.0)))
    right = 2 * (given.values if given.ndim == 2 else np.diag(given.values))
    np.testing.assert_allclose(np.cov((wide - plain).T), right, atol=0.04)
    np.testing.assert_allclose(wide.mean(axis=0), plain.mean(axis=0), atol=1e-12)


def test_a_root_stands_for_its_covariance(seen):
    plain, wide = (members(EnKF(20_000, inflation=i), seen)[0] for i in (1.0, Additive(ROOT)))
    found = np.cov((wide - plain).T)
    np.testing.assert_allclose(found, ROOT.values @ ROOT.values.T, atol=0.02)
    assert np.linalg.matrix_rank(found, tol=1e-10) == 2


def test_noise_goes_by_names_and_by_the_step(seen):
    turned = B.isel(variable=[2, 0, 1], covariable=[1, 2, 0])
    both = record(False)
    one, two = (members(ETKF(6, inflation=Additive(b)), both, steps=3) for b in (B, turned))
    np.testing.assert_allclose(one, two, atol=1e-13)
    drawn = one - members(ETKF(6), both, steps=3)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01


@pytest.mark.parametrize("inflation", [RTPP(0.5), RTPS(0.5), Additive(B)])
def test_no_rule_widens_where_nothing_is_observed(inflation):
    nothing = record(False).isel(time=slice(7, None))  # its first row is empty
    _, covariance, *_ = filtered(ETKF(8, inflation=inflation), nothing, steps=1)
    np.testing.assert_allclose(covariance[0], FIRST, rtol=1e-12)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("kind", SCHEMES)
def test_a_factor_on_r_is_one_on_the_error_variances(kind, correlated):
    given = record(correlated)
    name = "error_covariance" if correlated else "error_variance"
    scaled = given.assign({name: given[name] * 2.5})
    one, two = filtered(kind(5, error_factor=2.5), given), filtered(kind(5), scaled)
    for found, right in zip(one, two, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-9)


def imperfect(steps=500):
    """Observations of a coupled truth, and its uncoupled part as the model."""
    truth = daml.simulate(daml.CoupledLorenz63(), steps=steps, spinup=500, seed=1)
    return daml.Lorenz63(), daml.observe(truth, variables=["x0", "x1", "x2"], seed=2), truth


def error(analysis, truth):
    gap = analysis.analysis - truth.state.sel(variable=analysis["variable"])
    return float((gap[100:] ** 2).mean() ** 0.5)


@pytest.mark.statistical
def test_innovations_find_an_inflation_near_the_best():
    model, seen, truth = imperfect()
    scheme, analysis = daml.tuned(ETKF(8, inflation="innovations"), model, seen)
    assert scheme.open == ()
    assert 1.1 < scheme.inflation < 1.8
    scan = [daml.assimilate(model, seen, ETKF(8, inflation=i)) for i in (1.1, 1.25, 1.4, 1.6)]
    assert error(analysis, truth) < 1.05 * min(error(one, truth) for one in scan)


SLOW = {
    "Lorenz 63 coupled": (daml.CoupledLorenz63(), daml.Lorenz63(), 2_000, 12, (1.17, 1.25, 1.4)),
    "Lorenz 96": (
        *(daml.models.Lorenz96(n=20), daml.models.Lorenz96(n=20)),
        *(800, 16, (1.01, 1.02, 1.04, 1.07)),
    ),
    "Lorenz 96 of a wrong forcing": (
        *(daml.models.Lorenz96(n=20), daml.models.Lorenz96(n=20, forcing=7.5)),
        *(800, 16, (1.04, 1.07, 1.11, 1.17)),
    ),
}
"""A truth, a model, times, members, and the factors that are compared with the truth."""


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SLOW)
def test_the_inflation_that_is_found_is_as_good_as_the_best_that_the_truth_shows(name, seed):
    system, model, steps, members, factors = SLOW[name]
    truth = daml.simulate(system, steps=steps, spinup=500, seed=seed)
    seen = daml.observe(truth, variables=list(model.variables), seed=seed + 100)
    open_ = ETKF(members, inflation="innovations", rotate=True)
    _, analysis = daml.tuned(open_, model, seen)
    scan = [daml.assimilate(model, seen, ETKF(members, inflation=i, rotate=True)) for i in factors]
    assert error(analysis, truth) < 1.06 * min(error(one, truth) for one in scan)


DIMS = "time", "variable"


class Counted:
    """A trial that says how often it is run, with a likelihood of which the best is known."""

    model = "Counted"

    def __init__(self, best, times=500):
        self.best, self.runs = best, []
        self.observations = xr.Dataset({"observation": (DIMS, np.zeros((times, 1)))})

    def shortened(self, times):
        self.runs.append(times)
        part = Counted(self.best, times)
        part.runs = self.runs
        return part

    def judged(self, analysis):
        return analysis

    def run(self, scheme):
        self.runs.append(scheme)
        at = np.array([scheme.rule.number, scheme.error_factor], dtype=float)
        away = float(np.log(at / self.best) ** 2 @ [100, 1])
        return xr.Dataset({"log_likelihood": ("time", np.full(10, -away))})


def test_the_search_takes_few_runs_and_fewer_for_a_similar_model():
    open_, trial = ETKF(5, inflation="innovations"), Counted([1.22, 1.0])
    found = open_.tuned(trial)
    assert found.inflation == pytest.approx(1.22, rel=0.02)
    assert len(trial.runs) <= 8
    again = Counted([1.25, 1.0])
    assert open_.tuned(again, before=found).inflation == pytest.approx(1.25, rel=0.02)
    assert len(again.runs) <= 4


def test_inflation_and_the_size_of_r_are_found_together():
    trial = Counted([1.08, 0.6])
    found = EnKF(5, inflation="innovations", error_factor="estimated").tuned(trial)
    assert found.inflation == pytest.approx(1.08, rel=0.02)
    assert found.error_factor == pytest.approx(0.6, rel=0.1)
    trial = Counted([1.3, 1.8])
    found = EnKF(5, inflation=1.3, error_factor="estimated").tuned(trial)
    assert (found.inflation, found.error_factor) == (1.3, pytest.approx(1.8, rel=0.1))


def test_a_long_record_is_tuned_on_a_part_at_first():
    trial = Counted([1.08, 1.0], times=100_000)
    ETKF(5, inflation="innovations").tuned(trial)
    assert [n for n in trial.runs if isinstance(n, int)] == [1_000, 20_000]


@pytest.mark.statistical
def test_the_size_of_r_is_found_from_innovations():
    model, seen, _ = imperfect()
    wrong = seen.assign(error_variance=seen.error_variance * 2.5)
    open_ = ETKF(8, inflation=1.3, error_factor="estimated")
    scheme, _ = daml.tuned(open_, model, wrong)
    assert scheme.error_factor * 2.5 == pytest.approx(1.0, rel=0.3)


class Moving(daml.Lorenz63):
    """An emulator whose passes differ, and that needs no training."""

    def fit(self, analysis):
        return Moving(rho=self.rho - 0.5)

    def to_dataset(self):
        return xr.Dataset({"rho": ((), self.rho)})

    def restored(self, dataset):
        return Moving(rho=float(dataset["rho"]))


@pytest.mark.filterwarnings("ignore:improve. no pass is significantly better")
def test_a_loop_tunes_inflation_anew_and_goes_on_where_it_was_interrupted(tmp_path):
    model, seen, _ = imperfect(340)

    def improve(passes, **how):
        parts = ETKF(6, inflation="innovations"), Moving()
        return daml.improve(model, seen, *parts, passes=passes, held_out=0.3, **how)

    whole = improve(2)
    improve(1, store=tmp_path / "loop.zarr")
    resumed = improve(2, store=tmp_path / "loop.zarr", resume=True)
    for group in ("imperfect", "iteration/0000", "iteration/0001"):
        number = resumed[f"{group}/scheme"].inflation
        assert number == whole[f"{group}/scheme"].inflation
        assert number > 1
        assert daml.load_scheme(resumed, _number(group)).inflation == float(number)


def _number(group):
    return None if group == "imperfect" else int(group[-4:])


def test_a_rule_comes_back_from_what_was_stored():
    for rule in (1.05, RTPP(0.2), RTPS(1.1), Additive(B, scale=0.1), Additive(ROOT)):
        scheme = ETKF(5, inflation=rule, rotate=True, error_factor=1.5)
        back = ETKF(5, rotate=True).restored(scheme.to_dataset())
        assert type(back.inflation) is type(rule)
        xr.testing.assert_identical(back.to_dataset(), scheme.to_dataset())
    damaged = ETKF(5).to_dataset()
    damaged["inflation"].attrs["kind"] = "cubic"
    with pytest.raises(StoreError, match="has the inflation 'cubic', which is not one of"):
        ETKF(5).restored(damaged)
    with pytest.raises(StoreError, match="has lost values of 'inflation'"):
        ETKF(5).restored(ETKF(5).to_dataset().drop_vars("inflation"))


VARIANCES = xr.DataArray([0.5, 0.1, 0.3], dims="variable", coords={"variable": list(NAMES)})
RANGE = "give a number from 0.5 to 3, or 'innovations' to estimate it, or RTPS, RTPP or Additive"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ETKF(1), "ETKF: 'members' is 1; give 2 or more"),
        (lambda: ETKF(True), "ETKF: 'members' is True; give a whole number"),
        (lambda: EnKF(5, inflation=0.4), f"EnKF: 'inflation' is 0.4; {RANGE}"),
        (lambda: EnKF(5, inflation=3.5), "3.5; .*; a factor on variances is its square"),
        (lambda: ETKF(5, inflation=np.nan), f"ETKF: 'inflation' is nan; {RANGE}"),
        (lambda: ETKF(5, inflation=True), f"ETKF: 'inflation' is True; {RANGE}"),
        (lambda: ETKF(5, inflation=None), f"ETKF: 'inflation' is None; {RANGE}"),
        (lambda: ETKF(5, inflation=RTPS), f"'inflation' is the class RTPS; {RANGE}"),
        (lambda: ETKF(5, inflation="adaptive"), f"'inflation' is 'adaptive'; {RANGE}"),
        (lambda: ETKF(5, inflation=VARIANCES), f"'inflation' is a DataArray; {RANGE}"),
        (lambda: ETKF(5, seed=-1), "ETKF: 'seed' is -1; give 0 or more"),
        (lambda: ETKF(5, error_factor=0), "'error_factor' is 0.0; give a factor > 0, or 'estima"),
        (lambda: ETKF(5, error_factor="fitted"), "'error_factor' is 'fitted'; give a factor > 0"),
        (lambda: RTPS(2.5), "RTPS: 'weight' is 2.5; give a number from 0 to 2"),
        (lambda: RTPP(1.1), "RTPP: 'weight' is 1.1; give a number from 0 to 1"),
        (
            lambda: RTPP("estimated"),
            "'weight' is 'estimated'; give a number from 0 to 1",
        ),
        (lambda: Additive(0.1), "'covariance' is 0.1; give an xarray.DataArray: B"),
        (lambda: Additive(B.values), "'covariance' is a ndarray; give an xarray.DataArray: B"),
        (lambda: Additive(B.expand_dims("time")), r"a DataArray \('time', 'variable'"),
        (lambda: Additive(-VARIANCES), "'covariance' of 'x0' is negative or not finite; give"),
        (
            lambda: Additive(VARIANCES.astype(str)),
            "'covariance' holds values of type <U32, not",
        ),
        (lambda: Additive(VARIANCES.drop_vars("variable")), "no coordinate along 'variable'; name"),
        (lambda: Additive(-B), "'covariance': it is not positive definite"),
        (lambda: Additive(B, scale=-1), "Additive: 'scale' is -1; give a number >= 0, or 'innova"),
    ],
)
def test_settings_out_of_range_are_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_numbers_of_numpy_are_numbers():
    assert ETKF(np.int64(5), inflation=np.array(1.5)).inflation == 1.5
    assert type(RTPS(np.float64(0.5)).weight) is float


@pytest.mark.parametrize(
    ("scheme", "match"),
    [
        (ETKF(5, inflation="innovations"), "ETKF: 'inflation' is not estimated yet; estimate"),
        (EnKF(5, inflation=RTPP("innovations")), "EnKF: 'inflation' is not estimated yet.*daml.tu"),
        (ETKF(5, error_factor="estimated"), "ETKF: 'error_factor' is not estimated yet"),
        (
            ETKF(5, inflation=Additive(VARIANCES[:2])),
            "ETKF: Additive: 'covariance' lacks the",
        ),
        (ETKF(5, inflation=Additive(B[:2, :2])), "ETKF: Additive: 'covariance': its 'variable'"),
    ],
)
def test_what_a_cycle_lacks_is_said_before_it_runs(scheme, match):
    with pytest.raises(InputError, match=match):
        daml.assimilate(Linear(), record(False), scheme)


def test_a_record_that_is_too_short_to_tune_with_is_refused():
    open_ = ETKF(5, inflation="innovations", error_factor="estimated")
    with pytest.raises(InputError, match="24 times with observations are too few to find 'infla"):
        daml.tuned(open_, Linear(), record(False))
    model, seen, _ = imperfect(40)
    emulator = daml.LSTM(hidden=2, epochs=1, sequence_length=10, burn_in=2)
    with pytest.raises(InputError, match="and 50 are needed to find 'inflation' and 'error_fac"):
        daml.improve(model, seen, open_, emulator, passes=1, held_out=0)


class Exploding(Counted):
    """A trial in which the model leaves the finite numbers with all factors but some."""

    model, finite = "Exploding", ()

    def run(self, scheme):
        if scheme.inflation not in self.finite:
            raise DivergedError("the cycle diverged")
        return super().run(scheme)


def test_numbers_with_which_the_model_explodes_are_not_chosen():
    trial = Exploding([1.4, 1.0])
    with pytest.raises(InputError, match="of Exploding diverges with every 'inf"):
        ETKF(5, inflation="innovations").tuned(trial)
    trial.finite = (1.01, 1.04, 1.07)
    assert ETKF(5, inflation="innovations").tuned(trial).inflation == 1.07


def test_a_record_that_begins_without_values_is_tuned():
    truth = daml.simulate(daml.Lorenz63(), steps=1300, spinup=300)
    seen = daml.observe(truth, seed=1)
    late = seen.assign(observation=seen.observation.where(seen.time > 50))
    scheme, _ = daml.tuned(daml.schemes.ETKF(5, inflation="innovations"), daml.Lorenz63(), late)
    assert 0.9 < scheme.inflation < 1.5
