"""Further heads beside a task's own: two columns of targets in one fit, each predicted, scored, exported and served."""

import numpy as np
import pytest

import kft
from kft.errors import DataError, RecipeError
from kft.evaluation import kinds
from kft.recipe import Recipe

HEADS = [{"task": "regress", "label": "urgency", "weight": 2}, {"task": "multilabel", "label": "tags"}]


@pytest.fixture(scope="module")
def rows(message_rows):
    return [
        {**row, "tags": [row["topic"], "late"] if "late" in row["text"] else [row["topic"]]} for row in message_rows
    ]


@pytest.fixture(scope="module")
def run(rows, quick, fitted_once):
    """A fit of a class, a number and a set of labels of each text."""
    knobs = {"label": "topic", "aux": HEADS, "save_best_by": "loss", "validation": 0.25, "epochs": 45}
    return fitted_once("beside", rows, **knobs, **quick)


def test_each_head_is_predicted_and_scored(run, rows):
    assert run.task.name == "classify" and sorted(run.labels["aux"]) == ["tags", "urgency"]
    (answer,) = run.predict([rows[0]["text"]])
    assert answer["label"] in answer["scores"] and sorted(answer["urgency"]) == ["value"]
    assert sorted(answer["tags"]) == ["labels", "scores"] and "late" in answer["tags"]["scores"]
    found = run.evaluate(rows)
    assert found["accuracy"] > 0.5 and found["urgency/pearson"] > 0.8 and found["tags/micro_f1"] > 0.6
    values = np.array([row["urgency"]["value"] for row in run.predict([row["text"] for row in rows])])
    truth = np.array([row["urgency"] for row in rows])
    assert found["urgency/mae"] == pytest.approx(np.abs(values - truth).mean(), rel=1e-5)


def test_losses_are_those_of_each_head_times_its_weight(run):
    from kft.training import history

    steps = [line for line in history.read(run.path) if line["kind"] == "step"]
    names = ["loss_label", "loss_tags/labels", "loss_urgency/number"]
    assert sorted(name for name in steps[0] if name.startswith("loss_")) == names
    assert all(line["loss"] == pytest.approx(sum(line[name] for name in names), rel=1e-4) for line in steps)
    by_name = {term.name: term for term in run.problem.objective.terms}
    assert [by_name[name].weight for name in ("label", "urgency/number", "tags/labels")] == [1.0, 2.0, 1.0]


def test_metrics_report_and_baselines_tell_the_heads_apart(run):
    of_validation = run.metrics["validation"]
    assert {"accuracy", "urgency/spearman", "tags/micro_f1", "tags/per_class"} <= set(of_validation)
    assert of_validation["tuned_on_these_rows"] == ["tags/thresholds"]
    assert {"majority", "urgency/mean", "tags/most frequent label"} <= set(run.metrics["baselines"])
    kind = kinds.of("classify", run.labels)
    assert kind.headline.name == "accuracy" and kind.find("urgency/mae").direction == "min"
    assert kinds.direction("val_urgency/mae") == "min" and kinds.direction("tags/micro_f1") == "max"
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "of head urgency:" in page and "Head tags:" in page


def test_class_weights_are_of_the_first_head_alone():
    from kft import tasks

    labels = {"labels": ["a", "b"], "class_weights": [3.0, 1.0]}
    labels["aux"] = {"kind": {"task": "classify", "labels": {"labels": ["x", "y"]}}}
    recipe = Recipe.of(task="classify", class_weights={"a": 3, "b": 1}, aux={"task": "classify", "label": "kind"})
    first, second = tasks.find("classify", {"kind": "classify"}).restore(labels, recipe).objective.terms
    targets, store = {"label": np.array([0, 1]), "kind/label": np.array([0, 1])}, [None] * 2
    assert first.row_weights(targets, store).tolist() == [3.0, 1.0]
    assert second.row_weights(targets, store).tolist() == [1.0, 1.0]


def test_each_class_of_a_head_keeps_a_training_row(rows):
    """A class of a further head that few rows have would else leave train for another part, and be unknown there."""
    from kft import dataset

    rare = [{**row, "kind": f"rare {number}" if number < 12 else "usual"} for number, row in enumerate(rows)]
    recipe = Recipe.of(label="topic", task="classify", aux={"task": "classify", "label": "kind"})
    parts = dataset.gather(recipe, rare, 0.4, None).parts
    assert len(parts["validation"]) >= 20 and set(parts["validation"].texts("kind_label")) == {"usual"}


@pytest.mark.parametrize(
    ("aux", "said"),
    [
        ({"task": "tag", "label": "urgency"}, "aux"),
        ({"task": "regress", "label": "Urgency of it"}, "cannot be the name of a head"),
        ({"task": "regress", "label": "urgency", "name": "main"}, "cannot be the name of a head"),
        ({"task": "regress", "label": "score"}, "'score' cannot be the name of a head: .* none of main, label,"),
        ([{"task": "regress", "label": "urgency"}, {"task": "ordinal", "label": "urgency"}], "the same name"),
        ({"task": "regress", "label": "urgency", "weight": 0}, "aux"),
        ({"task": "regress", "label": "urgency", "wieght": 1}, "aux"),
    ],
)
def test_a_head_that_cannot_be_is_refused(aux, said):
    with pytest.raises(RecipeError, match=said):
        Recipe.of(task="classify", aux=aux)


def test_a_column_that_is_not_there_and_a_task_without_further_heads_are_refused(rows, tiny_preset):
    with pytest.raises(DataError, match="severity"):
        kft.plan(rows, label="topic", aux={"task": "regress", "label": "severity"}, preset=tiny_preset)
    with pytest.raises(RecipeError, match="aux is for task classify"):
        Recipe.of(task="tag", aux={"task": "regress", "label": "urgency"})
