"""Every private name of Keras, KerasHub and Keras Tuner that kft uses is in one list, and is still there."""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

from kft.accelerate.private_names import PRIVATE_NAMES, REPLACED_METHODS

ROOT = Path(__file__).parents[2]
ROOMS = ("kft", "tuning", "serve")
LIST = "kft/accelerate/private_names.py"
PACKAGES = ("keras", "keras_hub", "keras_tuner")
INTERNAL = re.compile(r"keras\.src\b.*|keras_hub\.src\b.*|keras_tuner\.(src|engine)\b.*")
PRIVATE = re.compile(r"_[a-z]\w*")
REPLACING = {"replaced": 1, "replace_call": None}
"""kft's functions that replace a method, and the argument with its name; `replace_call` replaces `call`."""
METHODS = {"call", "get_config", "build", "compute_loss", "train_step", "test_step", "predict_step", "generate_step"}
"""What is looked for among attributes that are set."""
HOMES = ("kft/accelerate/", "kft/text/")
ELSEWHERE = {"kft/training/optimizers.py", "tuning/trial.py"}
"""Other files with private names: classes derived from those of Keras and Keras Tuner, whose methods they override."""


@pytest.fixture(scope="module")
def found():
    return all_uses()


def test_the_lists_are_what_the_sources_use(found):
    private, replaced = found
    assert private == {(file, entry.key) for entry in PRIVATE_NAMES for file in entry.files}
    assert replaced == {(file, entry.name) for entry in REPLACED_METHODS for file in entry.files}


def test_private_names_are_used_in_two_rooms_alone(found):
    assert {file for file, _ in found[0] if not file.startswith(HOMES)} == ELSEWHERE


@pytest.mark.parametrize("entry", [*PRIVATE_NAMES, *REPLACED_METHODS], ids=lambda entry: f"{entry.owner}.{entry.name}")
def test_it_is_there_with_the_parameters_that_kft_counts_on(entry):
    owner = resolved(entry.owner)
    member = getattr(owner, entry.name, None)
    if member is None and inspect.isclass(owner):  # of instances: a source of the class sets it
        sources = [inspect.getsource(base) for base in owner.__mro__ if base.__module__ != "builtins"]
        assert any(re.search(rf"self\.{entry.name}\b", source) for source in sources)
    else:
        assert member is not None
    if entry.parameters is not None:
        names = list(inspect.signature(member).parameters)
        assert [name for name in names if name in entry.parameters] == list(entry.parameters)


def resolved(path):
    """A class or module by its import path."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            value = getattr(value, part)
        return value
    raise AssertionError(path)


SOURCE = """
import keras
import keras_hub.src.layers
from keras.src.backend import core
class Mine(keras.Model):
    def _flatten_layers(self):
        return self._own, self._layers
    def _own(self):
        self._losses_override = keras.src.backend
def use(layer):
    layer._nodes_by_depth, getattr(layer, "_metrics"), os._exit, layer._nobody_has_this
    layer.call = None
    with replaced(layer, "build", None):
        pass
"""


def test_the_reader_of_sources_sees_each_kind_of_use():
    names, replaced = uses(SOURCE, "mine", lambda module, name: {"_flatten_layers", "_layers"})
    expected = {"_flatten_layers", "_layers", "_nodes_by_depth", "_metrics", "keras.src", "keras.src.backend.core"}
    assert names == {*expected, "keras_hub.src.layers"}
    assert replaced == {"call", "build"}


# -- the reader of sources ---------


def all_uses(root=ROOT):
    """Sets of `(file, private name)` and of `(file, replaced method)`."""
    private, methods = set(), set()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        file = str(path.relative_to(root))
        if file == LIST:
            continue
        names, replaced = uses(path.read_text(encoding="utf-8"), file.removesuffix(".py").replace("/", "."))
        private |= {(file, name) for name in names}
        methods |= {(file, name) for name in replaced}
    return private, methods


def uses(source, module, of_bases=None):
    """The private names in a module's source, and the methods of layers, models or modules that it replaces."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {target.attr for target in assigned(nodes) if is_self(target)}
    inherited = {}  # id of a node inside a class of Keras's kind to the private names that Keras has there
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.bases:
            names = (
                (of_bases or names_of_bases)(module, node.name) if any(map(may_be_keras, node.bases)) else frozenset()
            )
            inherited |= {id(part): names for part in ast.walk(node)}
    names, replaced = set(), set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and INTERNAL.fullmatch(node.module or ""):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if INTERNAL.fullmatch(alias.name)}
        elif isinstance(node, ast.Attribute):
            of_keras = inherited.get(id(node), ()) if is_self(node) else known_names() - own
            names |= {node.attr} & {*of_keras}
            names |= {text for text in [ast.unparse(node)] if node.attr == "src" and INTERNAL.fullmatch(text)}
        elif isinstance(node, ast.FunctionDef) and node.name in inherited.get(id(node), ()):
            names.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if INTERNAL.fullmatch(node.value) or node.value in known_names() - own:
                names.add(node.value)
        elif isinstance(node, ast.Call) and (function := ast.unparse(node.func).split(".")[-1]) in REPLACING:
            name = ast.Constant("call") if REPLACING[function] is None else node.args[REPLACING[function]]
            replaced |= {name.value for name in [name] if isinstance(name, ast.Constant) and name.value[0] != "_"}
    replaced |= {target.attr for target in assigned(nodes) if not is_self(target) and target.attr in METHODS}
    return names, replaced


def assigned(nodes):
    found = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    found += [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
    parts = [part for target in found for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [part for part in parts if isinstance(part, ast.Attribute)]


def is_self(attribute):
    return isinstance(attribute.value, ast.Name) and attribute.value.id in ("self", "cls")


def may_be_keras(base):
    return ast.unparse(base) not in ("NamedTuple", "Exception", "threading.local", "click.Group")


@functools.cache
def known_names():
    """Every private name that the sources of the three packages define or set."""
    names = set()
    for package in PACKAGES:
        folder = Path(importlib.import_module(package).__file__).parent
        for path in folder.rglob("*.py"):
            if not path.stem.endswith("_test"):
                names |= set(re.findall(r"(?:def |self\.|cls\.)(_[a-z]\w*)", path.read_text(encoding="utf-8")))
    return names - {"_replace", "_fields", "_asdict", "_exit"}  # of the standard library too


def names_of_bases(module, name):
    """The private names in the sources of the classes of Keras's that a class derives from."""
    names = set()
    for base in getattr(importlib.import_module(module), name).__mro__:
        if base.__module__.split(".")[0] in PACKAGES:
            names |= set(re.findall(r"(?:def |self\.|cls\.)(_[a-z]\w*)", inspect.getsource(base)))
    return names
