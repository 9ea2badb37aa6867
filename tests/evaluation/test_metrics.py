"""Metrics against values worked out by hand, and against what must hold for any model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data.task_columns import COLUMNS as TASKS
from kft.errors import DataError, RecipeError
from kft.evaluation import classification as classes
from kft.evaluation import entities, kinds, overlap, qa, retrieval
from kft.evaluation import perplexity as losses
from kft.evaluation.classification import MOST_LABELS, most_confused
from kft.evaluation.classification import scored as classification
from kft.evaluation.extraction import of_sets
from kft.evaluation.kinds import KINDS, METRICS, direction
from kft.evaluation.label_sets import scored as multilabel
from kft.evaluation.metric import evaluate, scalars
from kft.evaluation.ordinal_classes import scored as ordinal
from kft.evaluation.perplexity import of_loss as perplexity
from kft.evaluation.regression import scored as regression
from kft.evaluation.verdict import verdict

LABELS = ["cat", "dog", "owl"]
# Answers cat, cat, dog, owl, dog, cat for the truths cat, dog, dog, owl, owl, cat.
SCORES = [
    [0.8, 0.1, 0.1],
    [0.5, 0.3, 0.2],
    [0.2, 0.7, 0.1],
    [0.1, 0.1, 0.8],
    [0.2, 0.5, 0.3],
    [0.6, 0.2, 0.2],
]
TARGETS = [0, 1, 1, 2, 2, 0]


def test_classification_by_hand():
    found = classification(SCORES, TARGETS, LABELS)
    assert found["confusion"] == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert found["accuracy"] == found["micro_f1"] == pytest.approx(4 / 6)
    assert found["per_class"]["cat"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2})
    assert found["per_class"]["dog"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2})
    assert found["macro_f1"] == found["weighted_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    # Gorodkin: (c*s - sum p*t) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)), c=4, s=6, p=(3,2,1), t=(2,2,2).
    assert found["mcc"] == pytest.approx((4 * 6 - 12) / math.sqrt((36 - 14) * (36 - 12)))
    truth = [0.8, 0.3, 0.7, 0.8, 0.3, 0.6]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, truth)) / 6)
    assert found["num_rows"] == 6
    assert "f1" not in found


def test_binary_f1_is_that_of_the_second_label():
    scores = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]
    found = classification(scores, [0, 0, 1, 1], ["no", "yes"])
    assert found["f1"] == found["per_class"]["yes"]["f1"] == pytest.approx(2 / 3)


def test_labels_missing_from_the_set_cost_nothing():
    found = classification([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], [0, 1], LABELS)
    assert found["macro_f1"] == 1.0
    assert found["per_class"]["owl"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_undefined_metrics_are_zero_and_everything_is_plain_json():
    found = classification(np.array([[1.0, 0.0]] * 2, dtype=np.float32), np.array([1, 1]), ["no", "yes"])
    assert found["mcc"] == found["f1"] == 0.0
    assert found["log_loss"] == pytest.approx(-math.log(2.0**-52))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_order_of_rows_does_not_matter():
    order = [4, 2, 0, 5, 1, 3]
    shuffled = classification(np.array(SCORES)[order], np.array(TARGETS)[order], LABELS)
    assert scalars(shuffled) == pytest.approx(scalars(classification(SCORES, TARGETS, LABELS)))


@pytest.mark.parametrize(
    ("scores", "targets", "labels", "says"),
    [
        ([[2.0, -1.0]], [0], ["a", "b"], "not logits"),
        ([[0.5, 0.5], [math.nan, 0.5]], [0, 0], ["a", "b"], "Row 1"),
        ([[0.5, 0.5]], [2], ["a", "b"], "label id from 0 to 1"),
        ([[0.5, 0.5]], [0.0], ["a", "b"], "integers"),
        ([[0.5, 0.5]], [0, 1], ["a", "b"], "shape"),
        (np.zeros((0, 2)), [], ["a", "b"], "at least one row"),
        ([[0.5, 0.5]], [0], ["a", "a"], "named once"),
    ],
)
def test_classification_refuses(scores, targets, labels, says):
    with pytest.raises(DataError, match=says):
        classification(scores, targets, labels)


def test_regression_by_hand():
    found = regression([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 6.0])
    assert found["mae"] == 1.0
    assert found["rmse"] == pytest.approx(math.sqrt(6 / 4))
    assert found["r2"] == pytest.approx(1 - 6 / 14)
    assert found["pearson"] == pytest.approx(7 / math.sqrt(5 * 14))
    assert found["spearman"] == pytest.approx(0.8)


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [0.1, 0.1 + 1e-17, 0.1 - 1e-17]])
def test_constant_predictions_correlate_with_nothing(values):
    found = regression(values, [1.0, 2.0, 3.0])
    assert found["pearson"] == found["spearman"] == 0.0


def test_regression_of_one_row_has_no_nan():
    assert json.dumps(regression([1.0], [2.0]), allow_nan=False)


@pytest.mark.parametrize(
    ("values", "targets", "says"),
    [
        ([1.0, math.inf], [1.0, 2.0], "Row 1"),
        ([1.0], [math.nan], "finite target"),
        ([[1.0]], [[1.0]], "shape"),
        ([], [], "at least one row"),
    ],
)
def test_regression_refuses(values, targets, says):
    with pytest.raises(DataError, match=says):
        regression(values, targets)


def every_kind():
    return {kind.name: kind for _, several in KINDS.values() for kind in several}.values()


def test_each_kind_has_one_headline_and_explains_every_metric_once():
    for kind in every_kind():
        names = [metric.name for metric in kind.metrics]
        assert kind.headline.name in names and len(set(names)) == len(names)
        assert all(len(metric.meaning) > 10 for metric in kind.metrics)


def test_a_name_has_one_direction_whatever_the_kind():
    for kind in every_kind():
        for metric in kind.metrics:
            assert metric.direction == METRICS[metric.name].direction == direction(metric.name)
    smaller = {name for name, metric in METRICS.items() if metric.direction == "min"}
    assert smaller == {"loss", "log_loss", "mae", "rmse", "hamming_loss", "perplexity"}


def test_the_page_of_metrics_is_made_from_their_table():
    page = Path(kinds.__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == kinds.table(), "run: make metrics"


def test_every_task_has_its_kinds():
    assert list(kinds.KINDS) == sorted(TASKS)
    assert kinds.of("tag", {"scheme": "plain"}).name == "tags" and kinds.of("tag", {"scheme": "bio"}).name == "entities"
    assert kinds.of("embed", {"contrastive": "cosine"}).headline.name == "spearman"
    assert kinds.of("joint", {"slots": {"scheme": "plain"}}).headline.name == "exact_match"


def test_unknown_metric_gets_the_nearest_name_and_the_list():
    with pytest.raises(RecipeError, match=r"Did you mean 'macro_f1'\?.*spearman"):
        direction("val_macrof1")


def test_most_confused_names_mistakes_only():
    assert most_confused([[9, 0, 2], [3, 9, 0], [0, 0, 9]], LABELS, count=5) == [
        ("dog", "cat", 3),
        ("cat", "owl", 2),
    ]


def test_many_labels_have_no_matrix_but_the_worst_mistakes():
    count = 5 * MOST_LABELS
    answers = np.arange(count)
    answers[:3] = answers[3]
    truth = np.tile(np.arange(count), 2)
    found = classification(np.eye(count)[np.tile(answers, 2)], truth, [f"label {i}" for i in range(count)])
    assert "confusion" not in found and found["confused"] == [[f"label {i}", "label 3", 2] for i in range(3)]
    assert len(json.dumps(found)) < 200 * count
    assert "“label 0” answered as “label 3”, 2 rows" in verdict({"test": found}, classes.KIND).sentences[1]


def test_rows_without_entities_score_zero():
    found = entities.scored([["O", "O"]], [["O", "O"]], is_plain=False)
    assert found["macro_entity_f1"] == found["entity_f1"] == 0.0 and found["token_accuracy"] == 1.0
    assert found["per_class"] == {}


def test_tags_may_be_called_as_averages_are():
    rows = [["accuracy", "macro avg", "NOUN"]]
    assert set(entities.scored(rows, rows, is_plain=True)["per_class"]) == {"accuracy", "macro avg", "NOUN"}


FLOATS = st.sampled_from([0.0, 1e-300, 0.5, 1.0, -1.0, 1e15])
TEXTS = st.sampled_from(["", " ", "the", "tea for two", "北京", "!"])
TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "I-Y"]), max_size=3)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), size=st.integers(1, 4), width=st.integers(2, 4))
@pytest.mark.filterwarnings("error")
def test_no_metric_is_nan_whatever_the_rows(data, size, width):
    ids = st.lists(st.integers(0, width - 1), min_size=size, max_size=size)
    answered, truth = data.draw(ids), data.draw(ids)
    names = [str(i) for i in range(width)]
    bits = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=size, max_size=size))
    )
    numbers = [data.draw(st.lists(FLOATS, min_size=size, max_size=size)) for _ in range(2)]
    texts = [data.draw(st.lists(TEXTS, min_size=size, max_size=size)) for _ in range(2)]
    tags = data.draw(st.lists(TAGS, min_size=1, max_size=size))
    others = [[data.draw(st.sampled_from(["O", "B-X", "B-Y"])) for _ in row] for row in tags]
    found = [
        classification(np.eye(width)[answered], truth, names),
        ordinal(np.eye(width)[answered], truth, names),
        multilabel(np.eye(width)[answered], [0.5] * width, bits, names),
        multilabel(np.eye(width)[answered][:, :1], [0.5], bits[:, :1], names[:1]),
        regression(*numbers),
        of_sets("event", set(answered), set(truth)),
        qa.scored(texts[0], [[text] if text.strip() else [] for text in texts[1]]),
        overlap.scored(*texts),
        retrieval.scored([number + 1 for number in answered]),
        *(entities.scored(tags, others, is_plain=is_plain) for is_plain in (True, False)),
        {"perplexity": perplexity(abs(numbers[0][0]))},
    ]
    for one in found:
        json.dumps(one, allow_nan=False)


def test_a_single_label_is_scored_as_a_set_of_one():
    found = multilabel([[0.9], [0.8], [0.1]], [0.5], [[1], [0], [1]], ["late"])
    assert found["per_class"] == {"late": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}}
    assert found["micro_f1"] == found["macro_f1"] == found["weighted_f1"] == 0.5
    assert found["accuracy"] == pytest.approx(1 / 3) and found["hamming_loss"] == pytest.approx(2 / 3)
    assert found["lrap"] == 1.0 and found["samples_f1"] == pytest.approx(1 / 3)


def test_the_perplexity_is_that_of_the_tokens_and_pairs_count_where_they_are():
    rows = losses.row_scores([2.0, 9.0], [1, 3], tokens=[1.0, 2.0], pair_right=[1, 1], has_pair=[1, 0])
    found = evaluate(losses.METRICS, rows)
    assert found["loss"] == pytest.approx((2 + 27) / 4)
    assert found["perplexity"] == pytest.approx(math.exp((1 + 6) / 4))
    assert found["pair_accuracy"] == 1.0
    assert set(evaluate(losses.METRICS, losses.row_scores([1.0], [1]))) == {"loss", "perplexity"}
