"""Intervals and paired tests against SciPy's, and what must hold for any metric."""

import numpy as np
import pytest
from scipy import stats

from kft.errors import DataError
from kft.evaluation import classification, entities, intervals, overlap
from kft.evaluation.metric import Mean, Metric

RANDOM = np.random.default_rng(0)
SCORES, TRUTH = RANDOM.dirichlet(np.ones(3), 200), RANDOM.integers(0, 3, 200)
ROWS = classification.row_scores(SCORES, TRUTH, list("abc"))
OTHERS = classification.row_scores(np.eye(3)[np.where(RANDOM.random(200) < 0.7, TRUTH, 0)], TRUTH, list("abc"))
ACCURACY, MACRO_F1 = classification.KIND.find("accuracy"), classification.KIND.find("macro_f1")


def test_the_interval_of_a_mean_is_that_of_scipy():
    ours = intervals.bootstrap(ACCURACY, ROWS, num_resamples=5000)
    theirs = stats.bootstrap((ROWS["correct"],), np.mean, method="percentile", n_resamples=5000).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.value == ROWS["correct"].mean()


def test_the_interval_of_any_metric_is_that_of_scipy():
    def macro_f1(truth, answer, axis):
        return MACRO_F1.aggregate({"truth": truth, "answer": answer})

    ours = intervals.bootstrap(MACRO_F1, ROWS, num_resamples=2000)
    settings = {"method": "percentile", "n_resamples": 2000, "paired": True, "vectorized": False}
    data = (ROWS["truth"], ROWS["answer"])
    theirs = stats.bootstrap(data, lambda *rows: macro_f1(*rows, -1), **settings).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_means_are_resampled_as_other_metrics_are():
    weighted = {"loss": RANDOM.random(50), "weight": RANDOM.integers(0, 5, 50)}
    fast = Metric("loss", "min", "", True, Mean("loss", "weight"))
    slow = Metric("loss", "min", "", True, lambda rows: Mean("loss", "weight")(rows))
    one, other = (intervals.bootstrap(metric, weighted, num_resamples=200) for metric in (fast, slow))
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_a_wider_interval_for_more_confidence_and_the_same_for_the_same_seed():
    narrow, wide = (intervals.bootstrap(ACCURACY, ROWS, confidence=share) for share in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    one, same, other = (intervals.bootstrap(classification.LOG_LOSS, ROWS, seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_the_interval_covers_the_truth_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        correct = np.random.default_rng(trial).random(100) < 0.7
        interval = intervals.bootstrap(ACCURACY, {"correct": correct}, num_resamples=300, seed=trial)
        hits += interval.low <= 0.7 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_paired_test_is_that_of_scipy():
    ours = intervals.paired(ACCURACY, ROWS, OTHERS, num_resamples=5000)
    # A difference of 40 points over 200 rows: no assignment at random comes near.
    assert ours.p_value == 1 / 5001 and ours.high < 0
    few = slice(0, 12)
    one, other = ({"correct": rows["correct"][few]} for rows in (ROWS, OTHERS))
    ours = intervals.paired(ACCURACY, one, other, num_resamples=20_000)

    def difference(a, b):
        return a.mean() - b.mean()

    data = (one["correct"].astype(float), other["correct"].astype(float))
    theirs = stats.permutation_test(data, difference, permutation_type="samples", n_resamples=np.inf)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert ours.difference == pytest.approx(theirs.statistic)


def test_equal_models_do_not_differ():
    same = intervals.paired(MACRO_F1, ROWS, ROWS, num_resamples=50)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_metrics_of_texts_and_of_tags_have_intervals():
    answers, truths = ["a cup of tea", "two cups", "no tea"], ["a cup of tea", "two cups of tea", "tea"]
    texts = overlap.row_scores(answers * 5, truths * 5)
    tags, _ = entities.row_scores([["B-X", "O"], ["O", "B-Y"]] * 9, [["B-X", "O"], ["O", "O"]] * 9, is_plain=False)
    for metric, rows in (*((m, texts) for m in overlap.METRICS), *((m, tags) for m in entities.ENTITY_METRICS)):
        interval = intervals.bootstrap(metric, rows, num_resamples=50)
        assert interval.low <= interval.value <= interval.high, metric.name


def test_other_rows_and_none_are_refused():
    with pytest.raises(DataError, match="the same rows of both"):
        intervals.paired(ACCURACY, ROWS, {name: array[:9] for name, array in OTHERS.items()})
    with pytest.raises(DataError, match="no rows"):
        intervals.bootstrap(ACCURACY, {"correct": np.zeros(0, bool)})
