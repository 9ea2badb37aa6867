"""A knob that a fit does not use is refused, by one declaration for each, which help and docs are made from too."""

import json
from pathlib import Path

import pytest

import kft
from kft import knobs, recipe
from kft.data import task_columns
from kft.errors import RecipeError
from kft.recipe import COLUMN_KNOBS, Recipe
from kft.task_names import HUB_TASKS, TASKS, Aux, Retain
from tuning import space

FIELDS = Recipe.model_fields
OTHERS = {
    "validation": 0.3, "preset": "scratch:bert", "test": 0.1, "transfer": "features", "max_length": 64, "seed": 3,
    "bad_rows": "drop", "class_weights": "balanced", "pooling": "cls", "contrastive": "cosine", "decoding": "sample",
    "pretrain_objective": "nsp", "schedule": "cosine", "precision": "float32", "distribute": "none", "stop": ["."],
    "learning_rate": 1e-4, "head_learning_rate": 1e-4, "num_layers": 2, "hidden_dim": 8, "num_heads": 2,
    "lora_alpha": 4.0, "lora_targets": "query", "lora_variant": "dora",
    "vocabulary_size": 300, "early_stopping_patience": 2, "checkpoint_every": 5, "max_steps": 5,
    "aux": [Aux(task="regress", label="n", name="n")],
    "retain": [Retain(data="rows.jsonl")],
}  # fmt: skip
"""A value of each knob that is not its default; those left out have one that follows from it."""


def other_value(name):
    default = FIELDS[name].default
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else default / 2 if isinstance(default, float) and default else (
        0.1 if isinstance(default, float) else "other"
    )  # fmt: skip


def with_conditions(name):
    """Values of the knobs that one depends on, under which it is used."""
    use = knobs.use_of(FIELDS[name])
    pattern = {"preset": "bert", "transfer": "8"}
    only = {other: values[0].replace("*", pattern.get(other, "*")) for other, values in use.only_with.items()}
    return only | {other: OTHERS[other] for other, values in use.not_with.items() if FIELDS[other].default in values}


def refusal(**values):
    with pytest.raises(RecipeError) as refused:
        Recipe.of(**values)
    return str(refused.value)


@pytest.mark.parametrize("task", TASKS)
def test_each_knob_is_taken_by_the_tasks_that_it_is_declared_for_and_refused_by_all_others(task):
    for name in set(FIELDS) - {"task"}:
        value, tasks = other_value(name), knobs.use_of(FIELDS[name]).tasks
        assert value != FIELDS[name].default
        if tasks and task not in tasks:
            told = refusal(task=task, **{name: value})
            assert told.startswith(f"{name}: found ") and f"is for task {tasks[0]}" in told
            assert f"not for {task}. Leave it out" in told and told.isprintable()
        else:
            assert getattr(Recipe.of(task=task, **{**with_conditions(name), name: value}), name) == value
        assert Recipe.of(task=task, **{name: FIELDS[name].default}).task == task  # its default is no choice


def test_each_condition_is_of_another_knob_and_refused_in_words():
    for name, declared in FIELDS.items():
        use = knobs.use_of(declared)
        assert use.depends_on <= set(FIELDS) - {name} and set(use.tasks) <= set(TASKS)
        given = {**with_conditions(name), **({"task": use.tasks[0]} if use.tasks else {}), name: other_value(name)}
        for other in use.only_with:
            without = {key: value for key, value in given.items() if key != other}
            assert f"{name} is used with {other}=" in refusal(**without)
        for other, values in use.not_with.items():
            assert f"{name} is not used with {other}={values[0]}" in refusal(**{**given, other: values[0]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"task": "classify", "mask_rate": 0.2},
            "mask_rate: found 0.2, but mask_rate is for task pretrain, not",
        ),
        ({"task": "classify", "decoding": "beam"}, "decoding is for task generate, not for classify. Leave it out."),
        ({"task": "classify", "stop": ["."]}, "stop: found ['.'], but stop is for task generate"),
        ({"task": "classify", "spans": "marks"}, "spans is for task joint, relate and tag, not for classify"),
        ({"task": "generate", "text_pair": "b"}, "text_pair is for task classify, embed, fewshot, multilabel, ordinal"),
        ({"task": "generate", "head_learning_rate": 1e-3}, "head_learning_rate is for task answer, choose, classify"),
        ({"task": "tag", "label_smoothing": 0.1}, "label_smoothing is for task classify and relate, not for tag"),
        ({"task": "generate", "top_k": 3}, "top_k is used with decoding=top_k only, not with decoding=greedy"),
        ({"num_beams": 2, "decoding": "sample"}, "num_beams is used with decoding=beam only, not with decoding=sample"),
        ({"temperature": 0.5, "decoding": "beam"}, "with decoding=top_k or decoding=top_p or decoding=sample only"),
        ({"task": "pretrain", "pretrain_objective": "clm", "mask_rate": 0.3}, "not used with pretrain_objective=clm"),
        ({"hidden_dim": 64}, "hidden_dim is used with preset=scratch:* only, not with preset=minilm. Leave it out."),
        ({"validation": 0, "early_stopping_patience": 2}, "early_stopping_patience is not used with validation=0"),
        ({"validation": "0", "save_best_by": "f1"}, "save_best_by is not used with validation=0. Leave it out."),
        ({"task": "tag", "top_k": 3, "pooling": "cls"}, "Leave them out."),
    ],
)
def test_a_knob_without_use_is_refused_with_the_reason(values, message):
    assert message in refusal(**values)


def test_columns_are_declared_for_the_tasks_that_have_them():
    for name in COLUMN_KNOBS:
        owners = [task for task, columns in task_columns.COLUMNS.items() if name in [c.name for c in columns]]
        assert sorted(knobs.use_of(FIELDS[name]).tasks) == sorted(owners), name


def test_where_the_columns_decide_the_task_a_knob_without_use_is_refused_then():
    rows = [{"text": f"tea {i}", "label": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(RecipeError, match=r"not for classify. Leave it out, or name another task: the columns are"):
        kft.check(rows, mask_rate=0.2)


def test_the_recipe_of_a_run_that_was_begun_with_knobs_without_use_is_read_as_it_is(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"task": "classify", "mask_rate": 0.2, "num_beams": 2}))
    assert Recipe.read(path, is_recorded=True).num_beams == 2
    with pytest.raises(RecipeError, match=r"recipe.json: num_beams: .*mask_rate: .*|recipe.json: mask_rate: .*"):
        Recipe.read(path)


# -- the search space ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "base", "message"),
    [
        ({"mask_rate": {"min": 0.1, "max": 0.3}}, {"task": "classify"}, "mask_rate is for task pretrain"),
        ({"label_smoothing": [0.0, 0.1]}, {"task": "tag"}, "label_smoothing is for task classify and relate"),
        (
            {"num_beams": [2, 4]},
            {},
            "num_beams is used with decoding=beam only, not with decoding=greedy. Leave",
        ),
        ({"num_beams": [2, 4], "decoding": ["beam", "greedy"]}, {}, "not with decoding=greedy. Search them apart."),
        (
            {"decoding": ["beam", "greedy"]},
            {"decoding": "beam", "num_beams": 8},
            "num_beams is used with decoding=beam",
        ),
        ({"preset": ["scratch:bert", "minilm"], "num_layers": 2}, {}, "not with preset=minilm. Search them apart."),
    ],
)
def test_a_space_with_a_knob_that_some_trial_does_not_use_is_refused(form, base, message):
    with pytest.raises(RecipeError) as refused:
        space.of(form, Recipe.of(**base))
    assert str(refused.value).startswith("space: ") and message in str(refused.value)


def test_a_space_whose_trials_use_all_its_knobs_is_taken():
    drawn = space.of({"decoding": ["beam"], "num_beams": [2, 4], "label_smoothing": 0.0}, Recipe.of(task="generate"))
    assert drawn["num_beams"].values == (2, 4)
    decided = Recipe.of(task="tag")
    with pytest.raises(RecipeError, match="decoding is for task generate, not for tag"):
        space.refuse_unused(drawn, decided)


# -- names of tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HUB_TASKS)
def test_the_names_of_the_hub_are_taken_and_written_down_as_the_short_ones(name, tmp_path):
    made = Recipe.of(task=name)
    assert made.task == HUB_TASKS[name]["task"] in TASKS
    made.write(tmp_path / "recipe.json")
    assert json.loads((tmp_path / "recipe.json").read_text())["task"] == made.task
    (tmp_path / "recipe.yaml").write_text(f"task: {name}\n")
    assert Recipe.read(tmp_path / "recipe.yaml") == made
    assert Recipe.value_of("task", name) == made.task


def test_fill_mask_is_masked_tokens_whatever_the_preset():
    assert Recipe.of(task="fill-mask").pretrain_objective == "mlm"
    told = refusal(task="fill-mask", pretrain_objective="clm")
    assert told == "pretrain_objective: found 'clm', but task=fill-mask is pretrain_objective=mlm. Leave one out."
    assert "Did you mean 'text-classification'?" in refusal(task="text-clasification")


# -- labels as keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "labels"),
    [("{1: 2, 0: 1}", {"1", "0"}), ("{true: 2, false: 1}", {"true", "false"}), ("{1.5: 2, 2.0: 1}", {"1.5", "2"})],
)
def test_class_weights_take_labels_that_yaml_reads_as_numbers_or_truth_values(written, labels, tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"class_weights: {written}\n")
    found = Recipe.read(tmp_path / "recipe.yaml").class_weights
    assert set(found) == labels and sorted(found.values()) == [1.0, 2.0]


def test_class_weights_of_one_label_written_twice_are_refused():
    assert "class_weights: found {1: 1, '1': 2}: two of the labels" in refusal(class_weights={1: 1, "1": 2})
    assert refusal(class_weights={None: 1}).startswith("class_weights: found {None: 1}")


# -- docs ------------------------------------------------------------------------------------------------------------


def test_the_page_of_knobs_is_up_to_date():
    page = Path(recipe.__file__).parents[2] / "docs" / "knobs.md"
    assert page.read_text(encoding="utf-8") == knobs.table(FIELDS), "run `make knobs`"
