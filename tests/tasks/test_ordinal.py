import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

import kft
from kft.errors import DataError, RecipeError
from kft.evaluation import ordinal_classes
from kft.losses.row_losses import conditional_crossentropy
from kft.tasks.ordinal import ORDINAL
from kft.text import decode

RANKS = {0.125: 1, 1.5: 2, 3.75: 3, 5.25: 5}


@pytest.fixture(scope="module")
def run(message_rows, quick, tmp_path_factory):
    rows = [{"text": row["text"], "urgency": RANKS[row["urgency"]]} for row in message_rows]
    out = tmp_path_factory.mktemp("runs") / "ranks"
    shares = {"validation": 0.2, "test": 0.2}
    return kft.fit(rows, task="ordinal", text="text", label="urgency", epochs=40, out=str(out), **shares, **quick)


@pytest.mark.slow
def test_ranks_are_learnt_and_answered_in_their_own_numbers(run, message_rows):
    found = run.metrics["test"]
    assert found["accuracy"] > 0.7 and found["qwk"] > 0.7
    assert run.labels["labels"] == ["1", "2", "3", "5"]
    (answer,) = run.predict(["the lamp is late now i am very very angry"])
    assert answer["label"] == "5"
    assert sum(answer["scores"].values()) == pytest.approx(1)
    assert answer["value"] == pytest.approx(sum(int(k) * v for k, v in answer["scores"].items()), abs=1e-5)


@pytest.mark.slow
def test_the_export_answers_the_same_and_is_served_as_classes(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "ranks")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "ordinal" and contract["largest_difference"] <= 1e-5
    signatures = tf.saved_model.load(str(version)).signatures
    assert sorted(signatures) == ["classify", "serving_default"]


@pytest.mark.slow
def test_the_report_shows_it(run):
    assert "qwk" in (run.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("is_graph", [False, True])
def test_probabilities_by_hand(is_graph):
    function = lambda x: decode.ranks(x, ["1", "2", "3"])  # noqa: E731
    found = (tf.function(function) if is_graph else function)(tf.constant([[0.0, 0.0], [50.0, 50.0], [-50.0, 50.0]]))
    np.testing.assert_allclose(found["scores"], [[0.5, 0.25, 0.25], [0, 0, 1], [1, 0, 0]], atol=1e-6)
    assert [text.decode() for text in found["label"].numpy()] == ["1", "3", "1"]
    np.testing.assert_allclose(found["value"], [1.75, 3, 1], atol=1e-6)


def test_loss_is_the_likelihood_of_the_rank():
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    ids = np.array([0, 1, 2, 3, 3, 0])
    scores = decode.ranks(tf.constant(logits), ["1", "2", "3", "4"])["scores"].numpy()
    expected = -np.log(scores[np.arange(6), ids]).sum()
    assert float(np.sum(conditional_crossentropy(logits, ids))) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(4), 50)
    truth = random.integers(0, 4, 50)
    found = ordinal_classes.scored(scores, truth, ["1", "2", "3", "10"])
    answers = scores.argmax(1)
    assert found["qwk"] == pytest.approx(sk.cohen_kappa_score(truth, answers, weights="quadratic"))
    numbers = np.array([1, 2, 3, 10])
    assert found["mae"] == pytest.approx(np.abs(numbers[truth] - numbers[answers]).mean())
    assert ordinal_classes.scored([[1.0, 0.0]], [0], ["1", "2"])["qwk"] == 0.0


def test_labels_that_are_no_ranks_are_refused(message_rows):
    with pytest.raises(DataError, match=r"row \d+: the label is '\w+'; task ordinal expects whole numbers"):
        kft.check(message_rows, task="ordinal", label="topic")
    rows = [{"text": str(i), "label": i % 3} for i in range(30)]
    with pytest.raises(RecipeError, match="label_smoothing is for task classify and relate, not for ordinal"):
        kft.check(rows, task="ordinal", label_smoothing=0.1)
    assert kft.check(rows, task="ordinal").task is ORDINAL
