"""Exact match and F1 of answers found in a text, by SQuAD's definition."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.evaluation.metric import Kind, Mean, Metric, RowScores, count_of, evaluate, number

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """Lower case, without punctuation, articles and further spaces.

    >>> normalised("The  Tower, of London")
    'tower of london'
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def f1(answer: str, truth: str) -> float:
    """The harmonic mean of precision and recall of the answer's words.

    >>> round(f1("tower of London", "the Tower"), 3)
    0.5
    """
    found, expected = normalised(answer).split(), normalised(truth).split()
    if not found or not expected:
        return float(found == expected)
    common = (Counter(found) & Counter(expected)).total()
    return 2 * common / (len(found) + len(expected)) if common else 0.0


def best_f1(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> np.ndarray:
    """The F1 of each answer against the nearest of its gold answers, none of which is as good as an empty one."""
    return np.array([max(f1(a, truth) for truth in gold or [""]) for a, gold in zip(answers, truths, strict=True)])


def row_scores(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """`exact_match`, `f1` and `has_answer` of each question, and `has_none`, its opposite.

    Args:
        answers: One a question, empty for none.
        truths: The gold answers to each question; none where it cannot be answered.
    """
    exact = [
        max(normalised(answer) == normalised(truth) for truth in gold or [""])
        for answer, gold in zip(answers, truths, strict=True)
    ]
    has_answer = np.array([bool(gold) for gold in truths])
    return {
        "exact_match": np.array(exact),
        "f1": best_f1(answers, truths),
        "has_answer": has_answer,
        "has_none": ~has_answer,
    }


def scored(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Exact match and F1 over all questions.

    Args:
        answers: One a question, empty for none.
        truths: The gold answers to each question; none where it cannot be answered.

    Returns:
        `exact_match` and `f1` in [0, 1] and `num_rows`; where some questions have no answer `answerable_f1` and
        `unanswerable_accuracy` besides.

    References:
        Rajpurkar et al., 2016, https://arxiv.org/abs/1606.05250; 2018, https://arxiv.org/abs/1806.03822
    """
    return {**evaluate(METRICS, row_scores(answers, truths)), "num_rows": len(answers)}


def best_threshold(none: Sequence[float], answers: Sequence[str], truths: Sequence[Sequence[str]]) -> float:
    """The probability of no answer above which none is given, at the best F1: the highest of equals.

    Args:
        none: The probability of no answer, for each question.
        answers: What would be answered.
        truths: The gold answers to each question.

    >>> best_threshold([0.2, 0.6, 0.9], ["tea", "cup", "pot"], [["tea"], ["cup"], []])
    0.75
    """
    order = np.argsort(none, kind="stable")
    values = np.asarray(none, np.float64)[order]
    if_answered = best_f1(answers, truths)[order]
    if_not = np.array([not truths[i] for i in order], float)
    # The first k are answered, the others are not.
    total = np.concatenate([[0], np.cumsum(if_answered)]) + np.concatenate([np.cumsum(if_not[::-1])[::-1], [0]])
    best = len(total) - 1 - int(np.argmax(total[::-1]))
    if best == len(values):
        return 1.0
    below = values[best - 1] if best else 0.0
    return float((below + values[best]) / 2)


def _is_mixed(rows: RowScores) -> bool:
    return bool(rows["has_answer"].any() and rows["has_none"].any())


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    total = values["num_rows"]
    return (
        f"F1 of the answers' words {number(values['f1'])} on average over {total:,} {rows}; the exact answer in "
        f"{count_of(values['exact_match'], total)} ({values['exact_match']:.1%})."
    )


def _details(values: Mapping[str, Any]) -> list[str]:
    if "answerable_f1" not in values:
        return []
    return [
        f"F1 {number(values['answerable_f1'])} on the questions that have an answer; of those that have none "
        f"{values['unanswerable_accuracy']:.1%} are left unanswered."
    ]


METRICS = (
    Metric(
        "exact_match",
        "max",
        "share of answers that equal a true one but for case, articles and punctuation",
        False,
        Mean("exact_match"),
        is_share=True,
    ),
    Metric("f1", "max", "mean F1 of the words of each answer against the nearest true one", True, Mean("f1")),
    Metric(
        "answerable_f1",
        "max",
        "f1 over the questions that have an answer",
        False,
        Mean("f1", "has_answer"),
        applies=_is_mixed,
    ),
    Metric(
        "unanswerable_accuracy",
        "max",
        "share of the questions without an answer that got none",
        False,
        Mean("f1", "has_none"),
        is_share=True,
        applies=_is_mixed,
    ),
)
KIND = Kind("answer", METRICS, _sentence, _details)
