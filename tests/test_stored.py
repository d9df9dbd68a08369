"""Stores whose attributes were damaged or edited by hand: one line that says what is needed."""

import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from test_storable import Damped, covariance, record

import daml
from daml.cli import main
from daml.errors import DamlError, InputError

RECORD = record(1200).assign_coords(variable=["x0"], time=0.05 * np.arange(1200))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(store, **more):
    model = daml.Lorenz63(substeps=2)
    names = {"variable": ["x0", "x1", "x2"], "covariable": ["x0", "x1", "x2"]}
    B = xr.DataArray(np.eye(3), coords=names, dims=("variable", "covariable"))
    emulator = daml.LSTM(base=daml.Lorenz63(rho=np.int64(20)), hidden=2, epochs=1)
    how = {"passes": 2, "store": store} | more
    return daml.improve(model, RECORD, daml.ThreeDVar(B), emulator, **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "store.zarr"
    run(store)
    return store


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store.zarr")


def edit(store, change, group=None):
    """Change the attributes of the root, or of a group, as who reads the store finds them."""
    text = (store / "zarr.json").read_text()
    root = json.loads(text)
    document = root if group is None else root["consolidated_metadata"]["metadata"][group]
    attributes = document["attributes"]
    changed = change(attributes)
    document["attributes"] = attributes if changed is None else changed
    (store / "zarr.json").write_text(json.dumps(root))


def all_fail(store, *texts, resume=True, words=("info", "figures"), iteration=-1):
    """Hold all that read the store to errors of one line that change nothing."""
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    messages = []
    # With an iteration, as so small a loop chooses the model given.
    calls = [lambda: daml.load_emulator(store, iteration)] + (
        [lambda: run(store, resume=True)] * resume
    )
    for call in calls:
        with pytest.raises(DamlError, match=r"\A[^\n]*\Z") as caught:
            call()
        messages.append(str(caught.value))
    for word in words:
        result = CliRunner().invoke(main, [word, str(store)])
        assert result.exit_code in (0, 2), result.output
        if result.exit_code:
            assert result.output.count("\n") == 1
            messages.append(result.output)
    for text in texts:
        assert any(re.search(text, line) for line in messages), messages
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before


BASE = "iteration/0001/emulator"


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ('{"class": "Lorenz64"}', "'base' is a 'Lorenz64', none of daml's models"),
        ('{"class": "lorenz63"}', "none of daml's models"),
        ('{"class": "ODE"}', "'ODE', none of daml's models"),
        ('{"class": "__builtins__"}', "none of daml's models"),
        ('{"class": "LSTM"}', "none of daml's models"),
        ('{"class": "Lorenz63", "defined_by": "user"}', "give it as 'base'"),
        ('{"class": ["Lorenz63"]}', "the name of a 'class' is needed"),
        ('{"rho": 3}', "the name of a 'class' is needed"),
        ('{"class": "Lorenz63", "colour": 3}', "'colour' is 3"),
        ('{"class": "Lorenz63", "rho": "20"}', "'rho' is '20'"),
        ('{"class": "Lorenz63", "rho": null}', "'rho' is None"),
        ('{"class": "Lorenz63", "rho": {"sha256": "ab"}}', "'rho' is {"),
        ('{"class": "Lorenz63", "dt": -1.0}', "dt is -1"),
        ('{"class": "Lorenz63", "substeps": 1.5}', "'substeps' is 1.5"),
        ('{"class": "Lorenz63", "time_unit": 3}', "'time_unit' is 3"),
        ('["Lorenz63"]', "the settings of an object as JSON is needed"),
        ("[" * 10_000, "'base' is "),
        ('"Lorenz63"', "the settings of an object"),
        ("{", "the settings of an object"),
        ("", "'base' is ''"),
        (3, "'base' is 3, the settings of an object as JSON is needed"),
        (None, "'base' is None"),
    ],
)
def test_a_base_is_one_of_the_public_models(store, base, text):
    edit(store, lambda attrs: attrs.update(base=base), BASE)
    all_fail(store, f"{BASE}.*{re.escape(text)}", resume=False, words=())


WRONG = [None, "", [], True]


@pytest.mark.parametrize("wrong", [*WRONG, "gone"])
@pytest.mark.parametrize("name", ["dt", "time_unit", "trainings", "settings"])
def test_attributes_of_an_emulator(store, name, wrong):
    def change(attrs):
        attrs.pop(name) if wrong == "gone" else attrs.update({name: wrong})

    edit(store, change, BASE)
    found = "is missing" if wrong == "gone" else "is "
    all_fail(store, f"'{name}' {found}.* needed", resume=name != "settings", words=())


@pytest.mark.parametrize(
    "settings",
    [
        *({"hidden": 10**12}, {"hidden": "2"}, {"hidden": 2.5}, {"layers": 10**9}),
        *({"device": "gpu"}, {"device": 3}, {"seed": -1}, {"colour": 1}, {"covariance": [1]}),
    ],
)
def test_settings_of_an_emulator(store, settings):
    def change(attrs):
        attrs["settings"] = json.dumps(json.loads(attrs["settings"]) | settings)

    edit(store, change, BASE)
    all_fail(store, next(iter(settings)), resume=False, words=())


@pytest.mark.parametrize("wrong", [*WRONG, [1], 7, -1, 1.0, "GIVEN"])
def test_the_choice(store, wrong):
    edit(store, lambda attrs: attrs.update(chosen=wrong))
    all_fail(
        store, "'chosen' is .*a pass below 2, or 'given', is needed", resume=False, iteration=None
    )


@pytest.mark.parametrize("wrong", [*WRONG, "gone", 0, "two", 2.5])
def test_the_number_of_passes(store, wrong):
    def change(attrs):
        attrs.pop("passes") if wrong == "gone" else attrs.update(passes=wrong)

    edit(store, change)
    result = CliRunner().invoke(main, ["info", str(store)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "'passes' is" in result.output
    with pytest.raises(InputError, match="'passes' is"):
        run(store, resume=True)


@pytest.mark.parametrize("name", ["foo", "0002x", "2", "0003", "-001"])
def test_a_group_that_is_no_pass(store, name):
    root = json.loads((store / "zarr.json").read_text())
    metadata = root["consolidated_metadata"]["metadata"]
    more = {k.replace("0001", name): v for k, v in metadata.items() if "/0001" in k}
    metadata.update(more)
    (store / "zarr.json").write_text(json.dumps(root))
    all_fail(store, rf"iteration/{name}'?: no pass that daml wrote", resume=name != "0003")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("iteration/0001/emulator/mean", "lost values of 'mean'"),
        ("iteration/0001/emulator/weights.head.weight", "do not fit a network"),
        ("iteration/0001/scheme/error_factor", "lost values of 'error_factor'"),
        ("iteration/0001/scheme/background_covariance", "of 'background_covariance'"),
        ("iteration/0001/scores/innovation_rmse", "lacks the variable 'innovation_rmse'"),
        ("imperfect/scores/held_out_square_error", "'held_out_square_error'"),
        ("iteration/0001/analysis", "lost values of 'analysis'"),
        ("iteration/0001/emulator", "lacks the group 'iteration/0001/emulator'"),
        ("iteration/0001/scores", "lacks the group 'iteration/0001/scores'"),
        ("observations", "no experiment is there"),
    ],
)
def test_what_is_missing(store, variable, text, monkeypatch):
    root = json.loads((store / "zarr.json").read_text())
    metadata = root["consolidated_metadata"]["metadata"]
    for name in [k for k in metadata if k == variable or k.startswith(f"{variable}/")]:
        del metadata[name]
    root["attributes"].pop("chosen")
    (store / "zarr.json").write_text(json.dumps(root))
    messages = []
    calls = [lambda: daml.load_emulator(store, 1), lambda: run(store, resume=True)]
    for call in calls:
        try:
            call()
        except DamlError as error:
            messages.append(str(error))
    monkeypatch.setattr(daml.figures, "save", lambda *given: [])
    for word in ("info", "figures"):
        result = CliRunner().invoke(main, [word, str(store)])
        assert result.exit_code in (0, 2), result.exception
        messages += [result.output] * (result.exit_code == 2)
    assert any(text in line for line in messages), messages
    assert all(line.strip().count("\n") == 0 for line in messages)


@pytest.mark.parametrize("group", [None, BASE])
def test_attributes_that_are_a_list_or_nested_deeply(store, group):
    for attributes in (
        "[]",
        '"x"',
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
    ):
        text = (store / "zarr.json").read_text()
        edit(store, lambda attrs: "REPLACED", group)
        edited = (store / "zarr.json").read_text().replace('"REPLACED"', attributes)
        (store / "zarr.json").write_text(edited)
        all_fail(store, "not a readable Zarr store|not an experiment that daml wrote")
        (store / "zarr.json").write_text(text)


def test_a_base_comes_back_with_its_settings(store):
    emulator = daml.load_emulator(store, -1)
    assert emulator.base == daml.Lorenz63(rho=20)


def choose_given(attrs):
    attrs.update(chosen="given", chosen_because="none is better")


def test_the_model_given_may_be_chosen(store):
    edit(store, choose_given)
    assert daml.load_emulator(store) == daml.Lorenz63(substeps=2)
    assert daml.load_emulator(store, 0).hidden == 2
    assert daml.load_emulator(store, np.int64(-1)).hidden == 2
    shown = CliRunner().invoke(main, ["info", str(store)])
    assert "chosen: the model given (none is better)" in shown.output
    with xr.open_datatree(store, engine="zarr") as tree:
        assert daml.reports.collect_innovations(tree).attrs["chosen"] == "given"
    assert daml.load_emulator(run(store, resume=True), 0).hidden == 2


def test_a_users_own_model_that_is_chosen_is_given_as_base(tmp_path):
    emulator = daml.LSTM(base=Damped(), hidden=2, epochs=1)
    how = {"passes": 1, "store": tmp_path / "store.zarr"}
    daml.improve(Damped(), record(1200), daml.ThreeDVar(covariance()), emulator, **how)
    edit(tmp_path / "store.zarr", choose_given)
    with pytest.raises(InputError, match="one of your own; give it as 'base'"):
        daml.load_emulator(tmp_path / "store.zarr")
    model = Damped()
    assert daml.load_emulator(tmp_path / "store.zarr", base=model) is model
    assert daml.load_emulator(tmp_path / "store.zarr", 0, base=model).base is model


@pytest.mark.parametrize("iteration", ["0", 1.5, True, [0], 2, -3])
def test_an_iteration_that_is_not_there(store, iteration):
    with pytest.raises(InputError, match="iteration"):
        daml.load_emulator(store, iteration)


@pytest.mark.parametrize("source", [None, 3, [], b"store.zarr", "", "a\0b"])
def test_a_source_that_is_none(source):
    with pytest.raises(InputError, match=r"(store|'source') is"):
        daml.load_emulator(source)
