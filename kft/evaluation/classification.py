"""Metrics of one label for each row: of classes, and of a choice among texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.errors import DataError
from kft.evaluation import counts
from kft.evaluation.metric import Kind, Mean, Metric, RowScores, count_of, evaluate

MOST_LABELS = 100
"""Labels past which there is no confusion matrix: it grows with their square."""

# A softmax in bfloat16 is off by up to 0.4%; logits are off by far more.
_SUM_TOLERANCE = 0.01


def row_scores(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """How each row was answered. The answer is the most probable label, the first one on a tie.

    Args:
        scores: `(rows, labels)` float probabilities, each row summing to 1. Softmax outputs, not logits.
        targets: `(rows,)` int, ids of the true labels in `[0, len(labels))`.
        labels: The names of the labels in the order of their ids, two or more.

    Returns:
        `truth` and `answer` (ids), `scores` (float64, `(rows, labels)`), `correct` (bool) and `log_loss` (the negative
        log-likelihood in nats; a probability of 0 counts as 2.2e-16).

    Raises:
        DataError: If the shapes disagree, a row does not sum to 1, or a target is not a label id.
    """
    scores, truth = _checked(scores, targets, [str(label) for label in labels])
    answer = scores.argmax(axis=1)
    smallest = np.finfo(np.float64).eps
    given = np.clip(scores[np.arange(len(truth)), truth], smallest, 1 - smallest)
    return {"truth": truth, "answer": answer, "scores": scores, "correct": answer == truth, "log_loss": -np.log(given)}


def scored(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, Any]:
    """How well probabilities name the true label of each row.

    The averages of F1 run over the labels that occur as truth or as answer, as scikit-learn's defaults do, so a label
    missing from a small set costs nothing. A label that was never answered has precision 0.0, one that never occurs
    has recall 0.0, and MCC is 0.0 when all answers or all truths are the same label.

    Args:
        scores: As in `row_scores`.
        targets: As in `row_scores`.
        labels: As in `row_scores`.

    Returns:
        accuracy, macro_f1, micro_f1, weighted_f1, mcc, log_loss, num_rows; `f1` of `labels[1]` when there are two
        labels (as GLUE reports MRPC); and what `tables` gives.

    Raises:
        DataError: As `row_scores`.

    References:
        MCC for many labels: Gorodkin, 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006

    >>> of_three = scored([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1], ["no", "yes"])
    >>> of_three["confusion"]
    [[1, 0], [1, 1]]
    >>> round(of_three["f1"], 4), round(of_three["accuracy"], 4)
    (0.6667, 0.6667)
    """
    rows = row_scores(scores, targets, labels)
    return {**evaluate(METRICS, rows), "num_rows": len(rows["truth"]), **tables(rows, labels)}


def tables(rows: RowScores, labels: Sequence[str]) -> dict[str, Any]:
    """What is known of each label.

    Returns:
        `per_class` as `{label: {precision, recall, f1, support}}`; `confusion` as rows of counts, one row per true
        label, one column per answered label; past 100 labels in its place `confused`, the most frequent mistakes as
        `[truth, answer, rows]`.
    """
    names, truth, answer = [str(label) for label in labels], rows["truth"], rows["answer"]
    found: dict[str, Any] = {"per_class": counts.by_class(names, *_counts(rows, len(names)))}
    if len(names) <= MOST_LABELS:
        return {**found, "confusion": confusion(truth, answer, len(names)).tolist()}
    return {**found, "confused": _confused(truth, answer, names)}


def confusion(truth: np.ndarray, answer: np.ndarray, num_labels: int) -> np.ndarray:
    """Counts `(labels, labels)`, one row per true label, one column per answered label."""
    cells = np.bincount(truth * num_labels + answer, minlength=num_labels**2)
    return cells.reshape(num_labels, num_labels)


def most_confused(matrix: Sequence[Sequence[int]], labels: Sequence[str], count: int) -> list[tuple[str, str, int]]:
    """The `(truth, answer, rows)` of the most frequent mistakes, largest first.

    >>> most_confused([[5, 1], [3, 2]], ["no", "yes"], count=1)
    [('yes', 'no', 3)]
    """
    mistakes = np.array(matrix, dtype=np.int64)
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
    return [(str(labels[i]), str(labels[j]), int(mistakes[i, j])) for i, j in pairs if mistakes[i, j] > 0]


def mistakes(values: Mapping[str, Any]) -> list[str]:
    """Sentences on the weakest label and the most frequent mistake."""
    labels = list(values["per_class"])
    if "confused" in values:
        pairs = [tuple(pair) for pair in values["confused"]]
    else:
        pairs = most_confused(values["confusion"], labels, count=1)
    if not pairs:
        return ["It made no mistakes on these rows."]
    truth, answer, rows = pairs[0]
    share = rows / values["per_class"][truth]["support"]
    return [
        *counts.weakest(values["per_class"], "row"),
        f"Most frequent mistake: “{truth}” answered as “{answer}”, {counts.counted(rows, 'row')} "
        f"({share:.0%} of “{truth}”).",
    ]


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return f"Right in {count_of(values['accuracy'], values['num_rows'])} {rows}: {values['accuracy']:.1%}."


def _counts(rows: RowScores, num_labels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each label was answered rightly, was answered, and was true: `(labels,)` each."""
    truth, answer = rows["truth"], rows["answer"]
    size = num_labels or int(max(truth.max(), answer.max())) + 1
    right = np.bincount(truth[truth == answer], minlength=size)
    return right, np.bincount(answer, minlength=size), np.bincount(truth, minlength=size)


def _macro_f1(rows: RowScores) -> float:
    right, answered, true = _counts(rows)
    occurs = answered + true > 0
    return float(counts.f1(right, answered, true)[occurs].mean())


def _weighted_f1(rows: RowScores) -> float:
    right, answered, true = _counts(rows)
    return float(np.average(counts.f1(right, answered, true), weights=true))


def _second_f1(rows: RowScores) -> float:
    return float(counts.f1(*_counts(rows, 2))[1])


def _mcc(rows: RowScores) -> float:
    right, answered, true = (one.astype(np.float64) for one in _counts(rows))
    total = true.sum()
    spread = (total**2 - answered @ answered) * (total**2 - true @ true)
    return float((right.sum() * total - answered @ true) / np.sqrt(spread)) if spread else 0.0


METRICS = (
    Metric("accuracy", "max", "share of rows with the right label", True, Mean("correct"), is_share=True),
    Metric("macro_f1", "max", "mean of the labels' F1, each label counting alike", False, _macro_f1),
    Metric("micro_f1", "max", "F1 over all rows at once, which is the accuracy", False, Mean("correct")),
    Metric("weighted_f1", "max", "mean of the labels' F1, labels counting by their rows", False, _weighted_f1),
    Metric(
        "f1",
        "max",
        "harmonic mean of precision and recall of the second of two labels",
        False,
        _second_f1,
        applies=lambda rows: rows["scores"].shape[1] == 2,
    ),
    Metric("mcc", "max", "Matthews correlation of answers and truth; 0 is chance, 1 is perfect", False, _mcc),
    Metric("log_loss", "min", "mean negative log-likelihood of the true label, in nats", False, Mean("log_loss")),
)
KIND = Kind("classification", METRICS, _sentence, mistakes)
ACCURACY, LOG_LOSS = METRICS[0], METRICS[-1]

CHOICE_METRICS = (
    dataclasses.replace(ACCURACY, meaning="share of rows with the right choice"),
    dataclasses.replace(LOG_LOSS, meaning="mean negative log-likelihood of the right choice, in nats"),
)
CHOICE = Kind("choice", CHOICE_METRICS, _sentence)


def _confused(truth: np.ndarray, answer: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """`[truth, answer, rows]` of the most frequent mistakes, without a matrix of all pairs."""
    is_wrong = truth != answer
    pairs, rows = np.unique(truth[is_wrong] * len(names) + answer[is_wrong], return_counts=True)
    order = np.argsort(-rows, kind="stable")[:MOST_LABELS]
    return [[names[pairs[i] // len(names)], names[pairs[i] % len(names)], int(rows[i])] for i in order]


def _checked(scores: ArrayLike, targets: ArrayLike, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 with rows summing to 1, and targets as int64; or a DataError."""
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"Found the labels {names}; expected two or more, each named once.")
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if len(targets) == 0 or scores.shape != (*targets.shape, len(names)):
        raise DataError(
            f"Found scores of shape {scores.shape} and targets of shape {targets.shape}; expected "
            f"(rows, {len(names)}) and (rows,) with at least one row. Give one score per label to each row."
        )
    if not np.issubdtype(targets.dtype, np.integer):
        raise DataError(f"Found targets of type {targets.dtype}; expected label ids, which are integers.")
    refuse_row((targets < 0) | (targets >= len(names)), targets, f"a label id from 0 to {len(names) - 1}")
    sums = scores.sum(axis=1, keepdims=True)
    # Written so that NaN, for which every comparison is false, is refused too.
    usable = (scores >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) <= _SUM_TOLERANCE)
    refuse_row(~usable, scores, "probabilities from 0 to 1 that sum to 1 (a softmax, not logits)")
    return scores / sums, targets.astype(np.int64)


def refuse_row(bad: np.ndarray, given: np.ndarray, expected: str) -> None:
    """Refuses the first row that is bad.

    Raises:
        DataError: Names the row, what it has and what was expected.
    """
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"Row {row} (counting from 0) has {given[row].tolist()}; expected {expected}.")
