"""A run is resumed with the model that it began with: its code and all that the code uses."""

import json
import logging
import re
import threading
import types

import numpy as np
import pytest
import torch
from test_storable import covariance, record

import daml
from daml.errors import InputError
from daml.labels import definitions
from daml.labels.descriptions import description
from daml.scripts import load_model
from daml.stores.keeper import differences

SOURCE = '''
import numpy as np

FORCING = 8.0
TABLE = np.array([1.0, 2.0])
NUMBERS = {"drag": 0.5}
SEEN = []


def helper(x):
    return 1.0 * x


class Parts:
    scale = 2.0

    def of(self, x):
        return x


class Base:
    """What several models share."""

    speed = 3.0

    def moved(self, x):
        return 0.9 * x


class Own(Base):
    """A model."""

    variables, dt = ("u",), 1.0
    rate = 0.5

    def __init__(self):
        self._hidden = 4.0

    @property
    def hidden(self):
        return self._hidden

    @property
    def fails(self):
        raise RuntimeError

    @property
    def another(self):
        return Own(), Own()

    def start(self, x, time=None):
        return None

    def step(self, x, memory, factor=0.25):
        # a comment
        SEEN.append(len(x))
        x = self.moved(helper(x)) + [FORCING * TABLE[0] * 0.0 for _ in x][0]
        return Parts().of(x) * NUMBERS["drag"] * factor / Parts.scale, memory
'''
CHANGES = [
    ("rate = 0.5", "rate = 0.6", r"model\.rate: 0\.5 there, 0\.6 now"),
    ("speed = 3.0", "speed = 3.5", r"model\.speed: 3\.0 there, 3\.5 now"),
    ("_hidden = 4.0", "_hidden = 5.0", r"model\.hidden: 4\.0 there, 5\.0 now"),
    ("FORCING = 8.0", "FORCING = 8.5", r"FORCING: 8\.0 there, 8\.5 now"),
    ("[1.0, 2.0]", "[1.0, 2.5]", r"TABLE\.sha256: "),
    ('"drag": 0.5', '"drag": 0.7', r"NUMBERS\.drag: 0\.5 there, 0\.7 now"),
    ("scale = 2.0", "scale = 2.5", r"Parts\.scale: 2\.0 there, 2\.5 now"),
    ("factor=0.25", "factor=0.35", r"Own\.step\(0\): 0\.25 there, 0\.35 now"),
    ("return 1.0 * x", "return 1.1 * x", "the code of 'helper' has changed"),
    ("return 0.9 * x", "return 0.8 * x", r"the code of 'Base\.moved' has changed"),
    ("        return x\n", "        return -x\n", r"the code of 'Parts\.of' has changed"),
    ("FORCING * TABLE[0]", "FORCING + TABLE[0]", r"the code of 'Own\.step' has changed"),
]
SAME = [
    ("# a comment", "# another comment\n        # and one more"),
    ('"""A model."""', '"""A model, explained."""'),
    ("        # a comment", '        """Moves."""'),
    ("def helper(x):\n", "def helper(x):\n    '''Give it.'''\n"),
    ("x = self.moved(helper(x))", "x = (self.moved(  helper(x)))"),
    ("def helper(x):", "def helper(x: float) -> float:"),
    ("import numpy as np\n", "import numpy as np\n\n\nUNUSED = 3\n"),
    ("SEEN = []", "SEEN = [1]"),  # which the step changes itself
    ("return Own(), Own()", "return Own(), Own()\n\n    def __repr__(self):\n        return 'own'"),
]


def executed(source):
    """Give the model of a source without a file, as of a cell."""
    names = {}
    exec(source, names)
    return names["Own"]()


def imported(folder, name):
    """Give what makes a model of a source that is written to a file."""

    def made(source):
        (folder / name).write_text(source)
        return load_model(f"{folder / name}:Own")

    return made


def describe(made, source):
    return description(made(source), "model")


def newer(text):
    """Give a description as another version of Python would, whose bytecode is another."""
    return text.replace(definitions.BYTECODE, "bytecode of Python 9.9")


@pytest.fixture(params=["file", "cell", "file and another Python"])
def ways(request, tmp_path):
    if request.param == "cell":
        return executed, lambda text: text
    made = imported(tmp_path, f"own_{request.param[-6:].strip().lower()}.py")
    return made, (newer if "another" in request.param else lambda text: text)


@pytest.mark.parametrize(("one", "two", "match"), CHANGES)
def test_what_a_model_computes_with_is_described(ways, one, two, match):
    made, other = ways
    assert SOURCE.count(one) == 1
    before = other(describe(made, SOURCE))
    found = differences("model", before, describe(made, SOURCE.replace(one, two)))
    assert any(re.search(match, text) for text in found), found


@pytest.mark.parametrize(("one", "two"), SAME)
def test_what_changes_no_result_is_not_described(ways, one, two):
    made, other = ways
    before = other(describe(made, SOURCE))
    assert differences("model", before, describe(made, SOURCE.replace(one, two))) == []


def make(forcing, function, event=None):
    class Own:
        variables, dt = ("u",), 1.0
        calls = staticmethod(lambda x: x)

        def start(self, x, time=None):
            return None

        def step(self, x, memory):
            if event is not None:
                event.set()
            return function(x) + forcing, memory

    return Own()


def test_what_a_class_takes_from_the_function_around_it_is_described():
    one = description(make(1.0, lambda x: x, threading.Event()), "model")
    assert one == description(make(1.0, lambda x: x, threading.Event()), "model")
    for other, match in [
        (make(2.0, lambda x: x), "forcing: 1.0 there, 2.0 now"),
        (make(1.0, lambda x: -x), "<lambda>' has changed since"),
        (make(np.ones(3), np.tanh), "forcing: 1.0 there"),
    ]:
        found = differences("model", one, description(other, "model"))
        assert any(match in text for text in found), found


def test_what_a_decorator_wraps_is_described():
    decorated = """
import functools

def twice(function):
    @functools.wraps(function)
    def called(*args):
        return function(*args)
    return called

"""
    source = decorated + SOURCE.replace("    def moved", "    @twice\n    def moved")
    before = describe(executed, source)
    found = differences("model", before, describe(executed, source.replace("0.9 * x", "0.8 * x")))
    assert len(found) == 1
    assert "Base.moved" in found[0]


def test_values_of_a_users_module_are_described(monkeypatch):
    module = types.ModuleType("settings_of_a_user")
    module.forcing, module.unused = 1.0, 2.0
    source = SOURCE.replace("return 1.0 * x", "return settings_of_a_user.forcing * x")

    def found():
        names = {"settings_of_a_user": module}
        exec(source, names)
        return description(names["Own"](), "model")

    before = found()
    module.unused = 3.0
    assert found() == before
    module.forcing = 4.0
    assert "forcing: 1.0 there, 4.0 now" in differences("model", before, found())[0]


class Slots:
    __slots__ = ("dt", "rate", "variables")

    def __init__(self, rate):
        self.variables, self.dt, self.rate = ("größe °C",), 1.0, rate

    def start(self, x, time=None):
        return None

    def step(self, x, memory):
        return self.rate * x, memory


class Network(torch.nn.Module):
    width = 2

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)


def holding(setting):
    model = make(1.0, np.tanh)
    model.setting = setting
    return model


def circle():
    model = holding(None)
    model.setting, model.other = model, [model, model]
    return model


def test_unusual_models_are_described_or_refused_in_one_line():
    assert description(Slots(1.0), "model") != description(Slots(2.0), "model")
    assert json.loads(description(holding(Network()), "model"))["setting"]["width"] == 2
    with pytest.raises(InputError, match="'setting' refers to an object that holds it, which a"):
        description(circle(), "model")
    assert len(description(circle(), "model", exact=False)) < 5000
    with pytest.raises(InputError, match="'setting' is a RandomState, which a store cannot"):
        description(holding(np.random.RandomState(0)), "model")


def test_a_class_may_hold_what_is_no_setting():
    def leaves(self):
        raise SystemExit

    quiet = {"log": logging.getLogger("own"), "lock": threading.Lock(), "rows": list[int]}
    quiet |= {"text": int | str, "leaves": property(leaves), "Inner": type("Inner", (), {})}
    model = type("Own", (Slots,), quiet)(1.0)
    assert description(model, "model") == description(model, "model")
    with pytest.raises(InputError, match="'noise' is a Generator, which a store cannot describe"):
        description(type("Own", (Slots,), {"noise": np.random.default_rng()})(1.0), "model")


def test_daml_itself_is_described_by_its_settings_alone():
    for thing in (daml.Lorenz63(), daml.LSTM(base=daml.Lorenz63()), daml.ThreeDVar()):
        found = json.loads(description(thing, "model"))
        assert not {definitions.CODE, definitions.OUTER, "variables"} & found.keys()


def test_a_run_is_not_resumed_with_other_code_but_with_another_comment(tmp_path):
    made = imported(tmp_path, "own_resumed.py")
    scheme = daml.ThreeDVar(covariance())

    def run(source, **more):
        model = made(source)
        network = daml.LSTM(base=model, hidden=2, epochs=1)
        return daml.improve(
            model, record(1200), scheme, network, passes=1, store=tmp_path / "store.zarr", **more
        )

    run(SOURCE)
    with pytest.raises(InputError, match=r"the code of 'Base\.moved' has changed since") as caught:
        run(SOURCE.replace("return 0.9 * x", "return 0.8 * x"), resume=True)
    caught.match(r"another store, or --overwrite \(overwrite=True\)$")
    assert "\n" not in str(caught.value)
    run(SOURCE.replace("# a comment", "# another comment"), resume=True)
