"""Metrics of events: triggers with their type, and arguments with their role."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kft.evaluation import counts
from kft.evaluation.metric import Kind, Metric, RowScores, evaluate, number
from kft.evaluation.perplexity import LOSS

PARTS = ("trigger", "argument")
Members = Sequence[Collection[Any]]


def row_scores(truth: Mapping[str, Members], answered: Mapping[str, Members]) -> dict[str, np.ndarray]:
    """Of each row how many triggers and arguments were answered rightly, were answered, and are true.

    Args:
        truth: For `trigger` and `argument` the true ones of each row, each as a tuple of all that has to be right.
        answered: The answered ones likewise.

    Returns:
        `trigger` and `argument`, `(rows, 3)` int.

    >>> truth = {"trigger": [{("fall", 3)}], "argument": [[]]}
    >>> rows = row_scores(truth, {**truth, "argument": [[("fall", "cause", 1)]]})
    >>> rows["trigger"].tolist(), rows["argument"].tolist()
    ([[1, 1, 1]], [[0, 1, 0]])
    """
    return {
        part: np.array(
            [(len(set(a) & set(b)), len(set(b)), len(set(a))) for a, b in zip(truth[part], answered[part], strict=True)]
        ).reshape(-1, 3)
        for part in PARTS
    }


def scored(truth: Mapping[str, Members], answered: Mapping[str, Members]) -> dict[str, Any]:
    """Precision, recall and F1 of triggers and of arguments over all rows, and `num_rows`.

    Reference:
        Wadden et al., 2019, sec. 3, https://arxiv.org/abs/1909.03546
    """
    return {**evaluate(METRICS, row_scores(truth, answered)), "num_rows": len(truth["trigger"])}


def of_sets(name: str, truth: set[Any], answers: set[Any]) -> dict[str, float]:
    """Precision, recall and F1 of a set, as `<name>_precision` and so on; 0 where nothing was right."""
    right, answered, true = len(truth & answers), len(answers), len(truth)
    figures = counts.ratio(right, answered), counts.ratio(right, true), counts.f1(right, answered, true)
    return {f"{name}_{kind}": float(value) for kind, value in zip(("precision", "recall", "f1"), figures, strict=True)}


def _metrics(part: str, *, headline: bool) -> tuple[Metric, ...]:
    what = {"trigger": "triggers, place and type", "argument": "arguments, place, role and type of event"}[part]

    def precision(rows: RowScores) -> float:
        right, answered, _ = rows[part].sum(axis=0)
        return float(counts.ratio(right, answered))

    def recall(rows: RowScores) -> float:
        right, _, true = rows[part].sum(axis=0)
        return float(counts.ratio(right, true))

    def f1(rows: RowScores) -> float:
        return float(counts.f1(*rows[part].sum(axis=0)))

    return (
        Metric(f"{part}_precision", "max", f"share of the answered {what}, that are right", False, precision),
        Metric(f"{part}_recall", "max", f"share of the true {what}, that are answered", False, recall),
        Metric(f"{part}_f1", "max", f"harmonic mean of precision and recall of {part}s", headline, f1),
    )


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    return (
        f"F1 of arguments {number(values['argument_f1'])} and of triggers {number(values['trigger_f1'])} over "
        f"{values['num_rows']:,} {rows}."
    )


METRICS = (*_metrics("trigger", headline=False), *_metrics("argument", headline=True))
KIND = Kind("events", (LOSS, *METRICS), _sentence)
