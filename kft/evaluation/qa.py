"""Exact match and F1 of answers found in a text, by SQuAD's definition."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    exact = [
        max(normalised(answer) == normalised(truth) for truth in gold or [""])
        for answer, gold in zip(answers, truths, strict=True)
    ]
    shared = best_f1(answers, truths)
    found: dict[str, Any] = {"exact_match": float(np.mean(exact)), "f1": float(shared.mean())}
    has_answer = np.array([bool(gold) for gold in truths])
    if not has_answer.all() and has_answer.any():
        found["answerable_f1"] = float(shared[has_answer].mean())
        found["unanswerable_accuracy"] = float(shared[~has_answer].mean())
    return {**found, "num_rows": len(answers)}


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
