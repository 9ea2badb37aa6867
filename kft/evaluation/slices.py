"""Metrics of parts of the rows: where a model is better, and where it is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.errors import DataError
from kft.evaluation.metric import Metric, RowScores, Selection, evaluate, num_rows


def scored(metrics: Sequence[Metric], rows: RowScores, masks: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """The metrics of each slice, with its `num_rows`. Slices may overlap.

    Args:
        metrics: Those of the kind of answers.
        rows: The scores of all rows.
        masks: The name of each slice to `(rows,)` bool, true for its rows.

    Raises:
        DataError: A mask of another length or type, or a slice without rows.

    >>> from kft.evaluation.metric import Mean
    >>> metric = Metric("accuracy", "max", "", True, Mean("correct"))
    >>> rows = {"correct": np.array([True, True, False])}
    >>> scored([metric], rows, {"short": np.array([False, True, True])})
    {'short': {'accuracy': 0.5, 'num_rows': 2}}
    """
    sliced = {}
    for name, mask in masks.items():
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (num_rows(rows),):
            raise DataError(
                f"slice {name!r}: found a mask of type {mask.dtype} and shape {mask.shape}; expected bool of shape "
                f"({num_rows(rows)},), one value for each row."
            )
        if not mask.any():
            raise DataError(f"slice {name!r}: has no rows; expected one at least. Leave the slice out.")
        sliced[name] = {**evaluate(metrics, Selection(rows, mask)), "num_rows": int(mask.sum())}
    return sliced


def by_values(values: Sequence[Any]) -> dict[str, np.ndarray]:
    """A mask for each different value of a column, in the order of the values as text.

    >>> {name: mask.tolist() for name, mask in by_values(["en", "de", "en"]).items()}
    {'de': [False, True, False], 'en': [True, False, True]}
    """
    texts = np.array([str(value) for value in values], object)
    return {str(name): texts == name for name in sorted(set(texts))}
