"""The opponents learn what simple models can learn, and nothing more."""

import math

import pytest

from kft.errors import DataError
from kft.evaluation.baselines import bag_of_words, bag_of_words_regression, majority, mean

GOOD, BAD = (
    ["a warm and lovely evening", "lovely people, warm soup"],
    ["cold and dull rooms", "a dull cold plate"],
)
TEXTS, TRUTH = (GOOD + BAD) * 3, (["good"] * 2 + ["bad"] * 2) * 3


def test_majority_answers_the_most_frequent_label_with_its_share():
    found = majority(["bad", "bad", "bad", "good"], ["good", "bad"])
    assert found["confusion"] == [[1, 0], [1, 0]]
    assert found["log_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_labels_fix_the_order_and_so_the_positive_label():
    found = majority(["bad", "bad", "good"], ["good", "bad"], labels=["good", "bad"])
    assert list(found["per_class"]) == ["good", "bad"]
    assert found["f1"] == pytest.approx(2 / 3)


def test_majority_copes_with_a_label_it_never_saw():
    assert majority(["bad", "good"], ["new"])["accuracy"] == 0.0


def test_labels_must_name_every_label():
    with pytest.raises(DataError, match=r"\['good'\]"):
        majority(["bad", "good"], ["bad"], labels=["bad", "fine"])


def test_bag_of_words_learns_words():
    found = bag_of_words(TEXTS, TRUTH, ["lovely warm rooms", "dull cold soup"], ["good", "bad"], seed=0)
    assert found["accuracy"] == 1.0


def test_bag_of_words_gives_the_same_numbers_for_the_same_seed():
    runs = [bag_of_words(TEXTS, TRUTH, GOOD + BAD, TRUTH[:4], seed=3) for _ in range(2)]
    assert runs[0] == runs[1]


def test_bag_of_words_reads_texts_without_spaces():
    good, bad = ["这家店真好吃", "味道真好吃呀", "他说真好吃"], ["这家店太难吃", "味道太难吃呀", "他说太难吃"]
    found = bag_of_words(good + bad, [1] * 3 + [0] * 3, ["真好吃的面", "太难吃的面"], [1, 0], seed=0)
    assert found["accuracy"] == 1.0


def test_bag_of_words_needs_no_search_where_labels_are_rare():
    assert bag_of_words(["red", "blue", "green"], ["r", "b", "g"], ["blue"], ["b"], seed=0)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("texts", "truth", "says"),
    [
        (["a", "b"], ["x", "x"], "only the label 'x'"),
        (["", " \n"], ["x", "y"], "only empty"),
        (["a"], ["x", "y"], "1 training texts and 2 answers"),
    ],
)
def test_bag_of_words_refuses(texts, truth, says):
    with pytest.raises(DataError, match=says):
        bag_of_words(texts, truth, ["a", "b"], ["x", "y"], seed=0)


def test_mean_explains_no_variance():
    found = mean([1.0, 2.0, 6.0], [2.0, 4.0])
    assert (found["mae"], found["r2"], found["pearson"]) == (1.0, 0.0, 0.0)


def test_bag_of_words_regression_beats_the_mean():
    stars = [5.0, 5.0, 1.0, 1.0] * 3
    tests, truth = ["lovely warm people", "dull cold plate"], [5.0, 1.0]
    found = bag_of_words_regression(TEXTS, stars, tests, truth, seed=0)
    assert found["mae"] < mean(stars, truth)["mae"] / 2


@pytest.mark.parametrize("targets", [[1.0, math.nan], []])
def test_regression_baselines_refuse_missing_targets(targets):
    with pytest.raises(DataError, match="one number per row"):
        mean(targets, [1.0])
