"""Precision, recall and F1 from counts of what is right, answered and true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kft.evaluation.metric import number


def ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """`part / whole`, 0 where the whole is 0, as scikit-learn's `zero_division=0` has it."""
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)


def f1(right: ArrayLike, answered: ArrayLike, true: ArrayLike) -> np.ndarray:
    """The harmonic mean of precision and recall, elementwise.

    >>> f1(np.array([2, 0]), np.array([4, 0]), np.array([2, 3])).round(3).tolist()
    [0.667, 0.0]
    """
    return ratio(2 * np.asarray(right), np.asarray(answered) + np.asarray(true))


def by_class(names: Sequence[str], right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """`{class: {precision, recall, f1, support}}`, support being the number of true ones.

    Args:
        names: Of the classes.
        right: `(classes,)` int, how often each was answered rightly.
        answered: `(classes,)` int, how often it was answered.
        true: `(classes,)` int, how often it was true.
    """
    columns = zip(ratio(right, answered), ratio(right, true), f1(right, answered, true), true, strict=True)
    return {
        str(name): {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        for name, (p, r, f, support) in zip(names, columns, strict=True)
    }


def weakest(per_class: dict[str, Any], what: str) -> list[str]:
    """A sentence on the class with the lowest F1 among those that are true somewhere; none of fewer than two classes.

    Args:
        per_class: As `by_class` gives it.
        what: Of what support is a number, as "row".
    """
    present = [name for name, score in per_class.items() if score["support"]]
    if len(present) < 2:
        return []
    name = min(present, key=lambda one: per_class[one]["f1"])
    score = per_class[name]
    return [f"Weakest on “{name}”: F1 {number(score['f1'])} over {counted(score['support'], what)}."]


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    plural = {"entity": "entities"}.get(what, f"{what}s")
    return f"{count:,} {what if count == 1 else plural}"
