"""Metrics beside those of scikit-learn, seqeval and sacrebleu, on random rows."""

import numpy as np
import pytest
import sacrebleu
from seqeval.metrics import classification_report as seqeval_report
from sklearn import metrics as sk

from kft.evaluation import entities, overlap
from kft.evaluation.classification import scored as classification
from kft.evaluation.label_sets import scored as multilabel
from kft.evaluation.ordinal_classes import scored as ordinal

LABELS = ["cat", "dog", "owl"]


def test_log_loss_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(4), 50)
    truth = random.integers(0, 4, 50)
    found = classification(scores, truth, list("abcd"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, scores, labels=range(4)))


def test_macro_f1_of_sets_counts_labels_that_do_not_occur_as_scikit_learn_does():
    truth = np.array([[1, 0, 0], [0, 1, 0]])
    found = multilabel(truth * 0.9, [0.5] * 3, truth, LABELS)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, truth, average="macro", zero_division=0)) == 2 / 3


def random_tags(random, count):
    tags = ["O", "O", "B-X", "I-X", "B-Y", "I-Y", "L-X", "U-Y"]
    truth = [[tags[i] for i in random.integers(0, 8, random.integers(1, 9))] for _ in range(count)]
    return truth, [[tags[random.integers(8)] if random.random() < 0.3 else tag for tag in row] for row in truth]


def test_metrics_of_entities_are_those_of_seqeval():
    truth, answers = random_tags(np.random.default_rng(0), 200)
    found = entities.scored(truth, answers, is_plain=False)
    known = {"L-X": "E-X", "U-Y": "S-Y"}
    written = [[[known.get(tag, tag) for tag in row] for row in rows] for rows in (truth, answers)]
    theirs = seqeval_report(*written, output_dict=True, zero_division=0)
    assert found["entity_f1"] == pytest.approx(theirs["micro avg"]["f1-score"])
    assert found["entity_precision"] == pytest.approx(theirs["micro avg"]["precision"])
    assert found["macro_entity_f1"] == pytest.approx(theirs["macro avg"]["f1-score"])
    assert found["per_class"]["X"]["recall"] == pytest.approx(theirs["X"]["recall"])
    assert found["per_class"]["Y"]["support"] == theirs["Y"]["support"]


def test_metrics_of_plain_tags_are_those_of_scikit_learn():
    truth, answers = random_tags(np.random.default_rng(1), 200)
    found = entities.scored(truth, answers, is_plain=True)
    flat = [[tag for row in rows for tag in row] for rows in (truth, answers)]
    assert found["macro_f1"] == pytest.approx(sk.f1_score(*flat, average="macro"))
    assert found["token_accuracy"] == pytest.approx(sk.accuracy_score(*flat))


def test_metrics_of_classes_and_ranks_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    scores, truth = random.dirichlet(np.ones(4), 100), random.integers(0, 3, 100)
    answers = scores.argmax(axis=1)
    found = ordinal(scores, truth, list("1234"))
    for average in ("macro", "micro", "weighted"):
        assert found[f"{average}_f1"] == pytest.approx(sk.f1_score(truth, answers, average=average))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, answers))
    assert found["qwk"] == pytest.approx(sk.cohen_kappa_score(truth, answers, weights="quadratic"))
    assert found["confusion"] == sk.confusion_matrix(truth, answers, labels=range(4)).tolist()


def test_metrics_of_label_sets_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    scores, truth = random.random((80, 4)).round(1), (random.random((80, 4)) < 0.3).astype(int)
    answers = (scores >= 0.6).astype(int)
    found = multilabel(scores, [0.6] * 4, truth, list("abcd"))
    for average, empty in (("macro", 0.0), ("micro", 0.0), ("weighted", 0.0), ("samples", 1.0)):
        assert found[f"{average}_f1"] == pytest.approx(
            sk.f1_score(truth, answers, average=average, zero_division=empty)
        )
    assert found["lrap"] == pytest.approx(sk.label_ranking_average_precision_score(truth, scores))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(truth, answers))
    assert found["map"] == pytest.approx(sk.average_precision_score(truth, scores, average="macro"))


def test_overlap_is_that_of_sacrebleu():
    words = ["tea", "cup", "two", "of", "北京", "the", "pot!", ""]
    random = np.random.default_rng(0)
    answers, truths = ([" ".join(words[i] for i in random.integers(0, 8, 9)) for _ in range(60)] for _ in range(2))
    found = overlap.scored(answers, truths)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers, [truths]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers, [truths]).score)
