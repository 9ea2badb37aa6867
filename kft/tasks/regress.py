"""Regression: a number for one text, or for a pair (similarity).

The model learns standard scores, so that one learning rate suits ratings from 1 to 5 and prices in thousands alike;
answers are back in the unit of the training targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kft.data import task_columns
from kft.data.store import Store
from kft.data.table import Table
from kft.errors import DataError
from kft.evaluation import metrics, shown
from kft.models import heads
from kft.models.presets import Preset
from kft.recipe import Recipe
from kft.tasks.task import Task, Vocabulary
from kft.text import decode, tokens


def vocabulary(parts: Mapping[str, Table], recipe: Recipe) -> Vocabulary:
    """Mean and standard deviation of train's numbers."""
    numbers = parts["train"].rows["label"].to_numpy().astype(np.float64)
    deviation = float(numbers.std())
    if deviation == 0:
        raise DataError(
            f"{parts['train'].source}: all {len(numbers)} targets are {numbers[0]:g}; expected different numbers."
        )
    return {"mean": float(numbers.mean()), "deviation": deviation}


def targets(table: Table, vocabulary: Vocabulary, store: Store | None = None) -> np.ndarray:
    """Numbers in the user's unit `(rows,)` float32."""
    return table.rows["label"].to_numpy().astype(np.float32)


def head(preset: Preset, vocabulary: Vocabulary, **settings: Any) -> Any:
    """A model with a single output."""
    return heads.sequence_model(preset, 1, **settings)


class StandardSquaredError(keras.losses.Loss):
    """Squared error in standard deviations of the training targets: 1 is what answering the mean costs."""

    def __init__(self, mean: float, deviation: float):
        super().__init__(name="squared_error", reduction="sum")
        self.mean, self.deviation = mean, deviation

    def call(self, y_true: Any, y_pred: Any) -> Any:
        standard = (ops.cast(y_true, "float32") - self.mean) / self.deviation
        return ops.square(ops.cast(y_pred, "float32")[:, 0] - standard)


def loss(recipe: Recipe, vocabulary: Vocabulary) -> StandardSquaredError:
    """Squared error on standard scores."""
    return StandardSquaredError(vocabulary["mean"], vocabulary["deviation"])


def answers(outputs: Any, vocabulary: Vocabulary, extras: Mapping[str, Any], texts: Sequence[Any]) -> dict[str, Any]:
    """`value` of each row, in the unit of the training targets."""
    return decode.values(outputs, vocabulary["mean"], vocabulary["deviation"])


def score(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> dict[str, Any]:
    """Pearson, Spearman, MAE and RMSE over all rows."""
    return metrics.regression(found["value"], targets(table, vocabulary))


def metric_names(vocabulary: Vocabulary) -> list[str]:
    """Those of the right answers."""
    return list(metrics.scalars(metrics.regression([0.0, 1.0], [0.0, 1.0])))


def worst(found: Mapping[str, np.ndarray], table: Table, vocabulary: Vocabulary) -> tuple[list[Any], list[Any]]:
    """Answers against truth, and the largest errors."""
    return shown.regressed(found["value"], table, targets(table, vocabulary))


REGRESS = Task(
    name="regress",
    columns=task_columns.COLUMNS["regress"],
    vocabulary=vocabulary,
    targets=targets,
    features=tokens.encode,
    head=head,
    loss=loss,
    answers=answers,
    score=score,
    metrics=metric_names,
    shown=worst,
    best_by=("pearson",),
    served_as="regress",
)
