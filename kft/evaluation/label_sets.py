"""Metrics of sets of labels: any number of labels, or none, for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.errors import DataError
from kft.evaluation import counts
from kft.evaluation.metric import Kind, Mean, Metric, RowScores, count_of, evaluate, number


def row_scores(
    scores: ArrayLike, thresholds: Sequence[float], targets: ArrayLike, labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """How each row was answered.

    Args:
        scores: `(rows, labels)` float, each probability for itself.
        thresholds: The least probability of an answer, for each label.
        targets: `(rows, labels)` 1 where a row has the label, else 0.
        labels: The names of the labels.

    Returns:
        `truth` and `answer` (bool) and `scores` (float64), each `(rows, labels)`; and of each row `exact` (the whole
        set is right), `hamming_loss` (the share of labels that are wrong), `samples_f1` (1 where there is no label and
        none was answered) and `lrap` (label ranking average precision: Schapire and Singer, 2000).

    Raises:
        DataError: If the shapes disagree or there are no rows.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(targets).astype(bool)
    if scores.shape != truth.shape or truth.ndim != 2 or not len(truth) or truth.shape[1] != len(labels):
        raise DataError(
            f"Found scores of shape {scores.shape} and targets of shape {truth.shape}; expected (rows, {len(labels)}) "
            "for both with at least one row."
        )
    answer = scores >= np.asarray(thresholds)
    either = truth.sum(axis=1) + answer.sum(axis=1)
    f1 = counts.ratio(2 * (truth & answer).sum(axis=1), either)
    return {
        "truth": truth,
        "answer": answer,
        "scores": scores,
        "exact": (truth == answer).all(axis=1),
        "hamming_loss": (truth != answer).mean(axis=1),
        "samples_f1": np.where(either > 0, f1, 1.0),
        "lrap": _ranking_precision(truth, scores),
    }


def _ranking_precision(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each true label, the share of true ones among those ranked as high; the mean over the true labels: `(rows,)`.

    1 where all labels are true or none is, as any ranking is right then.
    """
    from scipy.stats import rankdata

    if truth.shape[1] == 1:
        return np.ones(len(truth))
    place = rankdata(-scores, method="max", axis=1)
    among_true = rankdata(np.where(truth, -scores, np.inf), method="max", axis=1)
    num_true = truth.sum(axis=1)
    means = counts.ratio(np.where(truth, among_true / place, 0.0).sum(axis=1), num_true)
    return np.where((num_true == 0) | (num_true == truth.shape[1]), 1.0, means)


def scored(scores: ArrayLike, thresholds: Sequence[float], targets: ArrayLike, labels: Sequence[str]) -> dict[str, Any]:
    """How well probabilities name the set of labels of each row.

    Args:
        scores: As in `row_scores`.
        thresholds: As in `row_scores`.
        targets: As in `row_scores`.
        labels: As in `row_scores`.

    Returns:
        accuracy (rows whose whole set is right), micro_f1, macro_f1 (over all labels, 0 for one that neither occurs nor
        is answered, as scikit-learn has it), weighted_f1, samples_f1 (mean over rows), hamming_loss, lrap (label
        ranking average precision), map (mean over the labels that occur of the average precision), num_rows, and
        `per_class` as for classes.

    Raises:
        DataError: As `row_scores`.
    """
    rows = row_scores(scores, thresholds, targets, labels)
    per_class = counts.by_class([str(label) for label in labels], *_counts(rows))
    return {**evaluate(METRICS, rows), "num_rows": len(rows["truth"]), "per_class": per_class}


def best_threshold(scores: ArrayLike, targets: ArrayLike) -> float:
    """The threshold on probabilities that gives the best F1: half way between two scores, the highest of equals.

    Args:
        scores: `(rows,)` float in [0, 1].
        targets: `(rows,)` 1 for the rows to find, else 0; some of either.

    >>> best_threshold([0.1, 0.4, 0.6, 0.9], [0, 1, 1, 1])
    0.25
    """
    from sklearn import metrics as sk

    precision, recall, cuts = sk.precision_recall_curve(np.asarray(targets), np.asarray(scores, np.float64))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = len(cuts) - 1 - int(np.argmax(f1[:-1][::-1]))
    below = cuts[best - 1] if best else 0.0
    return float((below + cuts[best]) / 2)


def _counts(rows: RowScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each label was answered rightly, was answered, and was true: `(labels,)` each."""
    truth, answer = rows["truth"], rows["answer"]
    return (truth & answer).sum(axis=0), answer.sum(axis=0), truth.sum(axis=0)


def _micro_f1(rows: RowScores) -> float:
    return float(counts.f1(*(one.sum() for one in _counts(rows))))


def _macro_f1(rows: RowScores) -> float:
    return float(counts.f1(*_counts(rows)).mean())


def _weighted_f1(rows: RowScores) -> float:
    right, answered, true = _counts(rows)
    return float(np.average(counts.f1(right, answered, true), weights=true)) if true.any() else 0.0


def _map(rows: RowScores) -> float:
    from sklearn import metrics as sk

    truth, scores = rows["truth"], rows["scores"]
    occurs = np.flatnonzero(truth.any(axis=0))
    return (
        float(np.mean([sk.average_precision_score(truth[:, i], scores[:, i]) for i in occurs])) if len(occurs) else 0.0
    )


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    total = values["num_rows"]
    return (
        f"Micro-averaged F1 {number(values['micro_f1'])} over {total:,} {rows}; all labels right in "
        f"{count_of(values['accuracy'], total)} ({values['accuracy']:.1%})."
    )


METRICS = (
    Metric("accuracy", "max", "share of rows whose whole set of labels is right", False, Mean("exact"), is_share=True),
    Metric("micro_f1", "max", "F1 over all labels of all rows at once", True, _micro_f1),
    Metric("macro_f1", "max", "mean of the labels' F1, each label counting alike", False, _macro_f1),
    Metric("weighted_f1", "max", "mean of the labels' F1, labels counting by their rows", False, _weighted_f1),
    Metric("samples_f1", "max", "mean over the rows of the F1 of each row's set", False, Mean("samples_f1")),
    Metric(
        "hamming_loss",
        "min",
        "share of labels that are wrong",
        False,
        Mean("hamming_loss"),
        is_share=True,
    ),
    Metric("lrap", "max", "how far up the true labels stand when ranked by score; 1 is perfect", False, Mean("lrap")),
    Metric("map", "max", "mean over the labels of the average precision, over all thresholds", False, _map),
)
KIND = Kind("multilabel", METRICS, _sentence, lambda values: counts.weakest(values["per_class"], "row"))
