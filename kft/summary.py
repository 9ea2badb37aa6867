"""The report of a fit: facts, figures and the rows it answers worst, handed to `kft.evaluation.report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kft.data.table import Table
from kft.evaluation import figures, report

WORST = 20


def write(
    path: Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, np.ndarray],
    table: Table | None,
    targets: np.ndarray | None,
    task_name: str,
    labels: Sequence[str],
) -> None:
    """Writes `report.html`.

    Args:
        path: Where to.
        title: Of the page.
        facts: Names and values shown on top.
        history: The records of history.jsonl.
        scores: Metrics of each scored part.
        answers: The answers to the rows of `table`: the test part, else the validation part.
        table: Those rows, or None where no part was held back.
        targets: Their targets.
        task_name: The task; `SHOWN` says how its answers are shown.
        labels: The class names; empty for regression.
    """
    drawn: list[Any] = [figures.curves(history)]
    worst: list[dict[str, Any]] = []
    if table is not None and targets is not None:
        shown, worst = SHOWN[task_name](answers, table, targets, labels)
        drawn += shown
    report.write(path, title=title, facts=facts, history=history, metrics=scores, figures=drawn, examples=worst)


def classified(
    answers: Mapping[str, np.ndarray], table: Table, targets: np.ndarray, labels: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Confusion matrix and calibration, and the wrong answers given with most confidence."""
    scores = answers["scores"]
    matrix = np.zeros((len(labels), len(labels)), int)
    np.add.at(matrix, (targets, scores.argmax(axis=1)), 1)
    drawn = [figures.confusion(matrix.tolist(), labels), figures.calibration(scores, targets)]
    rows = report.worst_classified(scores, targets, WORST)
    worst = [
        {
            "texts": _texts(table, row),
            "truth": labels[targets[row]],
            "answer": labels[int(scores[row].argmax())],
            "score": float(scores[row].max()),
            "why": f"the truth was given {scores[row][targets[row]]:.1%}",
        }
        for row in rows
    ]
    return drawn, worst


def label_sets(
    answers: Mapping[str, np.ndarray], table: Table, targets: np.ndarray, labels: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows whose sets of labels are furthest from the truth, by their binary cross-entropy."""
    scores = np.clip(answers["scores"].astype(np.float64), 1e-7, 1 - 1e-7)
    costs = -(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)).sum(axis=1)
    worst: list[dict[str, Any]] = []
    for row in np.argsort(-costs, kind="stable"):
        truth = [label for label, is_there in zip(labels, targets[row], strict=True) if is_there]
        answer = [label.decode() for label in answers["labels"][row] if label]
        if sorted(truth) != sorted(answer) and len(worst) < WORST:
            furthest = int(np.abs(targets[row] - scores[row]).argmax())
            worst.append(
                {
                    "texts": _texts(table, row),
                    "truth": ", ".join(truth) or "none",
                    "answer": ", ".join(answer) or "none",
                    "score": float(np.abs(targets[row] - scores[row]).max()),
                    "why": f"“{labels[furthest]}” was given {scores[row][furthest]:.1%}",
                }
            )
    return [], worst


def regressed(
    answers: Mapping[str, np.ndarray], table: Table, targets: np.ndarray, labels: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Answers against truth as a scatter, and the largest errors."""
    values = answers["value"]
    worst = [
        {
            "texts": _texts(table, row),
            "truth": float(targets[row]),
            "answer": float(values[row]),
            "score": abs(float(values[row] - targets[row])),
            "why": f"{values[row] - targets[row]:+.3g} off the truth",
        }
        for row in report.worst_regressed(values, targets, WORST)
    ]
    return [figures.scatter(values, targets)], worst


def _texts(table: Table, row: int) -> list[str]:
    return [table.rows[name][int(row)].as_py() for name in ("text", "text_pair") if name in table.names()]


SHOWN = {"classify": classified, "multilabel": label_sets, "ordinal": classified, "regress": regressed}
