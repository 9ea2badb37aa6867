"""The rows that are answered worst, and the figures that go with them, for each kind of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation import figures
from kft.evaluation.classification import MOST_LABELS

if TYPE_CHECKING:
    from kft.data.table import Table

WORST = 20


def classified(
    scores: np.ndarray, table: Table, targets: np.ndarray, labels: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Confusion matrix, up to 100 labels, and calibration, and the wrong answers given with most confidence."""
    drawn = [figures.calibration(scores, targets)]
    if len(labels) <= MOST_LABELS:
        matrix = np.zeros((len(labels), len(labels)), int)
        np.add.at(matrix, (targets, scores.argmax(axis=1)), 1)
        drawn.insert(0, figures.confusion(matrix.tolist(), labels))
    rows = most_confident(scores, targets, WORST)
    worst = [
        {
            "texts": _texts(table, row),
            "truth": labels[targets[row]],
            "answer": labels[int(scores[row].argmax())],
            "why": f"{scores[row].max():.0%} sure; the truth was given {scores[row][targets[row]]:.1%}",
        }
        for row in rows
    ]
    return drawn, worst


def label_sets(
    answered: np.ndarray, scores: np.ndarray, table: Table, targets: np.ndarray, labels: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows whose sets of labels are furthest from the truth, by their binary cross-entropy."""
    scores = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    costs = -(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)).sum(axis=1)
    worst: list[dict[str, Any]] = []
    for row in np.argsort(-costs, kind="stable"):
        truth = [label for label, is_there in zip(labels, targets[row], strict=True) if is_there]
        answer = [label.decode() for label in answered[row] if label]
        if sorted(truth) != sorted(answer) and len(worst) < WORST:
            furthest = int(np.abs(targets[row] - scores[row]).argmax())
            worst.append(
                {
                    "texts": _texts(table, row),
                    "truth": ", ".join(truth) or "none",
                    "answer": ", ".join(answer) or "none",
                    "why": f"“{labels[furthest]}” was given {scores[row][furthest]:.1%}",
                }
            )
    return [], worst


def sets(truth: Sequence[set[str]], answered: Sequence[set[str]], table: Table) -> tuple[list[Any], list[Any]]:
    """The rows with most missed and made up."""
    wrong = np.array([len(a ^ b) for a, b in zip(truth, answered, strict=True)])
    worst = [
        {
            "texts": _texts(table, row),
            "truth": " | ".join(sorted(truth[row])) or "none",
            "answer": " | ".join(sorted(answered[row])) or "none",
            "why": f"{len(truth[row] - answered[row])} missed, {len(answered[row] - truth[row])} made up",
        }
        for row in np.argsort(-wrong, kind="stable")[:WORST]
        if wrong[row]
    ]
    return [], worst


def regressed(values: np.ndarray, table: Table, targets: np.ndarray) -> tuple[list[Any], list[dict[str, Any]]]:
    """Answers against truth as a scatter, and the largest errors."""
    worst = [
        {
            "texts": _texts(table, row),
            "truth": float(targets[row]),
            "answer": float(values[row]),
            "why": f"{abs(values[row] - targets[row]):.3g} too {'high' if values[row] > targets[row] else 'low'}",
        }
        for row in furthest(values, targets, WORST)
    ]
    return [figures.scatter(values, targets)], worst


def retrieved(places: np.ndarray, nearest: np.ndarray, table: Table) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows whose pair has the last ranks.

    Args:
        places: `(rows,)` int from 1.
        nearest: `(rows,)` int, a row whose pair comes first.
        table: The rows.
    """
    pairs = table.rows["text_pair"]
    worst = [
        {
            "texts": _texts(table, row)[:1],
            "truth": pairs[int(row)].as_py(),
            "answer": pairs[int(nearest[row])].as_py(),
            "why": f"the pair that belongs is at rank {places[row]:,}",
        }
        for row in np.argsort(-places, kind="stable")[:WORST]
        if places[row] > 1
    ]
    return [], worst


def most_confident(scores: ArrayLike, targets: ArrayLike, count: int = 20) -> list[int]:
    """The rows answered wrongly with the highest confidence, most confident first.

    Args:
        scores: `(rows, labels)` float probabilities.
        targets: `(rows,)` int, ids of the true labels.
        count: How many rows at most.

    >>> most_confident([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]], [1, 1, 1])
    [1, 0]
    """
    scores = np.asarray(scores, dtype=np.float64)
    wrong = np.flatnonzero(scores.argmax(axis=1) != np.asarray(targets))
    order = np.argsort(-scores[wrong].max(axis=1), kind="stable")
    return wrong[order][:count].tolist()


def furthest(values: ArrayLike, targets: ArrayLike, count: int = 20) -> list[int]:
    """The rows whose predicted number is furthest from the truth, furthest first; exact ones are left out.

    Args:
        values: `(rows,)` float, the predictions.
        targets: `(rows,)` float, the truth.
        count: How many rows at most.

    >>> furthest([1.0, 5.0, 2.0], [1.5, 1.0, 2.0])
    [1, 0]
    """
    misses = np.abs(np.asarray(values, dtype=np.float64) - np.asarray(targets, dtype=np.float64))
    order = np.argsort(-misses, kind="stable")
    return order[misses[order] > 0][:count].tolist()


def _texts(table: Table, row: int) -> list[str]:
    return [table.rows[name][int(row)].as_py() for name in ("text", "text_pair") if name in table.names()]


def tagged(
    truth: Sequence[Sequence[str]], answered: Sequence[Sequence[str]], table: Table
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows with most wrong tags."""
    wrong = np.array([sum(a != b for a, b in zip(*rows, strict=True)) for rows in zip(truth, answered, strict=True)])
    worst = [
        {
            "texts": _texts(table, row),
            "truth": _entities(truth[row]),
            "answer": _entities(answered[row]),
            "why": f"{wrong[row]} of {len(truth[row])} tags are wrong",
        }
        for row in np.argsort(-wrong, kind="stable")[:WORST]
        if wrong[row]
    ]
    return [], worst


def extracted(
    truth: Sequence[Sequence[str]], answered: Sequence[str], scores: Sequence[float], table: Table
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The answers that share least with the truth, the surest first.

    Args:
        truth: The gold answers to each question; none where there is none.
        answered: The answers.
        scores: Their F1.
        table: The rows.
    """
    worst = [
        {
            "texts": [table.rows[name][int(row)].as_py() for name in ("question", "context")],
            "truth": " | ".join(dict.fromkeys(truth[row])) or "none",
            "answer": answered[row] or "none",
            "why": f"F1 {scores[row]:.2f}",
        }
        for row in np.argsort(scores, kind="stable")[:WORST]
        if scores[row] < 1
    ]
    return [], worst


def generated(
    truths: Sequence[str], texts: Sequence[str], scores: Sequence[float], table: Table
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The generated texts that share least with the truth.

    Args:
        truths: The true texts.
        texts: The generated ones.
        scores: Their ROUGE-L.
        table: The rows.
    """
    worst = [
        {
            "texts": [table.rows["prompt"][int(row)].as_py()],
            "truth": truths[row],
            "answer": texts[row] or "nothing",
            "why": f"ROUGE-L {scores[row]:.2f}",
        }
        for row in np.argsort(scores, kind="stable")[:WORST]
        if scores[row] < 1
    ]
    return [], worst


def _entities(tags: Sequence[str], most: int = 12) -> str:
    named = [f"{number}: {tag}" for number, tag in enumerate(tags, 1) if tag != "O"]
    return ", ".join(named[:most]) + (", …" if len(named) > most else "") or "none"


def chosen(
    scores: np.ndarray, table: Table, targets: np.ndarray, names: Sequence[str]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Calibration, and the wrong choices made with most confidence; `names` are the columns of the choices."""

    def choice(row: int, number: int) -> str:
        return table.rows[names[int(number)]][int(row)].as_py()

    worst = [
        {
            "texts": _texts(table, row),
            "truth": choice(row, targets[row]),
            "answer": choice(row, scores[row].argmax()),
            "why": f"{scores[row].max():.0%} sure; the truth was given {scores[row][targets[row]]:.1%}",
        }
        for row in most_confident(scores, targets, WORST)
    ]
    return [figures.calibration(scores, targets)], worst
