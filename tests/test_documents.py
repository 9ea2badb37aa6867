"""A recipe is text that somebody wrote: what it holds is said in one line, whatever it is."""

import itertools

import pytest

from kft.errors import RecipeError
from kft.recipe import Recipe

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)


def refusal(path):
    with pytest.raises(RecipeError) as refused:
        Recipe.read(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 600
    return message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "line 2, column 8: not valid YAML: aliases (*name) are not taken"),
        ("stop: " + "[" * 20_000 + "]" * 20_000, "nested deeper than 20 levels"),
        ("stop: " + "{a: " * 20_000, "nested deeper than 20 levels"),
        ("seed: " + "1" * 5000, "not valid YAML: Exceeds the limit"),
        ("seed: 0x" + "f" * 20_000, "seed: found <int>"),
        ("epochs: 1" + "0" * 100, "epochs: found 1000"),
        ("seed: !!timestamp 2026-13-41", "tags ('tag:yaml.org,2002:timestamp') are not taken"),
        ("seed: ! 1", "tags ('!') are not taken"),
        ("seed: !!python/object/apply:os.system [ls]", "are not taken"),
        ("epochs: 2\nbatch_size: 4\nepochs: 3\n", "line 3, column 1: not valid YAML: found the key 'epochs' twice"),
        ("epochs: '" + "x" * 100_000 + "'", "epochs: found 'xxx"),
        ("? '" + "x" * 100_000 + "'\n: 1", "unknown knob 'xxx"),
        ('"\\e[31mepochs": 1', r"unknown knob '\x1b[31mepochs'"),
        ("train: 'a\\0b'", "train: 'a"),
        ('train: "a\\0b"', "expected text of UTF-8 without NUL"),
        ("weight_decay: .inf", "weight_decay: found inf"),
        ("weight_decay: .nan", "weight_decay: found nan"),
        ("x: " + "y" * 2**20, "bytes, expected 1,048,576 at most"),
        ("epochs: [", "not valid YAML"),
        ("0x" + "f" * 900 + ": 1", "as the name of a knob"),
        ("- 1", "found list, expected a mapping of knobs"),
        ("", "found NoneType, expected a mapping of knobs"),
        ("epochs: \x01", "not valid YAML"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    if reason == "train: 'a":  # single quotes know no escapes
        assert Recipe.read(path).train == r"a\0b"
        return
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"epochs": 1', "not valid JSON (EOF"),
        ("[" * 100_000, "not valid JSON (recursion limit exceeded"),
        ('{"epochs": ' + "9" * 5000 + "}", "not valid JSON (number out of range"),
        ('{"epochs": NaN}', "not valid JSON"),
        ("[]", "found list, expected a mapping of knobs"),
    ],
)
def test_json_that_is_no_recipe_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "recipe.json"
    path.write_text(content)
    assert reason in refusal(path)


def test_a_date_stays_the_text_that_it_is(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("out: 2026-02-31\nvalidation: 0.2\nclass_weights: {a: 2, b: 1}\n")
    recipe = Recipe.read(path)
    assert (recipe.out, recipe.validation) == ("2026-02-31", 0.2)


def test_a_recipe_comes_back_as_it_was_written(tmp_path):
    recipe = Recipe.of(train="rows.csv", class_weights={"a": 1.0, "b": 2.5}, stop=["\n", "ende"], learning_rate=1e-5)
    for name in ("recipe.yaml", "recipe.json"):
        recipe.write(tmp_path / name)
        assert Recipe.read(tmp_path / name) == recipe
