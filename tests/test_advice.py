"""What messages, notes and help texts advise exists: flags, knobs, commands, names, variables and files of docs."""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import click
import pytest

import kft
from kft import calls
from kft.cli import main
from kft.run import Run

ROOT = Path(kft.__file__).parents[1]
FILES = sorted(path for package in ("kft", "serve", "tuning") for path in (ROOT / package).rglob("*.py"))
FOREIGN_FLAGS = {"--no-deps", "--rm", "--upgrade"}  # of pip and docker
FOREIGN_KEYWORDS = {"orient", "knob", "step"}  # of pandas, and the form of --space
INTERNAL_KEYWORDS = {"stratify", "stride"}  # of functions that only kft calls
FLAG = r"(?<!var\()(?<![\w-])(--[a-z][a-z-]*[a-z])"
KEYWORD = r"(?<![\w&?./-])([a-z][a-z_]+)=(?!=)"
COMMAND = r"(?:`|: |with |again |(?<!\w)kft [a-z]+ \S+ && )kft ([a-z]+)"
NAME = r"(?<![\w/:.])kft\.([a-z_]+(?:\.[a-z_]+)*)"


def texts_of(path):
    """(Line, text) of all strings of a module but docstrings; what is filled in later is {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in {*docstrings, *parts}:
            yield node.lineno, node.value


TEXTS = [(f"{path.relative_to(ROOT)}:{line}", text) for path in FILES for line, text in texts_of(path)]
MESSAGES = [(place, text) for place, text in TEXTS if " " in text]


def found(pattern, texts=MESSAGES):
    """Everything that a pattern finds, as pytest parameters: each once, with the first place of it."""
    seen = {}
    for place, text in texts:
        for match in re.finditer(pattern, text):
            seen.setdefault(match[1], (place, text))
    return [pytest.param(name, text, id=f"{name} {place}") for name, (place, text) in seen.items()]


@functools.cache
def flags():
    commands = [main, *main.commands.values()]
    options = [option for command in commands for option in command.params if isinstance(option, click.Option)]
    return {flag for option in options for flag in [*option.opts, *option.secondary_opts]} | {"--help"}


@functools.cache
def keywords():
    public = [calls.fit, kft.resume, kft.tune, kft.load, Run.predict, Run.evaluate, Run.export]
    return {*kft.Recipe.model_fields, *(name for function in public for name in inspect.signature(function).parameters)}


@pytest.mark.parametrize(("flag", "text"), found(FLAG))
def test_a_flag_exists(flag, text):
    assert flag in flags() | FOREIGN_FLAGS, text


@pytest.mark.parametrize(("keyword", "text"), found(KEYWORD))
def test_a_knob_exists(keyword, text):
    assert keyword in keywords() | FOREIGN_KEYWORDS | INTERNAL_KEYWORDS, text


@pytest.mark.parametrize(("command", "text"), found(COMMAND))
def test_a_command_exists(command, text):
    assert command in main.commands, text


@pytest.mark.parametrize(("name", "text"), found(NAME))
def test_a_name_in_python_exists(name, text):
    first, *rest = name.split(".")
    value = getattr(kft, first) if hasattr(kft, first) else importlib.import_module(f"kft.{first}")
    functools.reduce(getattr, rest, value)


@pytest.mark.parametrize(("variable", "text"), found(r"\b((?:KFT|KERAS|TF)_[A-Z_]+)\b"))
def test_a_variable_is_read(variable, text):
    assert variable in {text for _, text in TEXTS} or variable in ("KERAS_BACKEND",), text


def test_files_of_the_docs_exist():
    for place, text in MESSAGES:
        for name in re.findall(r"(?:docs|benchmarks)/[\w/.-]+\.(?:md|py)", text):
            assert (ROOT / name).is_file(), (place, text)


def test_the_walk_sees_what_it_should(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text('def f(x):\n    """--doc"""\n    raise E(f"{x}: kft fit --out, or text_pair=… " "in kft.fit")\n')
    assert [*texts_of(path)] == [(3, "{}: kft fit --out, or text_pair=… in kft.fit")]
    texts = [("", text) for _, text in texts_of(path)]
    names = [found(pattern, texts)[0].values[0] for pattern in (FLAG, KEYWORD, COMMAND, NAME)]
    assert names == ["--out", "text_pair", "fit", "fit"]
