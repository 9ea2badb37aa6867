import pytest
import yaml

from kft.errors import RecipeError
from kft.recipe import Recipe
from tuning import space
from tuning.space import Choice, Range


def test_the_text_form_is_the_python_form():
    parsed = space.parse("learning_rate=1e-5..5e-4:log", "batch_size=16,32", "epochs=2..4")
    written = {
        "learning_rate": {"min": 1e-5, "max": 5e-4, "scale": "log"},
        "batch_size": [16, 32],
        "epochs": {"min": 2, "max": 4},
    }
    assert space.of(parsed, Recipe()) == space.of(written, Recipe())


def test_numbers_that_yaml_takes_for_text_are_numbers():
    written = yaml.safe_load("learning_rate: {min: 1e-5, max: 5e-4, scale: log}\nweight_decay: [0, 1e-2]")
    assert written["weight_decay"][1] == "1e-2"
    assert space.of(written, Recipe()) == {
        "learning_rate": Range(1e-5, 5e-4, "log", is_whole=False),
        "weight_decay": Choice((0.0, 0.01)),
    }


def test_one_value_null_and_mixed_lists():
    written = {"epochs": 2, "early_stopping_patience": [None, 2], "max_length": ["auto", 64]}
    drawn = space.of(written, Recipe())
    assert drawn["epochs"] == Choice((2,))
    assert drawn["early_stopping_patience"] == Choice((None, 2))
    assert drawn["max_length"] == Choice(("auto", 64))
    assert space.parse("early_stopping_patience=null,2") == {"early_stopping_patience": [None, 2]}


def test_a_path_with_dots_is_no_range():
    assert space.parse("preset=../a,../b") == {"preset": ["../a", "../b"]}


def test_what_of_gives_is_read_back_from_its_form():
    written = {"batch_size": {"min": 8, "max": 64, "scale": "log", "step": 2}, "epochs": [1, 2]}
    drawn = space.of(written, Recipe())
    assert space.of(space.form(drawn), Recipe()) == drawn


def test_the_default_rates_lie_around_the_automatic_one_of_what_trains():
    for transfer, rates in [("full", (1e-5, 3e-4)), ("features", (1e-3, 1e-3))]:
        drawn = space.of(space.default(Recipe(transfer=transfer), []), Recipe())
        assert set(drawn) == {"learning_rate", "batch_size", "epochs"}
        assert all(drawn["learning_rate"].low <= rate < drawn["learning_rate"].high for rate in rates)
    steps = Recipe(max_steps=9)
    assert set(space.of(space.default(steps, ["batch_size"]), steps)) == {"learning_rate"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("weight_decay=0..0.3:step=0.1", (0.0, 0.1, 0.2, 0.3)),
        ("learning_rate=1e-5..1e-2:log:step=10", (1e-5, 1e-4, 1e-3, 1e-2)),
        ("batch_size=8..64:log:step=2", (8, 16, 32, 64)),
        ("epochs=1..7:step=3", (1, 4, 7)),
    ],
)
def test_a_range_with_a_step_has_both_ends(text, values):
    drawn = space.of(space.parse(text), Recipe())
    (choice,) = drawn.values()
    assert choice == Choice(values)
    assert [type(value) for value in choice.values] == [type(value) for value in values]
    assert space.num_combinations(drawn) == len(values)


def test_the_size_of_a_space():
    drawn = space.of({"epochs": {"min": 2, "max": 4}, "batch_size": [8, 16]}, Recipe())
    assert space.num_combinations(drawn) == 6
    drawn = space.of({"learning_rate": {"min": 1e-5, "max": 1e-4}, "batch_size": [8, 16]}, Recipe())
    assert space.num_combinations(drawn) == float("inf")


def test_epochs_are_not_searched_where_max_steps_ends_training():
    for searched, base in [({"epochs": [1, 2]}, Recipe(max_steps=5)), ({"epochs": 2, "max_steps": [5, 9]}, Recipe())]:
        with pytest.raises(RecipeError, match="max_steps ends training whatever epochs says"):
            space.of(searched, base)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"learnin_rate": [1e-4]}, "unknown knob 'learnin_rate'. Did you mean 'learning_rate'?"),
        ({"seed": [1, 2]}, "seed is the same for all trials"),
        ({"epochs": [2, 0]}, "epochs: found 0"),
        ({"epochs": []}, "epochs has no value"),
        ({"epochs": [2, 2]}, "epochs lists 2 twice"),
        ({"epochs": {"min": 1, "max": 2.5}}, "epochs: found 2.5"),
        ({"epochs": {"min": 4, "max": 2}}, "epochs runs from 4 to 2"),
        ({"epochs": {"min": 1}}, "needs both min and max"),
        ({"epochs": {"min": 1, "max": 4, "stepp": 1}}, "scale, step. Did you mean 'step'?"),
        ({"epochs": {"min": 1, "max": 4, "step": 0.5}}, "a whole number above 0"),
        ({"batch_size": {"min": 8, "max": 64, "scale": "log", "step": 1}}, "a whole number above 1"),
        ({"epochs": {"min": 1, "max": 4, "step": 2}}, "which the step 2 does not reach. Let it end at 3 or 5."),
        ({"weight_decay": {"min": 0, "max": 0.25, "step": 0.1}}, "Let it end at 0.2 or 0.3."),
        ({"weight_decay": {"min": 0, "max": 0.1, "step": 1e-9}}, "has 100,000,001 values, expected 1,000 at most"),
        ({"learning_rate": {"min": "auto", "max": 1e-3}}, "runs from 'auto'"),
        ({"learning_rate": {"min": 1e-5, "max": 1e-3, "scale": "lgo"}}, "Did you mean 'log'?"),
        ({"weight_decay": {"min": 0, "max": 0.1, "scale": "log"}}, "a log scale starts above 0"),
        ({"transfer": {"min": 1, "max": 2}}, "transfer has no range"),
        ({"transfer": ["full", "featuers"]}, "Did you mean 'features'?"),
        ({}, "found {}"),
    ],
)
def test_a_wrong_space_is_refused(form, message):
    with pytest.raises(RecipeError) as refused:
        space.of(form, Recipe())
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["learning_rate", "=1,2", "epochs=", "epochs=1,,2"])
def test_a_text_of_another_form_is_refused(text):
    with pytest.raises(RecipeError, match="expected knob=value,value"):
        space.parse(text)


def test_a_knob_written_twice_is_refused():
    with pytest.raises(RecipeError, match="epochs is there twice"):
        space.parse("epochs=1", "epochs=2")
