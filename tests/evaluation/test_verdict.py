"""Each kind of answers is judged in a sentence of its own, with the numbers of its own metrics."""

import numpy as np
import pytest

from kft.errors import DataError
from kft.evaluation import (
    classification,
    entities,
    extraction,
    joint_answers,
    label_sets,
    ordinal_classes,
    overlap,
    perplexity,
    qa,
    regression,
    retrieval,
)
from kft.evaluation.metric import evaluate
from kft.evaluation.verdict import verdict

SCORES, TARGETS = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], [0, 1, 1, 0]
ENTITY_TRUTH, ENTITY_ANSWERS = [["B-LOC", "O"], ["B-PER", "I-PER"]], [["B-LOC", "O"], ["B-PER", "O"]]
TAG_TRUTH, TAG_ANSWERS = [["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["NOUN"]]
EVENTS = {"trigger": [{("fall", 3, 7)}, {("rise", 0, 4)}], "argument": [{("fall", "who", 0, 2)}, set()]}
OF_TEXTS = overlap.scored(["a cup of tea", "two cups"], ["a cup of tea", "two pots"])
LOSSES = perplexity.row_scores([1.0, 2.0], [3, 1], tokens=[0.5, 1.5], pair_right=[1, 0], has_pair=[1, 1])
JUDGED = {
    "classify": (
        classification.KIND,
        classification.scored(SCORES, TARGETS, ["no", "yes"]),
        "Right in 3 of 4 test rows: 75.0%.",
        (
            "Weakest on “yes”: F1 0.667 over 2 rows.",
            "Most frequent mistake: “yes” answered as “no”, 1 row (50% of “yes”).",
        ),
    ),
    "choose": (
        classification.CHOICE,
        {"accuracy": 0.75, "log_loss": 0.5, "num_rows": 4},
        "Right in 3 of 4 test rows: 75.0%.",
        (),
    ),
    "ordinal": (
        ordinal_classes.KIND,
        ordinal_classes.scored(np.eye(3)[[0, 1, 1, 2]], [0, 1, 2, 2], ["1", "2", "3"]),
        "Agreement with the truth 0.800 (quadratic weighted kappa) over 4 test rows; off by 0.250 on average.",
        (
            "The exact rank in 3 of 4 rows: 75.0%.",
            "Weakest on “2”: F1 0.667 over 1 row.",
            "Most frequent mistake: “3” answered as “2”, 1 row (50% of “3”).",
        ),
    ),
    "multilabel": (
        label_sets.KIND,
        label_sets.scored([[0.9, 0.1], [0.8, 0.9]], [0.5, 0.5], [[1, 0], [0, 1]], ["late", "rude"]),
        "Micro-averaged F1 0.800 over 2 test rows; all labels right in 1 of 2 (50.0%).",
        ("Weakest on “late”: F1 0.667 over 1 row.",),
    ),
    "regress": (
        regression.KIND,
        regression.scored([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]),
        "Off by 0.333 on average over 3 test rows.",
        ("Predictions and truth correlate by 0.982 (Pearson) and 1.000 (Spearman); R² is 0.500.",),
    ),
    "embed, pairs with a number": (
        regression.SIMILARITY,
        regression.scored([0.1, 0.5, 0.9], [0.0, 0.9, 0.5]),
        "Cosines and true similarities rank pairs alike by 0.500 (Spearman's correlation) over 3 test rows.",
        ("Predictions and truth correlate by 0.554 (Pearson) and 0.500 (Spearman); R² is 0.189.",),
    ),
    "embed": (
        retrieval.KIND,
        retrieval.scored([1, 2, 20, 1]),
        "Mean reciprocal rank 0.637 over 4 test rows: the text that belongs comes first in 50.0% of them, and among "
        "the first ten in 75.0%.",
        (),
    ),
    "tag, entities": (
        entities.ENTITIES,
        entities.scored(ENTITY_TRUTH, ENTITY_ANSWERS, is_plain=False),
        "Entity F1 0.500 over 2 test rows: 50.0% of the answered entities are right, and 50.0% of the true ones are "
        "answered.",
        ("The right tag for 75.0% of the words.", "Weakest on “PER”: F1 0.000 over 1 entity."),
    ),
    "tag, plain": (
        entities.TAGS,
        entities.scored(TAG_TRUTH, TAG_ANSWERS, is_plain=True),
        "The right tag for 66.7% of the words of 2 test rows.",
        ("Weakest on “VERB”: F1 0.000 over 1 word.",),
    ),
    "joint": (
        joint_answers.kind(is_plain=False),
        joint_answers.scored([True, True], ENTITY_TRUTH, ENTITY_ANSWERS, is_plain=False),
        "Label and all tags right in 1 of 2 test rows: 50.0%.",
        ("The label is right in 100.0%; entity F1 0.500.",),
    ),
    "answer": (
        qa.KIND,
        qa.scored(["tower of London", "tea", "cup"], [["the Tower"], ["Tea"], []]),
        "F1 of the answers' words 0.500 on average over 3 test rows; the exact answer in 1 of 3 (33.3%).",
        ("F1 0.750 on the questions that have an answer; of those that have none 0.0% are left unanswered.",),
    ),
    "generate": (
        overlap.KIND,
        {"loss": 1.0, "perplexity": 2.718, **OF_TEXTS},
        "ROUGE-L 0.750 on average over 2 test rows; exactly the true text in 1 of 2 (50.0%).",
        ("BLEU 88.9 and chrF 69.1 of 100.", "Perplexity 2.718 for each token of the true responses."),
    ),
    "pretrain": (
        perplexity.KIND,
        evaluate(perplexity.METRICS, LOSSES),
        "Perplexity 2.117 on the test rows.",
        ("Pairs of sentences are told right in 75.0%.",),
    ),
    "extract": (
        extraction.KIND,
        extraction.scored(EVENTS, {"trigger": EVENTS["trigger"], "argument": [set(), set()]}),
        "F1 of arguments 0.000 and of triggers 1.000 over 2 test rows.",
        (),
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_the_sentences_of_each_kind(name):
    kind, values, headline, sentences = JUDGED[name]
    judged = verdict({"test": values}, kind)
    assert judged.headline == headline
    assert judged.sentences == sentences


def test_the_strongest_baseline_is_compared_with_by_the_headline():
    kind, values, *_ = JUDGED["classify"]
    others = {"majority": {"accuracy": 0.25}, "bag of words": {"accuracy": 0.5}}
    said = verdict({"test": values}, kind, others).sentences
    assert said[-1] == "25.0 points better than the baseline “bag of words”, by accuracy (50.0%)."
    kind, values, *_ = JUDGED["regress"]
    said = verdict({"test": values}, kind, {"mean": {"mae": 0.75}, "bag of words": {"mae": 0.25}}).sentences
    assert said[-1] == "0.083 worse than the baseline “bag of words”, by mae (0.250)."


def test_a_baseline_without_the_headline_is_not_compared_with():
    kind, values, _, sentences = JUDGED["generate"]
    assert verdict({"test": values}, kind, {"unigrams": {"perplexity": 9.0}}).sentences == sentences


def test_the_verdict_prefers_the_untouched_split():
    kind, values, *_ = JUDGED["regress"]
    assert verdict({"validation": values, "test": values}, kind).split == "test"
    assert verdict({"train": values, "validation": values}, kind).split == "validation"
    with pytest.raises(DataError, match="no metrics"):
        verdict({"majority": values}, kind)


def test_no_mistakes_are_said_to_be_none():
    values = classification.scored(np.eye(2), [0, 1], ["no", "yes"])
    assert verdict({"test": values}, classification.KIND).sentences == ("It made no mistakes on these rows.",)
