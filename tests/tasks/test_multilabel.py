import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

import kft
from kft.data.targets import labels_column
from kft.errors import DataError, RecipeError
from kft.evaluation import label_sets
from kft.losses.row_losses import binary_crossentropy
from kft.readers import formats
from kft.tasks.multilabel import MULTILABEL
from kft.text import decode


def labelled(row):
    """The topic, `urgent` where it is, and for billing that is not urgent nothing."""
    labels = [row["topic"]] if row["topic"] != "billing" else []
    return labels + (["urgent"] if row["urgency"] > 2 else [])


@pytest.fixture(scope="module")
def run(message_rows, quick, tmp_path_factory):
    rows = [{"text": row["text"], "labels": labelled(row)} for row in message_rows]
    out = tmp_path_factory.mktemp("runs") / "sets"
    return kft.fit(rows, validation=0.2, test=0.2, epochs=40, out=str(out), **quick)


@pytest.mark.slow
def test_sets_of_labels_are_learnt_and_answered(run):
    assert run.task is MULTILABEL  # by the lists
    assert run.metrics["test"]["micro_f1"] > 0.8
    first, second = run.predict(["the parcel was lost now i am very very angry", "the invoice is wrong when you can"])
    assert set(first["labels"]) == {"delivery", "urgent"}
    assert second["labels"] == []
    assert set(first["scores"]) == {"delivery", "product", "urgent"}


@pytest.mark.slow
def test_thresholds_are_tuned_on_validation_rows_and_shipped(run, message_rows):
    thresholds = run.labels["thresholds"]
    assert any(threshold != 0.5 for threshold in thresholds)
    assert run.metrics["validation"]["tuned_on_these_rows"] == ["thresholds"]
    assert "tuned_on_these_rows" not in run.metrics["test"]
    assert any("thresholds were tuned on these rows" in note for note in run.manifest["notes"])
    assert "thresholds were tuned on these rows" in (run.path / "report.html").read_text(encoding="utf-8")
    rows = [{"text": row["text"], "labels": labelled(row)} for row in message_rows]
    found = run.evaluate(rows)
    scores = np.array([list(answer["scores"].values()) for answer in run.predict([row["text"] for row in rows])])
    truth = np.array([[label in row["labels"] for label in run.labels["labels"]] for row in rows])
    assert found["micro_f1"] == pytest.approx(sk.f1_score(truth, scores >= thresholds, average="micro"))


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "sets")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "multilabel" and contract["largest_difference"] <= 1e-5
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    texts = ["the parcel was lost now i am very very angry"]
    found = [label.decode() for label in served(text=tf.constant(texts))["labels"].numpy()[0] if label]
    assert found == run.predict(texts)[0]["labels"]


@pytest.mark.parametrize("is_graph", [False, True])
def test_labels_by_hand(is_graph):
    function = lambda x: decode.label_sets(x, ["a", "b", "c"], [0.5, 0.2, 0.9])  # noqa: E731
    found = (tf.function(function) if is_graph else function)(tf.constant([[0.1, -1.0, 2.0], [-1.0, 2.0, 9.0]]))
    assert [[text.decode() for text in row] for row in found["labels"].numpy()] == [["a", "b", ""], ["c", "b", ""]]


def test_loss_is_binary_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    truth = np.eye(5, 3)
    p = 1 / (1 + np.exp(-logits))
    expected = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).sum()
    assert float(np.sum(binary_crossentropy(logits, truth))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("cells", "sets"),
    [
        ([["b", " a ", "b"], None, []], [["a", "b"], [], []]),
        (["b; a", "", None, "c"], [["a", "b"], [], [], ["c"]]),
        (["a|b, c", "d"], [["a", "b, c"], ["d"]]),
        (["a, b", "c"], [["a", "b"], ["c"]]),
        ([[1, 2], [2]], [["1", "2"], ["2"]]),
    ],
)
def test_cells_of_every_form(cells, sets):
    table = formats.read([{"text": "x", "label": cell} for cell in cells])
    assert labels_column(table, "label").to_pylist() == sets


def test_metrics_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    truth, scores = random.integers(0, 2, (40, 3)), random.random((40, 3))
    found = label_sets.scored(scores, [0.5, 0.4, 0.6], truth, ["a", "b", "c"])
    answers = (scores >= [0.5, 0.4, 0.6]).astype(int)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, answers))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, answers, average="macro"))
    assert found["map"] == pytest.approx(sk.average_precision_score(truth, scores, average="macro"))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(truth, answers))
    with pytest.raises(DataError, match="expected \\(rows, 2\\)"):
        label_sets.scored(scores, [0.5, 0.5], truth, ["a", "b"])


def test_the_best_threshold_is_the_best_of_all():
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 60)
    scores = np.round(np.clip(truth * 0.2 + random.random(60) * 0.8, 0, 1), 1)
    best = label_sets.best_threshold(scores, truth)
    every = [sk.f1_score(truth, scores >= cut) for cut in np.linspace(0, 1, 1001)]
    assert sk.f1_score(truth, scores >= best) == pytest.approx(max(every))


def test_bad_labels_are_refused_with_their_row(message_rows):
    rows = [{"text": f"number {i}", "labels": ["a"]} for i in range(20)]
    other = [*rows, {"text": "z", "labels": ["a", "bb"]}]
    with pytest.raises(DataError, match=r"row 21: label 'bb' is unknown in the training data"):
        kft.check(rows, validation=other)
    with pytest.raises(DataError, match="no row has a label; expected at least one label in some rows"):
        kft.check([{**row, "labels": []} for row in rows])
    with pytest.raises(RecipeError, match="class_weights is for task classify and relate, not for multilabel"):
        kft.check(rows, class_weights="balanced")
