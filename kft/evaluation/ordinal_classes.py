"""Metrics of classes that are ranks: those of classes, and how far off an answer is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation import classification
from kft.evaluation.metric import Kind, Mean, Metric, RowScores, count_of, evaluate, number


def row_scores(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """What `classification.row_scores` gives, and `error`: the distance in the numbers of the labels, float64."""
    rows = classification.row_scores(scores, targets, labels)
    numbers = np.array([float(label) for label in labels])
    return {**rows, "error": np.abs(numbers[rows["answer"]] - numbers[rows["truth"]])}


def scored(scores: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, Any]:
    """How well probabilities name the true rank, and how far off they are where they do not.

    Args:
        scores: `(rows, ranks)` float probabilities, each row summing to 1.
        targets: `(rows,)` int, ids of the true ranks.
        labels: The ranks as whole numbers, from low to high.

    Returns:
        What `classification.scored` gives, and `qwk`, Cohen's kappa with quadratic weights over the ids (0.0 where
        truth and answers are all one rank), and `mae`, the mean distance in the numbers of the labels.

    References:
        Cohen, 1968, https://doi.org/10.1037/h0026256
    """
    rows = row_scores(scores, targets, labels)
    found = evaluate(METRICS, rows)
    further = {name: found.pop(name) for name in ("qwk", "mae")}
    return {**found, "num_rows": len(rows["truth"]), **classification.tables(rows, labels), **further}


def _qwk(rows: RowScores) -> float:
    """Kappa with quadratic weights: labels that do not occur, and the scale of the weights, change nothing."""
    truth, answer = rows["truth"].astype(np.float64), rows["answer"].astype(np.float64)
    observed = ((truth - answer) ** 2).mean()
    # The mean of (t - a)^2 over all pairs of a truth and an answer.
    by_chance = truth.var() + answer.var() + (truth.mean() - answer.mean()) ** 2
    return float(1 - observed / by_chance) if by_chance else 0.0


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"Agreement with the truth {number(values['qwk'])} (quadratic weighted kappa) over {values['num_rows']:,} "
        f"{rows}; off by {number(values['mae'])} on average."
    )


def _details(values: Mapping[str, Any]) -> list[str]:
    exact = f"The exact rank in {count_of(values['accuracy'], values['num_rows'])} rows: {values['accuracy']:.1%}."
    return [exact, *classification.mistakes(values)]


METRICS = (
    *(dataclasses.replace(metric, headline=False) for metric in classification.METRICS),
    Metric(
        "qwk",
        "max",
        "quadratic weighted kappa: agreement beyond chance, far misses costing more",
        True,
        _qwk,
    ),
    Metric("mae", "min", "mean distance of answered and true rank, in the labels' numbers", False, Mean("error")),
)
KIND = Kind("ordinal", METRICS, _sentence, _details)
